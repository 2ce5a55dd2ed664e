#include "text.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Of marks, those behind a blank or behind two letters that a name may end in. What the first two bytes of a
 * block have in front of them is not in sight, so they stay. */
static inline uint64_t named(uint64_t marks, uint64_t last, uint64_t before, uint64_t blank) {
    return marks & (3 | blank << 1 | (last << 1 & before << 2));
}

#if defined(__x86_64__)

/* SSE2 is in every x86-64. It cannot look bytes up, so no mark is left out. */
static void blocks_sse2(const uint8_t *p, size_t n, uint64_t *marks, uint64_t *leads) {
    const __m128i one = _mm_set1_epi8(1);
    for (size_t b = 0; b < n; b++, p += 64) {
        uint64_t mark = 0, lead = 0;
        for (unsigned i = 0; i < 64; i += 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
            __m128i low = _mm_sub_epi8(v, _mm_set1_epi8('%')); /* % and & follow each other, = and > too */
            __m128i mid = _mm_sub_epi8(v, _mm_set1_epi8('='));
            __m128i hit = _mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(low, one), low),
                                       _mm_cmpeq_epi8(_mm_min_epu8(mid, one), mid));
            hit = _mm_or_si128(hit, _mm_cmpeq_epi8(v, _mm_set1_epi8('+')));
            hit = _mm_or_si128(hit, _mm_cmpeq_epi8(v, _mm_set1_epi8(':')));
            hit = _mm_or_si128(hit, _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));
            mark |= (uint64_t)(uint32_t)_mm_movemask_epi8(hit) << i;
            __m128i first = _mm_and_si128(_mm_cmplt_epi8(v, _mm_setzero_si128()),
                                          _mm_cmpgt_epi8(v, _mm_set1_epi8((char)0xbf)));
            first = _mm_or_si128(first, _mm_cmpeq_epi8(v, _mm_set1_epi8((char)0xa0)));
            lead |= (uint64_t)(uint32_t)_mm_movemask_epi8(first) << i;
        }
        marks[b] = mark;
        leads[b] = lead;
    }
}

__attribute__((target("avx2"))) static inline __m256i table_avx2(const uint8_t *table) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table));
}

__attribute__((target("avx2"))) static inline uint64_t mask_avx2(__m256i v) {
    return (uint32_t)_mm256_movemask_epi8(v);
}

__attribute__((target("avx2"))) static void blocks_avx2(const uint8_t *p, size_t n,
                                                        const text_names_t *names, uint64_t *marks,
                                                        uint64_t *leads) {
    const __m256i one = _mm256_set1_epi8(1), nibble = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
    const __m256i last = table_avx2(names->last), before = table_avx2(names->before);
    const __m256i blank = table_avx2(names->blank);
    const __m256i bit = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, (char)128, 0, 0, 0, 0, 0, 0, 0, 0));
    for (size_t b = 0; b < n; b++, p += 64) {
        uint64_t name = 0, other = 0, no_last = 0, no_before = 0, no_blank = 0, lead = 0, high = 0;
        for (unsigned i = 0; i < 64; i += 32) {
            __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(p + i));
            __m256i from37 = _mm256_sub_epi8(v, _mm256_set1_epi8('%'));
            __m256i from61 = _mm256_sub_epi8(v, _mm256_set1_epi8('='));
            __m256i a = _mm256_or_si256(_mm256_cmpeq_epi8(_mm256_min_epu8(from61, one), from61),
                                        _mm256_cmpeq_epi8(v, _mm256_set1_epi8(':')));
            __m256i c = _mm256_or_si256(_mm256_cmpeq_epi8(_mm256_min_epu8(from37, one), from37),
                                        _mm256_or_si256(_mm256_cmpeq_epi8(v, _mm256_set1_epi8('+')),
                                                        _mm256_cmpeq_epi8(v, _mm256_set1_epi8('\\'))));
            __m256i low = _mm256_and_si256(v, nibble);
            __m256i in = _mm256_shuffle_epi8(bit, _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble));
            __m256i first = _mm256_or_si256(_mm256_cmpgt_epi8(v, _mm256_set1_epi8((char)0xbf)),
                                            _mm256_cmpeq_epi8(v, _mm256_set1_epi8((char)0xa0)));
            name |= mask_avx2(a) << i;
            other |= mask_avx2(c) << i;
            no_last |= mask_avx2(_mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(last, low), in), zero)) << i;
            no_before |= mask_avx2(_mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(before, low), in), zero)) << i;
            no_blank |= mask_avx2(_mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(blank, low), in), zero)) << i;
            lead |= mask_avx2(first) << i;
            high |= mask_avx2(v) << i;
        }
        marks[b] = other | named(name, ~no_last | high, ~no_before | high, ~no_blank);
        leads[b] = lead & high;
    }
}

#else

static inline uint64_t in(const uint8_t *table, uint8_t c) {
    return c < 0x80 && table[c & 15] >> (c >> 4) & 1;
}

static void blocks_plain(const uint8_t *p, size_t n, const text_names_t *names, uint64_t *marks, uint64_t *leads) {
    for (size_t b = 0; b < n; b++, p += 64) {
        uint64_t name = 0, other = 0, last = 0, before = 0, blank = 0, lead = 0;
        for (unsigned i = 0; i < 64; i++) {
            uint8_t c = p[i];
            name |= (uint64_t)((uint8_t)(c - '=') < 2 || c == ':') << i;
            other |= (uint64_t)((uint8_t)(c - '%') < 2 || c == '+' || c == '\\') << i;
            lead |= (uint64_t)(c >= 0xc0 || c == 0xa0) << i;
            last |= (in(names->last, c) | (c >= 0x80)) << i;
            before |= (in(names->before, c) | (c >= 0x80)) << i;
            blank |= in(names->blank, c) << i;
        }
        marks[b] = other | named(name, last, before, blank);
        leads[b] = lead;
    }
}

#endif

void text_blocks(const uint8_t *p, size_t n, const text_names_t *names, uint64_t *marks, uint64_t *leads) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        blocks_avx2(p, n, names, marks, leads);
    else
        blocks_sse2(p, n, marks, leads);
#else
    blocks_plain(p, n, names, marks, leads);
#endif
}
