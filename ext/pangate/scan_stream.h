/* Scanning a text that comes in chunks, split anywhere: what comes out is what scan_mask makes of the whole.
 *
 * A byte is released as soon as no byte to come can change it. Held back is what stands from the earliest
 * group that a PAN may still begin with, so 19 digits and 18 separators at the most; whatever the text, an
 * endless chain or an endless run of digits included. */
#ifndef PANGATE_SCAN_STREAM_H
#define PANGATE_SCAN_STREAM_H

#include "scan.h"

#define SCAN_HELD (2 * SCAN_MAX - 1)

/* All zero at the start of a text. */
typedef struct {
    uint8_t held[SCAN_HELD]; /* as it came; it begins with a group */
    uint8_t count;           /* bytes of it */
    uint8_t within;          /* what comes next goes on a run of digits that is too long for any PAN */
    uint64_t masked;         /* bit per held byte: masked by a PAN that begins before */
} scan_stream_t;

/* Take `len` bytes and write what may be released to `out`, which has room for SCAN_HELD more than `len` and
 * does not overlap `chunk`. Returns the bytes written. `kind` goes without SCAN_DIGITS: a filler depends on
 * all of a run, which has no bound. */
size_t scan_stream_feed(scan_stream_t *stream, const scan_rules_t *rules, int kind, const uint8_t *chunk,
                        size_t len, uint8_t *out, scan_counts_t *counts);

/* The text ends here: write the rest, SCAN_HELD bytes at the most. The stream is as new then. */
size_t scan_stream_finish(scan_stream_t *stream, const scan_rules_t *rules, int kind, uint8_t *out,
                          scan_counts_t *counts);

#endif
