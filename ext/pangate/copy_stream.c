#include "copy_stream.h"

#include <stdlib.h>
#include <string.h>

enum { CELL, VALUE, WIPING, BEHIND };

enum { OUTSIDE, PLAIN, QUOTED, CLOSED };

void copy_stream_begin(copy_stream_t *s, size_t len, size_t window, size_t limit) {
    memset(s, 0, sizeof *s);
    s->left = len;
    s->window = window;
    s->limit = limit;
}

/* See where the cell ends, unless `most` bytes of it are there before. Returns 1 when it does, 0 when not yet. What is
 * found depends on the bytes alone and not on how many of them are there at once. */
static int look(copy_stream_t *s, const copy_form_t *f, const uint8_t *p, size_t have, size_t most) {
    size_t content = s->left - 1;
    if (s->within == CLOSED) return 1;
    while (s->seen < most) {
        if (s->seen >= have) return 0;
        if (s->seen == content) { /* not before the newline is there: what is behind it may go on */
            if (p[content] != '\n') return COPY_SPLIT;
            return s->within == QUOTED ? COPY_UNDESCRIBED : 1;
        }
        uint8_t b = p[s->seen];
        if (s->within == OUTSIDE) {
            s->within = f->csv && b == f->quote ? QUOTED : PLAIN;
            if (s->within == QUOTED) {
                s->seen++;
                continue;
            }
        }
        int last = s->seen + 1 == content;
        if (s->within == PLAIN) {
            if (b == f->delimiter) return 1;
            if (!f->csv && b == '\\') {
                if (last) return COPY_UNDESCRIBED;
                if (s->seen + 1 >= have) return 0;
                if (!copy_escapes(p[s->seen + 1])) return COPY_UNDESCRIBED;
                s->marked = 1;
                s->seen++;
            }
        } else if (b == f->escape && !last) {
            if (s->seen + 1 >= have) return 0;
            uint8_t next = p[s->seen + 1];
            if (next == f->quote || next == f->escape) {
                s->marked = 1;
                s->seen++;
            } else if (b == f->quote) {
                s->within = CLOSED;
            }
        } else if (b == f->quote) {
            s->within = CLOSED;
        }
        s->seen++;
        if (s->within == CLOSED) return 1;
    }
    return 0;
}

/* The next `n` bytes of a wiped cell, to one that is as long. */
static void wipe(copy_stream_t *s, const copy_form_t *f, int kind, uint8_t *p, size_t n) {
    int json = kind == WIPE_JSON || kind == WIPE_JSONB;
    for (size_t i = 0; i < n; i++, s->wiped++)
        p[i] = kind == WIPE_TEXT ? '*' : json && s->wiped ? copy_blank(f) : '0';
}

static int can_be_wiped(const copy_form_t *f, int kind) {
    return kind != WIPE_NULL && ((kind != WIPE_JSON && kind != WIPE_JSONB) || copy_blank(f));
}

/* A cell begins. Returns how many bytes are done. */
static long begin(copy_stream_t *s, const cell_env_t *env, const copy_form_t *f, cell_op_t op, int kind, uint64_t *hits,
                  uint8_t *p, size_t have) {
    size_t hold = kind ? 0 : cell_value_hold(op, s->window, s->limit);
    if (hold < f->null_len) hold = f->null_len;
    if (have <= f->null_len && have < s->left) return 0;
    if (s->within == OUTSIDE && copy_is_null(f, p, have < s->left ? have : s->left - 1)) {
        s->seen = f->null_len; /* it may look like an escape */
        s->within = PLAIN;
    }
    int ended = look(s, f, p, have, hold + 1);
    if (ended < 0) return ended;
    if (!ended && s->seen <= hold) return 0;
    size_t size = s->seen;
    int quoted = s->within != PLAIN && s->within != OUTSIDE;
    int null = ended && !quoted && size == f->null_len && !memcmp(p, f->null, size);
    if (kind && !null && size) {
        if (!can_be_wiped(f, kind)) return CELL_TOO_LONG;
        ++*hits;
        s->wiped = 0;
        s->state = WIPING;
        return 0;
    }
    if (!ended) {
        if (!cell_value_begin(&s->value, op, s->window, s->limit)) return CELL_TOO_LONG;
        s->state = VALUE;
        s->wanted = s->window;
        s->seen -= (size_t)quoted;
        return quoted;
    }
    if (!null && op) {
        long found = copy_mask_cell(env, f, op, p + quoted, size - 2 * (size_t)quoted, s->marked);
        if (found < 0) return CELL_UNDECODABLE;
        *hits += (uint64_t)found;
    }
    s->state = BEHIND;
    return (long)size;
}

/* Mask the `n` bytes at `p` of the cell, decoded. Returns how many are done. */
static long mask(copy_stream_t *s, const cell_env_t *env, const copy_form_t *f, uint8_t *p, size_t n, int ended,
                 uint64_t *hits) {
    size_t have = n;
    long done;
    uint8_t *value = p;
    int decoded = !copy_is_plain(f, s->marked);
    if (decoded) {
        value = malloc(n + 1);
        if (!value) return CELL_UNDECODABLE;
        have = copy_value(f, p, n, value);
    }
    done = cell_value_mask(&s->value, env, value, have, ended, hits);
    if (done >= 0) { /* what is left has to be as long as the next window, at least */
        size_t left = have - (size_t)done;
        size_t raw = decoded ? copy_length(f, p, n, (size_t)done) : (size_t)done;
        s->wanted = n - raw + (s->value.wanted > left ? s->value.wanted - left : 1);
        if (decoded && copy_put_back(f, p, raw, value)) done = CELL_UNDECODABLE;
        else done = (long)raw;
    }
    if (value != p) free(value);
    return done;
}

/* One step. Returns how many bytes are done; when these are none and the state is the same, more are needed. */
static long step(copy_stream_t *s, const cell_env_t *env, const copy_form_t *f, const cell_op_t *ops,
                 const uint8_t *wipes, uint64_t *hits, size_t columns, uint8_t *p, size_t have) {
    size_t i = s->column;
    int kind = wipes ? wipes[i] : WIPE_NOT;
    if (s->state == CELL) return begin(s, env, f, ops[i], kind, &hits[i], p, have);
    if (s->state == BEHIND) {
        if (!have) return 0;
        if (s->left == 1 && *p != '\n') return COPY_SPLIT;
        if ((s->left == 1) != (i + 1 == columns)) return COPY_UNDESCRIBED;
        if (s->left > 1 && *p != f->delimiter) return COPY_UNDESCRIBED;
        s->column++;
        s->state = CELL;
        s->seen = 0;
        s->within = OUTSIDE;
        s->marked = 0;
        return 1;
    }
    int ended = look(s, f, p, have, s->state == WIPING ? have : s->wanted);
    if (ended < 0) return ended;
    long done = (long)s->seen;
    if (s->state == WIPING) {
        wipe(s, f, kind, p, s->seen);
    } else {
        size_t closing = s->within == CLOSED;
        if (!ended && s->seen < s->wanted) return 0;
        done = mask(s, env, f, p, s->seen - closing, ended, &hits[i]);
        if (done < 0) return done;
        if (ended) done += (long)closing;
    }
    s->seen -= (size_t)done;
    if (ended) {
        if (s->seen) return CELL_UNDECODABLE;
        s->state = BEHIND;
    }
    return done;
}

long copy_stream_mask(copy_stream_t *s, const cell_env_t *env, const copy_form_t *f, const cell_op_t *ops,
                      const uint8_t *wipes, uint64_t *hits, size_t columns, uint8_t *p, size_t have) {
    size_t done = 0;
    if (have > s->left) have = s->left;
    if (!columns) return COPY_UNDESCRIBED;
    while (s->left) {
        int state = s->state;
        size_t wanted = s->wanted;
        long more = step(s, env, f, ops, wipes, hits, columns, p + done, have - done);
        if (more < 0) return more;
        done += (size_t)more;
        s->left -= (size_t)more;
        if (!more && s->state == state && s->wanted == wanted) break;
    }
    return (long)done;
}
