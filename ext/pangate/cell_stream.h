/* One cell that is too long to be kept whole: masked window by window as its bytes come, to what cell_mask
 * makes of the whole; or wiped at the length that it has.
 *
 * A window ends at a byte on whose two sides nothing depends on each other, the best of which is a newline.
 * Where there is none the window grows. Arrays, composites, ranges and hstore are taken apart into what they hold, to
 * any depth; what is one number has to be there whole. */
#ifndef PANGATE_CELL_STREAM_H
#define PANGATE_CELL_STREAM_H

#include "cell.h"

#define CELL_WINDOW_MIN 64 /* bytes of the shortest window */

enum { CELL_UNDECODABLE = -1, CELL_TOO_LONG = -2 };

/* A value that holds no others. */
typedef struct {
    cell_op_t op;
    size_t window, wanted; /* bytes that a window begins with, and those that it needs by now */
    size_t limit;          /* and those that it may grow to */
    int way;
    int depth;   /* holders around it */
    int starred; /* nothing of it stays, whatever it is */
    int found;   /* something of it was masked */
    int inside;  /* of JSON: what was masked ends within a string */
    /* A value in JSON that is wiped and goes on: what it is, how many bytes it has so far, what it is made of. */
    int wiping, quoted, escaped;
    size_t wiped, nested;
} cell_value_t;

/* A value begins. Returns 0 when it has to be there whole. */
int cell_value_begin(cell_value_t *value, cell_op_t op, size_t window, size_t limit);

/* How long a value may be that is masked whole. A longer one can be masked in windows, or not at all. */
size_t cell_value_hold(cell_op_t op, size_t window, size_t limit);

/* Mask what can be of the `have` bytes at `p`, which are the next ones of the value, and its last ones when it
 * `ended`. Adds to `hits`. Returns how many bytes are masked: those that are not have to come again, with more behind
 * them. CELL_UNDECODABLE and CELL_TOO_LONG: nothing more may be forwarded. */
long cell_value_mask(cell_value_t *value, const cell_env_t *env, uint8_t *p, size_t have, int ended, uint64_t *hits);

/* What holds others. */
typedef struct {
    cell_op_t op;
    size_t left;     /* bytes that are not in one that was begun */
    uint32_t fields; /* of a composite, that are still to come */
    int way;
    int rule; /* of hstore: the name rule that its key falls under, or one of the states of cell_stream.c */
} cell_holder_t;

typedef struct {
    size_t left; /* bytes of the cell that are not masked yet */
    size_t window, limit;
    size_t length; /* of a cell that is wiped */
    size_t inner;  /* bytes left of the value that is looked at */
    cell_value_t value;
    int depth;    /* of holders around it */
    int in_value; /* it was begun */
    int wrong;
    cell_holder_t holders[CELL_DEPTH];
} cell_stream_t;

/* A cell of `len` bytes begins. `window` is at least CELL_WINDOW_MIN and at most `limit`. */
void cell_stream_begin(cell_stream_t *stream, cell_op_t op, size_t len, size_t window, size_t limit);

/* A cell of `len` bytes begins that is wiped, by an enum wipe of copy.h. Returns 0 when that cannot be done without
 * changing its length. */
int cell_stream_wipe(cell_stream_t *stream, int wipe, size_t len);

/* Mask what can be of the `have` bytes at `p`, as cell_value_mask does. The cell is done when `left` is 0. */
long cell_stream_mask(cell_stream_t *stream, const cell_env_t *env, uint8_t *p, size_t have, uint64_t *hits);

#endif
