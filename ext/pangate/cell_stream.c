#include "cell_stream.h"

#include "copy.h"

#include <stdlib.h>
#include <string.h>

/* How a value goes on; PARTS are of the kind that its operation says. */
enum { PASS, WHOLE, WIPED, BEGUN, TEXT, HEX, JSON, DOCUMENT, PARTS };

/* What a holder has next: its head; values of one type; of a composite, each behind its type; of hstore, keys and
 * values. */
enum { HEAD, ELEMENTS, FIELDS, PAIRS };

/* What a key of hstore may leave to its value beside the number of a rule. */
enum { NO_RULE = -1, KEY_NEXT = -2, KEY_BEGUN = -3 };

/* Of cell_value_t.wiping beside those of names.h: a string that was wiped is over, and what parts a key from its value
 * may follow. */
enum { WIPED_BEFORE = -1 };

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

/* For text of numbers: behind a byte that ends every run of digits and separators. */
static size_t chain_cut(const uint8_t *p, size_t n) {
    while (n && (is_digit(p[n - 1]) || p[n - 1] == ' ' || p[n - 1] == '-')) n--;
    return n;
}

/* For text of doubles: behind one that no part of a double is. */
static size_t double_cut(const uint8_t *p, size_t n) {
    while (n && (is_digit(p[n - 1]) || memchr(" -+.eE", p[n - 1], 6))) n--;
    return n;
}

/* For text of money: behind one that parts no thousands. */
static size_t money_cut(const uint8_t *p, size_t n) {
    while (n && (is_digit(p[n - 1]) || p[n - 1] >= 0x80 || memchr(",.' -", p[n - 1], 5))) n--;
    return n;
}

/* Of a document in a column of text both have to hold. */
static size_t document_cut(const cell_env_t *env, const uint8_t *p, size_t n) {
    size_t last = n;
    for (int tries = 0; last && tries < TRIES; tries++) {
        size_t c = names_json_cut(env->names, p, n, last, 0);
        last = text_cut(p, c);
        if (last == c) return c;
    }
    return 0;
}

/* A place within a string of JSON that goes on, from which on a key would still be known by what is left of it; 0
 * when there is none. `begun` when it began in an earlier window, `json` as in names.h. */
static size_t string_cut(const uint8_t *p, size_t n, size_t start, int begun, int json) {
    size_t last = n > NAMES_TAIL ? n - NAMES_TAIL : 0;
    /* of a value that is as long as a code or a PIN nothing is passed before its end */
    size_t least = start + (begun ? 24 : NAME_VALUE + 2);
    for (int tries = 0; tries < 8 * TRIES; tries++) {
        size_t c = text_cut(p, last);
        if (c < least) return 0;
        if (!memchr(p + c - 6, '\\', 6)) return json && memchr(p + start, '\n', c - start) ? 0 : c;
        last = c - 1; /* not within an escape */
    }
    return 0;
}

/* Where the first `n` bytes may be cut; 0 when nowhere, -1 when they are not what they should be. */
static long cut_at(const cell_value_t *v, const cell_env_t *env, const uint8_t *p, size_t n) {
    switch (v->way) {
    case JSON:
        return (long)names_json_cut(env->names, p, n, n, 1);
    case DOCUMENT:
        return (long)document_cut(env, p, n);
    case HEX:
        return (long)hex_cut(p, n);
    case TEXT:
        return (long)text_cut(p, n);
    }
    switch (CELL_KIND(v->op)) {
    case CELL_FLOAT:
        return (long)double_cut(p, n);
    case CELL_MONEY_TEXT:
        return (long)money_cut(p, n);
    case CELL_FLOAT8:
    case CELL_PATH:
    case CELL_POLYGON:
        return (long)(n & ~(size_t)7);
    case CELL_TSVECTOR:
    case CELL_TSQUERY:
        return cell_items(CELL_KIND(v->op), p, n);
    default:
        return (long)chain_cut(p, n);
    }
}

/* The same of JSON where that is nowhere: within a string, or before a value that is wiped. `open` says which. */
static long cut_open(const cell_value_t *v, const cell_env_t *env, const uint8_t *p, size_t n, int *open) {
    size_t start;
    if (v->way != JSON && v->way != DOCUMENT) return 0;
    *open = names_json_open(env->names, p, n, v->way == JSON, &start);
    if (*open == NAMES_STRING) return (long)string_cut(p, n, start, v->inside && !start, v->way == JSON);
    return *open == NAMES_NOTHING ? 0 : (long)start;
}

static long mask_at(const cell_value_t *v, const cell_env_t *env, uint8_t *p, size_t n) {
    switch (v->way) {
    case JSON:
        return cell_mask_json(env, p, n);
    case DOCUMENT:
        return cell_mask_text_document(env, p, n);
    case HEX:
        return n & 1 ? CELL_UNDECODABLE : cell_mask_hex(env, p, n);
    case TEXT:
        return cell_mask_plain(env, p, n);
    default:
        return cell_mask_piece(env, CELL_KIND(v->op), p, n);
    }
}

/* Where to cut a window, as above, and how it goes on behind: in `open` one of names.h. */
static long cut(const cell_value_t *v, const cell_env_t *env, const uint8_t *p, size_t n, int *open) {
    const uint8_t *text = p;
    uint8_t *copy = NULL;
    *open = NAMES_NOTHING;
    if (v->inside) { /* with the quote that its string began with */
        copy = malloc(n + 1);
        if (!copy) return -1;
        *copy = '"';
        memcpy(copy + 1, p, n);
        text = copy;
    }
    long at = cut_at(v, env, text, n + (size_t)v->inside);
    if (!at && (v->inside || v->wanted == v->limit)) at = cut_open(v, env, text, n + (size_t)v->inside, open);
    free(copy);
    return at > 0 ? at - v->inside : at;
}

static long mask_window(const cell_value_t *v, const cell_env_t *env, uint8_t *p, size_t n) {
    if (!v->inside) return mask_at(v, env, p, n);
    uint8_t *copy = malloc(n + 1);
    if (!copy) return CELL_UNDECODABLE;
    *copy = '"';
    memcpy(copy + 1, p, n);
    long found = env->names && names_json_unseen(copy, n + 1) ? CELL_TOO_LONG : mask_at(v, env, copy, n + 1);
    memcpy(p, copy + 1, n);
    free(copy);
    return found;
}

/* A value in JSON that is wiped, up to its end or the end of the `n` bytes: as names_wipe_json leaves it.
 * Returns how many bytes of them it has, with the blanks behind a string, or less where more have to be there;
 * CELL_TOO_LONG when that was a key, of which nothing is known any more. */
static long wipe_open(cell_value_t *v, uint8_t *p, size_t n, int ended, uint64_t *hits) {
    for (size_t i = 0; i < n; i++, v->wiped++) {
        uint8_t byte = p[i];
        int ends = 0, string = v->wiping == NAMES_WIPED_STRING, last = i + 1 == n;
        if (v->wiping == WIPED_BEFORE) {
            if (memchr(" \t\n\r", byte, 4)) continue;
            v->wiping = NAMES_NOTHING;
            return byte == ':' || byte == '=' ? CELL_TOO_LONG : (long)i;
        }
        int closes = string && v->wiped && !v->escaped && byte == '"';
        /* in COPY the quote behind the stars may need another byte, which the one behind it gives */
        if (string && v->wiped == 4 && last && !closes && !ended) return (long)i;
        *hits += string ? v->wiped == 1 && !closes : !v->wiped; /* a string of nothing is not wiped */
        if (string)
            p[i] = closes && v->wiped < 4 ? '"'
                   : v->wiped > 4 || (v->wiped == 4 && last && !closes) ? ' '
                                                                         : (uint8_t)"\"***\""[v->wiped];
        else
            p[i] = v->wiped ? ' ' : '0';
        if (v->escaped) {
            v->escaped = 0;
        } else if (v->quoted) {
            v->escaped = byte == '\\';
            v->quoted = byte != '"';
            ends = closes;
        } else if (byte == '"') {
            v->quoted = 1;
        } else if (byte == '{' || byte == '[') {
            v->nested++;
        } else if (byte == '}' || byte == ']') {
            ends = !--v->nested;
        }
        if (ends) {
            v->wiping = string ? WIPED_BEFORE : NAMES_NOTHING;
            if (!v->wiping) return (long)i + 1;
        }
    }
    return (long)n;
}

/* Whether a value can be masked in windows, and how many bytes it begins with that are not. */
static int can_be_cut(cell_op_t op, size_t *head) {
    *head = 0;
    switch (CELL_KIND(op)) {
    case CELL_JSONB:
    case CELL_VERSIONED:
        *head = 1;
        return 1;
    case CELL_POLYGON:
    case CELL_BITS:
    case CELL_TSVECTOR:
    case CELL_TSQUERY:
        *head = 4;
        return 1;
    case CELL_PATH:
        *head = 5;
        return 1;
    case CELL_TEXT:
    case CELL_LINE:
    case CELL_BYTES:
    case CELL_BYTEA:
    case CELL_JSON:
    case CELL_NUMBER:
    case CELL_FLOAT:
    case CELL_MONEY_TEXT:
    case CELL_FLOAT8:
    case CELL_FORCED:
        return 1;
    default:
        return 0;
    }
}

size_t cell_value_hold(cell_op_t op, size_t window, size_t limit) {
    size_t head;
    if (CELL_KIND(op) == CELL_SAFE) return 0;
    /* what shows the last digits of a whole has to see the whole; beyond the limit none is shown */
    return CELL_KIND(op) == CELL_FORCED || !can_be_cut(op, &head) ? limit : window;
}

int cell_value_begin(cell_value_t *v, cell_op_t op, size_t window, size_t limit) {
    size_t head;
    v->op = op;
    v->window = v->wanted = window;
    v->limit = limit;
    v->starred = v->found = v->depth = v->inside = v->wiping = 0;
    v->way = CELL_KIND(op) == CELL_SAFE ? PASS : can_be_cut(op, &head) ? BEGUN : WHOLE;
    return v->way != WHOLE;
}

/* How the value goes on, by its first bytes. Returns how many of them are done. */
static long begin(cell_value_t *v, const cell_env_t *env, const uint8_t *p, size_t have, int ended) {
    size_t head;
    can_be_cut(v->op, &head);
    v->way = PARTS;
    switch (CELL_KIND(v->op)) {
    case CELL_BYTEA:
        v->way = p[0] == '\\' && p[1] == 'x' ? HEX : TEXT;
        return v->way == HEX ? 2 : 0;
    case CELL_JSONB:
        if (p[0] != 1) return CELL_UNDECODABLE;
        v->way = JSON;
        break;
    case CELL_JSON:
        v->way = JSON;
        break;
    case CELL_TEXT: /* a document in a column of text has names whose values are wiped */
        v->way = cell_is_document(env, p, have, !ended) ? DOCUMENT : TEXT;
        break;
    case CELL_LINE:
    case CELL_BYTES:
    case CELL_VERSIONED:
        v->way = TEXT;
        break;
    }
    return (long)head;
}

long cell_value_mask(cell_value_t *v, const cell_env_t *env, uint8_t *p, size_t have, int ended, uint64_t *hits) {
    size_t done = 0;
    if (v->way == PASS) return (long)have;
    if (v->way == WHOLE) {
        if (!ended) return 0;
        long found = cell_mask_inner(env, v->op, p, have, v->depth);
        if (found < 0) return CELL_UNDECODABLE;
        *hits += (uint64_t)found;
        return (long)have;
    }
    if (v->way == BEGUN) {
        if (have < CELL_HEAD && !ended) return 0;
        if (have < 8) return CELL_UNDECODABLE;
        long first = begin(v, env, p, have, ended);
        if (first < 0) return first;
        done = (size_t)first;
    }
    while (done < have) {
        if (v->wiping) {
            long wiped = wipe_open(v, p + done, have - done, ended, hits);
            if (wiped < 0) return wiped;
            if (v->starred) memset(p + done, '*', (size_t)wiped);
            done += (size_t)wiped;
            if (!wiped && v->wiping) break;
            continue;
        }
        size_t size = have - done < v->wanted ? have - done : v->wanted;
        int open = NAMES_NOTHING;
        if (size < v->wanted && !ended) break;
        if (!ended || done + size < have) {
            long at = cut(v, env, p + done, size, &open);
            if (at < 0) return CELL_UNDECODABLE;
            size = (size_t)at;
            if (!size) {
                if (v->wanted == v->limit) return CELL_TOO_LONG;
                v->wanted = v->wanted * 2 < v->limit ? v->wanted * 2 : v->limit;
                continue;
            }
        }
        long found = mask_window(v, env, p + done, size);
        if (found < 0) return found;
        if (v->starred) memset(p + done, '*', size);
        /* what is a number whatever it holds is one */
        *hits += CELL_KIND(v->op) == CELL_FORCED ? found && !v->found : (uint64_t)found;
        v->found |= found > 0;
        done += size;
        v->wanted = v->window;
        v->inside = open == NAMES_STRING;
        v->wiping = open == NAMES_STRING ? NAMES_NOTHING : open;
        if (v->wiping) {
            v->quoted = v->escaped = 0;
            v->wiped = v->nested = 0;
        }
    }
    return (long)done;
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
    switch (s->value.op) {
    case WIPE_TEXT:
        memset(p, '*', n);
        return;
    case WIPE_ZEROS:
        memset(p, 0, n);
        return;
    case WIPE_NUMERIC: { /* so many digits as its length says, each of them 0 */
        size_t digits = (s->length - 8) / 2;
        memset(p, 0, n);
        if (!from && n) p[0] = (uint8_t)(digits >> 8);
        if (from < 2 && from + n > 1) p[1 - from] = (uint8_t)digits;
        return;
    }
    case WIPE_JSON:
        wipe_json(p, n, from, s->length);
        return;
    case WIPE_JSONB:
        if (!from && n) p[0] = 1, skip = 1;
        wipe_json(p + skip, n - skip, from + skip - 1, s->length - 1);
        return;
    default: /* a digit in text and in hex */
        while (s->value.op == WIPE_EMPTY && skip < n && from + skip < 2 && p[skip] == (uint8_t)"\\x"[from + skip])
            skip++;
        memset(p + skip, '0', n - skip);
    }
}

int cell_stream_wipe(cell_stream_t *s, int wipe, size_t len) {
    if (wipe == WIPE_NULL || (wipe == WIPE_NUMERIC && (len < 8 || len & 1 || len > 8 + 2 * 65535)) || (wipe == WIPE_JSONB && len < 2)) return 0;
    s->left = s->length = len;
    s->depth = s->wrong = 0;
    s->in_value = 1;
    s->value.op = (cell_op_t)wipe;
    s->value.way = WIPED;
    return 1;
}

static int holds(cell_op_t op) {
    int kind = CELL_KIND(op);
    return kind == CELL_ARRAY || kind == CELL_RECORD || kind == CELL_RANGE || kind == CELL_MULTIRANGE ||
           kind == CELL_HSTORE;
}

/* A value of `len` bytes begins; with `whole` it has to be there at once. Returns 0 or what is wrong. */
static int push(cell_stream_t *s, cell_op_t op, size_t len, int whole) {
    if (len > s->window && holds(op)) {
        if (s->depth == CELL_DEPTH) return CELL_UNDECODABLE; /* what it holds would be nested too deep */
        cell_holder_t *h = &s->holders[s->depth++];
        h->op = op;
        h->left = len;
        h->way = HEAD;
        h->rule = KEY_NEXT;
        s->in_value = 0;
        return 0;
    }
    s->inner = len;
    s->in_value = 1;
    cell_value_begin(&s->value, op, s->window, s->limit);
    s->value.depth = s->depth;
    if (s->value.way != PASS && (whole || len <= cell_value_hold(op, s->window, s->limit))) s->value.way = WHOLE;
    return s->value.way == WHOLE && len > s->limit ? CELL_TOO_LONG : 0;
}

void cell_stream_begin(cell_stream_t *s, cell_op_t op, size_t len, size_t window, size_t limit) {
    s->left = len;
    s->window = window;
    s->limit = limit;
    s->depth = 0;
    s->wrong = push(s, op, len, 0);
}

/* What an array, a composite, a range or hstore begins with. Returns how many bytes it has, 0 when it is not whole. */
static long begin_holder(cell_holder_t *h, const cell_env_t *env, const uint8_t *p, size_t have) {
    size_t head = CELL_KIND(h->op) == CELL_RANGE ? 1 : CELL_KIND(h->op) == CELL_ARRAY ? 12 : 4;
    if (have < head) return 0;
    h->way = ELEMENTS;
    switch (CELL_KIND(h->op)) {
    case CELL_ARRAY: {
        uint32_t ndim = be32(p);
        head += 8 * (size_t)ndim;
        if (ndim > 6 || h->left < head) return CELL_UNDECODABLE;
        if (have < head) {
            h->way = HEAD;
            return 0;
        }
        h->op = cell_op_of(env->types, be32(p + 8), 1);
        break;
    }
    case CELL_RANGE:
        h->op = cell_op_of(env->types, CELL_INNER(h->op), 1);
        break;
    case CELL_MULTIRANGE:
        h->op = CELL_WITH(CELL_RANGE, CELL_INNER(h->op));
        break;
    case CELL_RECORD:
        h->way = FIELDS;
        h->fields = be32(p);
        h->op = CELL_SAFE; /* each field says its own */
        break;
    default:
        h->way = PAIRS;
        h->op = CELL_TEXT;
    }
    if (CELL_KIND(h->op) == CELL_REFUSED) return CELL_UNDECODABLE;
    h->left -= head;
    return (long)head;
}

/* The next value of a holder, by what stands in front of it. Returns how many bytes these are, 0 when they are not
 * whole. */
static long begin_element(cell_stream_t *s, cell_holder_t *h, const cell_env_t *env, const uint8_t *p, size_t have,
                          uint64_t *hits) {
    size_t head = h->way == FIELDS ? 8 : 4;
    cell_op_t op = h->op;
    if (h->left < head || (h->way == FIELDS && !h->fields)) return CELL_UNDECODABLE;
    if (have < head) return 0;
    if (h->way == FIELDS) {
        op = cell_op_of(env->types, be32(p), 1);
        if (CELL_KIND(op) == CELL_REFUSED) return CELL_UNDECODABLE;
        h->fields--;
    }
    int32_t len = (int32_t)be32(p + head - 4);
    if (len < -1 || (len > 0 && (size_t)len > h->left - head)) return CELL_UNDECODABLE;
    size_t size = len < 0 ? 0 : (size_t)len;
    int key = h->way == PAIRS && h->rule == KEY_NEXT, rule = h->rule;
    h->left -= head + size;
    if (h->way == PAIRS) h->rule = key ? len < 0 ? NO_RULE : KEY_BEGUN : len < 0 ? KEY_NEXT : rule;
    if (len < 0) return (long)head;
    /* what may be a code or a PIN is looked at whole */
    int whole = key || (h->way == PAIRS && rule >= 0 && size <= NAME_VALUE);
    int wrong = push(s, op, size, whole);
    if (wrong) return wrong;
    if (h->way == PAIRS && rule >= 0 && s->value.way != WHOLE && env->names->rules[rule].shape == NAME_ANY) {
        s->value.starred = 1;
        ++*hits;
    }
    return (long)head;
}

/* A key or a value of hstore is done: the `len` bytes at `p`, where it was there whole. */
static void end_of_pair(cell_stream_t *s, cell_holder_t *h, const cell_env_t *env, uint8_t *p, size_t len,
                        uint64_t *hits) {
    if (h->rule == KEY_BEGUN) {
        h->rule = env->names && len ? names_find(env->names, p, len) : NO_RULE;
        return;
    }
    if (h->rule >= 0 && s->value.way == WHOLE && name_fits(env->names->rules[h->rule].shape, p, len, 0)) {
        memset(p, '*', len);
        ++*hits;
    }
    h->rule = KEY_NEXT;
}

/* The value that is looked at goes on. Returns how many bytes of it are done. */
static long mask_value(cell_stream_t *s, const cell_env_t *env, uint8_t *p, size_t have, uint64_t *hits) {
    size_t n = have < s->inner ? have : s->inner;
    long done = cell_value_mask(&s->value, env, p, n, n == s->inner, hits);
    if (done < 0) return done;
    if ((size_t)done == s->inner) {
        cell_holder_t *h = s->depth ? &s->holders[s->depth - 1] : NULL;
        if (h && h->way == PAIRS) end_of_pair(s, h, env, p, s->inner, hits);
        s->in_value = 0;
    }
    s->inner -= (size_t)done;
    return done;
}

long cell_stream_mask(cell_stream_t *s, const cell_env_t *env, uint8_t *p, size_t have, uint64_t *hits) {
    size_t done = 0;
    if (s->wrong) return s->wrong;
    if (have > s->left) have = s->left;
    if (s->value.way == WIPED && s->in_value) {
        wipe_piece(s, p, have);
        s->left -= have;
        return (long)have;
    }
    for (;;) {
        long more;
        int was = s->in_value;
        cell_holder_t *h = s->depth ? &s->holders[s->depth - 1] : NULL;
        if (s->in_value) {
            more = mask_value(s, env, p + done, have - done, hits);
        } else if (!h) {
            return (long)done;
        } else if (h->way == HEAD) {
            more = begin_holder(h, env, p + done, have - done);
        } else if (h->left) {
            more = begin_element(s, h, env, p + done, have - done, hits);
        } else if ((h->way == FIELDS && h->fields) || (h->way == PAIRS && h->rule != KEY_NEXT)) {
            return CELL_UNDECODABLE;
        } else {
            s->depth--;
            continue;
        }
        if (more < 0) return more;
        done += (size_t)more;
        s->left -= (size_t)more;
        /* a value that was done may have been of no bytes; everything else that gets nowhere needs more */
        if (was ? s->in_value : !more) return (long)done;
    }
}
