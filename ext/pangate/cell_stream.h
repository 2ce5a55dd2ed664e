/* One cell that is too long to be kept whole: masked window by window as its bytes come, to what cell_mask
 * makes of the whole; or wiped at the length that it has.
 *
 * A window ends at a byte on whose two sides nothing depends on each other, the best of which is a newline.
 * Where there is none the window grows. What can be cut is text, bytea and JSON, arrays and composites between their
 * elements; every other cell has to be there whole. */
#ifndef PANGATE_CELL_STREAM_H
#define PANGATE_CELL_STREAM_H

#include "cell.h"

#define CELL_WINDOW_MIN 64 /* bytes of the shortest window */

enum { CELL_UNDECODABLE = -1, CELL_TOO_LONG = -2 };

typedef struct {
    cell_op_t op;
    size_t left;           /* bytes of the cell that are not masked yet */
    size_t window, wanted; /* bytes that a window begins with, and those that it needs by now */
    size_t limit;          /* and those that it may grow to */
    size_t length;         /* of a cell that is wiped */
    cell_op_t inner;       /* that of the elements of an array */
    uint32_t fields;       /* of a composite, that are still to come */
    int way;
} cell_stream_t;

/* A cell of `len` bytes begins. `window` is at least CELL_WINDOW_MIN and at most `limit`. */
void cell_stream_begin(cell_stream_t *stream, cell_op_t op, size_t len, size_t window, size_t limit);

/* A cell of `len` bytes begins that is wiped, by an enum wipe of copy.h. Returns 0 when that cannot be done without
 * changing its length. */
int cell_stream_wipe(cell_stream_t *stream, int wipe, size_t len);

/* Mask what can be of the `have` bytes at `p`, which are the next ones of the cell, and add to `hits`. Returns
 * how many bytes are masked: those that are not have to come again, with more behind them. The cell is done
 * when `left` is 0. CELL_UNDECODABLE and CELL_TOO_LONG: nothing more may be forwarded. */
long cell_stream_mask(cell_stream_t *stream, const cell_env_t *env, uint8_t *p, size_t have, uint64_t *hits);

#endif
