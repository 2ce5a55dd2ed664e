/* One row of COPY TO in text or csv: its cells found, each masked by its own operation as it is without
 * quotes and escapes, and wiped where that is asked for. */
#ifndef PANGATE_COPY_H
#define PANGATE_COPY_H

#include "cell.h"

/* What stands in the place of a wiped value. */
enum cell_wipe {
    WIPE_NOT = 0,
    WIPE_TEXT,    /* three stars, or fewer where the value is shorter */
    WIPE_DIGIT,   /* text of a number: a zero */
    WIPE_ZEROS,   /* binary of fixed size: zeros */
    WIPE_NUMERIC, /* binary numeric: zero */
    WIPE_JSON,    /* a JSON string of three stars, or a zero where the value is shorter */
    WIPE_JSONB,   /* the same behind the version byte of jsonb */
    WIPE_EMPTY,   /* nothing */
    WIPE_NULL,    /* no value */
    WIPE_KINDS
};

/* Write what stands for a wiped value of `len` bytes to `out`, which has room for as many. Returns its
 * length, at most `len`, or -1 for no value. */
long cell_wipe(int wipe, size_t len, uint8_t *out);

typedef struct {
    int csv;
    uint8_t delimiter, quote, escape;
    const uint8_t *null;
    size_t null_len;
} copy_form_t;

/* Whether a backslash may stand before this byte. In front of a digit or an x it could spell any byte, and no server
 * writes that. */
int copy_escapes(uint8_t byte);

/* Whether a row of whose rest `n` bytes are at `p` goes on with a cell that is NULL. */
int copy_is_null(const copy_form_t *form, const uint8_t *p, size_t n);

/* The value that the `n` bytes at `p` stand for, without quotes around it. Returns its length. */
size_t copy_value(const copy_form_t *form, const uint8_t *p, size_t n, uint8_t *value);

/* How many of the `n` bytes at `p` stand for the first `size` ones of their value. */
size_t copy_length(const copy_form_t *form, const uint8_t *p, size_t n, size_t size);

/* Write a masked value back to the `n` bytes that it came from. They stay as many: blanks that stand behind something
 * wiped give and take. Returns -1 when that cannot be done. */
int copy_put_back(const copy_form_t *form, uint8_t *p, size_t n, const uint8_t *value);

/* Whether a cell, `marked` when something in it is escaped, is masked as it stands: its bytes are those of its
 * value, and so are blanks, which stand behind what is wiped. */
int copy_is_plain(const copy_form_t *form, int marked);

/* Mask what stands within a cell in place; `marked` when something in it is escaped. As cell_mask. */
long copy_mask_cell(const cell_env_t *env, const copy_form_t *form, cell_op_t op, uint8_t *p, size_t n, int marked);

/* White space of JSON that needs no escape; 0 when there is none. */
uint8_t copy_blank(const copy_form_t *form);

/* Mask the row of `len` bytes at `row` (its newline included, columns as many as `ops` and `wipes` have) and
 * write it to `out`, which has room for `len` bytes. `hits` counts per column. Returns the new length; -1
 * when the row is not as the form says, -2 when a cell cannot be decoded. `wipes` may be NULL, and then
 * `out` as well: the row is masked in place. */
long copy_mask_row(const cell_env_t *env, const copy_form_t *form, const cell_op_t *ops,
                   const uint8_t *wipes, uint64_t *hits, size_t columns, uint8_t *row, size_t len,
                   uint8_t *out);

#endif
