"""Masking of a stream: chunks go in, split anywhere, and what can no longer change comes out.

No rule looks over a line end (the decoder `wrapped` does, so it cannot be streamed): a line is whole when
its end is there. Of a longer line than `LONGEST_LINE` a part is taken that ends where no number can go
on; where there is no such place in all of it, the part is cut hard and its last `OVERLAP` bytes are
masked once more with what follows. All cuts are where the data says, not where a chunk ends, so any
splitting gives the same output, which for lines that are not longer is that of the whole."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pangate.errors import MaskingError

if TYPE_CHECKING:
    from mmap import mmap

    from pangate.masking.masker import Form, Masker

LONGEST_LINE = 64 * 1024
"""Bytes held back at most, when no line ends in them."""

OVERLAP = 1024
"""More than any PAN takes in any encoding."""

# Ends of anything that a rule may read as one: no digit, letter, separator or part of an encoding, no
# quote or bracket, and it is no byte of a longer character.
_STRING = rb'"(?:[^"\\]|\\.)*(?:"|\Z)|'
_JSON = re.compile(_STRING + b",", re.DOTALL)
_END = re.compile(rb"[,|!$@)\t\x01-\x08]")
# The same where a decoder joins digits over such a mark, as `separators` does: a letter follows.
_JSON_LETTER = re.compile(_STRING + rb',(?=[ \t]*"?[A-Za-z])', re.DOTALL)
_END_LETTER = re.compile(rb"[,|!$@)\t\x01-\x08](?=[A-Za-z])")


class Stream:
    """One stream of one masker. Not to be shared between threads.

    `feed` takes str or bytes-like chunks (one kind for all the stream) and returns what may be released,
    of the kind str or bytes. `finish` returns the rest. At most `LONGEST_LINE` bytes are held back, twice
    as many and a value more where an object whose name has a rule goes on over lines."""

    def __init__(self, masker: Masker, form: Form = "text") -> None:
        masker.check_stream(form)
        self._masker = masker
        self._form = form
        self._inside = False  # whether what is held begins within a JSON string
        self._held = bytearray()
        self._text: bool | None = None
        self._done = False

    def feed(self, chunk: Any) -> Any:
        """What may be released after this chunk. TypeError when it is of another kind than the first;
        MaskingError after `finish`."""
        if self._done:
            raise MaskingError("the stream is finished; take a new one")
        text = isinstance(chunk, str)
        if self._text is None:
            if not text and not isinstance(chunk, bytes | bytearray | memoryview):
                raise TypeError(
                    f"a stream takes str or bytes-like chunks, not {type(chunk).__name__}"
                )
            self._text = text
        elif self._text is not text:
            raise TypeError("a stream takes either str or bytes-like chunks, not both")
        return self._give(self.parts(chunk.encode("utf-8", "surrogatepass") if text else chunk))

    def parts(self, chunk: bytes | bytearray | memoryview) -> list[bytearray]:
        """As `feed` of bytes, without a further copy: what may be released is in these, one after
        another."""
        self._held += chunk
        return self._release()

    def through(
        self, buffer: mmap | bytearray, start: int, end: int
    ) -> list[bytearray | memoryview]:
        """As `parts` of buffer[start:end], without a copy: where the scanner alone has to do with what may be
        released, that is masked in the buffer and comes back as a view of it. What is held is put in front
        of `start`, where there is room for it."""
        begin = start - len(self._held)
        if begin < 0 or self._inside:
            return [*self.parts(memoryview(buffer)[start:end])]
        buffer[begin:start] = self._held
        cut = self._masker.settled(buffer, whole_lines(buffer, begin, end), begin)
        self._held = bytearray(buffer[cut:end])
        out: list[bytearray | memoryview] = []
        if cut > begin:
            out.append(self._masker.run_view(memoryview(buffer)[begin:cut], self._form))
        return out + self._release()

    def finish(self) -> Any:
        """The rest, masked as it stands."""
        if self._done:
            raise MaskingError("the stream is finished; take a new one")
        self._done = True
        out = self._release()
        rest, self._held = self._held, bytearray()
        out.append(self._masked(rest))
        return self._give(out)

    @property
    def held(self) -> int:
        """Bytes that are held back now."""
        return len(self._held)

    def _give(self, out: list[bytearray]) -> str | bytes:
        whole = b"".join(out)
        return whole.decode("utf-8", "surrogatepass") if self._text else whole

    def _masked(self, data: bytearray) -> bytearray:
        if not data:
            return data
        if self._inside:
            data[:0] = b'"'
        changed = self._masker.run(data, self._form)
        out = data if changed is None else changed
        if self._inside:
            del out[:1]
        return out

    def _release(self) -> list[bytearray]:
        out = []
        while self._held:
            whole = whole_lines(self._held)
            cut = self._masker.settled(self._held, whole)
            if whole and not cut:  # a value goes on over the lines
                if len(self._held) - whole < LONGEST_LINE:
                    break
                cut = whole
            if cut:
                out.append(self._masked(self._take(cut)))
                self._inside = False  # no JSON string goes over a line
                continue
            if len(self._held) < LONGEST_LINE:
                break
            window = bytes(self._held[:LONGEST_LINE])
            cut, inside = self._place(window)
            if cut:
                out.append(self._masked(self._take(cut)))
                self._inside = False
                continue
            # No end anywhere. What is masked is masked, and its end is looked at again with the next part.
            masked = self._masked(bytearray(window))
            keep = min(OVERLAP, len(masked) - 1)
            while keep < len(masked) - 1 and (
                masked[-keep] & 0xC0 == 0x80 or masked[-keep - 1] == 92
            ):
                keep += 1
            out.append(masked[:-keep])
            self._held[:LONGEST_LINE] = masked[-keep:]
            self._inside = inside
        return out

    def _place(self, window: bytes) -> tuple[int, bool]:
        """Where a long line may be cut (0 for nowhere), and whether its end is within a JSON string."""
        joined = self._masker.joins_marks
        if self._form != "json":
            return last_mark(window, joined=joined), False
        cut, inside = 0, False
        for match in (_JSON_LETTER if joined else _JSON).finditer(
            b'"' + window if self._inside else window
        ):
            token = match.group()
            if token == b",":
                cut = match.end() - self._inside
            inside = token[:1] == b'"' and (len(token) == 1 or token[-1:] != b'"')
        return cut, inside

    def _take(self, count: int) -> bytearray:
        # The rest is short, what is taken is not.
        taken, self._held = self._held, self._held[count:]
        del taken[count:]
        return taken


def last_mark(data: bytes | bytearray, *, joined: bool) -> int:
    """Where the last `LONGEST_LINE` bytes of a long line may be cut, 0 for nowhere. `joined` when some
    decoder joins digits over marks."""
    end = _END_LETTER if joined else _END
    cut = 0
    for match in end.finditer(data, max(0, len(data) - LONGEST_LINE)):
        cut = match.end()
    return cut


def whole_lines(data: bytearray | mmap, start: int = 0, end: int | None = None) -> int:
    """Where the lines of data[start:end] end that may be masked at once: each of them ends within
    `LONGEST_LINE`. `start` when there are none."""
    done = start
    last = len(data) if end is None else end
    while True:
        found = data.rfind(b"\n", done, min(last, done + LONGEST_LINE))
        if found < 0:
            return done
        done = found + 1
