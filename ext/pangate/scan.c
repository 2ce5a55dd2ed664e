#include "scan.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "scan_chain.h"
#include "scan_window.h"

/* --- masks of 64 bytes ------------------------------------------------------------------------ */

/* The last block of a buffer is copied to where reading 64 bytes is allowed. */
static inline const uint8_t *whole_block(const uint8_t *buf, size_t at, size_t len, uint8_t *copy) {
    if (len - at >= 64) return buf + at;
    memset(copy, 0, 64);
    memcpy(copy, buf + at, len - at);
    return copy;
}

static inline void block_portable(const uint8_t *buf, size_t at, size_t len, uint64_t *digits,
                                  uint64_t *chars) {
    uint64_t d = 0, c = 0;
    size_t n = len - at < 64 ? len - at : 64;
    for (size_t i = 0; i < n; i++) {
        uint8_t b = buf[at + i];
        uint64_t digit = (uint8_t)(b - '0') < 10;
        d |= digit << i;
        c |= (digit | (b == ' ') | (b == '-')) << i;
    }
    *digits = d;
    *chars = c;
}

/* --- what a kernel needs where the machine has no instruction for it ---------------------------- */

/* Gathers the bits of three words that stand under a mask, in the six steps of a network: a bit moves right by
 * as many places as the mask has zeros below it, one power of two a step. */
static inline void gather_plain(uint64_t mask, uint64_t *a, uint64_t *b, uint64_t *c) {
    uint64_t zeros = ~mask << 1, *words[3] = {a, b, c};
    for (unsigned step = 1; step < 64; step *= 2) {
        uint64_t odd = zeros; /* bits with an odd number of zeros below them */
        for (unsigned i = 1; i < 64; i *= 2) odd ^= odd << i;
        uint64_t move = odd & mask;
        mask = (mask ^ move) | move >> step;
        for (int k = 0; k < 3; k++) {
            uint64_t moved = *words[k] & move;
            *words[k] = (*words[k] ^ moved) | moved >> step;
        }
        zeros &= ~odd;
    }
}

static inline uint64_t pdep_plain(uint64_t bits, uint64_t mask) {
    uint64_t out = 0;
    for (; mask && bits; bits >>= 1, mask &= mask - 1)
        if (bits & 1) out |= mask & -mask;
    return out;
}

static inline void squeeze_plain(const uint8_t *buf, size_t at, size_t len, uint64_t digits, uint8_t *out) {
    (void)len;
    for (; digits; digits &= digits - 1)
        *out++ = (uint8_t)(buf[at + (size_t)__builtin_ctzll(digits)] - '0');
}

static inline void star_plain(uint8_t *p, uint64_t mask) {
    for (; mask; mask &= mask - 1) p[__builtin_ctzll(mask)] = '*';
}

static inline int luhn_plain(const uint8_t *d, unsigned digits, size_t before) {
    (void)before;
    unsigned sum = 0;
    for (unsigned i = 0; i < digits; i++) sum += (digits - 1 - i) & 1 ? DOUBLED[d[i] & 15] : d[i] & 15u;
    return sum % 10 == 0;
}

/* Running Luhn sums before each digit, modulo 10: in one direction digits with an even number are doubled, in
 * the other those with an odd one. `same[j]` is of the direction that a number needs which ends before digit
 * j, `other[j]` of the other; so digits i to j - 1 pass when same[j] is same[i], or other[i] where i and j
 * are not of one parity. */
static inline void sums_plain(const uint8_t *d, unsigned n, uint8_t *same, uint8_t *other) {
    unsigned a = 0, b = 0; /* of the directions of `same` and `other` */
    same[0] = other[0] = 0;
    for (unsigned i = 0; i < n; i++) {
        /* the next digit is doubled in the direction that has it before its end by an odd way */
        unsigned single = (b + d[i]) % 10, twice = (a + DOUBLED[d[i]]) % 10;
        a = single;
        b = twice;
        same[i + 1] = (uint8_t)a;
        other[i + 1] = (uint8_t)b;
    }
}

/* Bit n: the SCAN_MIN + n digits from i on pass the check. */
static inline unsigned valid_plain(const uint8_t *same, const uint8_t *other, unsigned i) {
    unsigned valid = 0;
    for (unsigned n = 0; n < SCAN_LENGTHS; n++)
        valid |= (unsigned)(same[i + SCAN_MIN + n] == ((SCAN_MIN + n) & 1 ? other[i] : same[i])) << n;
    return valid;
}

static inline uint64_t filter_none(const scan_rules_t *r, const uint8_t *d, const uint8_t *same,
                                   const uint8_t *other, const uint64_t *ends, uint64_t starts) {
    (void)r, (void)d, (void)same, (void)other, (void)ends;
    return starts;
}

#define KERNEL portable
#define TARGET
#define BLOCK block_portable
#define SQUEEZE squeeze_plain
#define GATHER gather_plain
#define PDEP pdep_plain
#define SUMS sums_plain
#define VALID valid_plain
#define STAR star_plain
#define LUHN luhn_plain
#define FILTER filter_none
#define FILTERS 0
#include "scan_kernel.h"

#if defined(__x86_64__)

/* 1 for the sums that pass. */
static const uint8_t TENS[256] = {
    [0] = 1,   [10] = 1,  [20] = 1,  [30] = 1,  [40] = 1,  [50] = 1,  [60] = 1,  [70] = 1,  [80] = 1,
    [90] = 1,  [100] = 1, [110] = 1, [120] = 1, [130] = 1, [140] = 1, [150] = 1, [160] = 1, [170] = 1,
};

/* Bit per byte: digits in the low half, digits and separators in the high half. */
static inline uint32_t masks_of_16(__m128i v) {
    __m128i low = _mm_sub_epi8(v, _mm_set1_epi8('0'));
    __m128i is_digit = _mm_cmpeq_epi8(_mm_min_epu8(low, _mm_set1_epi8(9)), low);
    __m128i is_sep =
        _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8(' ')), _mm_cmpeq_epi8(v, _mm_set1_epi8('-')));
    return (uint32_t)_mm_movemask_epi8(is_digit) |
           (uint32_t)_mm_movemask_epi8(_mm_or_si128(is_digit, is_sep)) << 16;
}

static inline void or_16(const uint8_t *p, unsigned shift, uint64_t *digits, uint64_t *chars) {
    uint32_t masks = masks_of_16(_mm_loadu_si128((const __m128i *)(const void *)p));
    *digits |= (uint64_t)(masks & 0xffff) << shift;
    *chars |= (uint64_t)(masks >> 16) << shift;
}

/* Fewer than 64 bytes, by loads that overlap instead of a copy. */
static inline void part_sse2(const uint8_t *buf, size_t at, size_t len, uint64_t *digits, uint64_t *chars) {
    unsigned n = (unsigned)(len - at), i = 0;
    const uint8_t *p = buf + at;
    *digits = *chars = 0;
    if (n >= 16) {
        for (; i + 16 <= n; i += 16) or_16(p + i, i, digits, chars);
        if (i < n) or_16(p + n - 16, n - 16, digits, chars);
    } else if (len >= 16) {
        or_16(buf + len - 16, 0, digits, chars);
        *digits >>= 16 - n;
        *chars >>= 16 - n;
    } else {
        uint8_t copy[16] = {0};
        memcpy(copy, p, n);
        or_16(copy, 0, digits, chars);
    }
}

static inline void block_sse2(const uint8_t *buf, size_t at, size_t len, uint64_t *digits, uint64_t *chars) {
    if (len - at < 64) {
        part_sse2(buf, at, len, digits, chars);
        return;
    }
    *digits = *chars = 0;
    for (unsigned i = 0; i < 64; i += 16) or_16(buf + at + i, i, digits, chars);
}

/* The terms of the Luhn check: the bytes that `which` has ones for doubled, nine taken off where that has two
 * digits, the others as they are. */
static inline __m128i luhn_terms(__m128i v, __m128i which) {
    __m128i twice = _mm_and_si128(v, which);
    __m128i nine = _mm_and_si128(_mm_cmpgt_epi8(twice, _mm_set1_epi8(4)), _mm_set1_epi8(9));
    return _mm_sub_epi8(_mm_add_epi8(v, twice), nine);
}

static inline __m128i add_mod10(__m128i a, __m128i b) {
    __m128i sum = _mm_add_epi8(a, b);
    return _mm_min_epu8(sum, _mm_sub_epi8(sum, _mm_set1_epi8(10))); /* below 10 that wraps and is the larger */
}

static inline __m128i running(__m128i v, uint8_t before) {
    v = add_mod10(v, _mm_slli_si128(v, 1));
    v = add_mod10(v, _mm_slli_si128(v, 2));
    v = add_mod10(v, _mm_slli_si128(v, 4));
    v = add_mod10(v, _mm_slli_si128(v, 8));
    return add_mod10(v, _mm_set1_epi8((char)before));
}

/* The digit with an even number is doubled where the number ends before one that is even too. */
static inline void sums_sse2(const uint8_t *d, unsigned n, uint8_t *same, uint8_t *other) {
    const __m128i first = _mm_set1_epi16(0x00ff), second = _mm_set1_epi16((short)0xff00);
    same[0] = other[0] = 0;
    for (unsigned i = 0; i < n; i += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(d + i));
        /* `i` is even, so `same[i]` is a sum with the even ones doubled */
        __m128i even = running(luhn_terms(v, first), same[i]), odd = running(luhn_terms(v, second), other[i]);
        __m128i s = _mm_or_si128(_mm_and_si128(first, odd), _mm_and_si128(second, even));
        __m128i o = _mm_or_si128(_mm_and_si128(first, even), _mm_and_si128(second, odd));
        _mm_storeu_si128((__m128i *)(void *)(same + i + 1), s);
        _mm_storeu_si128((__m128i *)(void *)(other + i + 1), o);
    }
}

static inline unsigned valid_sse2(const uint8_t *same, const uint8_t *other, unsigned i) {
    __m128i wanted = _mm_set1_epi16((short)(same[i] | other[i] << 8));
    __m128i v = _mm_loadl_epi64((const __m128i *)(const void *)(same + i + SCAN_MIN));
    return (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(v, wanted)) & 0xff;
}

/* Of sixteen bytes, the last so many. */
static const uint8_t LAST[32] = {0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
                                 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15};

/* Sixteen bytes up to the end, where so many can be read: `before` can in front of the digits. What is left
 * over in front of them is added one by one. */
static inline int luhn_sse2(const uint8_t *d, unsigned digits, size_t before) {
    __m128i v;
    unsigned total = 0;
    if (before + digits >= 16) {
        unsigned least = digits < 16 ? digits : 16;
        v = _mm_loadu_si128((const __m128i *)(const void *)(d + digits - 16));
        v = _mm_and_si128(v, _mm_loadu_si128((const __m128i *)(const void *)(LAST + least)));
        if (digits > 16)
            for (unsigned i = 0; i + 16 < digits; i++)
                total += (digits - 1 - i) & 1 ? DOUBLED[d[i] & 15] : d[i] & 15u;
    } else { /* two loads that overlap */
        uint64_t low, high;
        memcpy(&low, d, 8);
        memcpy(&high, d + digits - 8, 8);
        v = _mm_set_epi64x((long long)high, (long long)(low << 8 * (16 - digits)));
        v = _mm_and_si128(v, _mm_set1_epi8(15));
    }
    /* seen from the end the last byte is single: of sixteen, the even ones are doubled */
    v = luhn_terms(v, _mm_set1_epi16(0x00ff));
    v = _mm_sad_epu8(v, _mm_setzero_si128());
    total += (unsigned)_mm_cvtsi128_si32(v) + (unsigned)_mm_extract_epi16(v, 4);
    return TENS[total];
}

#define KERNEL sse2
#define TARGET
#define BLOCK block_sse2
#define SQUEEZE squeeze_plain
#define GATHER gather_plain
#define PDEP pdep_plain
#define SUMS sums_sse2
#define VALID valid_sse2
#define STAR star_plain
#define LUHN luhn_sse2
#define FILTER filter_none
#define FILTERS 0
#include "scan_kernel.h"

/* A constant that stays in its register over a loop: the compiler is not to see that it can make it again. */
__attribute__((target("avx2,bmi,bmi2,popcnt"))) static inline __m256i kept_avx2(char byte) {
    __m256i v = _mm256_set1_epi8(byte);
    __asm__("" : "+x"(v));
    return v;
}

__attribute__((target("avx2,bmi,bmi2,popcnt"))) static inline void
block_avx2(const uint8_t *buf, size_t at, size_t len, uint64_t *digits, uint64_t *chars) {
    if (len - at < 64) {
        part_sse2(buf, at, len, digits, chars);
        return;
    }
    const uint8_t *p = buf + at;
    const __m256i zero = kept_avx2('0'), nine = kept_avx2(9), space = kept_avx2(' '), dash = kept_avx2('-');
    uint64_t d = 0, c = 0;
    for (int i = 0; i < 2; i++) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32 * i));
        __m256i low = _mm256_sub_epi8(v, zero);
        __m256i is_digit = _mm256_cmpeq_epi8(_mm256_min_epu8(low, nine), low);
        __m256i is_sep = _mm256_or_si256(_mm256_cmpeq_epi8(v, space), _mm256_cmpeq_epi8(v, dash));
        d |= (uint64_t)(uint32_t)_mm256_movemask_epi8(is_digit) << (32 * i);
        c |= (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_or_si256(is_digit, is_sep)) << (32 * i);
    }
    *digits = d;
    *chars = c;
}

/* Eight bytes at a time: a bit of the mask for each becomes a byte of ones, and pext gathers what is under
 * them. Writes up to eight bytes behind what it is asked for. */
__attribute__((target("avx2,bmi,bmi2,popcnt"))) static inline void
squeeze_bmi2(const uint8_t *buf, size_t at, size_t len, uint64_t digits, uint8_t *out) {
    uint8_t copy[64];
    const uint8_t *p = whole_block(buf, at, len, copy);
    for (; digits; digits >>= 8, p += 8) {
        uint64_t eight, low = digits & 0xff;
        memcpy(&eight, p, 8);
        eight = _pext_u64(eight, _pdep_u64(low, 0x0101010101010101u) * 0xff) & 0x0f0f0f0f0f0f0f0fu;
        memcpy(out, &eight, 8);
        out += __builtin_popcountll(low);
    }
}

/* Both directions at once, with the even ones doubled in the low half of a register and the odd ones in the
 * high half. */
__attribute__((target("avx2,bmi,bmi2,popcnt"))) static inline __m256i add_mod10_avx2(__m256i a, __m256i b) {
    __m256i sum = _mm256_add_epi8(a, b);
    return _mm256_min_epu8(sum, _mm256_sub_epi8(sum, _mm256_set1_epi8(10)));
}

__attribute__((target("avx2,bmi,bmi2,popcnt"))) static inline void
sums_avx2(const uint8_t *d, unsigned n, uint8_t *same, uint8_t *other) {
    const __m256i which = _mm256_set_m128i(_mm_set1_epi16((short)0xff00), _mm_set1_epi16(0x00ff));
    const __m256i last = _mm256_set1_epi8(15);
    __m256i before = _mm256_setzero_si256();
    same[0] = other[0] = 0;
    for (unsigned i = 0; i < n; i += 16) {
        __m256i v = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(d + i)));
        __m256i twice = _mm256_and_si256(v, which);
        __m256i nine = _mm256_and_si256(_mm256_cmpgt_epi8(twice, _mm256_set1_epi8(4)), _mm256_set1_epi8(9));
        v = _mm256_sub_epi8(_mm256_add_epi8(v, twice), nine);
        v = add_mod10_avx2(v, _mm256_slli_si256(v, 1));
        v = add_mod10_avx2(v, _mm256_slli_si256(v, 2));
        v = add_mod10_avx2(v, _mm256_slli_si256(v, 4));
        v = add_mod10_avx2(v, _mm256_slli_si256(v, 8));
        v = add_mod10_avx2(v, before);
        before = _mm256_shuffle_epi8(v, last);
        __m128i even = _mm256_castsi256_si128(v), odd = _mm256_extracti128_si256(v, 1);
        const __m128i second = _mm_set1_epi16((short)0xff00);
        _mm_storeu_si128((__m128i *)(void *)(same + i + 1), _mm_blendv_epi8(odd, even, second));
        _mm_storeu_si128((__m128i *)(void *)(other + i + 1), _mm_blendv_epi8(even, odd, second));
    }
}

/* Which of 32 digits may begin a PAN by the two digits that it would begin with. */
__attribute__((target("avx2,bmi,bmi2,popcnt"))) static inline uint32_t
pairs_avx2(const uint8_t (*pairs)[16], __m256i first, __m256i second) {
    const __m256i bit = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, (char)128, 1, 2, 0, 0, 0, 0, 0, 0));
    __m256i low = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)pairs[0]));
    __m256i high = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)pairs[1]));
    __m256i is_high = _mm256_cmpgt_epi8(second, _mm256_set1_epi8(7));
    __m256i of = _mm256_blendv_epi8(_mm256_shuffle_epi8(low, first), _mm256_shuffle_epi8(high, first), is_high);
    of = _mm256_and_si256(of, _mm256_shuffle_epi8(bit, second));
    return ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(of, _mm256_setzero_si256()));
}

/* Of the starts of 64 digits, those with some length that passes the Luhn check at the end of a group, or that
 * does without, and two first digits that cards have. */
__attribute__((target("avx2,bmi,bmi2,popcnt"))) static inline uint64_t
filter_avx2(const scan_rules_t *r, const uint8_t *d, const uint8_t *same, const uint8_t *other, const uint64_t *ends,
            uint64_t starts) {
    uint64_t valid = 0, pairs = 0, unchecked = 0, of[SCAN_LENGTHS];
    for (unsigned half = 0; half < 64; half += 32) {
        __m256i first = _mm256_loadu_si256((const __m256i *)(const void *)(d + half));
        __m256i second = _mm256_loadu_si256((const __m256i *)(const void *)(d + half + 1));
        pairs |= (uint64_t)pairs_avx2(r->pairs, first, second) << half;
        unchecked |= (uint64_t)pairs_avx2(r->pairs_unchecked, first, second) << half;
        __m256i s = _mm256_loadu_si256((const __m256i *)(const void *)(same + half));
        __m256i o = _mm256_loadu_si256((const __m256i *)(const void *)(other + half));
        for (unsigned n = 0; n < SCAN_LENGTHS; n++) {
            __m256i sum = _mm256_loadu_si256((const __m256i *)(const void *)(same + half + SCAN_MIN + n));
            uint64_t passed = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(sum, (SCAN_MIN + n) & 1 ? o : s));
            of[n] = half ? of[n] | passed << half : passed;
        }
    }
    for (unsigned n = 0; n < SCAN_LENGTHS; n++) {
        unsigned shift = SCAN_MIN - 1 + n;
        valid |= of[n] & (ends[0] >> shift | ends[1] << (64 - shift));
    }
    return starts & ((valid & pairs) | unchecked);
}

#define GATHER_BMI2(mask, a, b, c)        \
    (*(a) = _pext_u64(*(a), mask),        \
     *(b) = _pext_u64(*(b), mask),        \
     *(c) = _pext_u64(*(c), mask))

#define KERNEL avx2
#define TARGET __attribute__((target("avx2,bmi,bmi2,popcnt")))
#define BLOCK block_avx2
#define SQUEEZE squeeze_bmi2
#define GATHER GATHER_BMI2
#define PDEP _pdep_u64
#define SUMS sums_avx2
#define VALID valid_sse2
#define STAR star_plain
#define LUHN luhn_sse2
#define FILTER filter_avx2
#define FILTERS 1
#include "scan_kernel.h"

__attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi2,bmi,bmi2,popcnt"))) static inline void
block_avx512(const uint8_t *buf, size_t at, size_t len, uint64_t *digits, uint64_t *chars) {
    /* the mask keeps the load inside of the buffer */
    __mmask64 inside = len - at >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (len - at)) - 1;
    __m512i v = _mm512_maskz_loadu_epi8(inside, buf + at);
    __mmask64 d = _mm512_cmplt_epu8_mask(_mm512_sub_epi8(v, _mm512_set1_epi8('0')), _mm512_set1_epi8(10));
    *digits = d;
    *chars = d | _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8(' ')) |
             _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8('-'));
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi2,bmi,bmi2,popcnt"))) static inline void
squeeze_avx512(const uint8_t *buf, size_t at, size_t len, uint64_t digits, uint8_t *out) {
    (void)len; /* no digit is outside of the buffer, so nothing there is loaded */
    __m512i v = _mm512_maskz_loadu_epi8(digits, buf + at);
    v = _mm512_maskz_compress_epi8(digits, v);
    _mm512_storeu_si512(out, _mm512_and_si512(v, _mm512_set1_epi8(0x0f)));
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi2,bmi,bmi2,popcnt"))) static inline void
star_avx512(uint8_t *p, uint64_t mask) {
    _mm512_mask_storeu_epi8(p, mask, _mm512_set1_epi8('*')); /* touches no other byte */
}

#define KERNEL avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,bmi,bmi2,popcnt")))
#define BLOCK block_avx512
#define SQUEEZE squeeze_avx512
#define GATHER GATHER_BMI2
#define PDEP _pdep_u64
#define SUMS sums_avx2
#define VALID valid_sse2
#define STAR star_avx512
#define LUHN luhn_sse2
#define FILTER filter_avx2
#define FILTERS 1
#include "scan_kernel.h"

#elif defined(__aarch64__)

/* The machines that this was written on have none: it is run by an emulator (tests/unit/test_neon.py), which
 * says that it is right, but not how fast it is. */
static inline uint64_t neon_mask(uint8x16_t a, uint8x16_t b, uint8x16_t c, uint8x16_t d) {
    const uint8x16_t bits = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t ab = vpaddq_u8(vandq_u8(a, bits), vandq_u8(b, bits));
    uint8x16_t cd = vpaddq_u8(vandq_u8(c, bits), vandq_u8(d, bits));
    uint8x16_t all = vpaddq_u8(ab, cd);
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(all, all)), 0);
}

static inline void block_neon(const uint8_t *buf, size_t at, size_t len, uint64_t *digits, uint64_t *chars) {
    uint8_t copy[64];
    const uint8_t *p = whole_block(buf, at, len, copy);
    uint8x16_t d[4], c[4];
    for (int i = 0; i < 4; i++) {
        uint8x16_t v = vld1q_u8(p + 16 * i);
        d[i] = vcltq_u8(vsubq_u8(v, vdupq_n_u8('0')), vdupq_n_u8(10));
        c[i] = vorrq_u8(d[i], vorrq_u8(vceqq_u8(v, vdupq_n_u8(' ')), vceqq_u8(v, vdupq_n_u8('-'))));
    }
    *digits = neon_mask(d[0], d[1], d[2], d[3]);
    *chars = neon_mask(c[0], c[1], c[2], c[3]);
}

#define KERNEL neon
#define TARGET
#define BLOCK block_neon
#define SQUEEZE squeeze_plain
#define GATHER gather_plain
#define PDEP pdep_plain
#define SUMS sums_plain
#define VALID valid_plain
#define STAR star_plain
#define LUHN luhn_plain
#define FILTER filter_none
#define FILTERS 0
#include "scan_kernel.h"

#endif

int scan_supported(int kernel) {
    switch (kernel) {
    case SCAN_PORTABLE:
        return 1;
#if defined(__x86_64__)
    case SCAN_SSE2:
        return 1;
    case SCAN_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
    case SCAN_AVX512:
        return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
               __builtin_cpu_supports("bmi2");
#elif defined(__aarch64__)
    case SCAN_NEON:
        return 1;
#endif
    default:
        return 0;
    }
}

int scan_preferred(void) {
#if defined(__x86_64__)
    /* There pext takes a step for each bit, so long chains, which anybody can send, would cost more than AVX2
     * saves on the rest. Not measured: no such machine was at hand. */
    if (__builtin_cpu_is("znver1") || __builtin_cpu_is("znver2")) return SCAN_SSE2;
#endif
    int best = SCAN_PORTABLE;
    for (int kernel = 0; kernel < SCAN_KERNELS; kernel++)
        if (scan_supported(kernel)) best = kernel;
    return best;
}

static inline void scan(scan_t *s, size_t len) {
    if (len < SCAN_MIN) return;
    switch (s->rules->kernel) {
#if defined(__x86_64__)
    case SCAN_AVX512:
        scan_avx512(s, len);
        return;
    case SCAN_AVX2:
        scan_avx2(s, len);
        return;
    case SCAN_SSE2:
        scan_sse2(s, len);
        return;
#elif defined(__aarch64__)
    case SCAN_NEON:
        scan_neon(s, len);
        return;
#endif
    default:
        scan_portable(s, len);
    }
}

size_t scan_mask_fields(const scan_rules_t *r, int kind, uint8_t *buf, size_t len, const int64_t *at,
                        const int64_t *size, size_t n, scan_counts_t *counts) {
    scan_t s = {.rules = r, .counts = counts, .kind = kind};
    switch (r->kernel) {
#if defined(__x86_64__)
    case SCAN_AVX512:
        fields_avx512(&s, buf, len, at, size, n);
        break;
    case SCAN_AVX2:
        fields_avx2(&s, buf, len, at, size, n);
        break;
    case SCAN_SSE2:
        fields_sse2(&s, buf, len, at, size, n);
        break;
#elif defined(__aarch64__)
    case SCAN_NEON:
        fields_neon(&s, buf, len, at, size, n);
        break;
#endif
    default:
        fields_portable(&s, buf, len, at, size, n);
    }
    return s.found;
}

/* What a node and all behind it allow. */
static void allowed(const scan_rules_t *r, unsigned node, uint8_t *lengths, uint8_t *unchecked) {
    *lengths |= r->issuer[node].required | r->issuer[node].optional;
    *unchecked |= r->issuer[node].optional;
    for (unsigned digit = 0; digit < 10; digit++)
        if (r->next[node][digit]) allowed(r, r->next[node][digit], lengths, unchecked);
}

void scan_prepare(scan_rules_t *r) {
    for (unsigned four = 0; four < 10000; four++) {
        const unsigned digits[4] = {four / 1000, four / 100 % 10, four / 10 % 10, four % 10};
        unsigned node = 0, depth = 0;
        while (depth < 4 && r->next[node][digits[depth]]) node = r->next[node][digits[depth++]];
        int live = 0;
        for (unsigned digit = 0; depth == 4 && digit < 10; digit++) live |= r->next[node][digit];
        r->first[four] = (uint16_t)(node | (live ? SCAN_LIVE : 0));
        if (depth == 4) {
            allowed(r, node, &r->lengths[four], &r->unchecked[four]);
        } else {
            r->lengths[four] = r->issuer[node].required | r->issuer[node].optional;
            r->unchecked[four] = r->issuer[node].optional;
        }
        unsigned half = digits[1] >> 3;
        r->pairs[half][digits[0]] |= (uint8_t)((r->lengths[four] != 0) << (digits[1] & 7));
        r->pairs_unchecked[half][digits[0]] |= (uint8_t)((r->unchecked[four] != 0) << (digits[1] & 7));
    }
}

size_t scan_mask(const scan_rules_t *r, int kind, uint8_t *buf, size_t len, scan_counts_t *counts) {
    scan_t s = {.rules = r, .buf = buf, .counts = counts, .kind = kind};
    scan(&s, len);
    return s.found;
}

size_t scan_find(const scan_rules_t *r, const uint8_t *buf, size_t len, scan_hit_t *hits, size_t cap) {
    scan_hit_t none;
    /* with `hits` set nothing is written, so the const is kept in deed */
    scan_t s = {.rules = r, .buf = (uint8_t *)(uintptr_t)buf, .hits = hits ? hits : &none, .cap = cap};
    scan(&s, len);
    return s.found;
}
