/* What the kernels keep of a text while they work on it: where its runs begin, and the digits of a window of one
 * run. Included by scan.c only; scan_kernel.h says what it is for. */

enum {
    SPAN = 16,    /* blocks of a window: starts of digits take ten bits */
    BATCH = 64,   /* blocks whose runs are listed before they are looked at */
    FIELDS = 512, /* fields of a round */
    WORDS = SPAN + 3
};

/* Digits and groups are numbered within the window. */
typedef struct {
    size_t at;                  /* where it begins */
    unsigned blocks, n, block;  /* blocks, digits; the block of the last hit */
    int within, last;           /* it begins, and afterwards: ends, inside of a group; the run ends in it */
    uint16_t first[SPAN + 1];   /* number of a block's first digit */
    uint64_t digits[SPAN];      /* the digits of a block */
    uint64_t starts[WORDS], ends[WORDS], breaks[WORDS], masked[WORDS]; /* bit per digit */
    uint8_t values[SPAN * 64 + 128];                /* SQUEEZE writes more, and FILTER reads more */
    uint8_t same[SPAN * 64 + 128], other[SPAN * 64 + 128]; /* running Luhn sums, see sums_plain */
} window_t;

/* Where the runs of some blocks of a text begin. The folds are those of the last block, as scan_kernel.h makes
 * them. */
typedef struct {
    size_t base; /* the next block */
    uint64_t folds[4];
    unsigned blocks, count; /* those that were looked at last; their runs */
    uint64_t digits[BATCH + 1], chars[BATCH + 1];
    uint32_t starts[BATCH * 6]; /* at most six runs reach twelve in a block */
} runs_t;

/* Bits behind those that are there: the words up to that of bit `n` have been written. */
static inline void put_bits(uint64_t *words, unsigned n, uint64_t bits) {
    unsigned shift = n & 63;
    words[n / 64] |= bits << shift;
    words[n / 64 + 1] = bits >> 1 >> (63 - shift);
}

/* Bits on top of others. */
static inline void add_bits(uint64_t *words, unsigned n, uint64_t bits) {
    unsigned shift = n & 63;
    words[n / 64] |= bits << shift;
    words[n / 64 + 1] |= bits >> 1 >> (63 - shift);
}

static inline uint64_t get_bits(const uint64_t *words, unsigned n) {
    return words[n / 64] >> (n & 63) | words[n / 64 + 1] << 1 << (63 - (n & 63));
}

/* The last bit that is set, up to `n`; 0 when none is. */
static inline unsigned last_bit(const uint64_t *words, unsigned n) {
    for (unsigned word = n / 64 + 1; word--;)
        if (words[word]) return word * 64 + 63 - (unsigned)__builtin_clzll(words[word]);
    return 0;
}

/* The first bit from `from` on, `n` when there is none before. */
static inline unsigned next_bit(const uint64_t *words, unsigned from, unsigned n) {
    if (from >= n) return n;
    uint64_t bits = words[from / 64] & ~(uint64_t)0 << (from & 63);
    for (unsigned word = from / 64;; bits = words[++word]) {
        if (bits) return word * 64 + (unsigned)__builtin_ctzll(bits);
        if ((word + 1) * 64 >= n) return n;
    }
}

/* The number that four digits make, as values or as text. */
static inline unsigned four_at(const uint8_t *d) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    uint32_t x;
    memcpy(&x, d, 4);
    x &= 0x0f0f0f0f;
    x = x * 10 + (x >> 8); /* what two neighbours make, in each byte */
    return (x & 0xff) * 100 + (x >> 16 & 0xff);
#else
    return (d[0] & 15) * 1000u + (d[1] & 15) * 100u + (d[2] & 15) * 10u + (d[3] & 15);
#endif
}
