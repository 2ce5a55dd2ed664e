/* One row of COPY TO in text or csv that is too long to be kept whole: what comes out is what copy_mask_row makes of
 * it, but that wiped values keep their length. */
#ifndef PANGATE_COPY_STREAM_H
#define PANGATE_COPY_STREAM_H

#include "cell_stream.h"
#include "copy.h"

/* Beside CELL_UNDECODABLE and CELL_TOO_LONG: the row is not as the form says; its last byte is no newline. */
enum { COPY_UNDESCRIBED = -3, COPY_SPLIT = -4 };

typedef struct {
    size_t left;   /* bytes of the row that are not masked yet, its newline included */
    size_t column; /* that is looked at */
    size_t window, limit;
    cell_value_t value;
    size_t seen;   /* bytes behind those that are masked that belong to the cell */
    size_t wanted; /* and how many have to be there before they are looked at again */
    size_t wiped;  /* bytes of the cell that were wiped */
    int state;
    int within;    /* where in the cell what was seen ends */
    int marked;    /* something in it is escaped */
} copy_stream_t;

/* A row of `len` bytes begins. `window` is at least CELL_WINDOW_MIN and at most `limit`. */
void copy_stream_begin(copy_stream_t *stream, size_t len, size_t window, size_t limit);

/* Mask what can be of the `have` bytes at `p`, which are the next ones of the row. The arguments are those of
 * copy_mask_row. Returns how many bytes are masked: those that are not have to come again, with more behind them. The
 * row is done when `left` is 0. When it is negative, nothing more may be forwarded. */
long copy_stream_mask(copy_stream_t *stream, const cell_env_t *env, const copy_form_t *form, const cell_op_t *ops,
                      const uint8_t *wipes, uint64_t *hits, size_t columns, uint8_t *p, size_t have);

#endif
