/* JSON text: where its strings are, and what their escapes stand for. What is masked is up to scan_mask. */
#include "scan.h"

#include <stdlib.h>
#include <string.h>

static inline int hex4(const uint8_t *p) {
    int v = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t b = p[i];
        uint8_t letter = (uint8_t)((b | 0x20) - 'a');
        int n = (uint8_t)(b - '0') < 10 ? b - '0' : letter < 6 ? letter + 10 : -1;
        if (n < 0) return -1;
        v = v << 4 | n;
    }
    return v;
}

/* The inside of a JSON string with escapes: unescaped, scanned, and what was masked written back. */
static size_t mask_escaped(const scan_rules_t *r, int kind, uint8_t *p, size_t n, scan_counts_t *c) {
    uint8_t small[1024];
    uint8_t *text = n <= sizeof small ? small : malloc(n);
    if (!text) {
        for (size_t i = 0; i < n; i++) /* an escape keeps its shape: \u002a would need its digits */
            if ((uint8_t)(p[i] - '0') < 10) p[i] = '0';
        return 1;
    }
    size_t have = 0;
    for (size_t i = 0; i < n; have++) {
        int v = -1;
        if (p[i] == '\\' && i + 6 <= n && p[i + 1] == 'u') v = hex4(p + i + 2);
        if (v >= 0) {
            text[have] = v < 0x80 ? (uint8_t)v : 0xff;
            i += 6;
        } else if (p[i] == '\\' && i + 1 < n) {
            text[have] = p[i + 1] == '-' || p[i + 1] == ' ' ? p[i + 1] : '\\';
            i += 2;
        } else {
            text[have] = p[i++];
        }
    }
    size_t found = scan_mask(r, kind, text, have, c);
    if (found) {
        size_t at = 0;
        for (size_t i = 0; i < n; at++) {
            if (p[i] == '\\' && i + 6 <= n && p[i + 1] == 'u' && hex4(p + i + 2) >= 0) {
                int v = hex4(p + i + 2);
                if (v < 0x80 && text[at] != v) {
                    static const char hex[] = "0123456789abcdef";
                    p[i + 4] = (uint8_t)hex[text[at] >> 4];
                    p[i + 5] = (uint8_t)hex[text[at] & 15];
                }
                i += 6;
            } else if (p[i] == '\\' && i + 1 < n) {
                i += 2;
            } else {
                p[i++] = text[at];
            }
        }
    }
    if (text != small) free(text);
    return found;
}

size_t scan_mask_json(const scan_rules_t *r, int kind, uint8_t *buf, size_t len, scan_counts_t *counts) {
    size_t found = 0, at = 0, line = 0; /* where the line that `at` is in ends */
    while (at < len) {
        uint8_t *quote = memchr(buf + at, '"', len - at);
        size_t bare = quote ? (size_t)(quote - buf) : len;
        found += scan_mask(r, kind | SCAN_DIGITS, buf + at, bare - at, counts);
        if (!quote) break;
        size_t begin = bare + 1, end = begin;
        int escapes = 0;
        /* A string ends with its line at the latest, so that lines can be masked one by one. */
        if (begin > line || !line) {
            uint8_t *newline = memchr(buf + bare, '\n', len - bare);
            line = newline ? (size_t)(newline - buf) : len;
        }
        for (;;) {
            uint8_t *close = end < line ? memchr(buf + end, '"', line - end) : NULL;
            size_t stop = close ? (size_t)(close - buf) : line;
            /* a quote is escaped when an odd number of backslashes stands before it */
            uint8_t *slash = memchr(buf + end, '\\', stop - end);
            if (!slash) {
                end = stop;
                break;
            }
            escapes = 1;
            size_t i = (size_t)(slash - buf);
            while (i < stop) i += buf[i] == '\\' ? 2 : 1;
            if (i <= stop) {
                end = stop;
                break;
            }
            end = stop + 1; /* the quote belongs to the string */
            if (end >= line) {
                end = line;
                break;
            }
        }
        found += escapes ? mask_escaped(r, kind, buf + begin, end - begin, counts)
                         : scan_mask(r, kind, buf + begin, end - begin, counts);
        at = end + 1;
    }
    return found;
}
