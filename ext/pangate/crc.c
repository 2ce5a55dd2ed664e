/* CRC-32: eight bytes at a time by tables; where the processor multiplies polynomials, 64 bytes at a time by
 * folding, after V. Gopal and others, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction"
 * (Intel, 2009). */

#include "crc.h"

#include <string.h>

#define POLYNOMIAL 0xEDB88320u

static uint32_t table[8][256]; /* by the place of a byte before the end of eight, what it makes of a CRC */

__attribute__((constructor)) static void make_table(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; bit++)
            value = (value >> 1) ^ (value & 1 ? POLYNOMIAL : 0);
        table[0][byte] = value;
    }
    for (int byte = 0; byte < 256; byte++)
        for (int place = 1; place < 8; place++)
            table[place][byte] = (table[place - 1][byte] >> 8) ^ table[0][table[place - 1][byte] & 255];
}

/* Goes on with a CRC that is not yet inverted. */
static uint32_t by_tables(uint32_t crc, const uint8_t *p, size_t n) {
    for (; n >= 8; p += 8, n -= 8) {
        crc ^= p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        crc = table[7][crc & 255] ^ table[6][crc >> 8 & 255] ^ table[5][crc >> 16 & 255] ^ table[4][crc >> 24] ^
              table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    }
    for (; n > 0; p++, n--)
        crc = (crc >> 8) ^ table[0][(crc ^ p[0]) & 255];
    return crc;
}

uint32_t crc_of_any(const uint8_t *data, size_t size) {
    return ~by_tables(0xFFFFFFFFu, data, size);
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define FOLDING __attribute__((target("pclmul,sse4.1")))

/* x to the power of so many bits, modulo the polynomial, reflected and shifted by one: of the two halves of 16
 * bytes that are folded onto those 64 bytes on, 16 bytes on, and of what makes 16 bytes 8, and 8 bytes 4. */
static const uint64_t on_64[2] = {0x154442bd4, 0x1c6e41596};
static const uint64_t on_16[2] = {0x1751997d0, 0x0ccaa009e};
static const uint64_t to_4[2] = {0x163cd6124, 0};
static const uint64_t barrett[2] = {0x1db710641, 0x1f7011641}; /* the polynomial and its reciprocal */

FOLDING static inline __m128i load(const void *p) {
    return _mm_loadu_si128((const __m128i *)p);
}

FOLDING static inline __m128i folded(__m128i x, __m128i by, __m128i next) {
    return _mm_xor_si128(
        _mm_xor_si128(_mm_clmulepi64_si128(x, by, 0x00), _mm_clmulepi64_si128(x, by, 0x11)), next);
}

/* Of a multiple of 16 bytes, 64 at the least. */
FOLDING static uint32_t by_folding(uint32_t crc, const uint8_t *p, size_t n) {
    __m128i a = _mm_xor_si128(load(p), _mm_cvtsi32_si128((int)crc));
    __m128i b = load(p + 16), c = load(p + 32), d = load(p + 48);
    __m128i by = load(on_64);
    for (p += 64, n -= 64; n >= 64; p += 64, n -= 64) {
        a = folded(a, by, load(p));
        b = folded(b, by, load(p + 16));
        c = folded(c, by, load(p + 32));
        d = folded(d, by, load(p + 48));
    }
    by = load(on_16);
    a = folded(folded(folded(a, by, b), by, c), by, d);
    for (; n >= 16; p += 16, n -= 16)
        a = folded(a, by, load(p));

    const __m128i low = _mm_setr_epi32(-1, 0, -1, 0);
    a = _mm_xor_si128(_mm_srli_si128(a, 8), _mm_clmulepi64_si128(a, by, 0x10)); /* 16 bytes to 12 */
    a = _mm_xor_si128(_mm_srli_si128(a, 4), _mm_clmulepi64_si128(_mm_and_si128(a, low), load(to_4), 0x00));
    by = load(barrett);
    b = _mm_clmulepi64_si128(_mm_and_si128(a, low), by, 0x10);
    b = _mm_clmulepi64_si128(_mm_and_si128(b, low), by, 0x00);
    return (uint32_t)_mm_extract_epi32(_mm_xor_si128(a, b), 1);
}

static int can_fold;

__attribute__((constructor)) static void look(void) {
    __builtin_cpu_init();
    can_fold = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
}

uint32_t crc_of(const uint8_t *data, size_t size) {
    size_t most = size & ~(size_t)15;
    if (!can_fold || most < 64)
        return crc_of_any(data, size);
    return ~by_tables(by_folding(0xFFFFFFFFu, data, most), data + most, size - most);
}
#else
uint32_t crc_of(const uint8_t *data, size_t size) {
    return crc_of_any(data, size);
}
#endif
