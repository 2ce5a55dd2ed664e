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

/* Whether a value looks so; `cut` when its text ends within it, so that it may be the beginning of one that does. */
static int fits(int shape, const uint8_t *value, size_t len, int cut) {
    if (shape == NAME_ANY) return len > 0;
    size_t digits = 0, hex = 0;
    for (size_t i = 0; i < len; i++) {
        digits += is_digit(value[i]);
        hex += nibble(value[i]) >= 0;
    }
    size_t few = cut ? 1 : shape == NAME_CODE ? 3 : 4;
    if (shape == NAME_CODE) return digits == len && len >= few && len <= 4;
    return (digits == len && len >= few && len <= 12) || (hex == len && (len == 16 || (cut && len && len < 16)));
}

int name_fits(int shape, const uint8_t *value, size_t len) { return fits(shape, value, len, 0); }

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
    int high = nibble(p[2]) << 4 | nibble(p[3]), low = nibble(p[4]) << 4 | nibble(p[5]);
    *byte = high == 0 && low > 0 && low < 0x80 ? (uint8_t)low : '.';
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

static int wipe_value(const name_rule_t *rule, uint8_t *p, size_t start, size_t end, size_t n) {
    if (p[start] == '"') {
        int open = is_open(p, start, end);
        size_t inside = end - start - 2 + (size_t)open, stars = inside < 3 ? inside : 3;
        if (!fits(rule->shape, p + start + 1, inside, open)) return 0;
        memset(p + start + 1, '*', stars);
        if (start + 1 + stars == end) return 1;
        p[start + 1 + stars] = '"';
        memset(p + start + 2 + stars, ' ', end - start - 2 - stars);
        return 1;
    }
    if (p[start] != '{' && p[start] != '[' && !fits(rule->shape, p + start, end - start, end == n)) return 0;
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
            if (end == value || memchr("tfnN", p[value], 4)) break; /* NULL is hstore's */
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

size_t names_json_cut(const names_t *names, const uint8_t *p, size_t n, size_t last) {
    size_t at = 0, cut = 0, sign = 0;
    while (at < last) {
        if (p[at] == ',') {
            at++;
            if (comma_ends(p, n, at, &sign)) cut = at;
            continue;
        }
        if (p[at] != '"') {
            at++;
            if (memchr("{}[]", p[at - 1], 4)) cut = at;
            continue;
        }
        size_t start = at, end = string_end(p, n, at), next = end;
        if (end == n || memchr(p + start, '\n', end - start)) break; /* it goes on, or is none */
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

int names_json_open(const names_t *names, const uint8_t *p, size_t n, size_t *start) {
    size_t at = 0;
    while (at < n) {
        if (p[at] != '"') {
            at++;
            continue;
        }
        size_t end = string_end(p, n, at), next = end;
        *start = at;
        if (end == n) return NAMES_STRING;
        if (memchr(p + at, '\n', end - at)) break; /* it is none */
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
