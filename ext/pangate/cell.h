/* One cell of a result: decode what its type hides, mask every PAN, encode it again at the same length.
 *
 * PostgreSQL's wire formats, after the server's send and output functions (src/backend/utils/adt).
 * Nothing here calls Python; a cell never grows or shrinks. */
#ifndef PANGATE_CELL_H
#define PANGATE_CELL_H

#include <stddef.h>
#include <stdint.h>

#include "names.h"
#include "scan.h"

/* What has to be done with a cell of a certain type and format. */
enum cell_op {
    CELL_SAFE = 0,    /* the type cannot hold a PAN */
    CELL_TEXT,        /* text; bytea in hex and octal escapes inside it are looked through as well */
    CELL_NUMBER,      /* text of numbers: stays a number */
    CELL_JSON,        /* JSON text */
    CELL_JSONB,       /* one version byte, then JSON text */
    CELL_INT8,        /* binary bigint */
    CELL_NUMERIC,     /* binary numeric */
    CELL_FLOAT8,      /* binary double precision, one or more of them */
    CELL_PATH,        /* binary path: 5 bytes, then doubles */
    CELL_POLYGON,     /* binary polygon: 4 bytes, then doubles */
    CELL_FLOAT,       /* text of doubles, 4.111111111111111e+15 among them */
    CELL_BYTEA,       /* text of bytea, hex or escape */
    CELL_BYTES,       /* binary bytea */
    CELL_MONEY_TEXT,  /* text of money, digits grouped by commas */
    CELL_MONEY,       /* binary money: a bigint of hundredths */
    CELL_ARRAY,       /* binary array */
    CELL_RECORD,      /* binary composite */
    CELL_RANGE,       /* binary range of the inner type */
    CELL_MULTIRANGE,  /* binary multirange of the inner type */
    CELL_HSTORE,      /* binary hstore */
    CELL_TSVECTOR,    /* binary tsvector */
    CELL_TSQUERY,     /* binary tsquery */
    CELL_BITS,        /* binary bit string: 4 bytes of length, then the bits */
    CELL_VERSIONED,   /* one version byte, then text */
    CELL_LINE,        /* text that is no document of its own: a row of COPY, whose cells are masked by their types */
    CELL_FORCED,      /* text that is a PAN whatever its digits are */
    CELL_FORCED_INT8, /* binary bigint, the same */
    CELL_REFUSED,     /* not known: the result is refused */
    CELL_OPS
};

/* An operation and, above its eight bits, the OID of the type inside a range or multirange. */
typedef uint64_t cell_op_t;
#define CELL_KIND(op) ((int)((op) & 0xff))
#define CELL_INNER(op) ((uint32_t)((op) >> 8))
#define CELL_WITH(kind, inner) ((cell_op_t)(inner) << 8 | (cell_op_t)(kind))

/* The types that a database has beside the built-in ones, sorted by OID: what their binary form needs. */
struct cell_type {
    uint32_t oid;
    cell_op_t op;
};
typedef struct {
    const struct cell_type *rows;
    size_t count;
} cell_types_t;

/* What masking a cell needs to know. `types` and `names` may be NULL. */
typedef struct {
    const scan_rules_t *rules;
    scan_counts_t *counts;
    const cell_types_t *types;
    const names_t *names; /* keys whose values are wiped, in JSON and hstore */
    int kind;
} cell_env_t;

/* The operation for a type by its OID (pg_type.dat, then `types`) and format (0 text, 1 binary). */
cell_op_t cell_op_of(const cell_types_t *types, uint32_t oid, int format);

/* Mask one cell in place. Returns the number of PANs masked, or -1 when the bytes are not what the type
 * says, hold an inner type that is refused, or memory ran out: the caller must not forward them. */
long cell_mask(const cell_env_t *env, cell_op_t op, uint8_t *cell, size_t len);

#define CELL_DEPTH 16 /* composites and arrays nested deeper than this are refused */

#define CELL_HEAD 64 /* bytes that say whether a text is a document */

/* For cell_stream.c. A value within `depth` others; whether a CELL_TEXT that begins with these bytes, and
 * has more of them or not, is looked through as a document; a piece of such a one, of a text that is none, and of JSON; a piece of the hex digits of a
 * CELL_BYTEA, an even number of them. */
long cell_mask_inner(const cell_env_t *env, cell_op_t op, uint8_t *cell, size_t len, int depth);
int cell_is_document(const cell_env_t *env, const uint8_t *cell, size_t len, int more);
long cell_mask_text_document(const cell_env_t *env, uint8_t *text, size_t len);
long cell_mask_plain(const cell_env_t *env, uint8_t *text, size_t len);
long cell_mask_json(const cell_env_t *env, uint8_t *text, size_t len);
long cell_mask_hex(const cell_env_t *env, uint8_t *digits, size_t len);

/* A piece of a cell of this kind behind what it begins with: numbers as text or doubles, the bytes of a bit string,
 * whole items of a tsvector or a tsquery; of a CELL_FORCED all digits. */
long cell_mask_piece(const cell_env_t *env, int kind, uint8_t *p, size_t len);

/* Bytes of the whole items of a tsvector or a tsquery that `p` begins with; -1 when it is none. */
long cell_items(int kind, const uint8_t *p, size_t len);

#endif
