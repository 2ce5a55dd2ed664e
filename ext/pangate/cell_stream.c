#include "cell_stream.h"

#include "copy.h"

#include <string.h>

enum { PASS, WHOLE, BEGUN, TEXT, HEX, JSON, DOCUMENT, ARRAY, RECORD, ELEMENTS, FIELDS, WIPED };

#define TRACK 96  /* bytes behind the first ^ of a track that may belong to it */
#define AMOUNT NAME_AMOUNT
#define TRIES 8 /* places that are looked at for a cut, before the window grows */

static inline uint32_t be32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

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
    else if (len > window && CELL_KIND(op) == CELL_ARRAY)
        s->way = ARRAY;
    else if (len > window && CELL_KIND(op) == CELL_RECORD)
        s->way = RECORD;
    else
        s->way = WHOLE;
}

int cell_stream_wipe(cell_stream_t *s, int wipe, size_t len) {
    if (wipe == WIPE_NULL || (wipe == WIPE_NUMERIC && len < 8) || (wipe == WIPE_JSONB && len < 2)) return 0;
    s->op = (cell_op_t)wipe;
    s->left = s->length = len;
    s->way = WIPED;
    return 1;
}

/* The `n` bytes from `from` on of the JSON that stands in the place of `len` bytes. */
static void wipe_json(uint8_t *p, size_t n, size_t from, size_t len) {
    const char *made = len < 5 ? "0" : "\"***\"";
    size_t have = strlen(made);
    for (size_t i = 0; i < n; i++) p[i] = from + i < have ? (uint8_t)made[from + i] : ' ';
}

/* The next `n` bytes, to a value that is as long: stars, a number that is 0. */
static void wipe_piece(const cell_stream_t *s, uint8_t *p, size_t n) {
    size_t from = s->length - s->left, skip = 0;
    switch (s->op) {
    case WIPE_TEXT:
        memset(p, '*', n);
        return;
    case WIPE_ZEROS:
        memset(p, 0, n);
        return;
    case WIPE_NUMERIC: /* so many digits, each of them 0 */
        while (skip < n && from + skip < 2) skip++;
        memset(p + skip, 0, n - skip);
        return;
    case WIPE_JSON:
        wipe_json(p, n, from, s->length);
        return;
    case WIPE_JSONB:
        if (!from && n) p[0] = 1, skip = 1;
        wipe_json(p + skip, n - skip, from + skip - 1, s->length - 1);
        return;
    default: /* a digit in text and in hex */
        while (skip < n && from + skip < 2 && p[skip] == (uint8_t)"\\x"[from + skip] && s->op == WIPE_EMPTY) skip++;
        memset(p + skip, '0', n - skip);
    }
}

/* The head of an array or a composite. Returns how many bytes it has, 0 when it is not whole. */
static long begin_elements(cell_stream_t *s, const cell_env_t *env, const uint8_t *p, size_t have) {
    if (s->way == RECORD) {
        if (have < 4) return 0;
        s->fields = be32(p);
        s->way = FIELDS;
        return 4;
    }
    if (have < 12) return 0;
    uint32_t ndim = be32(p);
    if (ndim > 6 || s->left < 12 + 8 * (size_t)ndim) return CELL_UNDECODABLE;
    if (have < 12 + 8 * (size_t)ndim) return 0;
    s->inner = cell_op_of(env->types, be32(p + 8), 1);
    if (CELL_KIND(s->inner) == CELL_REFUSED) return CELL_UNDECODABLE;
    s->way = ELEMENTS;
    return (long)(12 + 8 * (size_t)ndim);
}

/* Elements that are there whole. Each has to be within the limit. */
static long mask_some(cell_stream_t *s, const cell_env_t *env, uint8_t *p, size_t have, uint64_t *hits) {
    size_t done = 0, head = s->way == FIELDS ? 8 : 4;
    while (s->left) {
        cell_op_t op = s->inner;
        if (s->left < head || (s->way == FIELDS && !s->fields)) return CELL_UNDECODABLE;
        if (have - done < head) break;
        if (s->way == FIELDS) {
            op = cell_op_of(env->types, be32(p + done), 1);
            if (CELL_KIND(op) == CELL_REFUSED) return CELL_UNDECODABLE;
        }
        int32_t len = (int32_t)be32(p + done + head - 4);
        size_t size = len == -1 ? 0 : (size_t)len;
        if (len < -1 || size > s->left - head) return CELL_UNDECODABLE;
        if (size > s->limit) return CELL_TOO_LONG;
        if (have - done < head + size) break;
        if (len >= 0) {
            long found = cell_mask_inner(env, op, p + done + head, size);
            if (found < 0) return CELL_UNDECODABLE;
            *hits += (uint64_t)found;
        }
        done += head + size;
        s->left -= head + size;
        if (s->way == FIELDS) s->fields--;
    }
    if (!s->left && s->way == FIELDS && s->fields) return CELL_UNDECODABLE;
    return (long)done;
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
    if (s->way == WIPED) {
        wipe_piece(s, p, have);
        s->left -= have;
        return (long)have;
    }
    if (s->way == ARRAY || s->way == RECORD) {
        long first = begin_elements(s, env, p, have);
        if (first <= 0) return first;
        done = (size_t)first;
        s->left -= done;
    }
    if (s->way == ELEMENTS || s->way == FIELDS) {
        long more = mask_some(s, env, p + done, have - done, hits);
        return more < 0 ? more : (long)done + more;
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
