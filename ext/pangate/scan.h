/* The PAN scanner: finds card numbers in bytes and masks them in place. No Python, no allocation on the
 * way, no byte read or written outside of the buffer.
 *
 * A chain is a maximal  digit (sep? digit)*  with one space or dash as sep; its separator-free runs of
 * digits are groups. A candidate is a row of whole groups of one chain with 12 to 19 digits in all. It is
 * a PAN when an issuer range allows its length and the Luhn check passes (or the range does without).
 * Every PAN is masked; where PANs overlap, the mask is the union. */
#ifndef PANGATE_SCAN_H
#define PANGATE_SCAN_H

#include <stddef.h>
#include <stdint.h>

#define SCAN_NETWORKS 32
#define SCAN_MIN 12 /* digits of the shortest and of the longest PAN */
#define SCAN_MAX 19
#define SCAN_LENGTHS (SCAN_MAX - SCAN_MIN + 1)
#define SCAN_DEPTH 8 /* digits of the longest issuer prefix */

/* What of a PAN stays visible; SCAN_DIGITS ORed on fills with digits instead of '*'. */
enum {
    SCAN_LAST4 = 0,
    SCAN_FIRST6_LAST4 = 1,
    SCAN_FIRST8_LAST4 = 2,
    SCAN_FULL = 3,
    SCAN_KIND_MASK = 7,
    SCAN_DIGITS = 8
};

/* What an issuer prefix says, its shorter prefixes included: bit n stands for a PAN of SCAN_MIN + n
 * digits, with the Luhn check or without it; the network for each length is that of the longest prefix. */
typedef struct {
    uint8_t required, optional, network[SCAN_LENGTHS];
} scan_issuer_t;

/* The issuer ranges as an automaton over digits. `next` is 0 where it ends. `first` is the node after
 * the first four digits, with SCAN_LIVE when the automaton goes on from there. */
#define SCAN_LIVE 0x8000
typedef struct scan_rules {
    const uint16_t (*next)[10];
    const scan_issuer_t *issuer;
    uint16_t first[10000];
    /* Lengths that a PAN with these first four digits may have at all, and those without a Luhn check:
     * nearly everything that is no card fails here. */
    uint8_t lengths[10000], unchecked[10000];
    /* Whether a PAN may begin with two digits at all, and without a Luhn check, for a look at many at once: by
     * the first digit, a bit for each second one up to 7, then bits for 8 and 9. */
    uint8_t pairs[2][16], pairs_unchecked[2][16];
    uint32_t eight_plus_four; /* bit per network: FIRST8_LAST4 is allowed for 16 digits */
    int kernel;
} scan_rules_t;

typedef struct {
    uint64_t total;
    uint64_t by_network[SCAN_NETWORKS];
} scan_counts_t;

typedef struct {
    size_t start, end; /* of the PAN, separators within it included */
    int network;
} scan_hit_t;

enum { SCAN_PORTABLE, SCAN_SSE2, SCAN_AVX2, SCAN_AVX512, SCAN_NEON, SCAN_KERNELS };

/* Whether this machine can run a kernel. */
int scan_supported(int kernel);

/* The one to take when nobody asks for another. */
int scan_preferred(void);

/* Fill `first`, `lengths`, `unchecked` and the pairs from `next` and `issuer`. */
void scan_prepare(scan_rules_t *rules);

/* Mask every PAN of one field in place. Returns their number; `counts`, when not NULL, is added to. */
size_t scan_mask(const scan_rules_t *rules, int kind, uint8_t *buf, size_t len, scan_counts_t *counts);

/* The same for JSON text: '*' inside strings, digits in bare numbers, so that it stays JSON; \u00XX escapes
 * of digits and separators are read and written as such. Memory may be taken for strings with escapes;
 * where there is none, all digits of such a string are masked. */
size_t scan_mask_json(const scan_rules_t *rules, int kind, uint8_t *buf, size_t len,
                      scan_counts_t *counts);

/* The same as `scan_mask` for each of `n` fields of one buffer of `len` bytes. They lie inside of it; what is
 * smaller than SCAN_MIN, as a field that is not there with a size of -1, is passed over. */
size_t scan_mask_fields(const scan_rules_t *rules, int kind, uint8_t *buf, size_t len, const int64_t *at,
                        const int64_t *size, size_t n, scan_counts_t *counts);

/* Where the PANs are. Fills at most `cap` hits, in the order of where they begin; returns how many there
 * are. */
size_t scan_find(const scan_rules_t *rules, const uint8_t *buf, size_t len, scan_hit_t *hits,
                 size_t cap);

#endif
