#include "cell.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long mask_cell(const cell_env_t *e, cell_op_t op, uint8_t *p, size_t n, int depth);

static inline int is_digit(uint8_t b) { return (uint8_t)(b - '0') < 10; }

static inline uint32_t be32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint16_t be16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

static inline uint64_t be64(const uint8_t *p) { return (uint64_t)be32(p) << 32 | be32(p + 4); }

static inline void put16(uint8_t *p, uint16_t v) {
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void put64(uint8_t *p, uint64_t v) {
    for (int i = 7; i >= 0; i--, v >>= 8) p[i] = (uint8_t)v;
}

static inline int nibble(uint8_t b) {
    if (is_digit(b)) return b - '0';
    b |= 0x20;
    return b >= 'a' && b <= 'f' ? b - 'a' + 10 : -1;
}

/* --- hex ------------------------------------------------------------------------------------- */

/* `n` hex digits at `p` (an even count): what they spell is scanned, and spelled again. */
static long mask_hex(const scan_rules_t *r, int kind, uint8_t *p, size_t n, scan_counts_t *c) {
    if (n < 24) return 0; /* twelve digits are the shortest PAN */
    uint8_t small[512];
    size_t half = n / 2;
    uint8_t *raw = half <= sizeof small ? small : malloc(half);
    if (!raw) return -1;
    for (size_t i = 0; i < half; i++) raw[i] = (uint8_t)(nibble(p[2 * i]) << 4 | nibble(p[2 * i + 1]));
    long hits = (long)scan_mask(r, kind, raw, half, c);
    if (hits) {
        /* only digits become other bytes, and what they become is in 0x2a or 0x30..0x39 */
        for (size_t i = 0; i < half; i++) {
            uint8_t was = (uint8_t)(nibble(p[2 * i]) << 4 | nibble(p[2 * i + 1]));
            if (was != raw[i]) {
                static const char hex[] = "0123456789abcdef";
                p[2 * i] = (uint8_t)hex[raw[i] >> 4];
                p[2 * i + 1] = (uint8_t)hex[raw[i] & 15];
            }
        }
    }
    if (raw != small) free(raw);
    return hits;
}

/* Two digits a byte, as some systems keep a PAN: `n` hex digits that are one as a whole, with zeros in front
 * or an f behind to make them even. Longer values are left alone: in random bytes a PAN stands by chance. */
static long mask_packed(const scan_rules_t *r, int kind, uint8_t *p, size_t n, scan_counts_t *c) {
    if (n < 12 || n > 20) return 0;
    while (n && *p == '0') p++, n--;
    if (n && (p[n - 1] | 0x20) == 'f') n--;
    for (size_t i = 0; i < n; i++)
        if (!is_digit(p[i])) return 0;
    return (long)scan_mask(r, kind | SCAN_DIGITS, p, n, c);
}

static inline int is_octal(const uint8_t *p) {
    return p[0] >= '0' && p[0] <= '3' && p[1] >= '0' && p[1] <= '7' && p[2] >= '0' && p[2] <= '7';
}

/* Behind the digits and separators that begin at `at`. */
static inline size_t chain_end(const uint8_t *p, size_t n, size_t at) {
    while (at < n && (is_digit(p[at]) || p[at] == ' ' || p[at] == '-')) at++;
    return at;
}

/* What a backslash can hide in text, arrays, composites and COPY: bytea in hex (\x3431...), and an octal
 * escape whose digits glue themselves to the PAN behind it (\0014111...). */
static long mask_escapes(const scan_rules_t *r, int kind, uint8_t *p, size_t n, scan_counts_t *c) {
    long hits = 0;
    size_t i = 0;
    while (i + 1 < n) {
        uint8_t *found = memchr(p + i, '\\', n - 1 - i);
        if (!found) break;
        i = (size_t)(found - p) + 1;
        if (p[i] == 'x') {
            size_t start = i + 1, end = start;
            while (end < n && nibble(p[end]) >= 0) end++;
            size_t even = (end - start) & ~(size_t)1;
            long more = mask_packed(r, kind, p + start, even, c);
            if (!more) more = mask_hex(r, kind, p + start, even, c);
            if (more < 0) return -1;
            hits += more;
            i = end;
        } else if (i + 3 <= n && is_octal(p + i)) {
            i += 3;
            hits += (long)scan_mask(r, kind, p + i, chain_end(p, n, i) - i, c);
        }
    }
    return hits;
}

static inline int beyond_ascii(const uint8_t *p, size_t n) {
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++) any |= p[i];
    return any >> 7;
}

/* In some client encodings (GB18030, JOHAB) a digit behind a byte of 0x80 or more is the second half of a
 * character; glued to a PAN it would hide it. So a chain there is tried without its first digit too.
 * Chains hold no such bytes, so no byte is scanned more than twice. */
static long mask_behind_high(const scan_rules_t *r, int kind, uint8_t *p, size_t n, scan_counts_t *c) {
    long hits = 0;
    for (size_t i = 0; i + 13 < n; i++) {
        if (p[i] < 0x80 || !is_digit(p[i + 1])) continue;
        size_t start = i + 2, end = chain_end(p, n, start);
        hits += (long)scan_mask(r, kind, p + start, end - start, c);
        i = end - 1;
    }
    return hits;
}

/* Whether a PAN with stars in it ends before `i`: masked here, or masked already where it came from. */
static int behind_masked(const uint8_t *p, size_t i) {
    int digits = 0, stars = 0;
    for (; i && digits < SCAN_MAX; i--) {
        if (p[i - 1] == '*' || is_digit(p[i - 1])) {
            digits++;
            stars |= p[i - 1] == '*';
        } else if (!digits || i < 2 || (p[i - 1] != ' ' && p[i - 1] != '-') ||
                   (p[i - 2] != '*' && !is_digit(p[i - 2]))) {
            break;
        }
    }
    return stars && digits >= SCAN_MIN;
}

/* What follows a masked PAN on a magnetic stripe (ISO/IEC 7813) may not be kept: on track 2 the digits behind
 * `=`, on track 1 those behind the second `^`. Their first seven are expiry and service code. */
static void wipe_tracks(uint8_t *p, size_t n) {
    for (size_t i = 12; i + 8 <= n; i++) {
        if ((p[i] != '=' && p[i] != '^') || (p[i - 1] != '*' && !is_digit(p[i - 1]))) continue;
        if (!behind_masked(p, i)) continue;
        size_t at = i + 1;
        if (p[i] == '^') {
            while (at < n && at - i < 30 && p[at] != '^' && p[at] != '\n') at++;
            if (at >= n || p[at] != '^') continue;
            at++;
        }
        size_t end = at;
        while (end < n && (is_digit(p[end]) || p[end] == '=' || p[end] == '^')) end++;
        if (end - at < 7) continue;
        if (p[i] == '^') /* discretionary data may hold letters there */
            while (end < n && p[end] != '?' && p[end] != '\n' && p[end] != '"' && end - at < 60) end++;
        memset(p + at, '*', end - at);
        i = end - 1;
    }
}

/* d.ddde+NN, as the server prints doubles from 1e15 on; `e` is where the e stands. */
static long mask_exponent(const scan_rules_t *r, int kind, uint8_t *p, size_t n, size_t e, scan_counts_t *c) {
    if (n - e < 4 || p[e + 1] != '+' || !is_digit(p[e + 2]) || !is_digit(p[e + 3])) return 0;
    unsigned power = (unsigned)(p[e + 2] - '0') * 10 + (unsigned)(p[e + 3] - '0');
    if (power < 11 || power > 18 || (e + 4 < n && is_digit(p[e + 4]))) return 0;
    size_t start = e;
    while (start && e - start < 24 && (is_digit(p[start - 1]) || p[start - 1] == '.')) start--;
    uint8_t digits[19];
    memset(digits, '0', sizeof digits);
    size_t have = 0;
    for (size_t i = start; i < e && have <= power; i++)
        if (is_digit(p[i])) digits[have++] = p[i];
    long hits = (long)scan_mask(r, kind | SCAN_DIGITS, digits, power + 1, c);
    have = 0;
    for (size_t i = start; hits && i < e && have <= power; i++)
        if (is_digit(p[i])) p[i] = digits[have++];
    return hits;
}

/* All of them in a text. */
static long mask_exponents(const scan_rules_t *r, int kind, uint8_t *p, size_t n, scan_counts_t *c) {
    long hits = 0;
    for (size_t i = 1; i + 2 < n; i++) {
        uint8_t *plus = memchr(p + i, '+', n - 2 - i);
        if (!plus) break;
        i = (size_t)(plus - p);
        if ((p[i - 1] | 0x20) == 'e') hits += mask_exponent(r, kind, p, n, i - 1, c);
    }
    return hits;
}

/* Bytes of the mark at `p` that may part the thousands of an amount; 0 for none. Beside ASCII these are
 * U+00A0, U+202F and U+2019. */
static size_t thousands(const uint8_t *p, size_t n) {
    if (!n) return 0;
    if (*p == ',' || *p == '.' || *p == '\'' || *p == ' ') return 1;
    if (n > 1 && p[0] == 0xc2 && p[1] == 0xa0) return 2;
    return n > 2 && p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0xaf || p[2] == 0x99) ? 3 : 0;
}

/* An amount whose digits begin at `*at`: groups of three, parted by one and the same mark, as every locale
 * prints money. Its whole part is scanned; `*at` moves behind it. */
static long mask_amount(const scan_rules_t *r, int kind, uint8_t *p, size_t n, size_t *at, scan_counts_t *c) {
    uint8_t digits[24];
    size_t have = 0, start = *at, end = start;
    while (end < n && have < sizeof digits && is_digit(p[end])) digits[have++] = p[end++];
    if (end < n && is_digit(p[end])) { /* longer than any amount: the run must not be cut into one */
        while (end < n && is_digit(p[end])) end++;
        *at = end;
        return 0;
    }
    const uint8_t *mark = p + end;
    size_t size = thousands(mark, n - end);
    while (size && have + 3 <= sizeof digits && n - end >= size + 3 && !memcmp(p + end, mark, size)) {
        const uint8_t *group = p + end + size;
        if (!is_digit(group[0]) || !is_digit(group[1]) || !is_digit(group[2])) break;
        if (n - end > size + 3 && is_digit(group[3])) break;
        memcpy(digits + have, group, 3);
        have += 3;
        end += size + 3;
    }
    *at = end;
    long hits = (long)scan_mask(r, kind | SCAN_DIGITS, digits, have, c);
    have = 0;
    for (size_t i = start; hits && i < end; i++)
        if (is_digit(p[i])) p[i] = digits[have++];
    return hits;
}

/* Text of money: nothing but amounts. */
static long mask_money_text(const scan_rules_t *r, int kind, uint8_t *p, size_t n, scan_counts_t *c) {
    long hits = 0;
    for (size_t i = 0; i < n;) {
        if (is_digit(p[i]))
            hits += mask_amount(r, kind, p, n, &i, c);
        else
            i++;
    }
    return hits;
}

/* The amount around the sign of currency at `i`: right behind it, or in front, with at most one blank. */
static long mask_priced(const scan_rules_t *r, int kind, uint8_t *p, size_t n, size_t i, scan_counts_t *c) {
    long hits = 0;
    size_t at = i + 1;
    while (at < n && at - i < 3 && (p[at] == '-' || p[at] == ' ')) at++;
    if (at < n && is_digit(p[at])) hits += mask_amount(r, kind, p, n, &at, c);
    size_t end = i && p[i - 1] == ' ' ? i - 1 : i;
    if (!end || !is_digit(p[end - 1])) return hits;
    at = end;
    while (at && end - at < 40 && (is_digit(p[at - 1]) || p[at - 1] >= 0x80 || thousands(p + at - 1, 1))) at--;
    if (at && is_digit(p[at - 1])) /* in the middle of a run that is longer than any amount */
        while (at < end && is_digit(p[at])) at++;
    while (at < end) {
        if (is_digit(p[at]))
            hits += mask_amount(r, kind, p, n, &at, c);
        else
            at++;
    }
    return hits;
}

/* Numbers as the server prints them in other text, in JSON and in COPY, where no type tells of them: doubles
 * with an exponent, and amounts beside a $ or a sign of currency beyond ASCII. */
static long mask_numbers(const scan_rules_t *r, int kind, uint8_t *p, size_t n, int beyond, scan_counts_t *c) {
    long hits = mask_exponents(r, kind, p, n, c);
    if (n < 16) return hits; /* twelve digits, three marks and a sign */
    for (size_t i = 0; i < n; i++) {
        if (!beyond) {
            uint8_t *found = memchr(p + i, '$', n - i);
            if (!found) break;
            i = (size_t)(found - p);
        }
        if (p[i] == '$' || p[i] >= 0x80) hits += mask_priced(r, kind, p, n, i, c);
    }
    return hits;
}

/* What it looks at must not reach over a place where text_cut of cell_stream.c cuts a text. */
static long mask_text(const scan_rules_t *r, int kind, uint8_t *p, size_t n, scan_counts_t *c) {
    long hits = (long)scan_mask(r, kind, p, n, c);
    if (memchr(p, '*', n)) wipe_tracks(p, n); /* not by the hits: a text in pieces is what it is whole */
    int beyond = beyond_ascii(p, n);
    if (beyond) hits += mask_behind_high(r, kind, p, n, c);
    hits += mask_numbers(r, kind, p, n, beyond, c);
    if (n > 12 && memchr(p, '\\', n)) {
        long more = mask_escapes(r, kind, p, n, c);
        if (more < 0) return -1;
        hits += more;
    }
    return hits;
}

/* JSON text; bytea stands in it in hex, as to_json makes it. */
static long mask_json(const scan_rules_t *r, int kind, uint8_t *p, size_t n, scan_counts_t *c) {
    long hits = (long)scan_mask_json(r, kind, p, n, c);
    int beyond = beyond_ascii(p, n);
    if (beyond) hits += mask_behind_high(r, kind, p, n, c);
    hits += mask_numbers(r, kind, p, n, beyond, c);
    if (n > 12 && memchr(p, '\\', n)) {
        long more = mask_escapes(r, kind, p, n, c);
        if (more < 0) return -1;
        hits += more;
    }
    return hits;
}

/* Binary bytea. */
static long mask_bytea(const scan_rules_t *r, int kind, uint8_t *p, size_t n, scan_counts_t *c) {
    uint8_t hex[20];
    if (n < 6 || n > 10) return mask_text(r, kind, p, n, c);
    for (size_t i = 0; i < n; i++) {
        hex[2 * i] = (uint8_t)"0123456789abcdef"[p[i] >> 4];
        hex[2 * i + 1] = (uint8_t)"0123456789abcdef"[p[i] & 15];
    }
    long hits = mask_packed(r, kind, hex, 2 * n, c);
    for (size_t i = 0; hits && i < n; i++) p[i] = (uint8_t)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
    return hits;
}

/* Text of bytea by bytea_output = escape: every octal escape is one byte of the value, so the PAN behind
 * it begins at its own boundary. */
static long mask_bytea_text(const scan_rules_t *r, int kind, uint8_t *p, size_t n, scan_counts_t *c) {
    if (n >= 2 && p[0] == '\\' && p[1] == 'x') {
        size_t end = 2;
        while (end < n && nibble(p[end]) >= 0) end++;
        if (end != n || (n & 1)) return -1;
        long hits = mask_packed(r, kind, p + 2, n - 2, c);
        return hits ? hits : mask_hex(r, kind, p + 2, n - 2, c);
    }
    return mask_text(r, kind, p, n, c);
}

/* --- numbers --------------------------------------------------------------------------------- */

/* Digits of `v` (12 to 19 of them can be a PAN) masked as a number; `*out` is what it becomes. */
static long mask_u64(const scan_rules_t *r, int kind, uint64_t v, uint64_t *out, scan_counts_t *c) {
    *out = v;
    if (v < 100000000000ULL) return 0;
    uint8_t text[20];
    int at = 20;
    for (uint64_t rest = v; rest; rest /= 10) text[--at] = (uint8_t)('0' + rest % 10);
    long hits = (long)scan_mask(r, kind | SCAN_DIGITS, text + at, (size_t)(20 - at), c);
    if (hits) {
        uint64_t w = 0;
        for (; at < 20; at++) w = w * 10 + (uint64_t)(text[at] - '0');
        *out = w;
    }
    return hits;
}

static long mask_int8(const scan_rules_t *r, int kind, uint8_t *p, size_t n, scan_counts_t *c) {
    if (n != 8) return -1;
    uint64_t raw = be64(p), v, w;
    int negative = raw >> 63;
    v = negative ? 0 - raw : raw;
    long hits = mask_u64(r, kind, v, &w, c);
    if (hits) put64(p, negative ? 0 - w : w);
    return hits;
}

static long mask_money(const scan_rules_t *r, int kind, uint8_t *p, size_t n, scan_counts_t *c) {
    if (n != 8) return -1;
    uint64_t raw = be64(p), v, w;
    int negative = raw >> 63;
    v = negative ? 0 - raw : raw;
    long hits = mask_u64(r, kind, v / 100, &w, c);
    uint64_t masked = w * 100 + v % 100;
    if (hits) put64(p, negative ? 0 - masked : masked);
    return hits;
}

static long mask_doubles(const scan_rules_t *r, int kind, uint8_t *p, size_t n, scan_counts_t *c) {
    if (n % 8) return -1;
    long hits = 0;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t bits = be64(p + i), w;
        double d;
        memcpy(&d, &bits, 8);
        double size = fabs(d);
        if (!(size >= 1e11 && size < 1.8e19)) continue; /* NaN falls out here as well */
        long one = mask_u64(r, kind, (uint64_t)size, &w, c);
        if (!one) continue;
        double masked = d < 0 ? -(double)w : (double)w;
        memcpy(&bits, &masked, 8);
        put64(p + i, bits);
        hits += one;
    }
    return hits;
}

/* Text of doubles. */
static long mask_float_text(const scan_rules_t *r, int kind, uint8_t *p, size_t n, scan_counts_t *c) {
    return (long)scan_mask(r, kind | SCAN_DIGITS, p, n, c) + mask_exponents(r, kind, p, n, c);
}

/* numeric_send: int16 ndigits, int16 weight, uint16 sign, uint16 dscale, then ndigits base-10000 digits. */
static long mask_numeric(const scan_rules_t *r, int kind, uint8_t *p, size_t n, scan_counts_t *c) {
    if (n < 8) return -1;
    size_t ndigits = be16(p);
    int weight = (int16_t)be16(p + 2);
    uint16_t sign = be16(p + 4);
    if (n != 8 + 2 * ndigits) return -1;
    if ((sign != 0x0000 && sign != 0x4000) || !ndigits) return sign & 0x3fff && sign < 0xc000 ? -1 : 0;
    /* The groups as text, the weight's missing zeros behind them, a point where the fraction begins: a PAN
     * may stand before the point or behind it. */
    size_t whole = weight >= 0 ? (size_t)weight + 1 : 0;
    size_t groups = ndigits > whole ? ndigits : whole;
    size_t size = groups * 4 + 1;
    uint8_t small[256];
    uint8_t *text = size <= sizeof small ? small : malloc(size);
    if (!text) return -1;
    memset(text, '0', size);
    for (size_t g = 0; g < ndigits; g++) {
        unsigned v = be16(p + 8 + 2 * g);
        if (v > 9999) {
            if (text != small) free(text);
            return -1;
        }
        uint8_t *t = text + 4 * g + (g >= whole);
        t[0] = (uint8_t)('0' + v / 1000);
        t[1] = (uint8_t)('0' + v / 100 % 10);
        t[2] = (uint8_t)('0' + v / 10 % 10);
        t[3] = (uint8_t)('0' + v % 10);
    }
    if (whole * 4 < size) text[whole * 4] = '.';
    size_t lead = 0; /* text has no leading zeros, and neither has what is scanned */
    while (lead < whole * 4 && text[lead] == '0') lead++;
    size_t shown = whole * 4 + 1 + be16(p + 6); /* text ends where the display scale says */
    if (shown > size) shown = size;
    long hits = (long)scan_mask(r, kind | SCAN_DIGITS, text + lead, shown - lead, c);
    if (hits) {
        /* A filler may fall where no group is stored (a PAN that ends in zeros): then nothing but the
         * leading digit is kept. */
        int lost = 0;
        for (size_t g = ndigits; g < whole; g++)
            for (int k = 0; k < 4; k++) lost |= text[4 * g + (size_t)k] != '0';
        for (size_t g = 0; g < ndigits; g++) {
            const uint8_t *t = text + 4 * g + (g >= whole);
            unsigned v = (unsigned)(t[0] - '0') * 1000 + (unsigned)(t[1] - '0') * 100 +
                         (unsigned)(t[2] - '0') * 10 + (unsigned)(t[3] - '0');
            put16(p + 8 + 2 * g, (uint16_t)(lost ? g == 0 : v));
        }
    }
    if (text != small) free(text);
    return hits;
}

/* --- forced ------------------------------------------------------------------------------------ */

/* Without a digit but for the last `keep` of `digits`. Returns whether that changed anything. */
static long star_digits(int kind, uint8_t *p, size_t n, size_t digits, size_t keep) {
    long changed = 0;
    for (size_t i = 0; i < n && digits > keep; i++) {
        if (!is_digit(p[i])) continue;
        digits--;
        changed = 1;
        p[i] = kind & SCAN_DIGITS ? '0' : '*';
    }
    return changed;
}

/* A text that is a PAN by the name of its column: all digits but the last four are masked. */
static long mask_forced(const scan_rules_t *r, int kind, uint8_t *p, size_t n, scan_counts_t *c) {
    long hits = (long)scan_mask(r, kind, p, n, c);
    size_t keep = (kind & SCAN_KIND_MASK) == SCAN_FULL ? 0 : 4, digits = 0;
    for (size_t i = 0; i < n; i++) digits += is_digit(p[i]);
    if (keep > digits / 2) keep = digits / 2; /* of a short one, half at the most */
    long changed = star_digits(kind, p, n, digits, keep);
    return hits ? hits : changed;
}

static long mask_forced_int8(int kind, uint8_t *p, size_t n) {
    if (n != 8) return -1;
    uint64_t raw = be64(p), v = raw >> 63 ? 0 - raw : raw, top = 1;
    while (v / top >= 10) top *= 10;
    uint64_t keep = (kind & SCAN_KIND_MASK) == SCAN_FULL ? 1 : top >= 1000000 ? 10000 : 10;
    uint64_t w = top < 10 ? 0 : top + (v % keep); /* as many digits, led by 1 */
    put64(p, raw >> 63 ? 0 - w : w);
    return w != v;
}

/* --- containers ------------------------------------------------------------------------------ */

/* One length-prefixed value at `*at`; moves `*at` behind it. */
static long mask_element(const cell_env_t *e, cell_op_t op, uint8_t *p, size_t n, size_t *at, int depth) {
    if (n - *at < 4) return -1;
    int32_t len = (int32_t)be32(p + *at);
    *at += 4;
    if (len == -1) return 0;
    if (len < 0 || (size_t)len > n - *at) return -1;
    long hits = mask_cell(e, op, p + *at, (size_t)len, depth);
    *at += (size_t)len;
    return hits;
}

/* Values of one type, from `at` to the end. */
static long mask_elements(const cell_env_t *e, cell_op_t op, uint8_t *p, size_t n, size_t at, int depth) {
    long hits = 0;
    while (at < n) {
        long one = mask_element(e, op, p, n, &at, depth);
        if (one < 0) return -1;
        hits += one;
    }
    return hits;
}

/* array_send: int32 ndim, int32 flags, oid of the element, (int32 dim, int32 lower bound) x ndim, elements */
static long mask_array(const cell_env_t *e, uint8_t *p, size_t n, int depth) {
    if (n < 12) return -1;
    uint32_t ndim = be32(p);
    if (ndim > 6) return -1;
    cell_op_t op = cell_op_of(e->types, be32(p + 8), 1);
    size_t at = 12 + 8 * (size_t)ndim;
    if (CELL_KIND(op) == CELL_REFUSED || at > n) return -1;
    return mask_elements(e, op, p, n, at, depth);
}

/* record_send: int32 nfields, then (oid, value) each */
static long mask_record(const cell_env_t *e, uint8_t *p, size_t n, int depth) {
    if (n < 4) return -1;
    uint32_t fields = be32(p);
    size_t at = 4;
    long hits = 0;
    for (uint32_t i = 0; i < fields; i++) {
        if (n - at < 4) return -1;
        cell_op_t op = cell_op_of(e->types, be32(p + at), 1);
        at += 4;
        if (CELL_KIND(op) == CELL_REFUSED) return -1;
        long one = mask_element(e, op, p, n, &at, depth);
        if (one < 0) return -1;
        hits += one;
    }
    return at == n ? hits : -1;
}

/* range_send: flags, then the bounds that the flags say are there; multirange_send: int32 count, then the
 * ranges, each with its length in front */
static long mask_range(const cell_env_t *e, cell_op_t op, uint8_t *p, size_t n, int depth) {
    uint32_t inner = CELL_INNER(op);
    if (CELL_KIND(op) == CELL_MULTIRANGE) {
        if (n < 4) return -1;
        return mask_elements(e, CELL_WITH(CELL_RANGE, inner), p, n, 4, depth);
    }
    cell_op_t bound = cell_op_of(e->types, inner, 1);
    if (n < 1 || CELL_KIND(bound) == CELL_REFUSED) return -1;
    return mask_elements(e, bound, p, n, 1, depth);
}

/* A JSON value: what stands under names of sensitive data is wiped, PANs are masked. */
static long mask_document(const cell_env_t *e, uint8_t *p, size_t n) {
    long wiped = e->names ? names_wipe_json(e->names, p, n) : 0;
    long hits = mask_json(e->rules, e->kind, p, n, e->counts);
    return hits < 0 ? -1 : hits + wiped;
}

/* hstore_send: int32 count, then per pair a text and a text that may be null, each with its length */
static long mask_hstore(const cell_env_t *e, uint8_t *p, size_t n, int depth) {
    if (n < 4) return -1;
    size_t at = 4;
    long hits = 0;
    while (at < n) {
        size_t key = at + 4;
        long one = mask_element(e, CELL_TEXT, p, n, &at, depth);
        if (one < 0) return -1;
        hits += one;
        int rule = e->names && at > key ? names_find(e->names, p + key, at - key) : -1;
        size_t value = at + 4;
        one = mask_element(e, CELL_TEXT, p, n, &at, depth);
        if (one < 0) return -1;
        if (rule >= 0 && at > value && name_fits(e->names->rules[rule].shape, p + value, at - value, 0)) {
            memset(p + value, '*', at - value);
            one++;
        }
        hits += one;
    }
    return hits;
}

/* Where a text that ends with NUL ends in the `n` bytes at `p`, behind its NUL; 0 when that is not there. */
static size_t cstring_end(const uint8_t *p, size_t n, size_t at) {
    const uint8_t *end = at < n ? memchr(p + at, 0, n - at) : NULL;
    return end ? (size_t)(end - p) + 1 : 0;
}

/* An item of a tsvector or a tsquery, of `n` bytes at the most. */
typedef struct {
    size_t text, text_end, end; /* where its text begins and ends, and where it ends itself */
} item_t;

/* tsvectorsend: int32 count, then per lexeme its text, uint16 positions, and as many uint16.
 * tsquerysend: int32 count, then per item a type: 1 is a weight, a prefix flag and a text; 2 is an operator,
 * of which the fourth (a phrase) has a uint16 distance. Returns 1; 0 when the item is not whole, -1 when it is none. */
static int next_item(int kind, const uint8_t *p, size_t n, item_t *item) {
    item->text = item->text_end = 0;
    if (kind == CELL_TSQUERY) {
        if (p[0] != 1 && p[0] != 2) return -1;
        if (p[0] == 2) {
            if (n < 2) return 0;
            item->end = p[1] == 4 ? 4 : 2;
            return n >= item->end;
        }
        item->text = 3;
    }
    size_t end = cstring_end(p, n, item->text);
    if (!end) return 0;
    item->text_end = end - 1;
    item->end = end;
    if (kind == CELL_TSVECTOR) {
        if (n - end < 2) return 0;
        item->end += 2 + 2 * (size_t)be16(p + end);
    }
    return n >= item->end;
}

static long mask_items(const cell_env_t *e, int kind, uint8_t *p, size_t n) {
    long hits = 0;
    item_t item;
    for (size_t at = 0; at < n; at += item.end) {
        if (next_item(kind, p + at, n - at, &item) < 1) return -1;
        long one = mask_text(e->rules, e->kind, p + at + item.text, item.text_end - item.text, e->counts);
        if (one < 0) return -1;
        hits += one;
    }
    return hits;
}

long cell_items(int kind, const uint8_t *p, size_t n) {
    size_t at = 0;
    item_t item;
    while (at < n) {
        int whole = next_item(kind, p + at, n - at, &item);
        if (whole < 0) return -1;
        if (!whole) break;
        at += item.end;
    }
    return (long)at;
}

/* --- the table of types ---------------------------------------------------------------------- */

struct type_row {
    uint16_t oid;
    uint8_t text, binary; /* cell_op for each format */
};

/* Every built-in type that has a rule of its own, by OID (pg_type.dat of PostgreSQL 18). Text that is not
 * listed is scanned as text; binary that is not listed is refused. */
static const struct type_row types[] = {
    {16, CELL_SAFE, CELL_SAFE},             /* bool */
    {17, CELL_BYTEA, CELL_BYTES},           /* bytea */
    {18, CELL_TEXT, CELL_TEXT},             /* "char" */
    {19, CELL_TEXT, CELL_TEXT},             /* name */
    {20, CELL_NUMBER, CELL_INT8},           /* int8 */
    {21, CELL_SAFE, CELL_SAFE},             /* int2 */
    {22, CELL_TEXT, CELL_ARRAY},            /* int2vector */
    {23, CELL_SAFE, CELL_SAFE},             /* int4 */
    {24, CELL_TEXT, CELL_SAFE},             /* regproc */
    {25, CELL_TEXT, CELL_TEXT},             /* text */
    {26, CELL_SAFE, CELL_SAFE},             /* oid */
    {27, CELL_SAFE, CELL_SAFE},             /* tid */
    {28, CELL_SAFE, CELL_SAFE},             /* xid */
    {29, CELL_SAFE, CELL_SAFE},             /* cid */
    {30, CELL_TEXT, CELL_ARRAY},            /* oidvector */
    {114, CELL_JSON, CELL_JSON},            /* json */
    {142, CELL_TEXT, CELL_TEXT},            /* xml */
    {143, CELL_TEXT, CELL_ARRAY},           /* xml[] */
    {199, CELL_TEXT, CELL_ARRAY},           /* json[] */
    {600, CELL_FLOAT, CELL_FLOAT8},         /* point */
    {601, CELL_FLOAT, CELL_FLOAT8},         /* lseg */
    {602, CELL_FLOAT, CELL_PATH},           /* path */
    {603, CELL_FLOAT, CELL_FLOAT8},         /* box */
    {604, CELL_FLOAT, CELL_POLYGON},        /* polygon */
    {628, CELL_FLOAT, CELL_FLOAT8},         /* line */
    {629, CELL_FLOAT, CELL_ARRAY},          /* line[] */
    {650, CELL_TEXT, CELL_SAFE},            /* cidr */
    {651, CELL_TEXT, CELL_ARRAY},           /* cidr[] */
    {700, CELL_SAFE, CELL_SAFE},            /* float4: seven digits at the most */
    {701, CELL_FLOAT, CELL_FLOAT8},         /* float8 */
    {705, CELL_TEXT, CELL_TEXT},            /* unknown */
    {718, CELL_FLOAT, CELL_FLOAT8},         /* circle */
    {719, CELL_FLOAT, CELL_ARRAY},          /* circle[] */
    {774, CELL_TEXT, CELL_SAFE},            /* macaddr8 */
    {790, CELL_MONEY_TEXT, CELL_MONEY},     /* money */
    {791, CELL_MONEY_TEXT, CELL_ARRAY},     /* money[] */
    {829, CELL_TEXT, CELL_SAFE},            /* macaddr */
    {869, CELL_TEXT, CELL_SAFE},            /* inet */
    {1000, CELL_TEXT, CELL_ARRAY},          /* bool[] */
    {1001, CELL_TEXT, CELL_ARRAY},          /* bytea[] */
    {1002, CELL_TEXT, CELL_ARRAY},          /* "char"[] */
    {1003, CELL_TEXT, CELL_ARRAY},          /* name[] */
    {1005, CELL_SAFE, CELL_ARRAY},          /* int2[] */
    {1007, CELL_SAFE, CELL_ARRAY},          /* int4[] */
    {1009, CELL_TEXT, CELL_ARRAY},          /* text[] */
    {1014, CELL_TEXT, CELL_ARRAY},          /* bpchar[] */
    {1015, CELL_TEXT, CELL_ARRAY},          /* varchar[] */
    {1016, CELL_NUMBER, CELL_ARRAY},        /* int8[] */
    {1017, CELL_FLOAT, CELL_ARRAY},         /* point[] */
    {1018, CELL_FLOAT, CELL_ARRAY},         /* lseg[] */
    {1019, CELL_FLOAT, CELL_ARRAY},         /* path[] */
    {1020, CELL_FLOAT, CELL_ARRAY},         /* box[] */
    {1021, CELL_SAFE, CELL_ARRAY},          /* float4[] */
    {1022, CELL_FLOAT, CELL_ARRAY},         /* float8[] */
    {1027, CELL_FLOAT, CELL_ARRAY},         /* polygon[] */
    {1028, CELL_SAFE, CELL_ARRAY},          /* oid[] */
    {1041, CELL_TEXT, CELL_ARRAY},          /* inet[] */
    {1042, CELL_TEXT, CELL_TEXT},           /* bpchar */
    {1043, CELL_TEXT, CELL_TEXT},           /* varchar */
    {1082, CELL_SAFE, CELL_SAFE},           /* date */
    {1083, CELL_SAFE, CELL_SAFE},           /* time */
    {1114, CELL_SAFE, CELL_SAFE},           /* timestamp */
    {1115, CELL_SAFE, CELL_ARRAY},          /* timestamp[] */
    {1182, CELL_SAFE, CELL_ARRAY},          /* date[] */
    {1183, CELL_SAFE, CELL_ARRAY},          /* time[] */
    {1184, CELL_SAFE, CELL_SAFE},           /* timestamptz */
    {1185, CELL_SAFE, CELL_ARRAY},          /* timestamptz[] */
    {1186, CELL_TEXT, CELL_SAFE},           /* interval */
    {1187, CELL_TEXT, CELL_ARRAY},          /* interval[] */
    {1231, CELL_NUMBER, CELL_ARRAY},        /* numeric[] */
    {1263, CELL_TEXT, CELL_ARRAY},          /* cstring[] */
    {1266, CELL_SAFE, CELL_SAFE},           /* timetz */
    {1270, CELL_SAFE, CELL_ARRAY},          /* timetz[] */
    {1560, CELL_TEXT, CELL_BITS},           /* bit */
    {1561, CELL_TEXT, CELL_ARRAY},          /* bit[] */
    {1562, CELL_TEXT, CELL_BITS},           /* varbit */
    {1563, CELL_TEXT, CELL_ARRAY},          /* varbit[] */
    {1700, CELL_NUMBER, CELL_NUMERIC},      /* numeric */
    {1790, CELL_TEXT, CELL_TEXT},           /* refcursor */
    {2202, CELL_TEXT, CELL_SAFE},           /* regprocedure */
    {2203, CELL_TEXT, CELL_SAFE},           /* regoper */
    {2204, CELL_TEXT, CELL_SAFE},           /* regoperator */
    {2205, CELL_TEXT, CELL_SAFE},           /* regclass */
    {2206, CELL_TEXT, CELL_SAFE},           /* regtype */
    {2210, CELL_TEXT, CELL_ARRAY},          /* regclass[] */
    {2211, CELL_TEXT, CELL_ARRAY},          /* regtype[] */
    {2249, CELL_TEXT, CELL_RECORD},         /* record */
    {2275, CELL_TEXT, CELL_TEXT},           /* cstring */
    {2278, CELL_SAFE, CELL_SAFE},           /* void: always empty */
    {2287, CELL_TEXT, CELL_ARRAY},          /* record[] */
    {2950, CELL_SAFE, CELL_SAFE},           /* uuid */
    {2951, CELL_SAFE, CELL_ARRAY},          /* uuid[] */
    {3220, CELL_TEXT, CELL_SAFE},           /* pg_lsn */
    {3614, CELL_TEXT, CELL_TSVECTOR},       /* tsvector */
    {3615, CELL_TEXT, CELL_TSQUERY},        /* tsquery */
    {3643, CELL_TEXT, CELL_ARRAY},          /* tsvector[] */
    {3645, CELL_TEXT, CELL_ARRAY},          /* tsquery[] */
    {3734, CELL_TEXT, CELL_SAFE},           /* regconfig */
    {3769, CELL_TEXT, CELL_SAFE},           /* regdictionary */
    {3802, CELL_JSON, CELL_JSONB},          /* jsonb */
    {3807, CELL_TEXT, CELL_ARRAY},          /* jsonb[] */
    {3904, CELL_SAFE, CELL_SAFE},           /* int4range */
    {3905, CELL_SAFE, CELL_ARRAY},          /* int4range[] */
    {3906, CELL_NUMBER, CELL_RANGE},      /* numrange */
    {3907, CELL_NUMBER, CELL_ARRAY},        /* numrange[] */
    {3908, CELL_SAFE, CELL_SAFE},           /* tsrange */
    {3909, CELL_SAFE, CELL_ARRAY},          /* tsrange[] */
    {3910, CELL_SAFE, CELL_SAFE},           /* tstzrange */
    {3911, CELL_SAFE, CELL_ARRAY},          /* tstzrange[] */
    {3912, CELL_SAFE, CELL_SAFE},           /* daterange */
    {3913, CELL_SAFE, CELL_ARRAY},          /* daterange[] */
    {3926, CELL_NUMBER, CELL_RANGE},     /* int8range */
    {3927, CELL_NUMBER, CELL_ARRAY},        /* int8range[] */
    {4072, CELL_TEXT, CELL_VERSIONED},      /* jsonpath */
    {4089, CELL_TEXT, CELL_SAFE},           /* regnamespace */
    {4096, CELL_TEXT, CELL_SAFE},           /* regrole */
    {4191, CELL_TEXT, CELL_SAFE},           /* regcollation */
    {4451, CELL_SAFE, CELL_SAFE},           /* int4multirange */
    {4532, CELL_NUMBER, CELL_MULTIRANGE}, /* nummultirange */
    {4533, CELL_SAFE, CELL_SAFE},           /* tsmultirange */
    {4534, CELL_SAFE, CELL_SAFE},           /* tstzmultirange */
    {4535, CELL_SAFE, CELL_SAFE},           /* datemultirange */
    {4536, CELL_NUMBER, CELL_MULTIRANGE}, /* int8multirange */
    {5069, CELL_NUMBER, CELL_INT8},         /* xid8 */
};

/* The type within a built-in range or multirange. */
static uint32_t inner_of(uint32_t oid) {
    switch (oid) {
    case 3906:
    case 4532:
        return 1700;
    case 3926:
    case 4536:
        return 20;
    default:
        return 0;
    }
}

cell_op_t cell_op_of(const cell_types_t *more, uint32_t oid, int format) {
    size_t low = 0, high = sizeof types / sizeof *types;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (types[mid].oid == oid)
            return format ? CELL_WITH(types[mid].binary, inner_of(oid)) : types[mid].text;
        if (types[mid].oid < oid)
            low = mid + 1;
        else
            high = mid;
    }
    if (!format) return CELL_TEXT;
    low = 0, high = more ? more->count : 0;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (more->rows[mid].oid == oid) return more->rows[mid].op;
        if (more->rows[mid].oid < oid)
            low = mid + 1;
        else
            high = mid;
    }
    return CELL_REFUSED;
}

static long mask_cell(const cell_env_t *e, cell_op_t op, uint8_t *p, size_t n, int depth) {
    const scan_rules_t *r = e->rules;
    scan_counts_t *c = e->counts;
    int kind = e->kind;
    if (depth > CELL_DEPTH) return -1;
    switch (CELL_KIND(op)) {
    case CELL_SAFE:
        return 0;
    case CELL_TEXT:
        return cell_is_document(e, p, n, 0) ? cell_mask_text_document(e, p, n) : mask_text(r, kind, p, n, c);
    case CELL_LINE:
        return mask_text(r, kind, p, n, c);
    case CELL_NUMBER:
        return (long)scan_mask(r, kind | SCAN_DIGITS, p, n, c);
    case CELL_JSON:
        return mask_document(e, p, n);
    case CELL_JSONB:
        if (n < 1 || p[0] != 1) return -1;
        return mask_document(e, p + 1, n - 1);
    case CELL_INT8:
        return mask_int8(r, kind, p, n, c);
    case CELL_NUMERIC:
        return mask_numeric(r, kind, p, n, c);
    case CELL_FLOAT8:
        return mask_doubles(r, kind, p, n, c);
    case CELL_PATH:
        return n < 5 ? -1 : mask_doubles(r, kind, p + 5, n - 5, c);
    case CELL_POLYGON:
        return n < 4 ? -1 : mask_doubles(r, kind, p + 4, n - 4, c);
    case CELL_FLOAT:
        return mask_float_text(r, kind, p, n, c);
    case CELL_BYTES:
        return mask_bytea(r, kind, p, n, c);
    case CELL_BYTEA:
        return mask_bytea_text(r, kind, p, n, c);
    case CELL_MONEY_TEXT:
        return mask_money_text(r, kind, p, n, c);
    case CELL_MONEY:
        return mask_money(r, kind, p, n, c);
    case CELL_ARRAY:
        return mask_array(e, p, n, depth + 1);
    case CELL_RECORD:
        return mask_record(e, p, n, depth + 1);
    case CELL_RANGE:
    case CELL_MULTIRANGE:
        return mask_range(e, op, p, n, depth + 1);
    case CELL_HSTORE:
        return mask_hstore(e, p, n, depth + 1);
    case CELL_TSVECTOR:
    case CELL_TSQUERY:
        return n < 4 ? -1 : mask_items(e, CELL_KIND(op), p + 4, n - 4);
    case CELL_BITS:
        return n < 4 ? -1 : (long)scan_mask(r, kind, p + 4, n - 4, c);
    case CELL_VERSIONED:
        return n < 1 ? -1 : mask_text(r, kind, p + 1, n - 1, c);
    case CELL_FORCED:
        return mask_forced(r, kind, p, n, c);
    case CELL_FORCED_INT8:
        return mask_forced_int8(kind, p, n);
    default:
        return -1;
    }
}

long cell_mask_inner(const cell_env_t *env, cell_op_t op, uint8_t *cell, size_t len, int depth) {
    return mask_cell(env, op, cell, len, depth);
}

long cell_mask_piece(const cell_env_t *e, int kind, uint8_t *p, size_t n) {
    switch (kind) {
    case CELL_FLOAT8:
    case CELL_PATH:
    case CELL_POLYGON:
        return mask_doubles(e->rules, e->kind, p, n, e->counts);
    case CELL_BITS:
        return (long)scan_mask(e->rules, e->kind, p, n, e->counts);
    case CELL_TSVECTOR:
    case CELL_TSQUERY:
        return mask_items(e, kind, p, n);
    case CELL_FORCED: {
        long hits = (long)scan_mask(e->rules, e->kind, p, n, e->counts);
        long changed = star_digits(e->kind, p, n, n, 0);
        return hits ? hits : changed;
    }
    default:
        return mask_cell(e, (cell_op_t)kind, p, n, 0);
    }
}

int cell_is_document(const cell_env_t *env, const uint8_t *cell, size_t len, int more) {
    if (!env->names || len <= 8) return 0;
    if (*cell > ' ' && *cell != '{' && *cell != '[' && *cell != '"' && *cell != 0xef) return 0; /* as most texts */
    /* by its first bytes alone, so that it is the same of a text in pieces */
    if (len > CELL_HEAD) len = CELL_HEAD, more = 1;
    size_t at = names_blanks(cell, len);
    if (at == len) return more; /* what is behind them may be one */
    if (cell[at] == '{' || cell[at] == '[') return 1;
    return names_hstore(cell + at, len - at, more);
}

long cell_mask_plain(const cell_env_t *env, uint8_t *text, size_t len) {
    return mask_text(env->rules, env->kind, text, len, env->counts);
}

long cell_mask_json(const cell_env_t *env, uint8_t *text, size_t len) { return mask_document(env, text, len); }

long cell_mask_text_document(const cell_env_t *env, uint8_t *text, size_t len) {
    long wiped = names_wipe_json(env->names, text, len), hits = cell_mask_plain(env, text, len);
    return hits < 0 ? -1 : hits + wiped;
}

long cell_mask_hex(const cell_env_t *env, uint8_t *digits, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (nibble(digits[i]) < 0) return -1;
    return mask_hex(env->rules, env->kind, digits, len, env->counts);
}

long cell_mask(const cell_env_t *env, cell_op_t op, uint8_t *cell, size_t len) {
    return mask_cell(env, op, cell, len, 0);
}
