#include "scan_stream.h"

#include <string.h>

static inline int is_digit(uint8_t byte) {
    return (uint8_t)(byte - '0') < 10;
}

static inline int is_separator(uint8_t byte) {
    return byte == ' ' || byte == '-';
}

/* Where the first group begins that a PAN may begin with and not be decided yet; `n` when there is none. The
 * text begins with a group, or with no digit. */
static size_t open_from(const uint8_t *text, size_t n) {
    size_t open = n, i = n;
    unsigned digits = 0, most = SCAN_MAX;
    if (n && is_separator(text[n - 1])) {
        i--;
        most--; /* with nineteen it is decided: the group has ended */
    }
    for (;;) {
        size_t end = i;
        while (i && is_digit(text[i - 1]) && digits <= most) {
            i--;
            digits++;
        }
        if (i == end || digits > most) return open;
        open = i;
        if (i < 2 || !is_separator(text[i - 1]) || !is_digit(text[i - 2])) return open;
        i--;
    }
}

/* What PANs that begin before `open` mask behind it, a bit per byte. They are decided: none reaches `n`. */
static uint64_t masked_behind(const scan_rules_t *rules, int kind, const uint8_t *text, size_t open, size_t n) {
    scan_hit_t hits[SCAN_HELD * SCAN_LENGTHS]; /* at most every second byte of the window begins a group */
    uint64_t masked = 0;
    if (open < 2 || open == n || !is_separator(text[open - 1]) || !is_digit(text[open - 2])) return 0;
    /* What begins with the window does not reach `open`: where that cuts a group, it does no harm. */
    size_t from = open > SCAN_HELD ? open - SCAN_HELD : 0;
    size_t found = scan_find(rules, text + from, n - from, hits, SCAN_HELD * SCAN_LENGTHS);
    for (size_t i = 0; i < found; i++) {
        size_t start = from + hits[i].start, end = from + hits[i].end;
        if (start >= open || end <= open) continue;
        /* By itself, to see what its kind masks; what else is masked with it is a PAN of whole groups too. */
        uint8_t copy[SCAN_HELD];
        memcpy(copy, text + start, end - start);
        scan_mask(rules, kind, copy, end - start, NULL);
        for (size_t p = open; p < end; p++) masked |= (uint64_t)(copy[p - start] != text[p]) << (p - open);
    }
    return masked;
}

static void star(uint8_t *text, uint64_t masked) {
    for (; masked; masked &= masked - 1) text[__builtin_ctzll(masked)] = '*';
}

size_t scan_stream_feed(scan_stream_t *s, const scan_rules_t *rules, int kind, const uint8_t *chunk, size_t len,
                        uint8_t *out, scan_counts_t *counts) {
    size_t through = 0;
    if (s->within) {
        while (through < len && is_digit(chunk[through])) through++;
        memcpy(out, chunk, through);
        if (through == len) return len;
        s->within = 0;
        out += through;
    }
    size_t n = s->count + (len - through);
    if (!n) return 0;
    memcpy(out, s->held, s->count);
    memcpy(out + s->count, chunk + through, len - through);

    size_t open = open_from(out, n);
    uint64_t masked = s->masked, behind = masked_behind(rules, kind, out, open, n);
    s->within = open == n && is_digit(out[n - 1]);
    s->count = (uint8_t)(n - open);
    memcpy(s->held, out + open, s->count);
    /* PANs from `open` on wait for the rest: what is found of them now is not counted and not released. */
    scan_mask(rules, kind, out, n, counts);
    if (counts && s->count >= SCAN_MIN) {
        scan_counts_t early;
        uint8_t copy[SCAN_HELD];
        memset(&early, 0, sizeof early);
        memcpy(copy, s->held, s->count);
        if (scan_mask(rules, kind, copy, s->count, &early)) {
            counts->total -= early.total;
            for (int i = 0; i < SCAN_NETWORKS; i++) counts->by_network[i] -= early.by_network[i];
        }
    }
    if (open < 64) {
        star(out, open ? masked & (((uint64_t)1 << open) - 1) : 0);
        s->masked = masked >> open | behind;
    } else {
        star(out, masked);
        s->masked = behind;
    }
    return through + open;
}

size_t scan_stream_finish(scan_stream_t *s, const scan_rules_t *rules, int kind, uint8_t *out,
                          scan_counts_t *counts) {
    size_t n = s->count;
    memcpy(out, s->held, n);
    scan_mask(rules, kind, out, n, counts);
    star(out, s->masked);
    memset(s, 0, sizeof *s);
    return n;
}
