#include "copy.h"

#include <stdlib.h>
#include <string.h>

static long put(uint8_t *out, const char *what, size_t have) {
    memcpy(out, what, have);
    return (long)have;
}

long cell_wipe(int wipe, size_t len, uint8_t *out) {
    switch (wipe) {
    case WIPE_TEXT:
        return put(out, "***", len < 3 ? len : 3);
    case WIPE_DIGIT:
        return put(out, "0", len ? 1 : 0);
    case WIPE_ZEROS:
        memset(out, 0, len);
        return (long)len;
    case WIPE_NUMERIC: /* no digits, weight 0, positive, scale 0 */
        if (len < 8) return -1;
        memset(out, 0, 8);
        return 8;
    case WIPE_JSON:
        return len < 5 ? put(out, "0", len ? 1 : 0) : put(out, "\"***\"", 5);
    case WIPE_JSONB:
        if (len < 2) return -1;
        return len < 6 ? put(out, "\1" "0", 2) : put(out, "\1\"***\"", 6);
    case WIPE_EMPTY:
        return 0;
    default:
        return -1;
    }
}

/* A cell between two delimiters. `inside` begins behind the opening quote; `taken` says where the cell
 * ends in the row. `marked` when something in it is escaped or doubled. */
struct cell {
    size_t start, end, inside, inside_end;
    int quoted, marked;
};

int copy_is_null(const copy_form_t *f, const uint8_t *p, size_t n) {
    if (!f->null_len || n < f->null_len || *p != *f->null || memcmp(p, f->null, f->null_len)) return 0;
    if (f->null[f->null_len - 1] == '\\') return 0; /* what is behind it may be a delimiter that is escaped */
    return n == f->null_len || p[f->null_len] == f->delimiter;
}

static int next_cell(const copy_form_t *f, const uint8_t *row, size_t len, size_t at, struct cell *cell) {
    cell->start = at;
    cell->quoted = cell->marked = 0;
    if (f->csv && at < len && row[at] == f->quote) {
        cell->quoted = 1;
        cell->inside = ++at;
        for (;;) {
            if (at >= len) return 0;
            if (row[at] == f->escape && at + 1 < len && (row[at + 1] == f->quote || row[at + 1] == f->escape)) {
                cell->marked = 1;
                at += 2;
            } else if (row[at] == f->quote) {
                break;
            } else {
                at++;
            }
        }
        cell->inside_end = at++;
        cell->end = at;
        return at == len || row[at] == f->delimiter;
    }
    cell->inside = at;
    if (copy_is_null(f, row + at, len - at)) at += f->null_len; /* it may look like an escape */
    while (at < len && row[at] != f->delimiter) {
        if (!f->csv && row[at] == '\\') {
            cell->marked = 1;
            if (++at == len || !copy_escapes(row[at])) return 0;
        }
        at++;
    }
    cell->end = cell->inside_end = at;
    return 1;
}

/* What `escape` and the byte behind it stand for in the text form (CopyAttributeOutText of the server). */
static uint8_t unescaped(uint8_t b) {
    switch (b) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'v':
        return '\v';
    default:
        return b;
    }
}

int copy_escapes(uint8_t b) { return (uint8_t)(b - '0') > 9 && b != 'x'; }

/* The byte of the value at `p` and how many bytes stand for it. */
static size_t unit(const copy_form_t *f, const uint8_t *p, size_t n, uint8_t *byte) {
    *byte = *p;
    if (n < 2 || *p != (f->csv ? f->escape : '\\')) return 1;
    if (f->csv && p[1] != f->quote && p[1] != f->escape) return 1;
    *byte = f->csv ? p[1] : unescaped(p[1]);
    return 2;
}

/* Bytes at `p` in front of what may be an escape: each stands for itself. */
static size_t plain(const copy_form_t *f, const uint8_t *p, size_t n) {
    const uint8_t *found = memchr(p, f->csv ? f->escape : '\\', n);
    return found ? (size_t)(found - p) : n;
}

size_t copy_value(const copy_form_t *f, const uint8_t *p, size_t n, uint8_t *value) {
    size_t have = 0;
    for (size_t i = 0; i < n;) {
        size_t run = plain(f, p + i, n - i);
        memcpy(value + have, p + i, run);
        have += run;
        i += run;
        if (i < n) i += unit(f, p + i, n - i, value + have++);
    }
    return have;
}

size_t copy_length(const copy_form_t *f, const uint8_t *p, size_t n, size_t size) {
    uint8_t byte;
    size_t i = 0;
    while (size) {
        size_t run = plain(f, p + i, size < n - i ? size : n - i);
        i += run;
        size -= run;
        if (size) i += unit(f, p + i, n - i, &byte), size--;
    }
    return i;
}

/* Whether a byte of a value needs an escape. */
static int is_mark(const copy_form_t *f, uint8_t b) {
    return f->csv ? b == f->quote || b == f->escape : b == f->delimiter || b == '\\';
}

uint8_t copy_blank(const copy_form_t *f) {
    for (const char *b = " \t"; *b; b++)
        if (!is_mark(f, (uint8_t)*b) && (uint8_t)*b != f->delimiter) return (uint8_t)*b;
    return 0;
}

/* The same where each byte that changed takes the place of one: a mask in all but JSON whose names are wiped. Returns 0
 * when there is something else. */
static int put_in_place(const copy_form_t *f, uint8_t *p, size_t n, const uint8_t *value) {
    uint8_t byte;
    for (size_t i = 0; i < n;) {
        size_t run = plain(f, p + i, n - i);
        if (memcmp(p + i, value, run)) {
            for (size_t k = 0; k < run; k++) {
                if (p[i + k] == value[k]) continue;
                if (value[k] == ' ' || is_mark(f, value[k])) return 0;
                p[i + k] = value[k];
            }
        }
        i += run;
        value += run;
        if (i == n) break;
        size_t size = unit(f, p + i, n - i, &byte);
        if (byte != *value++) return 0;
        i += size;
    }
    return 1;
}

int copy_put_back(const copy_form_t *f, uint8_t *p, size_t n, const uint8_t *value) {
    if (put_in_place(f, p, n, value)) return 0; /* what it did already is right */
    uint8_t small[1024], byte, blank = copy_blank(f);
    uint8_t *out = n + 2 <= sizeof small ? small : malloc(n + 2);
    size_t have = 0;
    int bad = !out;
    for (size_t i = 0, size; !bad && i < n; i += size) {
        uint8_t now = *value++;
        size = unit(f, p + i, n - i, &byte);
        if (now == ' ' && (now != byte || have > i)) {
            /* behind what is wiped in JSON: as many of them as there is room for */
            while (have < i + size && blank) out[have++] = blank;
        } else if (now == byte) {
            while (have < i && blank) out[have++] = blank;
            bad = have != i;
            memcpy(out + have, p + i, size);
            have += size;
        } else if (is_mark(f, now)) { /* the end of a string that became shorter; blanks are behind it */
            out[have++] = f->csv ? f->escape : '\\';
            out[have++] = now;
            bad = have > i + size + 1;
        } else {
            out[have++] = now;
            if (size == 2 && now == '*' && have < i + size) out[have++] = now;
            bad = have > i + size + 1;
        }
    }
    while (!bad && have < n && blank) out[have++] = blank;
    bad |= have != n;
    if (!bad) memcpy(p, out, n);
    if (out != small) free(out);
    return bad ? -1 : 0;
}

int copy_is_plain(const copy_form_t *f, int marked) { return !marked && copy_blank(f) == ' '; }

/* One that is not plain is masked as the value that it stands for, and written back where bytes changed. */
long copy_mask_cell(const cell_env_t *env, const copy_form_t *f, cell_op_t op, uint8_t *p, size_t n, int marked) {
    uint8_t small[1024];
    if (copy_is_plain(f, marked)) return cell_mask(env, op, p, n);
    uint8_t *value = n <= sizeof small ? small : malloc(n);
    if (!value) return -1;
    size_t have = copy_value(f, p, n, value);
    long hits = cell_mask(env, op, value, have);
    if (hits >= 0 && copy_put_back(f, p, n, value)) hits = -1; /* tracks are wiped without a hit */
    if (value != small) free(value);
    return hits;
}

static int is_null(const copy_form_t *f, const uint8_t *row, const struct cell *cell) {
    size_t n = cell->end - cell->start;
    return !cell->quoted && n == f->null_len && !memcmp(row + cell->start, f->null, n);
}

/* What stands for a wiped cell; in csv without quotes, which none of these needs. */
static size_t wipe_text(const copy_form_t *f, int wipe, size_t len, uint8_t *out) {
    if (!len) return 0;
    if (wipe == WIPE_TEXT) return (size_t)cell_wipe(wipe, len, out);
    if (wipe == WIPE_NULL && f->null_len <= len) {
        memcpy(out, f->null, f->null_len);
        return f->null_len;
    }
    *out = '0';
    return 1;
}

long copy_mask_row(const cell_env_t *env, const copy_form_t *f, const cell_op_t *ops, const uint8_t *wipes,
                   uint64_t *hits, size_t columns, uint8_t *row, size_t len, uint8_t *out) {
    size_t body = len, at = 0, have = 0;
    if (!body || row[--body] != '\n') return -1;
    if (!columns && body) return -1;
    for (size_t i = 0; i < columns; i++) {
        struct cell cell;
        if (!next_cell(f, row, body, at, &cell)) return -1;
        if ((cell.end == body) != (i + 1 == columns)) return -1;
        int null = is_null(f, row, &cell);
        size_t size = cell.end - cell.start;
        if (wipes && wipes[i] && !null && size) {
            hits[i]++;
            have += wipe_text(f, wipes[i], size, out + have);
        } else {
            if (!null && ops[i]) {
                size_t n = cell.inside_end - cell.inside;
                long one = copy_mask_cell(env, f, ops[i], row + cell.inside, n, cell.marked);
                if (one < 0) return -2;
                hits[i] += (uint64_t)one;
            }
            if (out) {
                memcpy(out + have, row + cell.start, size);
                have += size;
            }
        }
        if (out && i + 1 < columns) out[have++] = f->delimiter;
        at = cell.end + 1;
    }
    if (!out) return (long)len;
    memcpy(out + have, row + body, len - body);
    return (long)(have + len - body);
}
