/* Which bytes of a text are one of  % & + : = > \ ; ^ , and which begin a character beyond ASCII (or are the
 * no-break space of Latin-1), as a bit each, 64 bytes to a word. */
#ifndef PANGATE_TEXT_H
#define PANGATE_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* What the last letter of a name that has a rule may be, the one before and the third, as numbers below 32: so
 * many bits of a letter count, which leaves its case out. Bit n of an entry stands for letter n. */
typedef struct {
    uint32_t last, before, third;
} text_names_t;

#define TEXT_BLOCKS 32 /* words at a time */

/* Fill `marks` and `leads` for `n` blocks of 64 bytes at `p`. Of : = and > those may be left out that no such
 * name can stand in front of; what is before the first block may be part of one. Returns whether there is a
 * byte 0 in the blocks. */
int text_blocks(const uint8_t *p, size_t n, const text_names_t *names, uint64_t *marks, uint64_t *leads);

#endif
