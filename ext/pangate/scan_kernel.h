/* One kernel: included by scan.c once for each instruction set, with these defined:
 *
 *   KERNEL   its suffix                 BLOCK    masks of digits, and of digits and separators, of 64 bytes
 *   TARGET   its attribute              SQUEEZE  the digits of 64 bytes, as values, one behind the other
 *   STAR     '*' where a mask of 64 bytes has bits
 *   GATHER   bits of three gathered    PDEP     bits of a mask scattered
 *   SUMS     running sums of the Luhn check     VALID    lengths that pass it, by these
 *   LUHN     the check of a row of digits as text
 *   FOURS    what four digits make, for all of them at once; FOUR gives it for one
 *
 * Stage one folds the masks of 64 bytes with shifts until a bit is left only where at least twelve digits
 * and separators stand in a row. Most blocks end there.
 *
 * Stage two takes a run that is left in windows of 64 bytes. Squeezed together, its digits are numbered
 * 0 to n - 1, and where groups begin and end are bits with the same numbers. So the ends of all
 * candidates that begin at a digit are eight neighbouring bits, and a table of the first four digits
 * says which of these lengths a card can have: two loads and an AND for each group. A start is decided when
 * all that it can reach is inside the window; the next window begins at the first that is not. What is to
 * be masked waits until the window has left it behind, since candidates overlap. */

/* Keep a start whose first four digits some card has, for one of the lengths that it can reach; without a
 * branch, since most starts are no card's. */
#define LOOK(i, reach)                                                                     \
    do {                                                                                   \
        unsigned four_ = FOUR(d, fours, i);                                                \
        unsigned lengths_ = r->lengths[four_] & (reach);                                   \
        likely[count] = (i) | lengths_ << 8 | four_ << 16;                                 \
        count += lengths_ != 0;                                                            \
    } while (0)

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)

TARGET static size_t JOIN(run_, KERNEL)(scan_t *s, size_t begin, size_t len) {
    const scan_rules_t *r = s->rules;
    uint8_t *buf = s->buf;
    uint8_t d[64 + 16]; /* SQUEEZE may write a little more */
    uint8_t same[64 + 16], other[64 + 16]; /* running Luhn sums, see sums_plain */
    uint16_t fours[64];
    uint32_t likely[33]; /* start, lengths and four digits; between two starts is something else */
    uint64_t pending = 0; /* bytes of the window that will be masked */
    int within = 0;       /* the window begins inside of a group */
    size_t w = begin;
    for (;;) {
        unsigned count = 0;
        uint64_t digits, chars;
        BLOCK(buf, w, len, &digits, &chars);
        unsigned run = ~chars ? (unsigned)__builtin_ctzll(~chars) : 64;
        uint64_t inside = run == 64 ? ~(uint64_t)0 : ((uint64_t)1 << run) - 1;
        uint64_t dx = digits & inside, seps = inside & ~dx;
        unsigned n = (unsigned)__builtin_popcountll(dx);
        int last = run < 64 || w + 64 >= len;
        uint64_t starts_left = 0;
        unsigned next = 0;
        if (n >= SCAN_MIN || !last) {
            uint64_t starts = dx & ~(dx << 1), ends = dx & ~(dx >> 1);
            if (within) starts &= ~(uint64_t)1;
            if (!last) ends &= ~((uint64_t)1 << 63); /* the group may go on */
            /* a group that is not one separator behind the one before begins a chain */
            uint64_t breaks = starts & ~(seps << 1 & dx << 2);
            uint64_t sx = starts, ex = ends, bx = breaks;
            GATHER(dx, &sx, &ex, &bx);
            if (n < 64) {
                uint64_t behind = dx ? ~(uint64_t)0 << (63 - __builtin_clzll(dx)) << 1 : ~(uint64_t)0;
                uint64_t tail = seps & behind;
                if (last || (tail & tail << 1)) bx |= (uint64_t)1 << n; /* the chain ends in sight */
            }
            /* what is behind d[n - 1] is never read: a start that is looked at has twelve digits */
            SQUEEZE(buf, w, len, dx, d);
            FOURS(d, n, fours);
            unsigned sure = n - (unsigned)(dx >> 63); /* digits whose next byte is in the window */
            if (!(bx & ~(uint64_t)1)) {
                /* one chain all through the window: a start is decided when nineteen digits and what is
                 * behind them are in sight */
                uint64_t decided = sure >= SCAN_MAX ? sx & (((uint64_t)1 << (sure - SCAN_MAX + 1)) - 1) : 0;
                sx &= ~decided;
                for (; decided; decided &= decided - 1) {
                    unsigned i = (unsigned)__builtin_ctzll(decided);
                    LOOK(i, (unsigned)(ex >> (i + SCAN_MIN - 1)) & 0xff);
                }
                if (sx && !last) {
                    starts_left = 1;
                    next = (unsigned)__builtin_ctzll(sx);
                }
                sx = 0;
            }
            for (; sx; sx &= sx - 1) {
                unsigned i = (unsigned)__builtin_ctzll(sx);
                uint64_t later = i < 63 ? bx >> (i + 1) : 0;
                if (!later && i + SCAN_MAX > sure) {
                    starts_left = !last; /* the end of a run ends its chain, so here it goes on */
                    next = i;
                    break;
                }
                if (i + SCAN_MIN > n) continue;
                unsigned reach = (unsigned)(ex >> (i + SCAN_MIN - 1)) & 0xff;
                if (later) {
                    unsigned most = (unsigned)__builtin_ctzll(later) + 1;
                    if (most < SCAN_MAX) reach &= most < SCAN_MIN ? 0 : (1u << (most - SCAN_MIN + 1)) - 1;
                }
                if (reach) LOOK(i, reach);
            }
            if (count) SUMS(d, n, same, other);
            unsigned passed = 0;
            for (unsigned k = 0; k < count; k++) {
                unsigned i = likely[k] & 0xff, lengths = likely[k] >> 8 & 0xff, four = likely[k] >> 16;
                lengths &= VALID(same, other, i) | r->unchecked[four];
                likely[passed] = i | lengths << 8 | four << 16;
                passed += lengths != 0;
            }
            for (unsigned k = 0; k < passed; k++) {
                unsigned i = likely[k] & 0xff, lengths = likely[k] >> 8 & 0xff, four = likely[k] >> 16;
                unsigned valid_lengths = VALID(same, other, i);
                do {
                    unsigned bit = (unsigned)__builtin_ctz(lengths), digits_here = SCAN_MIN + bit;
                    lengths &= lengths - 1;
                    int valid = valid_lengths >> bit & 1;
                    const scan_issuer_t *issuer = issuer_at(r, d + i, four);
                    int optional = issuer->optional >> bit & 1;
                    if (!optional && !(valid && issuer->required >> bit & 1)) continue;
                    int network = issuer->network[bit];
                    if (s->hits) {
                        if (s->found < s->cap) {
                            uint64_t all = PDEP((((uint64_t)1 << digits_here) - 1) << i, dx);
                            s->hits[s->found] = (scan_hit_t){w + (size_t)__builtin_ctzll(all),
                                                             w + 64 - (size_t)__builtin_clzll(all),
                                                             network};
                        }
                    } else {
                        int head, tail;
                        visible(r, s->kind, (int)digits_here, network, optional, &head, &tail);
                        uint64_t some = ((uint64_t)1 << (digits_here - (unsigned)(head + tail))) - 1;
                        pending |= PDEP(some << (i + (unsigned)head), dx);
                    }
                    s->found++;
                    if (s->counts) {
                        s->counts->total++;
                        s->counts->by_network[network]++;
                    }
                } while (lengths);
            }
        }
        unsigned shift = 64;
        if (starts_left) shift = (unsigned)__builtin_ctzll(PDEP((uint64_t)1 << next, dx));
        uint64_t left = shift == 64 ? pending : pending & (((uint64_t)1 << shift) - 1);
        pending = shift == 64 ? 0 : pending >> shift;
        if (left) STAR(buf + w, left);
        if (!starts_left && last) return w + run;
        within = shift == 64 && dx >> 63;
        w += shift;
    }
}

/* The run that most PANs are: digits alone, from `begin` to `end`. */
TARGET static inline void JOIN(lone_, KERNEL)(scan_t *s, size_t begin, unsigned n) {
    const scan_rules_t *r = s->rules;
    uint8_t *p = s->buf + begin;
    unsigned bit = n - SCAN_MIN;
    unsigned four = p[0] * 1000u + p[1] * 100u + p[2] * 10u + p[3] - '0' * 1111u;
    if (!(r->lengths[four] >> bit & 1)) return;
    int valid = LUHN(p, n);
    if (!valid && !(r->unchecked[four] >> bit & 1)) return;
    uint8_t digits[SCAN_DEPTH];
    for (int i = 0; i < SCAN_DEPTH; i++) digits[i] = (uint8_t)(p[i] - '0');
    const scan_issuer_t *issuer = issuer_at(r, digits, four);
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

TARGET static void JOIN(scan_, KERNEL)(scan_t *s, size_t len) {
    const uint8_t *buf = s->buf;
    size_t done = 0; /* everything before is settled */
    uint64_t digits, chars;
    int plain = !s->hits && s->kind & SCAN_DIGITS;
    BLOCK(buf, 0, len, &digits, &chars);
    for (size_t base = 0; base < len; base += 64) {
        uint64_t next_digits = 0, next_chars = 0;
        if (base + 64 < len) BLOCK(buf, base + 64, len, &next_digits, &next_chars);
        if (digits) {
            /* bit p of `low`: p and the eleven bytes behind it are digits or separators */
            uint64_t low = chars, high = next_chars;
            low &= low >> 1 | high << 63;
            high &= high >> 1;
            low &= low >> 2 | high << 62;
            high &= high >> 2;
            low &= low >> 4 | high << 60;
            high &= high >> 4;
            low &= low >> 4 | high << 60;
            if (done > base) low = done >= base + 64 ? 0 : low & ~(uint64_t)0 << (done - base);
            while (low) {
                unsigned p = (unsigned)__builtin_ctzll(low);
                size_t begin = base + p;
                /* the run's first 64 bytes, as masks from its start */
                uint64_t d = digits >> p | next_digits << 1 << (63 - p);
                uint64_t c = chars >> p | next_chars << 1 << (63 - p);
                uint64_t behind = ~c & (c + 1); /* the bit behind the run; 0 when it goes on */
                if (behind && !plain) {
                    unsigned n = (unsigned)__builtin_ctzll(behind);
                    d &= behind - 1;
                    done = begin + n;
                    n = (unsigned)__builtin_popcountll(d);
                    if (n >= SCAN_MIN) {
                        unsigned first = (unsigned)__builtin_ctzll(d);
                        if (d >> first == ((uint64_t)1 << n) - 1) {
                            if (n <= SCAN_MAX) JOIN(lone_, KERNEL)(s, begin + first, n);
                        } else {
                            JOIN(run_, KERNEL)(s, begin, len);
                        }
                    }
                } else {
                    done = plain ? chain_run(s, begin, len) : JOIN(run_, KERNEL)(s, begin, len);
                }
                low = done >= base + 64 ? 0 : low & ~(uint64_t)0 << (done - base);
            }
        }
        digits = next_digits;
        chars = next_chars;
    }
}

/* Many fields of one buffer. Most have few digits, or are one number; they are done here. */
TARGET static void
JOIN(fields_, KERNEL)(scan_t *s, uint8_t *buf, size_t len, const int64_t *at, const int64_t *size, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (size[i] < SCAN_MIN) continue;
        size_t from = (size_t)at[i], have = (size_t)size[i];
        s->buf = buf + from;
        if (have < 64) {
            uint64_t digits, chars, inside = ((uint64_t)1 << have) - 1;
            /* what is behind the field may be read as long as it is in the buffer */
            BLOCK(s->buf, 0, len - from >= 64 ? 64 : have, &digits, &chars);
            digits &= inside;
            if (__builtin_popcountll(digits) < SCAN_MIN) continue;
            if (digits == inside && !(s->kind & SCAN_DIGITS)) {
                if (have <= SCAN_MAX) JOIN(lone_, KERNEL)(s, 0, (unsigned)have);
                continue;
            }
            chars &= inside;
            chars &= chars >> 1;
            chars &= chars >> 2;
            chars &= chars >> 4;
            if (!(chars & chars >> 4)) continue;
        }
        JOIN(scan_, KERNEL)(s, have);
    }
}

#undef JOIN
#undef JOIN2
#undef LOOK
#undef KERNEL
#undef TARGET
#undef BLOCK
#undef SQUEEZE
#undef GATHER
#undef PDEP
#undef LUHN
#undef SUMS
#undef VALID
#undef FOURS
#undef FOUR
#undef STAR
