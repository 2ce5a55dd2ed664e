#include "text.h"

#if defined(__x86_64__)
#include <immintrin.h>

/* SSE2 is in every x86-64. It cannot look bytes up, so no mark is left out. */
static int blocks_sse2(const uint8_t *p, size_t n, uint64_t *marks, uint64_t *leads) {
    const __m128i one = _mm_set1_epi8(1);
    __m128i zeros = _mm_setzero_si128();
    for (size_t b = 0; b < n; b++, p += 64) {
        uint64_t mark = 0, lead = 0;
        for (unsigned i = 0; i < 64; i += 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
            /* % and & follow each other, : and ; too, = and > too */
            __m128i from37 = _mm_sub_epi8(v, _mm_set1_epi8('%'));
            __m128i from58 = _mm_sub_epi8(v, _mm_set1_epi8(':'));
            __m128i from61 = _mm_sub_epi8(v, _mm_set1_epi8('='));
            __m128i hit = _mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(from37, one), from37),
                                       _mm_cmpeq_epi8(_mm_min_epu8(from58, one), from58));
            hit = _mm_or_si128(hit, _mm_cmpeq_epi8(_mm_min_epu8(from61, one), from61));
            hit = _mm_or_si128(hit, _mm_cmpeq_epi8(v, _mm_set1_epi8('+')));
            hit = _mm_or_si128(hit, _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));
            hit = _mm_or_si128(hit, _mm_cmpeq_epi8(v, _mm_set1_epi8('^')));
            mark |= (uint64_t)(uint32_t)_mm_movemask_epi8(hit) << i;
            zeros = _mm_or_si128(zeros, _mm_cmpeq_epi8(v, _mm_setzero_si128()));
            __m128i first = _mm_and_si128(_mm_cmplt_epi8(v, _mm_setzero_si128()),
                                          _mm_cmpgt_epi8(v, _mm_set1_epi8((char)0xbf)));
            first = _mm_or_si128(first, _mm_cmpeq_epi8(v, _mm_set1_epi8((char)0xa0)));
            lead |= (uint64_t)(uint32_t)_mm_movemask_epi8(first) << i;
        }
        marks[b] = mark;
        leads[b] = lead;
    }
    return _mm_movemask_epi8(zeros) != 0;
}

/* Classes of bytes, a bit each. Two tables give them, by the low and by the high half of a byte, so there is
 * one for every high half that its bytes have. */
enum {
    NAME = 1,     /* : = > */
    ZERO = 2,     /* 0 */
    MARK_2 = 4,   /* % & + */
    MARK_5 = 8,   /* \ ^ */
    MARK_3 = 16,  /* ; */
    BLANK_2 = 32, /* space " ' */
    BLANK_5 = 64, /* \ ] */
    BLANK_0 = 128 /* tab */
};

static const uint8_t CLASS_LOW[16] = {
    ZERO | BLANK_2, 0, BLANK_2, 0, 0, MARK_2, MARK_2, BLANK_2,
    0, BLANK_0, NAME, MARK_2 | MARK_3, MARK_5 | BLANK_5, NAME | BLANK_5, NAME | MARK_5, 0,
};
static const uint8_t CLASS_HIGH[16] = {
    ZERO | BLANK_0, 0, MARK_2 | BLANK_2, NAME | MARK_3, 0, MARK_5 | BLANK_5,
};

#define AVX2 __attribute__((target("avx2")))

AVX2 static inline __m256i table_avx2(const uint8_t *table) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table));
}

AVX2 static inline uint64_t mask_avx2(__m256i low, __m256i high) {
    return (uint32_t)_mm256_movemask_epi8(low) | (uint64_t)(uint32_t)_mm256_movemask_epi8(high) << 32;
}

/* Bytes that have one of some bits. */
AVX2 static inline uint64_t some_avx2(__m256i low, __m256i high, uint8_t bits) {
    const __m256i which = _mm256_set1_epi8((char)bits), zero = _mm256_setzero_si256();
    return ~mask_avx2(_mm256_cmpeq_epi8(_mm256_and_si256(low, which), zero),
                      _mm256_cmpeq_epi8(_mm256_and_si256(high, which), zero));
}

/* Letters that a name may end in, by bits 0 to 3 and by bit 4: two bits for each of the three. */
static void letters(const text_names_t *names, uint8_t *low, uint8_t *high) {
    for (unsigned i = 0; i < 16; i++) {
        low[i] = (uint8_t)((names->last >> i & 1) | (names->last >> (i + 16) & 1) << 1 |
                           (names->before >> i & 1) << 2 | (names->before >> (i + 16) & 1) << 3 |
                           (names->third >> i & 1) << 4 | (names->third >> (i + 16) & 1) << 5);
        high[i] = i & 1 ? 0x2a : 0x15;
    }
}

AVX2 static int blocks_avx2(const uint8_t *p, size_t n, const text_names_t *names, uint64_t *marks,
                            uint64_t *leads) {
    uint8_t low[16], high[16];
    letters(names, low, high);
    const __m256i class_low = table_avx2(CLASS_LOW), class_high = table_avx2(CLASS_HIGH);
    const __m256i letter_low = table_avx2(low), letter_high = table_avx2(high);
    const __m256i nibble = _mm256_set1_epi8(15);
    uint64_t zeros = 0;
    /* of the block before, moved behind its end; not known is a one */
    uint64_t was_last = 1, was_before = 3, was_third = 7, was_end = 3, was_blank = 3;
    for (size_t b = 0; b < n; b++, p += 64) {
        __m256i v0 = _mm256_loadu_si256((const __m256i *)(const void *)p);
        __m256i v1 = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32));
        __m256i l0 = _mm256_and_si256(v0, nibble), h0 = _mm256_and_si256(_mm256_srli_epi16(v0, 4), nibble);
        __m256i l1 = _mm256_and_si256(v1, nibble), h1 = _mm256_and_si256(_mm256_srli_epi16(v1, 4), nibble);
        __m256i c0 = _mm256_and_si256(_mm256_shuffle_epi8(class_low, l0), _mm256_shuffle_epi8(class_high, h0));
        __m256i c1 = _mm256_and_si256(_mm256_shuffle_epi8(class_low, l1), _mm256_shuffle_epi8(class_high, h1));
        uint64_t any = some_avx2(c0, c1, NAME | ZERO | MARK_2 | MARK_5 | MARK_3);
        uint64_t beyond = mask_avx2(v0, v1);
        leads[b] = 0;
        if (beyond) {
            const __m256i c0_on = _mm256_set1_epi8((char)0xbf), a0 = _mm256_set1_epi8((char)0xa0);
            leads[b] = beyond & (mask_avx2(_mm256_cmpgt_epi8(v0, c0_on), _mm256_cmpgt_epi8(v1, c0_on)) |
                                 mask_avx2(_mm256_cmpeq_epi8(v0, a0), _mm256_cmpeq_epi8(v1, a0)));
        }
        if (!any) {
            marks[b] = 0;
            was_last = 1, was_before = was_end = was_blank = 3, was_third = 7;
            continue;
        }
        uint64_t zero = mask_avx2(_mm256_slli_epi16(c0, 6), _mm256_slli_epi16(c1, 6));
        uint64_t name = mask_avx2(_mm256_slli_epi16(c0, 7), _mm256_slli_epi16(c1, 7));
        __m256i n0 = _mm256_and_si256(_mm256_shuffle_epi8(letter_low, l0), _mm256_shuffle_epi8(letter_high, h0));
        __m256i n1 = _mm256_and_si256(_mm256_shuffle_epi8(letter_low, l1), _mm256_shuffle_epi8(letter_high, h1));
        uint64_t last = some_avx2(n0, n1, 3), before = some_avx2(n0, n1, 12), third = some_avx2(n0, n1, 48);
        uint64_t blank = some_avx2(c0, c1, BLANK_2 | BLANK_5 | BLANK_0);
        /* right behind three such letters; then one blank may stand there, or two of which nothing is known */
        uint64_t end = (last << 1 | was_last) & (before << 2 | was_before) & (third << 3 | was_third);
        uint64_t behind = (blank << 1 | was_blank >> 1) & (end << 1 | was_end >> 1 | blank << 2 | was_blank);
        zeros |= zero;
        marks[b] = (any & ~zero & ~name) | (name & (end | behind));
        was_last = last >> 63, was_before = before >> 62, was_third = third >> 61;
        was_end = end >> 62, was_blank = blank >> 62;
    }
    return zeros != 0;
}

#else

static int blocks_plain(const uint8_t *p, size_t n, uint64_t *marks, uint64_t *leads) {
    uint64_t zeros = 0;
    for (size_t b = 0; b < n; b++, p += 64) {
        uint64_t mark = 0, lead = 0;
        for (unsigned i = 0; i < 64; i++) {
            uint8_t c = p[i];
            mark |= (uint64_t)((uint8_t)(c - '%') < 2 || (uint8_t)(c - ':') < 2 || (uint8_t)(c - '=') < 2 ||
                               c == '+' || c == '\\' || c == '^')
                    << i;
            lead |= (uint64_t)(c >= 0xc0 || c == 0xa0) << i;
            zeros |= !c;
        }
        marks[b] = mark;
        leads[b] = lead;
    }
    return zeros != 0;
}

#endif

int text_blocks(const uint8_t *p, size_t n, const text_names_t *names, uint64_t *marks, uint64_t *leads) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) return blocks_avx2(p, n, names, marks, leads);
    return blocks_sse2(p, n, marks, leads);
#else
    return blocks_plain(p, n, marks, leads);
#endif
}
