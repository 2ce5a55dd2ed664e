/* Names of fields that hold sensitive authentication data, and JSON and text of hstore in which they are keys. */
#ifndef PANGATE_NAMES_H
#define PANGATE_NAMES_H

#include <stddef.h>
#include <stdint.h>

#define NAME_LONGEST 40 /* bytes of the longest name of a rule */
#define NAME_VALUE 256  /* bytes of the longest value that is looked at for a code or a PIN */
#define NAME_AMOUNT 48  /* bytes beside a sign of currency that may belong to its amount */

/* What the value of a name must look like for the rule to hold. */
enum name_shape {
    NAME_ANY = 0,
    NAME_CODE, /* three or four digits */
    NAME_PIN   /* four to twelve digits, or sixteen of hexadecimal, with - or : between them */
};

typedef struct {
    uint8_t text[NAME_LONGEST]; /* words in lower case, '_' between them */
    uint8_t len, shape;
    uint8_t glued; /* it may follow other letters of its word */
} name_rule_t;

typedef struct {
    const name_rule_t *rules;
    size_t count;
    uint8_t ends[256]; /* whether some rule ends with this byte, in either case */
} names_t;

/* Index of the rule that the name falls under, -1 for none. A name is read as words: cardCvv2, card_cvv2 and
 * CARD-CVV2 are one; a rule's words must be its last ones. */
int names_find(const names_t *names, const uint8_t *name, size_t len);

/* How a value is written: its text ends within it, so that it may be the beginning of one; backslashes in it
 * stand for something, as in JSON and in the text of hstore. */
enum { NAME_CUT = 1, NAME_ESCAPED = 2 };

/* Whether a value looks like what the rule is about. Blanks, a fraction of zeros, an exponent and digits beyond
 * ASCII count for what they say. */
int name_fits(int shape, const uint8_t *value, size_t len, int how);

/* Bytes of white space, and of byte order marks of UTF-8, that a text begins with of which `n` bytes are there.
 * A mark that is not whole at their end counts. */
size_t names_blanks(const uint8_t *p, size_t n);

/* Whether a text of which these are the first bytes may be hstore as the server writes it; `more` when it goes on, and
 * then it may be as long as the end of its first key is not among them. */
int names_hstore(const uint8_t *p, size_t n, int more);

/* Wipe the values of such keys in JSON text, or in hstore, in place and at the same length: a string becomes "***" and
 * blanks, a number or what is nested 0 and blanks. A value that the text ends within is wiped when it may be the
 * beginning of one. What is no JSON is read so that no key is missed: a string before a colon is one, wherever it
 * stands. Returns how many. */
long names_wipe_json(const names_t *names, uint8_t *p, size_t n);

/* The last place up to `last` to cut a document of `n` bytes, so that each side wiped by itself is the whole
 * wiped; 0 when there is none. With `json` each side masked as JSON is the whole masked as well; then a string
 * that goes on behind its line is none, and nothing is cut in what follows. The text begins at such a place:
 * outside of strings, and of what is wiped. `names` may be NULL. */
size_t names_json_cut(const names_t *names, const uint8_t *p, size_t n, size_t last, int json);

/* What goes on where JSON text ends that has no such place: a string, which may be a key or a value, or a value that is
 * wiped, a string or what is nested. */
enum { NAMES_NOTHING, NAMES_STRING, NAMES_WIPED_STRING, NAMES_WIPED_NESTED };

/* Which of them goes on at the end of the `n` bytes, and where it begins. */
int names_json_open(const names_t *names, const uint8_t *p, size_t n, int json, size_t *start);

#define NAMES_TAIL 1024 /* last bytes of a key by which it is mostly known, escapes and all */

/* Whether the text begins with a string that is a key and not known: it is what is left of one, and it has so few
 * letters that words in front of them count. */
int names_json_unseen(const uint8_t *p, size_t n);

#endif
