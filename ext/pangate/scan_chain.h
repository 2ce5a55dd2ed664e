/* One run of digits and separators, the plain way: its chains, groups and candidates. Included by scan.c only.
 * Used where digits are filled in; the kernels have a quicker one for the rest.
 *
 * Digits are numbered from the start of the run. A ring holds what the last 32 of them need: where they
 * stand, their values, whether they begin a group, and two running sums from which the Luhn sum of
 * any stretch is one subtraction. So every candidate costs a constant, whatever the chain. */

#define RING 32 /* a power of two above SCAN_MAX */

typedef struct {
    const scan_rules_t *rules;
    uint8_t *buf;
    scan_counts_t *counts;
    scan_hit_t *hits; /* NULL when masking */
    size_t cap, found;
    int kind;
    int once; /* look no further than the first group end with a hit */
} scan_t;

/* Twice a digit, its own digits added. */
static const uint8_t DOUBLED[10] = {0, 2, 4, 6, 8, 1, 3, 5, 7, 9};

static int luhn_at(const uint8_t *buf, const size_t *at, int digits) {
    unsigned sum = 0;
    for (int i = 0; i < digits; i++) {
        unsigned d = (unsigned)(buf[at[i]] - '0');
        sum += (digits - 1 - i) & 1 ? DOUBLED[d] : d;
    }
    return sum % 10 == 0;
}

/* Digits left visible at the head and at the tail. */
static void visible(const scan_rules_t *r, int kind, int digits, int network, int optional, int *head,
                    int *tail) {
    *head = 0;
    *tail = 4;
    switch (kind & SCAN_KIND_MASK) {
    case SCAN_FIRST8_LAST4:
        if (digits == 16 && r->eight_plus_four >> network & 1) {
            *head = 8;
            break;
        }
        /* fall through */
    case SCAN_FIRST6_LAST4:
        /* 13 digits would leave three of them to guess, one by the Luhn check */
        *head = digits >= 14 ? 6 : 0;
        break;
    case SCAN_FULL:
        *tail = 0;
        break;
    }
    if (digits < 13) *head = *tail = 0;
    /* A filler that breaks the Luhn check does not help where none is asked for. */
    if (optional && kind & SCAN_DIGITS) *head = 0;
}

static void fill(const scan_t *s, const size_t *at, int digits, int network, int optional) {
    int head, tail;
    visible(s->rules, s->kind, digits, network, optional, &head, &tail);
    int last = digits - tail; /* behind the last digit that is masked */
    if (!(s->kind & SCAN_DIGITS)) {
        for (int i = head; i < last; i++) s->buf[at[i]] = '*';
        return;
    }
    /* A number has no leading zero, and no core range begins with 1. */
    for (int i = head; i < last; i++) s->buf[at[i]] = i ? '0' : '1';
    if (luhn_at(s->buf, at, digits)) s->buf[at[last - 1]] ^= 1;
}

static void hit(scan_t *s, const size_t *at, int digits, int network, int optional) {
    if (s->hits) {
        if (s->found < s->cap)
            s->hits[s->found] = (scan_hit_t){at[0], at[digits - 1] + 1, network};
    } else {
        fill(s, at, digits, network, optional);
    }
    s->found++;
    if (s->counts) {
        s->counts->total++;
        s->counts->by_network[network]++;
    }
}

/* `n` of them, with stores that overlap. */
static inline void stars(uint8_t *p, unsigned n) {
    if (n >= 8) {
        memset(p, '*', 8);
        if (n > 16) memset(p + 8, '*', 8);
        memset(p + n - 8, '*', 8);
    } else if (n >= 4) {
        memset(p, '*', 4);
        memset(p + n - 4, '*', 4);
    } else {
        for (unsigned i = 0; i < n; i++) p[i] = '*';
    }
}

/* The node for the digits at `digits` (values, SCAN_DEPTH of them can be read), whose first four are `four`. */
static inline const scan_issuer_t *issuer_at(const scan_rules_t *r, const uint8_t *digits, unsigned four) {
    unsigned node = r->first[four];
    if (node & SCAN_LIVE) {
        node &= ~(unsigned)SCAN_LIVE;
        for (unsigned i = 4; i < SCAN_DEPTH; i++) {
            unsigned next = r->next[node][digits[i]];
            if (!next) break;
            node = next;
        }
    }
    return &r->issuer[node];
}

static inline const scan_issuer_t *issuer_of(const scan_rules_t *r, const uint8_t *ring, unsigned first) {
    uint8_t digits[SCAN_DEPTH];
    for (unsigned i = 0; i < SCAN_DEPTH; i++) digits[i] = ring[(first + i) & (RING - 1)];
    return issuer_at(r, digits, digits[0] * 1000u + digits[1] * 100u + digits[2] * 10u + digits[3]);
}

/* The run of digits and separators that begins at `i`. Returns where it ends. */
static size_t run_once(scan_t *s, size_t i, size_t len) {
    const uint8_t *buf = s->buf;
    size_t at[RING];
    uint8_t digit[RING], starts[RING];
    uint32_t even[RING], odd[RING]; /* sums before the digit, with even and with odd places doubled */
    uint32_t sum_even = 0, sum_odd = 0;
    unsigned n = 0, chain = 0; /* digits so far, and the first one of the present chain */
    int in_group = 0;
    while (i < len) {
        uint8_t d = (uint8_t)(buf[i] - '0');
        if (d < 10) {
            unsigned k = n & (RING - 1);
            at[k] = i;
            digit[k] = d;
            starts[k] = !in_group;
            even[k] = sum_even;
            odd[k] = sum_odd;
            sum_even += n & 1 ? d : DOUBLED[d];
            sum_odd += n & 1 ? DOUBLED[d] : d;
            n++;
            in_group = 1;
            i++;
            if (i < len && (uint8_t)(buf[i] - '0') < 10) continue;
            /* a group ends here: every candidate that ends with it */
            unsigned have = n - chain;
            for (unsigned digits = SCAN_MIN; digits <= SCAN_MAX && digits <= have; digits++) {
                unsigned first = n - digits, f = first & (RING - 1);
                if (!starts[f]) continue;
                unsigned bit = 1u << (digits - SCAN_MIN);
                const scan_issuer_t *issuer = issuer_of(s->rules, digit, first);
                if (!((issuer->required | issuer->optional) & bit)) continue;
                int optional = (issuer->optional & bit) != 0;
                /* the last digit is not doubled, so the places of the other parity are */
                uint32_t sum = (n - 1) & 1 ? sum_even - even[f] : sum_odd - odd[f];
                if (!optional && sum % 10) continue;
                size_t places[SCAN_MAX];
                for (unsigned j = 0; j < digits; j++) places[j] = at[(first + j) & (RING - 1)];
                hit(s, places, (int)digits, issuer->network[digits - SCAN_MIN], optional);
            }
            if (s->once && s->found) return i;
        } else if (buf[i] == ' ' || buf[i] == '-') {
            in_group = 0;
            i++;
            if (i >= len || (uint8_t)(buf[i] - '0') >= 10) chain = n; /* not followed by a digit */
        } else {
            break;
        }
    }
    return i;
}

/* See to it that nothing in a run that was filled with digits looks like a PAN: overlapping numbers write over
 * each other's fillers, and fillers join with what stands beside them. What is found loses all its digits, and
 * the look goes on from the first group that can have to do with it. Each turn leaves fewer digits that are not
 * 0, and goes back by the length of a PAN, so the work grows with the run and no faster. */
static void settle(const scan_t *s, size_t begin, size_t end) {
    uint8_t *buf = s->buf;
    for (size_t i = begin;;) {
        scan_hit_t found;
        scan_t look = {.rules = s->rules, .buf = buf, .hits = &found, .cap = 1, .once = 1};
        run_once(&look, i, end);
        if (!look.found) return;
        int changed = 0;
        for (size_t p = found.start; p < found.end; p++) {
            if ((uint8_t)(buf[p] - '1') > 8) continue;
            buf[p] = '0';
            changed = 1;
        }
        const size_t reach = 2 * SCAN_MAX - 1;
        if (changed) {
            i = found.start > begin + reach ? found.start - reach : begin;
            if (i == begin) continue;
        } else {
            i = found.start + 1; /* of a range that begins with 0: there is no filler for that */
        }
        while (i < end && (uint8_t)(buf[i - 1] - '0') < 10) i++;
    }
}

/* A run whose PANs are filled with digits, where `run_once` is for looking alone. */
static size_t chain_run(scan_t *s, size_t begin, size_t len) {
    size_t before = s->found;
    size_t end = run_once(s, begin, len);
    if (s->found != before && !s->hits) settle(s, begin, end);
    return end;
}
