/* Which bytes of a text are one of  % & + : = > \ , and which begin a character beyond ASCII (or are the
 * no-break space of Latin-1), as a bit each, 64 bytes to a word. */
#ifndef PANGATE_TEXT_H
#define PANGATE_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* Sets of bytes, as far as ASCII goes: bit h of entry l is byte h * 16 + l. What a name with a value may have
 * for its last letter and for the one before, and what may stand between it and its mark. */
typedef struct {
    uint8_t last[16], before[16], blank[16];
} text_names_t;

#define TEXT_BLOCKS 32 /* words at a time */

/* Fill `marks` and `leads` for `n` blocks of 64 bytes at `p`. Of : = and > those may be left out that no such
 * name can stand in front of; bytes beyond ASCII and what is before the first block may be part of one. */
void text_blocks(const uint8_t *p, size_t n, const text_names_t *names, uint64_t *marks, uint64_t *leads);

#endif
