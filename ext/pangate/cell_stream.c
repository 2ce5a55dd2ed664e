#include "cell_stream.h"

#include <string.h>

enum { PASS, WHOLE, BEGUN, TEXT, HEX, JSON, DOCUMENT };

#define TRACK 96  /* bytes behind the first ^ of a track that may belong to it */
#define AMOUNT NAME_AMOUNT
#define TRIES 8 /* places that are looked at for a cut, before the window grows */

static inline int is_digit(uint8_t b) { return (uint8_t)(b - '0') < 10; }

static inline int is_hex(uint8_t b) { return is_digit(b) || (uint8_t)((b | 0x20) - 'a') < 6; }

/* Ends every number, escape, amount and track; but an x or an e may be the second half of a mark. */
static inline int is_plain(uint8_t b) {
    return b < 0x80 && !is_digit(b) && !memchr(" -\\=^?*,.'$+", b, 12);
}

/* The last place to cut a text of `n` bytes, so that each side masked by itself is the whole masked; 0 when there
 * is none. The text begins at such a place. */
static size_t text_cut(const uint8_t *p, size_t n) {
    size_t quiet = n, open = n; /* from here to the cut there is no digit, and no ^ */
    for (size_t c = n; c > 1; c--) {
        if (p[c - 1] == '\n') return c;
        if (quiet > c) quiet = c;
        if (open > c) open = c;
        while (quiet && c - quiet < AMOUNT && !is_digit(p[quiet - 1])) quiet--;
        while (open && c - open < TRACK && p[open - 1] != '^' && p[open - 1] != '\n') open--;
        if (open && c - open < TRACK && p[open - 1] == '^') continue;
        if (p[c - 1] >= 0x80) {
            /* a sign of currency, or the first half of a character whose second looks like a digit */
            if (quiet && c - quiet < AMOUNT) continue;
            if (c == n || is_digit(p[c]) || p[c] == ' ' || p[c] == '-') continue;
            return c;
        }
        uint8_t letter = p[c - 1] | 0x20;
        if (!is_plain(p[c - 1]) || ((letter == 'x' || letter == 'e') && !is_plain(p[c - 2]))) continue;
        if (!is_hex(p[c - 1])) return c;
        size_t start = c - 1;
        while (start && is_hex(p[start - 1])) start--;
        if (start < 2 || p[start - 1] != 'x' || p[start - 2] != '\\') return c;
        c = start; /* bytea in hex is not torn: on before its x */
    }
    return 0;
}

/* The same for hex digits: between two bytes, the first of which ends every number. */
static size_t hex_cut(const uint8_t *p, size_t n) {
    for (size_t c = n & ~(size_t)1; c; c -= 2) {
        uint8_t high = p[c - 2], low = p[c - 1];
        int joins = (high == '3' && is_digit(low)) || (high == '2' && (low == '0' || (low | 0x20) == 'd'));
        if (!joins) return c;
    }
    return 0;
}

static int can_be_cut(int kind) {
    return kind == CELL_TEXT || kind == CELL_BYTES || kind == CELL_BYTEA || kind == CELL_JSON || kind == CELL_JSONB;
}

/* Of a document in a column of text both have to hold. */
static size_t document_cut(const cell_env_t *env, const uint8_t *p, size_t n) {
    size_t last = n;
    for (int tries = 0; last && tries < TRIES; tries++) {
        size_t c = names_json_cut(env->names, p, n, last);
        last = text_cut(p, c);
        if (last == c) return c;
    }
    return 0;
}

static size_t cut(const cell_stream_t *s, const cell_env_t *env, const uint8_t *p, size_t n) {
    switch (s->way) {
    case JSON:
        return names_json_cut(env->names, p, n, n);
    case DOCUMENT:
        return document_cut(env, p, n);
    case HEX:
        return hex_cut(p, n);
    default:
        return text_cut(p, n);
    }
}

static long mask_piece(const cell_stream_t *s, const cell_env_t *env, uint8_t *p, size_t n) {
    switch (s->way) {
    case JSON:
        return cell_mask_json(env, p, n);
    case DOCUMENT:
        return cell_mask_text_document(env, p, n);
    case HEX:
        return cell_mask_hex(env, p, n);
    default:
        return cell_mask_plain(env, p, n);
    }
}

void cell_stream_begin(cell_stream_t *s, cell_op_t op, size_t len, size_t window, size_t limit) {
    s->op = op;
    s->left = len;
    s->window = s->wanted = window;
    s->limit = limit;
    if (CELL_KIND(op) == CELL_SAFE)
        s->way = PASS;
    else if (len > window && can_be_cut(CELL_KIND(op)))
        s->way = BEGUN;
    else
        s->way = WHOLE;
}

/* How the cell goes on, by its first two bytes. Returns how many of them are done. */
static long begin(cell_stream_t *s, const cell_env_t *env, const uint8_t *p) {
    if (CELL_KIND(s->op) == CELL_BYTEA && p[0] == '\\' && p[1] == 'x') {
        if (s->left & 1) return CELL_UNDECODABLE;
        s->way = HEX;
        return 2;
    }
    if (CELL_KIND(s->op) == CELL_JSON || CELL_KIND(s->op) == CELL_JSONB) {
        int versioned = CELL_KIND(s->op) == CELL_JSONB;
        if (versioned && p[0] != 1) return CELL_UNDECODABLE;
        s->way = JSON;
        return versioned;
    }
    /* a document in a column of text has names whose values are wiped */
    s->way = CELL_KIND(s->op) == CELL_TEXT && cell_is_document(env, p, s->left) ? DOCUMENT : TEXT;
    return 0;
}

long cell_stream_mask(cell_stream_t *s, const cell_env_t *env, uint8_t *p, size_t have, uint64_t *hits) {
    size_t done = 0;
    if (have > s->left) have = s->left;
    if (s->way == PASS) {
        s->left -= have;
        return (long)have;
    }
    if (s->way == BEGUN) {
        if (have < 2) return 0;
        long first = begin(s, env, p);
        if (first < 0) return first;
        done = (size_t)first;
        s->left -= done;
    }
    if (s->way == WHOLE) {
        if (s->left > s->limit) return CELL_TOO_LONG;
        if (have < s->left) return 0;
        long found = cell_mask(env, s->op, p, s->left);
        if (found < 0) return CELL_UNDECODABLE;
        *hits += (uint64_t)found;
        done = s->left;
        s->left = 0;
        return (long)done;
    }
    while (s->left) {
        size_t size = s->left < s->wanted ? s->left : s->wanted;
        if (have - done < size) break;
        if (size < s->left) {
            size = cut(s, env, p + done, size);
            if (!size) {
                if (s->wanted == s->limit) return CELL_TOO_LONG;
                s->wanted = s->wanted * 2 < s->limit ? s->wanted * 2 : s->limit;
                continue;
            }
        }
        long found = mask_piece(s, env, p + done, size);
        if (found < 0) return CELL_UNDECODABLE;
        *hits += (uint64_t)found;
        done += size;
        s->left -= size;
        s->wanted = s->window;
    }
    return (long)done;
}
