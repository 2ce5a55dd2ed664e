"""A SQL text without its literals: what two statements that differ in nothing else have in common.

A lexer after PostgreSQL's own (src/backend/parser/scan.l) with standard_conforming_strings on. It keeps
to what it is sure of: for the rest there is no shape."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memcmp


cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL


cdef enum:
    SMALL = 1024
    NOWHERE = -1


cdef inline bint is_digit(unsigned char c) noexcept nogil:
    return c"0" <= c <= c"9"


cdef inline bint is_start(unsigned char c) noexcept nogil:
    return c"a" <= c <= c"z" or c"A" <= c <= c"Z" or c == c"_" or c >= 0x80


cdef inline bint is_part(unsigned char c) noexcept nogil:
    return is_start(c) or is_digit(c) or c == c"$"


cdef inline bint is_space(unsigned char c) noexcept nogil:
    return c == c" " or c"\t" <= c <= c"\r"


def shape(text: str):
    """`text` with every literal as 0 or '', lists of literals and rows of them as their first, and
    comments and white space as one space or newline. None when the text is not one that this lexer is
    sure to read as the server does, or is not finished.

    Texts of one shape are the same statement but for the values of their literals and the number of
    items in lists of them."""
    cdef Py_ssize_t size
    cdef const unsigned char *p
    try:
        p = <const unsigned char *>PyUnicode_AsUTF8AndSize(text, &size)
    except UnicodeEncodeError:
        return None
    cdef unsigned char small[SMALL]
    cdef unsigned char *out = small
    cdef Py_ssize_t length
    # no literal gets longer by more than what separates it from its neighbours
    if 2 * size + 4 > SMALL:
        out = <unsigned char *>PyMem_Malloc(2 * size + 4)
        if out is NULL:
            raise MemoryError
    try:
        length = reduce_text(p, size, out)
        if length < 0:
            return None
        return PyBytes_FromStringAndSize(<char *>out, length).decode()
    finally:
        if out is not small:
            PyMem_Free(out)


cdef Py_ssize_t back_over_space(const unsigned char *out, Py_ssize_t o) noexcept nogil:
    while o and is_space(out[o - 1]):
        o -= 1
    return o


cdef Py_ssize_t reduce_text(const unsigned char *p, Py_ssize_t n, unsigned char *out) noexcept nogil:
    cdef Py_ssize_t i = 0, o = 0, j, k, start, depth
    cdef Py_ssize_t literal = NOWHERE   # where in `out` the last literal ended
    cdef Py_ssize_t opened = NOWHERE    # where the last bracket opened
    cdef Py_ssize_t row = NOWHERE       # where the last bracket that held one literal only closed
    cdef unsigned char c
    cdef int kind                       # of the literal that was read: 1 number, 2 string
    while i < n:
        c = p[i]
        kind = 0
        if is_space(c) or (c == c"-" and i + 1 < n and p[i + 1] == c"-"):
            # white space and comments; a newline in it joins two strings, so it is kept
            c = c" "
            while i < n:
                if is_space(p[i]):
                    if p[i] == c"\n" or p[i] == c"\r":
                        c = c"\n"
                    i += 1
                elif p[i] == c"-" and i + 1 < n and p[i + 1] == c"-":
                    while i < n and p[i] != c"\n" and p[i] != c"\r":
                        i += 1
                else:
                    break
            if o and not is_space(out[o - 1]):
                out[o] = c
                o += 1
            elif o and c == c"\n":
                out[o - 1] = c
        elif c == c"/" and i + 1 < n and p[i + 1] == c"*":
            depth = 0
            while True:
                if i + 1 >= n:
                    return -1
                if p[i] == c"/" and p[i + 1] == c"*":
                    depth += 1
                    i += 2
                elif p[i] == c"*" and p[i + 1] == c"/":
                    depth -= 1
                    i += 2
                    if depth == 0:
                        break
                else:
                    i += 1
            # a comment within an operator or between two strings is rare, and not worth being sure of
            if o and not is_space(out[o - 1]):
                out[o] = c" "
                o += 1
        elif is_start(c):
            start = i
            while i < n and is_part(p[i]):
                i += 1
            if i < n and i - start == 1 and (c | 0x20) == c"u" and p[i] == c"&":
                return -1
            if i < n and p[i] == c"'" and i - start == 1 and (c | 0x20) == c"e":
                i += 1
                while True:
                    if i >= n:
                        return -1
                    if p[i] == c"\\":
                        i += 2
                    elif p[i] == c"'":
                        if i + 1 < n and p[i + 1] == c"'":
                            i += 2
                        else:
                            break
                    else:
                        i += 1
                i += 1
                kind = 2
                # behind a newline such a string goes on, with its escapes
                j = i
                while j < n and (is_space(p[j]) or p[j] == c"-"):
                    if p[j] == c"-":
                        while j < n and p[j] != c"\n" and p[j] != c"\r":
                            j += 1
                    else:
                        j += 1
                if j < n and p[j] == c"'":
                    return -1
            else:
                if i < n and p[i] == c"'" and i - start == 1 and (c | 0x20) in (c"b", c"x", c"n"):
                    return -1
                for j in range(start, i):
                    out[o] = p[j]
                    o += 1
                j = o - (i - start)
                if is_constant_word(out + j, i - start) and in_list(p, i, n, out, j):
                    o = j
                    kind = 1
        elif is_digit(c) or (c == c"." and i + 1 < n and is_digit(p[i + 1])):
            if c == c"0" and i + 1 < n and is_start(p[i + 1]):
                i += 2
                while i < n and (is_digit(p[i]) or is_start(p[i])):
                    i += 1
            else:
                while i < n and (is_digit(p[i]) or p[i] == c"_"):
                    i += 1
                if i < n and p[i] == c"." and not (i + 1 < n and p[i + 1] == c"."):
                    i += 1
                    while i < n and (is_digit(p[i]) or p[i] == c"_"):
                        i += 1
                if i < n and (p[i] | 0x20) == c"e":
                    j = i + 1
                    if j < n and (p[j] == c"+" or p[j] == c"-"):
                        j += 1
                    if j < n and is_digit(p[j]):
                        while j < n and (is_digit(p[j]) or p[j] == c"_"):
                            j += 1
                        i = j
            if i < n and is_part(p[i]):
                return -1
            kind = 1
        elif c == c"'":
            i += 1
            while True:
                if i >= n:
                    return -1
                if p[i] == c"'":
                    if i + 1 < n and p[i + 1] == c"'":
                        i += 2
                        continue
                    break
                i += 1
            i += 1
            kind = 2
        elif c == c'"':
            out[o] = c
            o += 1
            i += 1
            while True:
                if i >= n:
                    return -1
                out[o] = p[i]
                o += 1
                i += 1
                if p[i - 1] == c'"':
                    break
        elif c == c"$":
            j = i + 1
            if j < n and is_digit(p[j]):
                while j < n and is_digit(p[j]):
                    j += 1
                if j < n and is_part(p[j]):
                    return -1
                for k in range(i, j):
                    out[o] = p[k]
                    o += 1
                i = j
                continue
            if j < n and is_start(p[j]):
                while j < n and (is_start(p[j]) or is_digit(p[j])):
                    j += 1
            if j >= n or p[j] != c"$":
                return -1
            k = j + 1 - i  # the length of the quote
            j += 1
            while j + k <= n and memcmp(p + i, p + j, k) != 0:
                j += 1
            if j + k > n:
                return -1
            i = j + k
            kind = 2
        else:
            if c == c"(":
                opened = o
            out[o] = c
            o += 1
            i += 1
            if c == c")" and opened != NOWHERE:
                # "(literal)" behind "(literal),": a further row of the same
                j = back_over_space(out, o - 1)
                if j == literal and holds_one(out, opened, literal):
                    k = back_over_space(out, opened)
                    if not begins_row(out, k):
                        opened = NOWHERE
                        continue
                    if row != NOWHERE and k and out[k - 1] == c"," and back_over_space(out, k - 1) == row:
                        o = row
                        literal = NOWHERE  # it was in what is gone
                    row = o
                opened = NOWHERE
        if kind:
            # a sign that can be nothing but the number's
            if kind == 1:
                j = back_over_space(out, o)
                if j and (out[j - 1] == c"-" or out[j - 1] == c"+"):
                    k = back_over_space(out, j - 1)
                    if k and (out[k - 1] == c"(" or out[k - 1] == c","):
                        o = j - 1
            # "literal, literal" is a list of them
            j = back_over_space(out, o)
            if literal != NOWHERE and j and out[j - 1] == c"," and back_over_space(out, j - 1) == literal:
                o = literal
                continue
            if o and (is_part(out[o - 1]) or out[o - 1] == c"'"):
                return -1  # it would become another token
            if kind == 1:
                out[o] = c"0"
                o += 1
            else:
                out[o] = c"'"
                out[o + 1] = c"'"
                o += 2
            literal = o
    return o


cdef bint begins_row(const unsigned char *out, Py_ssize_t k) noexcept nogil:
    """Whether a bracket behind `k` is a row, and no list of arguments."""
    cdef Py_ssize_t i
    cdef const char *word = "values"
    if not k:
        return False
    if out[k - 1] == c"(" or out[k - 1] == c",":
        return True
    if k < 6 or (k > 6 and is_part(out[k - 7])):
        return False
    for i in range(6):
        if (out[k - 6 + i] | 0x20) != <unsigned char>word[i]:
            return False
    return True


cdef bint holds_one(const unsigned char *out, Py_ssize_t opened, Py_ssize_t literal) noexcept nogil:
    """Whether between the bracket at `opened` and `literal` there is one literal and nothing else."""
    cdef Py_ssize_t at = opened + 1
    while at < literal and is_space(out[at]):
        at += 1
    return (literal - at == 1 and out[at] == c"0") or (literal - at == 2 and out[at] == c"'")


cdef bint in_list(const unsigned char *p, Py_ssize_t i, Py_ssize_t n, const unsigned char *out,
                  Py_ssize_t start) noexcept nogil:
    """Whether the word that ends at `i` of the text, and begins at `start` of what is written, is an item
    of a list of several (alone in brackets, NULL has a meaning of its own: LIMIT (NULL))."""
    cdef Py_ssize_t before = back_over_space(out, start)
    if not before or (out[before - 1] != c"(" and out[before - 1] != c","):
        return False
    while i < n and is_space(p[i]):
        i += 1
    if i >= n or (p[i] != c"," and p[i] != c")"):
        return False
    return out[before - 1] == c"," or p[i] == c","


cdef bint is_constant_word(const unsigned char *word, Py_ssize_t size) noexcept nogil:
    cdef unsigned char low[8]
    cdef Py_ssize_t i
    if size < 4 or size > 7:
        return False
    for i in range(size):
        low[i] = word[i] | 0x20
    return ((size == 4 and (memcmp(low, b"null", 4) == 0 or memcmp(low, b"true", 4) == 0))
            or (size == 5 and memcmp(low, b"false", 5) == 0)
            or (size == 7 and memcmp(low, b"default", 7) == 0))
