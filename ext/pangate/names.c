#include "names.h"

#include <string.h>

static inline int is_digit(uint8_t b) { return (uint8_t)(b - '0') < 10; }
static inline int is_upper(uint8_t b) { return (uint8_t)(b - 'A') < 26; }
static inline int is_lower(uint8_t b) { return (uint8_t)(b - 'a') < 26; }
static inline int is_space(uint8_t b) { return b == ' ' || b == '\t' || b == '\n' || b == '\r'; }

static inline int nibble(uint8_t b) {
    if (is_digit(b)) return b - '0';
    b |= 0x20;
    return b >= 'a' && b <= 'f' ? b - 'a' + 10 : -1;
}

/* The decimal digits of Unicode beyond ASCII: where each ten of them begin. */
static const uint32_t tens[] = {
    0x660,   0x6f0,   0x7c0,   0x966,   0x9e6,   0xa66,   0xae6,   0xb66,   0xbe6,   0xc66,   0xce6,
    0xd66,   0xde6,   0xe50,   0xed0,   0xf20,   0x1040,  0x1090,  0x17e0,  0x1810,  0x1946,  0x19d0,
    0x1a80,  0x1a90,  0x1b50,  0x1bb0,  0x1c40,  0x1c50,  0xa620,  0xa8d0,  0xa900,  0xa9d0,  0xa9f0,
    0xaa50,  0xabf0,  0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0,
    0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0, 0x16b50,
    0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
};

/* The four digits of an escape; -1 when they are none. */
static int hex4(const uint8_t *p) {
    int v = 0;
    for (int i = 0; i < 4; i++) {
        int digit = nibble(p[i]);
        if (digit < 0) return -1;
        v = v * 16 + digit;
    }
    return v;
}

/* The character of a value that begins at `p`. Returns how many bytes it has; one that the bytes end within has
 * all of them and is UNFINISHED. `escaped` when a backslash stands before what it changes. */
#define UNFINISHED 0xffffffffu
static size_t character(const uint8_t *p, size_t n, int escaped, uint32_t *is) {
    *is = *p;
    if (*p == '\\' && escaped) {
        *is = UNFINISHED;
        if (n < 2) return n;
        *is = memchr("bfnrt", p[1], 5) ? ' ' : p[1];
        if (p[1] != 'u') return 2;
        if (n < 6) {
            *is = UNFINISHED;
            return n;
        }
        int high = hex4(p + 2), low = n >= 12 && p[6] == '\\' && p[7] == 'u' ? hex4(p + 8) : -1;
        if (high < 0) return 2;
        *is = (uint32_t)high;
        if (high < 0xd800 || high > 0xdbff) return 6;
        if (n < 12) *is = UNFINISHED;
        if (n < 12 || low < 0xdc00 || low > 0xdfff) return 6;
        *is = 0x10000 + ((uint32_t)(high - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
        return 12;
    }
    size_t more = *p >= 0xf0 && *p < 0xf8 ? 3 : *p >= 0xe0 && *p < 0xf0 ? 2 : *p >= 0xc0 && *p < 0xe0 ? 1 : 0;
    if (!more) return 1;
    uint32_t v = *p & (0x3fu >> more);
    for (size_t i = 1; i <= more; i++) {
        if (i == n) {
            *is = UNFINISHED;
            return n;
        }
        if ((p[i] & 0xc0) != 0x80) return 1; /* of another encoding */
        v = v << 6 | (p[i] & 0x3f);
    }
    *is = v;
    return more + 1;
}

/* What is not seen, or a space. */
static int is_blank(uint32_t c) {
    return c <= ' ' || (c >= 0x7f && c <= 0xa0) || c == 0xad || c == 0x1680 || (c >= 0x2000 && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202f) || (c >= 0x205f && c <= 0x206f) || c == 0x3000 || c == 0xfeff;
}

/* The same in ASCII where it is a digit or a sign of full width; 0 for what no code has. */
static uint8_t in_ascii(uint32_t c) {
    if (c < 0x80) return (uint8_t)c;
    if (c - 0xff01 < 94) return (uint8_t)(c - 0xff01 + '!');
    for (size_t i = 0; i < sizeof tens / sizeof *tens; i++)
        if (c - tens[i] < 10) return (uint8_t)('0' + (c - tens[i]));
    return 0;
}

/* Whether the text is a number that is a whole one of `few` to `most` digits: 123.0, 1.23e2; or the beginning of
 * one. */
static int fits_number(const uint8_t *p, size_t n, size_t few, size_t most, int cut) {
    uint8_t digits[NAME_VALUE];
    size_t have = 0, at = 0, whole = 0, zeros = 0, power = 0;
    int point = 0, less;
    if (n && (*p == '+' || *p == '-')) at++;
    for (; at < n && (is_digit(p[at]) || (p[at] == '.' && !point)); at++) {
        if (p[at] == '.')
            point = 1;
        else
            digits[have++] = p[at], whole += !point;
    }
    if (!have) return 0;
    less = at + 1 < n && p[at + 1] == '-';
    if (at < n && (p[at++] | 0x20) != 'e') return 0;
    if (at < n && (p[at] == '+' || p[at] == '-')) at++;
    for (; at < n && is_digit(p[at]); at++)
        if (power < 2 * NAME_VALUE) power = power * 10 + (size_t)(p[at] - '0');
    if (at < n) return 0;
    while (zeros < have && digits[zeros] == '0') zeros++;
    if (cut) { /* what follows may be a power of any size */
        while (have > zeros && digits[have - 1] == '0') have--;
        return have > zeros && have - zeros <= most;
    }
    if (less && power > whole) return 0;
    whole = less ? whole - power : whole + power;
    for (size_t i = whole; i < have; i++)
        if (digits[i] != '0') return 0;
    return whole >= few && (zeros == have || whole - zeros <= most);
}

int name_fits(int shape, const uint8_t *value, size_t len, int how) {
    uint8_t text[NAME_VALUE];
    uint32_t c;
    size_t n = 0, plain = 0, digits = 0, hex = 0, first = 0;
    int cut = how & NAME_CUT, pin = shape == NAME_PIN;
    if (shape == NAME_ANY) return len > 0;
    if (len > NAME_VALUE) return 0;
    for (size_t i = 0; i < len;) {
        i += character(value + i, len - i, how & NAME_ESCAPED, &c);
        if (c == UNFINISHED && cut) break;
        if (is_blank(c)) continue;
        text[n] = in_ascii(c);
        if (!text[n++]) return 0;
    }
    size_t few = cut ? 1 : pin ? 4 : 3, most = pin ? 12 : 4;
    if (pin && n > 2 && (text[0] == '0' || text[0] == '\\') && text[1] == 'x') first = 2;
    for (size_t i = first; i < n; i++) {
        if (pin && (text[i] == '-' || text[i] == ':')) continue; /* between the bytes of a block */
        plain++;
        digits += is_digit(text[i]);
        hex += nibble(text[i]) >= 0;
    }
    if (plain && digits == plain) {
        if (plain >= few && plain <= most) return 1;
        if (!cut && !(pin && plain == 16)) return 0;
    }
    if (pin && hex == plain && (plain == 16 || (cut && plain && plain < 16))) return 1;
    return fits_number(text, n, few, most, cut);
}

/* The last words of a name in lower case with '_' between them, written from the end of `out` backwards:
 * a rule is about last words, so more than the longest rule is never needed. */
static size_t last_words(const uint8_t *name, size_t len, uint8_t out[2 * NAME_LONGEST]) {
    size_t at = 2 * NAME_LONGEST;
    uint8_t after = 0; /* the byte behind the one that is looked at */
    for (size_t i = len; i-- && at > 2;) {
        uint8_t b = name[i];
        int letter = is_upper(b) || is_lower(b) || is_digit(b);
        if (!letter) {
            if (at < 2 * NAME_LONGEST && out[at] != '_') out[--at] = '_';
        } else {
            /* A word begins at a capital behind a small letter, at the last capital before small ones, and at
             * a letter behind a digit: cardCvv, URLPin, x2track2. */
            int begins = (is_upper(after) && is_lower(b)) ||
                         ((is_upper(after) || is_lower(after)) && is_digit(b));
            if (begins && at < 2 * NAME_LONGEST && out[at] != '_') out[--at] = '_';
            out[--at] = is_upper(b) ? (uint8_t)(b | 0x20) : b;
            if (is_upper(b) && is_lower(after) && i && is_upper(name[i - 1]) && at > 2) out[--at] = '_';
        }
        after = b;
    }
    return at;
}

int names_find(const names_t *names, const uint8_t *name, size_t len) {
    while (len && !is_upper(name[len - 1]) && !is_lower(name[len - 1]) && !is_digit(name[len - 1])) len--;
    if (len < 3 || !names->ends[name[len - 1]]) return -1;
    uint8_t words[2 * NAME_LONGEST];
    size_t at = last_words(name, len, words), have = 2 * NAME_LONGEST - at;
    if (have && words[at] == '_') at++, have--;
    for (size_t i = 0; i < names->count; i++) {
        const name_rule_t *rule = &names->rules[i];
        if (rule->len > have) continue;
        size_t before = have - rule->len;
        if (before && words[at + before - 1] != '_' && !rule->glued) continue;
        if (!memcmp(words + at + before, rule->text, rule->len)) return (int)i;
    }
    return -1;
}

/* Behind the end of the string that begins at `at` (its opening quote); n when it has none. */
static size_t string_end(const uint8_t *p, size_t n, size_t at) {
    for (at++; at < n; at++) {
        if (p[at] == '\\')
            at++;
        else if (p[at] == '"')
            return at + 1;
    }
    return n;
}

/* Bytes of what parts a key from its value: a colon in JSON, => in hstore. */
static size_t parted(const uint8_t *p, size_t n, size_t at) {
    if (at < n && p[at] == ':') return 1;
    return at + 1 < n && p[at] == '=' && p[at + 1] == '>' ? 2 : 0;
}

size_t names_blanks(const uint8_t *p, size_t n) {
    size_t at = 0;
    while (at < n) {
        size_t mark = n - at < 3 ? n - at : 3;
        if (p[at] == ' ' || (p[at] >= '\t' && p[at] <= '\r'))
            at++;
        else if (!memcmp(p + at, "\xef\xbb\xbf", mark))
            at += mark;
        else
            break;
    }
    return at;
}

int names_hstore(const uint8_t *p, size_t n, int more) {
    if (!n || p[0] != '"') return 0;
    size_t end = string_end(p, n, 0); /* the shortest key comes first */
    /* one that goes on is a key, or prose; that has lines */
    return more && end + 2 > n ? !memchr(p, '\n', n) : parted(p, n, end) == 2;
}

static size_t nested_end(const uint8_t *p, size_t n, size_t at) {
    size_t depth = 0;
    while (at < n) {
        if (p[at] == '"') {
            at = string_end(p, n, at);
            continue;
        }
        if (p[at] == '{' || p[at] == '[') depth++;
        if ((p[at] == '}' || p[at] == ']') && !--depth) return at + 1;
        at++;
    }
    return n;
}

/* What the escape or the byte at `p` stands for; `.` for what no name has. Returns how many bytes it has. */
static size_t key_byte(const uint8_t *p, size_t n, uint8_t *byte) {
    *byte = *p;
    if (*p != '\\' || n < 2) return 1;
    *byte = memchr("bfnrt", p[1], 5) ? '.' : p[1];
    if (n < 6 || p[1] != 'u') return 2;
    int is = hex4(p + 2);
    *byte = is > 0 && is < 0x80 ? (uint8_t)is : '.';
    return 6;
}

#define KEY_BYTES (4 * NAME_LONGEST) /* of a key without escapes, that are enough for the last words of it */

/* The last bytes of a key without its escapes, one for all that stand beside each other and are no letters. Returns how
 * many these are. */
static size_t plain_key(const uint8_t *key, size_t len, uint8_t plain[KEY_BYTES]) {
    uint8_t ring[KEY_BYTES], byte;
    size_t have = 0;
    int was = 1;
    for (size_t i = 0; i < len;) {
        i += key_byte(key + i, len - i, &byte);
        int letter = is_upper(byte) || is_lower(byte) || is_digit(byte);
        if (letter || was) ring[have++ % KEY_BYTES] = byte;
        was = letter;
    }
    size_t first = have > KEY_BYTES ? have % KEY_BYTES : 0, size = have > KEY_BYTES ? KEY_BYTES : have;
    memcpy(plain, ring + first, size - first);
    memcpy(plain + size - first, ring, first);
    return size;
}

/* A key may be spelled with escapes. Its last words count. */
static int find_key(const names_t *names, const uint8_t *key, size_t len) {
    uint8_t plain[KEY_BYTES];
    if (!memchr(key, '\\', len)) return names_find(names, key, len);
    return names_find(names, plain, plain_key(key, len, plain));
}

/* Behind a value without quotes. It has none within it either: what begins with one is a string, whatever it follows. */
static size_t scalar_end(const uint8_t *p, size_t n, size_t at) {
    while (at < n && !is_space(p[at]) && !memchr(",}]\"", p[at], 4)) at++;
    return at;
}

/* Whether the string from `start` to `end` has no quote that ends it. */
static int is_open(const uint8_t *p, size_t start, size_t end) {
    size_t slashes = 0;
    if (end - start < 2 || p[end - 1] != '"') return 1;
    while (p[end - 2 - slashes] == '\\') slashes++;
    return slashes & 1;
}

/* Whether a value without quotes says that there is none, or is a truth: null, NULL of hstore; or with `cut` is
 * the beginning of such a word. */
static int is_word(const uint8_t *p, size_t n, int cut) {
    static const char *words[] = {"null", "true", "false", "none"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t at = 0;
        while (at < n && words[i][at] && (p[at] | 0x20) == words[i][at]) at++;
        if (at == n && (cut || !words[i][at])) return 1;
    }
    return 0;
}

static int wipe_value(const name_rule_t *rule, uint8_t *p, size_t start, size_t end, size_t n) {
    if (p[start] == '"') {
        int open = is_open(p, start, end);
        size_t inside = end - start - 2 + (size_t)open, stars = inside < 3 ? inside : 3;
        if (!name_fits(rule->shape, p + start + 1, inside, NAME_ESCAPED | (open ? NAME_CUT : 0))) return 0;
        memset(p + start + 1, '*', stars);
        if (start + 1 + stars == end) return 1;
        memset(p + start + 1 + stars, ' ', end - start - 1 - stars);
        /* one that is cut behind four letters stays open: in COPY its quote would need a byte more */
        if (!open || inside > 4) p[start + 1 + stars] = '"';
        return 1;
    }
    if (p[start] != '{' && p[start] != '[') {
        if (is_word(p + start, end - start, end == n)) return 0;
        if (!name_fits(rule->shape, p + start, end - start, end == n ? NAME_CUT : 0)) return 0;
    }
    p[start] = '0';
    memset(p + start + 1, ' ', end - start - 1);
    return 1;
}

/* Behind the string at `start`; when it is a key, behind what parts it from its value as well, and then `*rule` is what
 * its name falls under, -1 for nothing. */
static size_t after_string(const names_t *names, const uint8_t *p, size_t n, size_t start, int *rule) {
    size_t end = string_end(p, n, start), at = end;
    *rule = -1;
    while (at < n && is_space(p[at])) at++;
    size_t mark = parted(p, n, at);
    if (!mark || end - start < 2) return end;
    *rule = find_key(names, p + start + 1, end - start - 2);
    return at + mark;
}

long names_wipe_json(const names_t *names, uint8_t *p, size_t n) {
    long wiped = 0;
    size_t at = 0;
    while (at < n) {
        uint8_t *quote = memchr(p + at, '"', n - at);
        int rule;
        if (!quote) break;
        at = after_string(names, p, n, (size_t)(quote - p), &rule);
        while (rule >= 0) {
            int next = -1;
            while (at < n && is_space(p[at])) at++;
            if (at >= n) break;
            size_t value = at, end;
            if (p[at] == '"') { /* in what is no JSON it may be a key itself */
                end = string_end(p, n, at);
                at = after_string(names, p, n, at, &next);
            } else {
                end = at = p[at] == '{' || p[at] == '[' ? nested_end(p, n, at) : scalar_end(p, n, at);
            }
            if (end == value) break;
            wiped += wipe_value(&names->rules[rule], p, value, end, n);
            rule = next;
        }
    }
    return wiped;
}

/* Whether a cut behind this comma leaves both sides as they are: an amount beside a sign of currency may have one.
 * `sign` is where the next such sign is, from some earlier place on: every byte is looked at once for all cuts. */
static int comma_ends(const uint8_t *p, size_t n, size_t cut, size_t *sign) {
    if (n - cut < NAME_AMOUNT) return 0;
    size_t from = cut > NAME_AMOUNT ? cut - NAME_AMOUNT : 0;
    if (*sign < from) *sign = from;
    while (*sign < cut + NAME_AMOUNT && p[*sign] != '$' && p[*sign] < 0x80) ++*sign;
    return *sign >= cut + NAME_AMOUNT;
}

/* Whether a text may mostly be cut behind this byte, as text_cut of cell_stream.c has it. */
static int ends_text(uint8_t b) {
    uint8_t letter = b | 0x20;
    if (b >= 0x80) return 1;
    if (letter > 'f' && letter <= 'z') return letter != 'x';
    return (b < '`' && !is_digit(b) && !is_upper(b) && !memchr(" -\\=^?*,.'$+", b, 12)) || b > 'z';
}

size_t names_json_cut(const names_t *names, const uint8_t *p, size_t n, size_t last, int json) {
    size_t at = 0, cut = 0, sign = 0;
    while (at < last) {
        if (p[at] != '"') {
            uint8_t byte = p[at++];
            if (json ? memchr("{}[]\n", byte, 5) || (byte == ',' && comma_ends(p, n, at, &sign)) : ends_text(byte))
                cut = at;
            continue;
        }
        size_t start = at, end = string_end(p, n, at), next = end;
        if (end == n || (json && memchr(p + start, '\n', end - start))) break; /* it goes on, or is none */
        while (next < n && is_space(p[next])) next++;
        if (next == n) break;
        at = end;
        if (end <= last && (p[next] == ',' || p[next] == '}' || p[next] == ']')) cut = end;
        size_t mark = parted(p, n, next);
        if (!mark) {
            if (p[next] == '=' && next + 1 == n) break;
            continue;
        }
        at = next + mark;
        if (!names || find_key(names, p + start + 1, end - start - 2) < 0) continue;
        /* what is wiped is wiped whole; a string is the next that is looked at */
        while (at < n && is_space(p[at])) at++;
        if (at == n) break;
        if (p[at] == '{' || p[at] == '[')
            at = nested_end(p, n, at);
        else if (p[at] != '"')
            at = scalar_end(p, n, at);
        if (at == n) break;
    }
    return cut;
}

int names_json_open(const names_t *names, const uint8_t *p, size_t n, int json, size_t *start) {
    size_t at = 0;
    while (at < n) {
        if (p[at] != '"') {
            at++;
            continue;
        }
        size_t end = string_end(p, n, at), next = end;
        *start = at;
        if (end == n) return NAMES_STRING;
        if (json && memchr(p + at, '\n', end - at)) break; /* it is none */
        while (next < n && is_space(p[next])) next++;
        if (next == n) break;
        at = end;
        size_t mark = parted(p, n, next);
        if (!mark) continue;
        int rule = names ? find_key(names, p + *start + 1, end - *start - 2) : -1;
        at = next + mark;
        if (rule < 0) continue;
        while (at < n && is_space(p[at])) at++;
        if (at == n) break;
        *start = at;
        if (p[at] == '"') {
            /* one that goes on is too long for a code or a PIN; one that does not is looked at next */
            if (string_end(p, n, at) == n)
                return names->rules[rule].shape == NAME_ANY ? NAMES_WIPED_STRING : NAMES_STRING;
        } else if (p[at] == '{' || p[at] == '[') {
            at = nested_end(p, n, at);
            if (at == n) return NAMES_WIPED_NESTED;
        } else {
            at = scalar_end(p, n, at);
        }
    }
    return NAMES_NOTHING;
}

int names_json_unseen(const uint8_t *p, size_t n) {
    uint8_t plain[KEY_BYTES], words[2 * NAME_LONGEST];
    size_t end = string_end(p, n, 0), next = end;
    while (next < n && is_space(p[next])) next++;
    if (end < 2 || !parted(p, n, next)) return 0;
    return last_words(plain, plain_key(p + 1, end - 2, plain), words) > 2;
}
