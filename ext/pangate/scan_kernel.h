/* One kernel: included by scan.c once for each instruction set, with these defined:
 *
 *   KERNEL   its suffix                 BLOCK    masks of digits, and of digits and separators, of 64 bytes
 *   TARGET   its attribute              SQUEEZE  the digits of 64 bytes, as values, one behind the other
 *   STAR     '*' where a mask of 64 bytes has bits
 *   GATHER   bits of three gathered    PDEP     bits of a mask scattered
 *   SUMS     running sums of the Luhn check     VALID    lengths that pass it, by these
 *   LUHN     the check of a row of digits as text
 *   FILTER   the starts of 64 digits that may begin a PAN, as far as can be seen of all at once; FILTERS is 0
 *            where it cannot be seen
 *
 * Stage one folds the masks of 64 bytes with shifts until a bit is left only where at least twelve digits
 * and separators stand in a row. Most blocks end there. Where such runs begin is listed, and the list is
 * worked off afterwards: no processor foresees where numbers stand.
 *
 * Stage two takes a run that is left in windows of SPAN blocks. Squeezed together, its digits are numbered
 * 0 to n - 1, and where groups begin and end, and where chains do, are bits with the same numbers. So the ends
 * of all candidates that begin at a digit are eight neighbouring bits, and a table of the first four digits
 * says which of these lengths a card can have: two loads and an AND for each group. A start is decided when
 * all that it can reach is inside the window; the next window begins at the first that is not. What is to
 * be masked waits until the window has left it behind, since candidates overlap. */

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)

/* A hit of a window: digits `i` to `i + digits - 1` of it. */
TARGET static inline void
JOIN(keep_, KERNEL)(scan_t *s, window_t *v, unsigned i, unsigned digits, int network, int optional) {
    if (s->hits) {
        if (s->found < s->cap) {
            unsigned b = v->block, last = i + digits - 1;
            while (i >= v->first[b + 1]) b++;
            v->block = b; /* they come in the order of where they begin */
            uint64_t begin = PDEP((uint64_t)1 << (i - v->first[b]), v->digits[b]);
            size_t start = v->at + 64 * (size_t)b + (size_t)__builtin_ctzll(begin);
            while (last >= v->first[b + 1]) b++;
            uint64_t end = PDEP((uint64_t)1 << (last - v->first[b]), v->digits[b]);
            s->hits[s->found] =
                (scan_hit_t){start, v->at + 64 * (size_t)b + (size_t)__builtin_ctzll(end) + 1, network};
        }
    } else {
        int head, tail;
        visible(s->rules, s->kind, (int)digits, network, optional, &head, &tail);
        add_bits(v->masked, i + (unsigned)head, ((uint64_t)1 << (digits - (unsigned)(head + tail))) - 1);
    }
    s->found++;
    if (s->counts) {
        s->counts->total++;
        s->counts->by_network[network]++;
    }
}

/* Fill a window with the blocks from `v->at` on. Returns how many bytes of the last block belong to the run. */
TARGET static inline unsigned JOIN(fill_, KERNEL)(const uint8_t *buf, size_t len, window_t *v) {
    uint64_t was_digits = (uint64_t)v->within << 63, was_seps = 0, dx, seps;
    unsigned n = 0, blocks = 0, run;
    v->starts[0] = v->ends[0] = v->breaks[0] = 0;
    do {
        size_t at = v->at + 64 * (size_t)blocks;
        uint64_t digits, chars;
        BLOCK(buf, at, len, &digits, &chars);
        run = ~chars ? (unsigned)__builtin_ctzll(~chars) : 64;
        uint64_t inside = run == 64 ? ~(uint64_t)0 : ((uint64_t)1 << run) - 1;
        dx = digits & inside;
        seps = inside & ~dx;
        v->last = run < 64 || at + 64 >= len;
        uint64_t starts = dx & ~(dx << 1 | was_digits >> 63), ends = dx & ~(dx >> 1);
        if (!v->last) ends &= ~((uint64_t)1 << 63); /* the group may go on */
        if (n && was_digits >> 63 && !(dx & 1)) add_bits(v->ends, n - 1, 1); /* it did not */
        /* a group that is not one separator behind the one before begins a chain */
        uint64_t breaks = starts & ~((seps << 1 | was_seps >> 63) & (dx << 2 | was_digits >> 62));
        GATHER(dx, &starts, &ends, &breaks);
        put_bits(v->starts, n, starts);
        put_bits(v->ends, n, ends);
        put_bits(v->breaks, n, breaks);
        SQUEEZE(buf, at, len, dx, v->values + n);
        v->first[blocks] = (uint16_t)n;
        v->digits[blocks] = dx;
        n += (unsigned)__builtin_popcountll(dx);
        was_digits = dx;
        was_seps = seps;
        blocks++;
    } while (!v->last && blocks < SPAN);
    v->first[blocks] = (uint16_t)n;
    v->blocks = blocks;
    v->n = n;
    v->within = (int)(was_digits >> 63);
    for (unsigned word = n / 64 + 1; word <= n / 64 + 2; word++) v->starts[word] = v->ends[word] = v->breaks[word] = 0;
    uint64_t behind = dx ? ~(uint64_t)0 << (63 - __builtin_clzll(dx)) << 1 : ~(uint64_t)0;
    uint64_t tail = seps & behind;
    if (v->last || (tail & tail << 1)) add_bits(v->breaks, n, 1); /* the chain ends in sight */
    return run;
}

/* List the starts before digit `limit` whose first four digits some card has, for one of the lengths that they
 * can reach; without a branch, since most starts are no card's. Returns how many. */
TARGET static inline unsigned
JOIN(likely_, KERNEL)(const scan_rules_t *r, const window_t *v, unsigned limit, uint32_t *likely) {
    unsigned count = 0;
    for (unsigned word = 0; word * 64 < limit; word++) {
        uint64_t starts = v->starts[word];
        if (limit - word * 64 < 64) starts &= ((uint64_t)1 << (limit - word * 64)) - 1;
        const uint64_t *ends = v->ends + word, *breaks = v->breaks + word;
        uint64_t end_low = ends[0] >> (SCAN_MIN - 1) | ends[1] << (65 - SCAN_MIN);
        uint64_t end_high = ends[1] >> (SCAN_MIN - 1);
        uint64_t break_low = breaks[0] >> 1 | breaks[1] << 63, break_high = breaks[1] >> 1;
        const uint8_t *values = v->values + word * 64;
        starts = FILTER(r, values, v->same + word * 64, v->other + word * 64, ends, starts);
        if (!(break_low | break_high)) {
            for (; starts; starts &= starts - 1) {
                unsigned k = (unsigned)__builtin_ctzll(starts), four = four_at(values + k);
                unsigned lengths = r->lengths[four] & (unsigned)(end_low >> k | end_high << 1 << (63 - k));
                likely[count] = (word * 64 + k) | lengths << 10 | four << 18;
                count += lengths != 0;
            }
            continue;
        }
        for (; starts; starts &= starts - 1) {
            unsigned k = (unsigned)__builtin_ctzll(starts), four = four_at(values + k);
            unsigned lengths = r->lengths[four] & (unsigned)(end_low >> k | end_high << 1 << (63 - k));
            /* digits as far as its chain goes, up to SCAN_MAX */
            uint64_t later = (break_low >> k | break_high << 1 << (63 - k)) | (uint64_t)1 << (SCAN_MAX - 1);
            unsigned most = (unsigned)__builtin_ctzll(later) + 1;
            lengths &= most < SCAN_MIN ? 0 : (2u << (most - SCAN_MIN)) - 1;
            likely[count] = (word * 64 + k) | lengths << 10 | four << 18;
            count += lengths != 0;
        }
    }
    return count;
}

TARGET static size_t JOIN(run_, KERNEL)(scan_t *s, size_t begin, size_t len) {
    const scan_rules_t *r = s->rules;
    uint8_t *buf = s->buf;
    window_t v;
    uint32_t likely[SPAN * 32 + 2]; /* start, lengths and four digits; between two starts is something else */
    uint64_t masked = 0;            /* of the first digits of the window, by a PAN that begins before */
    v.at = begin;
    v.within = 0;
    for (;;) {
        unsigned run = JOIN(fill_, KERNEL)(buf, len, &v);
        size_t end = v.at + 64 * (size_t)(v.blocks - 1) + run;
        unsigned n = v.n, left = n; /* the first start that is not decided */
        if (n < SCAN_MIN && v.last && !masked) return end;
        if (!v.last) {
            /* nineteen digits and what is behind them are in sight, or a chain's end is */
            unsigned sure = n - (unsigned)v.within, from = sure >= SCAN_MAX ? sure - SCAN_MAX + 1 : 0;
            unsigned chain = last_bit(v.breaks, n);
            left = next_bit(v.starts, chain > from ? chain : from, n);
        }
        for (unsigned word = 0; word <= n / 64 + 1; word++) v.masked[word] = 0;
        v.masked[0] = masked;
        v.block = 0;
        unsigned limit = n >= SCAN_MIN ? n - SCAN_MIN + 1 : 0;
        limit = left < limit ? left : limit;
        if (FILTERS && limit) SUMS(v.values, n, v.same, v.other);
        unsigned count = JOIN(likely_, KERNEL)(r, &v, limit, likely), passed = 0;
        if (!FILTERS && count) SUMS(v.values, n, v.same, v.other);
        for (unsigned k = 0; k < count; k++) {
            unsigned i = likely[k] & 0x3ff, lengths = likely[k] >> 10 & 0xff, four = likely[k] >> 18;
            lengths &= VALID(v.same, v.other, i) | r->unchecked[four];
            likely[passed] = i | lengths << 10 | four << 18;
            passed += lengths != 0;
        }
        for (unsigned k = 0; k < passed; k++) {
            unsigned i = likely[k] & 0x3ff, lengths = likely[k] >> 10 & 0xff, four = likely[k] >> 18;
            const scan_issuer_t *issuer = issuer_at(r, v.values + i, four);
            lengths &= (VALID(v.same, v.other, i) & issuer->required) | issuer->optional;
            for (; lengths; lengths &= lengths - 1) {
                unsigned bit = (unsigned)__builtin_ctz(lengths);
                JOIN(keep_, KERNEL)(s, &v, i, SCAN_MIN + bit, issuer->network[bit], issuer->optional >> bit & 1);
            }
        }
        size_t next = v.at + 64 * (size_t)v.blocks;
        for (unsigned b = 0; b < v.blocks; b++) {
            unsigned first = v.first[b], behind = v.first[b + 1];
            if (left < behind) { /* what begins here is for the next window */
                if (left >= first) {
                    uint64_t at = PDEP((uint64_t)1 << (left - first), v.digits[b]);
                    next = v.at + 64 * (size_t)b + (size_t)__builtin_ctzll(at);
                }
                behind = left;
            }
            if (behind <= first) continue;
            uint64_t bits = get_bits(v.masked, first);
            if (behind - first < 64) bits &= ((uint64_t)1 << (behind - first)) - 1;
            if (bits) STAR(buf + v.at + 64 * (size_t)b, PDEP(bits, v.digits[b]));
        }
        if (v.last) return end;
        masked = left < n ? get_bits(v.masked, left) : 0;
        if (left < n) v.within = 0;
        v.at = next;
    }
}

/* The run that most PANs are: digits alone, `n` of them from `begin` on. `before`: bytes that can be read in
 * front of the text. */
TARGET static inline void JOIN(lone_, KERNEL)(scan_t *s, size_t begin, unsigned n, size_t before) {
    const scan_rules_t *r = s->rules;
    uint8_t *p = s->buf + begin;
    unsigned bit = n - SCAN_MIN, four = four_at(p);
    unsigned valid = (unsigned)LUHN(p, n, before + begin);
    /* one branch for both, since neither can be foreseen */
    if (!((valid << bit | r->unchecked[four]) & r->lengths[four] & 1u << bit)) return;
    const scan_issuer_t *issuer = &r->issuer[r->first[four] & ~(unsigned)SCAN_LIVE];
    if (r->first[four] & SCAN_LIVE) {
        uint8_t digits[SCAN_DEPTH];
        for (int i = 0; i < SCAN_DEPTH; i++) digits[i] = p[i] & 15;
        issuer = issuer_at(r, digits, four);
    }
    int optional = issuer->optional >> bit & 1, network = issuer->network[bit];
    if (!optional && !(valid && issuer->required >> bit & 1)) return;
    if (s->hits) {
        if (s->found < s->cap) s->hits[s->found] = (scan_hit_t){begin, begin + n, network};
    } else {
        int head, tail;
        visible(r, s->kind, (int)n, network, optional, &head, &tail);
        stars(p + head, n - (unsigned)(head + tail));
    }
    s->found++;
    if (s->counts) {
        s->counts->total++;
        s->counts->by_network[network]++;
    }
}

/* A run that begins at `begin` and ends in sight; `d` and `c` are the masks from there on, `c` with a bit that
 * is not set. */
TARGET static inline void
JOIN(short_, KERNEL)(scan_t *s, size_t begin, uint64_t d, uint64_t c, size_t len, size_t before) {
    d &= c & ~(c + 1); /* of the run alone */
    unsigned n = (unsigned)__builtin_popcountll(d);
    if (n < SCAN_MIN) return;
    unsigned first = (unsigned)__builtin_ctzll(d);
    if (d >> first != ((uint64_t)1 << n) - 1)
        JOIN(run_, KERNEL)(s, begin, len);
    else if (n <= SCAN_MAX)
        JOIN(lone_, KERNEL)(s, begin + first, n, before);
}

/* List where the runs of the next BATCH blocks begin, as bytes behind the first of these plus SCAN_MIN - 1:
 * those of twelve bytes and more that have a digit in the block in which they reach twelve. Of a run with a
 * block without digits in between, what comes behind that is listed as well. */
TARGET static __attribute__((noinline)) void
JOIN(list_, KERNEL)(const uint8_t *buf, size_t len, runs_t *runs) {
    uint64_t was_chars = runs->folds[0], was_twos = runs->folds[1], was_fours = runs->folds[2];
    uint64_t was_twelves = runs->folds[3];
    size_t base = runs->base;
    uint32_t *to = runs->starts;
    unsigned block = 0;
    for (; block < BATCH && base < len; block++, base += 64) {
        uint64_t digits, chars;
        BLOCK(buf, base, len, &digits, &chars);
        runs->digits[block] = digits;
        runs->chars[block] = chars;
        if (!digits) {
            was_chars = was_twos = was_fours = was_twelves = 0;
            continue;
        }
        /* bit p: p and so many bytes before it, of this block and the last, are digits or separators */
        uint64_t twos = chars & (chars << 1 | was_chars >> 63);
        uint64_t fours = twos & (twos << 2 | was_twos >> 62);
        uint64_t twelves = fours & (fours << 4 | was_fours >> 60) & (fours << 8 | was_fours >> 56);
        uint64_t reached = twelves & ~(twelves << 1 | was_twelves >> 63);
        for (; reached; reached &= reached - 1) *to++ = block * 64 + (uint32_t)__builtin_ctzll(reached);
        was_chars = chars;
        was_twos = twos;
        was_fours = fours;
        was_twelves = twelves;
    }
    runs->folds[0] = was_chars;
    runs->folds[1] = was_twos;
    runs->folds[2] = was_fours;
    runs->folds[3] = was_twelves;
    if (base >= len) { /* there is nothing behind it */
        runs->digits[block] = runs->chars[block] = 0;
        block++;
    }
    runs->blocks = block;
    runs->count = (unsigned)(to - runs->starts);
    runs->base = base;
}

/* A text of at most 64 bytes, by its masks. */
TARGET static inline void
JOIN(small_, KERNEL)(scan_t *s, size_t len, uint64_t d, uint64_t c, size_t before) {
    int plain = !s->hits && s->kind & SCAN_DIGITS;
    uint64_t low = c & c >> 1;
    low &= low >> 2;
    low &= low >> 4 & low >> 8;
    while (low) { /* the runs of twelve and more */
        unsigned begin = (unsigned)__builtin_ctzll(low);
        uint64_t behind = ~(c >> begin);
        unsigned end = behind ? begin + (unsigned)__builtin_ctzll(behind) : 64;
        if (plain)
            chain_run(s, begin, len);
        else if (!behind)
            JOIN(run_, KERNEL)(s, begin, len);
        else
            JOIN(short_, KERNEL)(s, begin, d >> begin, c >> begin, len, before);
        low &= end < 64 ? ~(uint64_t)0 << end : 0;
    }
}

TARGET static void JOIN(scan_, KERNEL)(scan_t *s, size_t len) {
    const uint8_t *buf = s->buf;
    size_t done = 0; /* everything before is settled */
    int plain = !s->hits && s->kind & SCAN_DIGITS;
    runs_t runs;
    if (len <= 64) {
        uint64_t d, c;
        BLOCK(buf, 0, len, &d, &c);
        if (__builtin_popcountll(d) >= SCAN_MIN) JOIN(small_, KERNEL)(s, len, d, c, 0);
        return;
    }
    runs.base = 0;
    memset(runs.folds, 0, sizeof runs.folds);
    while (runs.base < len) {
        size_t from = runs.base;
        JOIN(list_, KERNEL)(buf, len, &runs);
        for (unsigned i = 0; i < runs.count; i++) {
            size_t at = runs.starts[i] - (size_t)(SCAN_MIN - 1), begin = from + at, block = at / 64;
            if (begin < done) continue; /* a block without a digit was in between */
            uint64_t d, c;
            if (block + 1 < runs.blocks) {
                unsigned shift = at & 63;
                d = runs.digits[block] >> shift | runs.digits[block + 1] << 1 << (63 - shift);
                c = runs.chars[block] >> shift | runs.chars[block + 1] << 1 << (63 - shift);
            } else {
                BLOCK(buf, begin, len, &d, &c); /* it goes over the end or the beginning of the list */
            }
            if (!~c || plain) {
                done = plain ? chain_run(s, begin, len) : JOIN(run_, KERNEL)(s, begin, len);
                continue;
            }
            done = begin + (size_t)__builtin_ctzll(~c);
            JOIN(short_, KERNEL)(s, begin, d, c, len, 0);
        }
        if (done > runs.base) { /* a long run went on beyond what was listed: there is none to list in it */
            runs.base = done & ~(size_t)63;
            memset(runs.folds, 0, sizeof runs.folds);
        }
    }
}

/* Many fields of one buffer. Most have few digits, or are one number; they are done here, first those that are
 * long enough and then those of them that have digits enough, so that little depends on what a field holds. */
TARGET static void
JOIN(fields_, KERNEL)(scan_t *s, uint8_t *buf, size_t len, const int64_t *at, const int64_t *size, size_t n) {
    uint32_t some[FIELDS + 1];
    int plain = (s->kind & SCAN_DIGITS) != 0;
    for (size_t base = 0; base < n; base += FIELDS) {
        unsigned fields = n - base < FIELDS ? (unsigned)(n - base) : FIELDS, count = 0;
        for (unsigned i = 0; i < fields; i++) {
            some[count] = i;
            count += size[base + i] >= SCAN_MIN;
        }
        for (unsigned k = 0; k < count; k++) {
            size_t from = (size_t)at[base + some[k]], have = (size_t)size[base + some[k]];
            s->buf = buf + from;
            if (have >= 64) {
                JOIN(scan_, KERNEL)(s, have);
                continue;
            }
            uint64_t d, c, inside = ((uint64_t)1 << have) - 1;
            /* what is behind the field may be read as long as it is in the buffer */
            BLOCK(s->buf, 0, len - from >= 64 ? 64 : have, &d, &c);
            d &= inside;
            if (__builtin_popcountll(d) < SCAN_MIN) continue;
            if (d == inside && !plain) {
                if (have <= SCAN_MAX) JOIN(lone_, KERNEL)(s, 0, (unsigned)have, from);
                continue;
            }
            JOIN(small_, KERNEL)(s, have, d, c & inside, from);
        }
    }
}

#undef JOIN
#undef JOIN2
#undef KERNEL
#undef TARGET
#undef BLOCK
#undef SQUEEZE
#undef GATHER
#undef PDEP
#undef LUHN
#undef SUMS
#undef VALID
#undef STAR
#undef FILTER
#undef FILTERS
