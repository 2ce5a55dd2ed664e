/* CRC-32 as zlib has it (IEEE 802.3, reflected). */
#ifndef PANGATE_CRC_H
#define PANGATE_CRC_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc_of(const uint8_t *data, size_t size);

/* The same without the instructions that not every processor has. */
uint32_t crc_of_any(const uint8_t *data, size_t size);

#endif
