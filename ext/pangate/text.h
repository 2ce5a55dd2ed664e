/* Which of 64 bytes are one of  % & + : = > \ , and which begin a character beyond ASCII (or are the
 * no-break space of Latin-1), as a bit each. SSE2 is in every x86-64. */
#ifndef PANGATE_TEXT_H
#define PANGATE_TEXT_H

#include <stdint.h>

#if defined(__SSE2__)
#include <emmintrin.h>

static inline uint64_t text_marks(const uint8_t *p) {
    uint64_t bits = 0;
    const __m128i one = _mm_set1_epi8(1);
    for (int i = 0; i < 4; i++) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i));
        __m128i low = _mm_sub_epi8(v, _mm_set1_epi8('%')); /* % and & follow each other, = and > too */
        __m128i mid = _mm_sub_epi8(v, _mm_set1_epi8('='));
        __m128i hit = _mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(low, one), low),
                                   _mm_cmpeq_epi8(_mm_min_epu8(mid, one), mid));
        hit = _mm_or_si128(hit, _mm_cmpeq_epi8(v, _mm_set1_epi8('+')));
        hit = _mm_or_si128(hit, _mm_cmpeq_epi8(v, _mm_set1_epi8(':')));
        hit = _mm_or_si128(hit, _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));
        bits |= (uint64_t)(uint32_t)_mm_movemask_epi8(hit) << (16 * i);
    }
    return bits;
}

static inline uint64_t text_leads(const uint8_t *p) {
    uint64_t bits = 0;
    for (int i = 0; i < 4; i++) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i));
        if (!_mm_movemask_epi8(v)) continue;
        __m128i lead = _mm_and_si128(_mm_cmplt_epi8(v, _mm_setzero_si128()),
                                     _mm_cmpgt_epi8(v, _mm_set1_epi8((char)0xbf)));
        lead = _mm_or_si128(lead, _mm_cmpeq_epi8(v, _mm_set1_epi8((char)0xa0)));
        bits |= (uint64_t)(uint32_t)_mm_movemask_epi8(lead) << (16 * i);
    }
    return bits;
}
#else
static inline uint64_t text_leads(const uint8_t *p) {
    uint64_t bits = 0;
    for (int i = 0; i < 64; i++) bits |= (uint64_t)(p[i] >= 0xc0 || p[i] == 0xa0) << i;
    return bits;
}

static inline uint64_t text_marks(const uint8_t *p) {
    uint64_t bits = 0;
    for (int i = 0; i < 64; i++) {
        uint8_t b = p[i];
        uint64_t hit = (uint8_t)(b - '%') < 2 || (uint8_t)(b - '=') < 2 || b == '+' || b == ':' || b == '\\';
        bits |= hit << i;
    }
    return bits;
}
#endif

static inline unsigned text_first(uint64_t bits) { return (unsigned)__builtin_ctzll(bits); }

#endif
