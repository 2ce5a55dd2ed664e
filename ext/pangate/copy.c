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
    while (at < len && row[at] != f->delimiter) {
        if (!f->csv && row[at] == '\\') {
            cell->marked = 1;
            if (++at == len) return 0;
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

/* Mask a cell that holds escapes: as the value that it stands for, written back where bytes changed. A mask
 * changes digits only, and none of them is ever behind an escape. */
static long mask_marked(const cell_env_t *env, const copy_form_t *f, cell_op_t op, uint8_t *p, size_t n) {
    uint8_t small[1024];
    uint8_t *value = n <= sizeof small ? small : malloc(n);
    if (!value) return -1;
    uint8_t escape = f->csv ? f->escape : '\\';
    size_t have = 0;
    for (size_t i = 0; i < n; i++) {
        int behind = p[i] == escape && i + 1 < n &&
                     (!f->csv || p[i + 1] == f->quote || p[i + 1] == f->escape);
        if (behind) i++;
        value[have++] = behind && !f->csv ? unescaped(p[i]) : p[i];
    }
    long hits = cell_mask(env, op, value, have);
    if (hits > 0) {
        have = 0;
        for (size_t i = 0; i < n; i++, have++) {
            int behind = p[i] == escape && i + 1 < n &&
                         (!f->csv || p[i + 1] == f->quote || p[i + 1] == f->escape);
            if (behind)
                i++;
            else
                p[i] = value[have];
        }
    }
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
                uint8_t *value = row + cell.inside;
                size_t n = cell.inside_end - cell.inside;
                long one = cell.marked ? mask_marked(env, f, ops[i], value, n)
                                       : cell_mask(env, ops[i], value, n);
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
