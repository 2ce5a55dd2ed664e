"""The masker: the scanner, the decoders and the rules beside PANs as one thing to call.

Everything is found in the original data first and written afterwards, so that no rule hides from another
what it looks for; where two of them meet, the mask is the union."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from pangate._scan import Scanner
from pangate.errors import MaskingError
from pangate.masking import DIGITS, KINDS, decode, iin, track
from pangate.masking.column import NAME_TO_END, Columns, Value
from pangate.masking.decode import Places, View, look, looker
from pangate.masking.hit import CONFIDENCES, UUID, Edit, Hit, clusters, confidence, in_uuid
from pangate.masking.jsontext import Fitting
from pangate.masking.pattern import Patterns
from pangate.masking.tokens import Key, Tokens

if TYPE_CHECKING:
    from mmap import mmap

    import numpy as np
    import numpy.typing as npt

    from pangate.masking.stream import Stream

T = TypeVar("T")
Form = Literal["text", "json"]
FORMS: tuple[Form, ...] = ("text", "json")

TOKENS = ("token", "fpe")
ALL_KINDS = (*KINDS, "digits", *TOKENS)
"""What may stay of a PAN: the kernel's kinds, digits in the place of stars, and the two of tokens."""

SHORTEST, SHOWN = iin.SHORTEST, 13
"""Digits of the shortest PAN, and of the shortest of which four stay visible."""

_WIPED = b"***"
_LONGEST_LIST = 100_000
_LEAST, _MOST = 10 ** (iin.SHORTEST - 1), 10**iin.LONGEST - 1


class Masker:
    """Masks and finds card numbers, with everything that it needs set once. Safe to share between
    threads.

    kind        what stays visible: last4, first6_last4, first8_last4 (of 16-digit Discover, JCB,
                Mastercard, UnionPay and Visa PANs; else first6_last4), full, digits (last4, and digits
                instead of stars), token or fpe (both need `key`)
    packs       issuer packs to look for, of `iin.csv`
    without     networks not to look for
    decode      encodings to look into: names, "default" or "all"; see `masking.decode`
    tracks      whether data behind a PAN on a magnetic stripe is wiped
    columns     actions (wipe, mask, leave) by the name of a field
    sensitive   whether fields named like sensitive authentication data are wiped
    patterns    more to wipe: regular expressions by name, in RE2's syntax
    uuids       "ignore" leaves what looks like a PAN within a UUID, "mask" does not
    confidence  the least that is masked: low (all), medium or high
    allow       numbers not to mask, as `Key.digest` gives them; they need `key`
    key         a Key, for tokens and allowed numbers

    MaskingError names the setting that cannot be used and why; TypeError when it has the wrong type."""

    def __init__(
        self,
        kind: str = "last4",
        *,
        packs: Collection[str] = (iin.CORE,),
        without: Collection[str] = (),
        decode: str | Collection[str] = "default",
        tracks: bool = True,
        columns: Mapping[str, str] | None = None,
        sensitive: bool = True,
        patterns: Mapping[str, str] | None = None,
        uuids: str = "ignore",
        confidence: str = "low",
        allow: Collection[str] = (),
        key: Key | None = None,
    ) -> None:
        if kind not in ALL_KINDS:
            raise MaskingError(f"kind: there is no {kind!r}; there are {', '.join(ALL_KINDS)}")
        if uuids not in ("ignore", "mask"):
            raise MaskingError(f"uuids: {uuids!r} is neither ignore nor mask")
        if confidence not in CONFIDENCES:
            raise MaskingError(f"confidence: {confidence!r} is not one of {', '.join(CONFIDENCES)}")
        if key is not None and not isinstance(key, Key):
            raise TypeError(f"key: a pangate.Key, not {type(key).__name__}; a key has no default")
        for name, value in (("packs", packs), ("without", without), ("allow", allow)):
            if isinstance(value, str):
                raise TypeError(f"{name}: a list of texts, not one text")
        self.kind = kind
        self.key = key
        if kind in TOKENS and key is None:
            raise MaskingError(f"kind: {kind} needs a key; give key_file, key_environment or key")
        self._tokens = Tokens(key) if kind in TOKENS and key is not None else None
        self._fill = DIGITS if kind == "digits" else KINDS.get(kind, KINDS["last4"])
        self._shown = 0 if kind == "full" else 4
        self._scanner = _scanner(frozenset(packs), frozenset(without))
        self._decoders = _decoders(decode)
        self._tracks = tracks
        self._columns = Columns(columns, sensitive=sensitive)
        self._look = looker(self._columns.ends)
        self._patterns = Patterns(patterns or {})
        self._ignore_uuids = uuids == "ignore"
        self._least = CONFIDENCES.index(confidence)
        self._allowed = _allowed(allow, key)
        reads_all = self._patterns or not all(one.default for one in self._decoders)
        exempts = self._least or self._allowed or self._columns.leaves
        self._alone = not (self._tokens or reads_all or exempts)  # look() says what else there is

    # --- the public face ------------------------------------------------------------------------------

    @overload
    def mask(self, value: memoryview, form: Form = ...) -> bytes: ...
    @overload
    def mask(self, value: T, form: Form = ...) -> T: ...
    def mask(self, value: Any, form: Form = "text") -> Any:
        """A masked value of the same type; where nothing was found, it may be the value itself.

        Takes str, bytes, bytearray, memoryview (gives bytes), int, float, Decimal, dict, list, tuple,
        numpy arrays and Arrow arrays, chunked arrays, record batches and tables. In a dict the keys are
        names for the rules of `columns`. `form` "json" says that a text is JSON: bare numbers stay
        numbers. TypeError for anything else."""
        kind = type(value)
        if kind is str:
            data = bytearray(value, "utf-8", "surrogatepass")
            changed = self.run(data, form)
            return value if changed is None else changed.decode("utf-8", "surrogatepass")
        if kind is bytes:
            changed = self.run(bytearray(value), form)
            return value if changed is None else bytes(changed)
        if kind is bytearray:
            data = bytearray(value)
            changed = self.run(data, form)
            return data if changed is None else changed
        if kind is memoryview:
            data = bytearray(_flat(value))
            changed = self.run(data, form)
            return bytes(data if changed is None else changed)
        from pangate.masking.structure import mask_value

        return mask_value(self, value)

    def mask_into(self, buffer: Any, form: Form = "text") -> int:
        """Mask a writable buffer in place and return the number of PANs and other values masked.

        A numpy array of integers or of fixed-width texts is taken by its elements, anything else as
        bytes. TypeError when it cannot be written or is not contiguous; MaskingError for the kind token,
        which is longer than what it replaces. What is wiped keeps its length here."""
        if self.kind == "token":
            raise MaskingError("mask_into: the kind token changes lengths; take fpe, or mask()")
        if not isinstance(buffer, bytearray | memoryview):
            from pangate.masking.structure import mask_array_into

            done = mask_array_into(self, buffer)
            if done is not None:
                return int(done)
        view = _flat(buffer)
        if view.readonly:
            raise TypeError("mask_into needs a writable buffer; mask() returns a masked copy")
        return self._in_place(view, form)

    def find(self, value: Any) -> list[Hit]:
        """Where the card numbers and other values are that `mask` would mask, by their place. Offsets
        count characters of a str and bytes of everything else. TypeError for other types."""
        if isinstance(value, str):
            data = value.encode("utf-8", "surrogatepass")
            hits = self._find(data)
            if len(data) == len(value):
                return hits
            return [
                hit._replace(start=_characters(data, hit.start), end=_characters(data, hit.end))
                for hit in hits
            ]
        if isinstance(value, bytes | bytearray | memoryview):
            return self._find(bytes(_flat(value)))
        raise TypeError(
            f"find takes str, bytes, bytearray or memoryview, not {type(value).__name__}"
        )

    def stream(self, form: Form = "text") -> Stream:
        """A stream that takes chunks, split anywhere, and gives what may be released."""
        from pangate.masking.stream import Stream

        return Stream(self, form)

    def mask_fields(
        self,
        buffer: Any,
        offsets: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        *,
        numbers: bool = False,
    ) -> int | None:
        """Mask many fields of one writable buffer of bytes in place, each with its own boundaries, with
        the scanner alone. `numbers` fills with digits. None, and nothing is masked, when the buffer has
        something in it that the scanner does not read: then each field has to go through `mask`."""
        view = _flat(buffer)
        if not numbers and self._beyond(view):
            return None
        kind = self._fill | DIGITS if numbers else self._fill
        return self._scanner.mask_fields(view, offsets, lengths, kind)

    def _beyond(self, view: memoryview) -> bool:
        """Whether some rule or decoder could find something in here that the scanner does not."""
        if self.plain:
            return False
        if self._tokens or self._least or self._allowed or self._columns.leaves or self._patterns:
            return True
        data = bytes(view)
        if b"\0" in data:
            if decode.may_be_wide(data):
                return True
            data = data.replace(b"\0", b" ")  # what fields of a fixed width are padded with
        places = look(data, self._look)
        if any(decoder.context(data, places) for decoder in self._decoders):
            return True
        if places.names or places.other:
            return True
        if self._ignore_uuids and b"-" in data and UUID.search(data):
            return True
        return any(mark in data for mark in b"=Dd") and track.BEHIND_DIGIT.search(data) is not None

    def mask_integer(self, value: int) -> int:
        """An integer masked with digits: a PAN of it no longer passes the Luhn check. Of tokens only the
        kind fpe makes numbers; with token it is filled like the others."""
        if not _LEAST <= abs(value) <= _MOST:
            return value
        digits = bytearray(str(abs(value)), "ascii")
        hits = self._scanner.find(digits)
        if not hits or not self._exempt(digits, hits)[1]:
            return value
        made = self._tokens.fpe(digits.decode()) if self._tokens and self.kind == "fpe" else None
        if made is None or self._scanner.find(made.encode()):  # of a network without the Luhn check
            self._scanner.mask(digits, self._fill | DIGITS)
            made = digits.decode()
        return -int(made) if value < 0 else int(made)

    @property
    def integers_alike(self) -> bool:
        """Whether all integers may be filled by the scanner alone, without a look at each."""
        return not (self._tokens or self._least or self._allowed)

    @property
    def columns(self) -> Columns:
        """The rules by name."""
        return self._columns

    def check_stream(self, form: str) -> None:
        """MaskingError when this masker, or this form, cannot be streamed."""
        if form not in FORMS:
            raise MaskingError(f"form: there is no {form!r}; there are {', '.join(FORMS)}")
        for decoder in self._decoders:
            if decoder.over_lines:
                raise MaskingError(
                    f"decode: {decoder.name} looks over line ends, which a stream cannot; leave it out, or "
                    "mask the whole"
                )

    def settled(self, data: bytearray | mmap, cut: int, start: int = 0) -> int:
        """Where data of whole lines from `start` on may be cut, at `cut` or at a line end before it: not
        within an object or an array over several lines whose name has a rule. `start` for nowhere."""
        while cut > start and self._columns:
            low = max(start, cut - NAME_TO_END)
            if data.find(b"{", low, cut) < 0 and data.find(b"[", low, cut) < 0:
                break
            part = data[low:cut]
            names = look(part, self._look).names
            settled = self._columns.open_at(part, len(part), names) if names else len(part)
            if settled == len(part):
                break
            # where the part begins within a line, that line does
            cut = low + settled if settled else max(start, data.rfind(b"\n", start, low) + 1)
        return cut

    @property
    def joins_marks(self) -> bool:
        """Whether some decoder joins digits over marks that otherwise end a number."""
        return any(decoder.over_marks for decoder in self._decoders)

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks, by the index that the scanner gives."""
        return self._scanner.networks

    @classmethod
    def from_mapping(cls, settings: Mapping[str, object]) -> Masker:
        """A masker of a table as it comes from TOML; see `masking.rules`."""
        from pangate.masking.rules import read

        return cls(**read(settings))

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], table: str = "masking") -> Masker:
        """A masker of one table of a TOML file."""
        from pangate.masking.rules import load

        return cls(**load(path, table))

    def __repr__(self) -> str:
        return f"Masker(kind={self.kind!r})"

    # --- finding --------------------------------------------------------------------------------------

    def _find(self, data: bytes) -> list[Hit]:
        hits = self._scanner.find(data)
        found = set(self._shown_hits(data, self._exempt(data, hits)[1]))
        places = look(data, self._look)
        for view in self._views(data, places):
            text = bytes(view.text)
            inner = self._exempt(text, self._scanner.find(text[: view.limit]))[1]
            found.update(self._shown_hits(text, inner, view))
        if self._tracks:
            found |= {
                Hit(*span, "", "***", "track", "", "high")
                for span in track.wipe(data, hits, self._shown)
            }
        for value in self._columns.values(data, places.names):
            if value.action != "leave" and not _is_masked(data, value):
                rule = "column:" + self._columns.rule(value.name)
                found.add(Hit(value.start, value.end, "", "***", rule, "", "high"))
        for start, end, name in self._patterns.find(data):
            found.add(Hit(start, end, "", "***", "pattern:" + name, "", "high"))
        return sorted(found)

    def _shown_hits(
        self, text: bytes, hits: Sequence[tuple[int, int, int]], view: View | None = None
    ) -> Iterator[Hit]:
        """The scanner's hits as they may be shown: what another PAN hides is hidden in each of them."""
        if not hits:
            return
        shown = bytearray(text[: view.limit] if view else text)
        self._scanner.mask(shown, self._fill & ~DIGITS)
        decoder = view.name if view else ""
        for start, end, network in hits:
            span = view.span(start, end) if view else (start, end)
            masked = shown[start:end].decode("latin-1")
            sure = confidence(text, start, end, plain=not view)
            yield Hit(*span, self.networks[network], masked, "pan", decoder, sure)

    # --- masking --------------------------------------------------------------------------------------

    def run(self, data: bytearray, form: Form) -> bytearray | None:
        """Mask, in place or in a new bytearray; None when there was nothing to mask."""
        if form not in FORMS:
            raise MaskingError(f"form: there is no {form!r}; there are {', '.join(FORMS)}")
        masked, places = self._by_scanner(data, form)
        if masked is None:
            return self._run(data, form, places)
        return data if masked else None

    def run_view(self, view: memoryview, form: Form) -> memoryview | bytearray:
        """The masked text of a writable view: the view itself where the scanner alone has to do with it."""
        masked, places = self._by_scanner(view, form)
        if masked is not None:
            return view
        data = bytearray(view)
        changed = self._run(data, form, places)
        return data if changed is None else changed

    def _by_scanner(
        self, data: bytearray | memoryview, form: Form
    ) -> tuple[int | None, Places | None]:
        """How many PANs were masked in place, None where more than the scanner has to do with the data and
        nothing was; and the places, where they were looked for."""
        if not self._alone or form != "text":
            return None, None
        places = look(data, self._look)
        masked = -1 if any(places) else self._scanner.mask_alone(data, self._fill)
        return (masked if masked >= 0 else None), places

    def _run(self, data: bytearray, form: Form, places: Places | None) -> bytearray | None:
        hits = self._scanner.find(data)
        edits = self._beside(data, hits, form, places, resize=True)
        if not hits and not edits and form == "text":
            return None
        found = self._pans(data, hits, form, edits)
        if not found and not edits:
            return None
        return _apply(data, edits if form == "text" else [*Fitting(data).fit(edits)])

    def _in_place(self, view: memoryview, form: Form) -> int:
        if form not in FORMS:
            raise MaskingError(f"form: there is no {form!r}; there are {', '.join(FORMS)}")
        if self.plain:
            if form == "json":
                return self._scanner.mask_json(view, self._fill)
            return self._scanner.mask(view, self._fill)
        data = bytearray(view)
        hits = self._scanner.find(data)
        edits = self._beside(data, hits, form, None, resize=False)
        count = len({(edit.start, edit.end) for edit in edits})
        found = self._pans(data, hits, form, edits)
        if found or edits:
            view[:] = _apply(data, edits if form == "text" else [*Fitting(data).fit(edits)])
        return found + count

    @property
    def plain(self) -> bool:
        """Whether nothing but the scanner is at work, so that PANs are all that is looked for."""
        return not (
            self._decoders
            or self._tracks
            or self._columns
            or self._patterns
            or self._tokens
            or self._least
            or self._allowed
            or self._ignore_uuids
        )

    def _views(self, data: bytes | bytearray, places: Places) -> Iterator[View]:
        for decoder in self._decoders:
            if decoder.context(data, places):
                yield from decoder.views(data, places)

    def _beside(
        self,
        data: bytearray,
        hits: Sequence[tuple[int, int, int]],
        form: Form,
        places: Places | None,
        *,
        resize: bool,
    ) -> list[Edit]:
        """The edits for everything but the scanner's own hits in the data as it stands."""
        edits: list[Edit] = []
        star = b"0" if self._fill & DIGITS else b"*"
        if places is None:
            places = look(data, self._look)
        for decoder in self._decoders:
            if decoder.context(data, places):
                for view in decoder.views(data, places):
                    edits += self._edits_of(view, star, resize=resize)
        if self._tracks and (hits or b"^" in data or b";" in data):
            for start, end in track.wipe(data, hits, self._shown):
                edits.append(Edit(start, end, star * (end - start)))
        if self._patterns:
            for start, end, _ in self._patterns.find(bytes(data)):
                edits.append(Edit(start, end, star * (end - start)))
        for value in self._columns.values(
            data, places.names
        ):  # last: nothing writes over what is wiped
            edits += self._column_edits(data, value, resize=resize)
        return edits

    def _edits_of(self, view: View, star: bytes, *, resize: bool) -> list[Edit]:
        """The edits in one view: of the PANs that the scanner finds in it, and what is behind them."""
        text = bytes(view.text)
        hits = self._scanner.find(text[: view.limit])
        spans = track.wipe(text, hits, self._shown) if self._tracks else []
        if not hits and not spans:
            return []
        masked = bytearray(text[: view.limit])
        exempt, left = self._exempt(text, hits)
        edits = []
        if self._tokens is None:
            self._fill_in(masked, exempt, self._fill, "text")
        else:
            for start, end, token in self._token_edits(text, left):
                if len(token) == end - start:
                    masked[start:end] = token
                elif resize:
                    edits.append(view.replace(start, end, token))
        masked += text[view.limit :]
        for start, end in spans:
            masked[start:end] = star * (end - start)
        return [*view.fill(masked), *edits]

    def _column_edits(self, data: bytearray, value: Value, *, resize: bool) -> list[Edit]:
        start, end = value.start, value.end
        if value.action == "leave" or _is_masked(data, value):
            return []
        if value.action == "mask":
            text = self.number(bytes(data[start:end]), bare=value.bare, resize=resize)
        elif value.bare:
            # A JSON number remains one; words such as null and true say nothing that is to be wiped.
            if not any(48 <= byte < 58 for byte in data[start:end]):
                return []
            text = b"0" if resize else b"0".ljust(end - start)
        else:
            text = _WIPED if resize else b"*" * (end - start)
        return [] if text == data[start:end] else [Edit(start, end, text)]

    def number(self, text: bytes, *, bare: bool, resize: bool) -> bytes:
        """A text that a rule says is a PAN, whatever its digits are, masked or as a token. With `bare` it
        stays a number."""
        if b"\\" in text:
            return self._escaped_number(text)
        places = [i for i, byte in enumerate(text) if 48 <= byte < 58]
        if self._tokens is not None and len(places) >= SHORTEST and not bare:
            digits = bytes(text[i] for i in places).decode()
            if self.kind == "token" and resize:
                return self._tokens.token(digits).encode()
            made = self._tokens.fpe(digits) if self.kind == "fpe" else None
            if made is not None:
                left = iter(made.encode())
                return bytes(next(left) if 48 <= byte < 58 else byte for byte in text)
        full = self._fill & ~DIGITS == KINDS["full"] or len(places) < SHOWN
        masked = bytearray(text)
        for i, place in enumerate(places if full else places[:-4]):
            masked[place] = 42 if not bare else 48 if i else 49
        return bytes(masked)

    def _escaped_number(self, text: bytes) -> bytes:
        """`number` of a text with escapes, such as \\u0034 for a digit: these stay escapes."""
        parts = _CHARACTER.findall(text)
        plain = bytes(_plain(part) for part in parts).replace(b"\\", b"\xff")
        masked = Masker.number(self, plain, bare=False, resize=False)
        if len(masked) != len(plain):
            return masked
        return b"".join(
            part if old == new else decode.put_slash(part, new)
            for part, old, new in zip(parts, plain, masked, strict=True)
        )

    def _pans(
        self, data: bytearray, hits: Sequence[tuple[int, int, int]], form: Form, edits: list[Edit]
    ) -> int:
        """Mask the scanner's own hits in place; what cannot be done in place becomes an edit. Returns
        their number."""
        if not hits and form != "json":
            return 0
        exempt, left = self._exempt(data, hits)
        if self._tokens is None:
            return self._fill_in(data, exempt, self._fill, form)
        json = Fitting(data) if form == "json" and left else None
        tokens = []
        for start, end, token in self._token_edits(bytes(data), left):
            bare = json is not None and not json.within(start, end)
            if bare and b"*" in token:
                number = bytearray(data[start:end])
                self._scanner.mask(number, KINDS["last4"] | DIGITS)
                token = bytes(number)
            tokens.append(Edit(start, end, token))
        edits[:0] = tokens  # first, so that what is wiped is wiped
        return len(left)

    def _fill_in(
        self, data: bytearray, exempt: Sequence[tuple[int, int]], kind: int, form: Form
    ) -> int:
        """Mask all of `data` but what is exempt, which is out of the scanner's sight meanwhile."""
        saved = [(start, end, bytes(data[start:end])) for start, end in exempt]
        for start, end, old in saved:
            data[start:end] = b"x" * len(old)
        mask = self._scanner.mask_json if form == "json" else self._scanner.mask
        found = mask(data, kind)
        for start, end, old in saved:
            data[start:end] = old
        return found

    def _token_edits(
        self, data: bytes, hits: Sequence[tuple[int, int, int]]
    ) -> Iterable[tuple[int, int, bytes]]:
        """What takes the place of each cluster of hits: a token for the likeliest PAN of it, stars for
        the other digits."""
        for cluster in clusters(hits):
            low, high = cluster[0][0], max(end for _, end, _ in cluster)
            start, end, _ = max(cluster, key=lambda hit: _likely(data, hit))
            token = self._token(data[start:end])
            yield low, high, _starred(data[low:start]) + token + _starred(data[end:high])

    def _token(self, shown: bytes) -> bytes:
        assert self._tokens is not None
        digits = bytes(byte for byte in shown if 48 <= byte < 58).decode()
        if self.kind == "token":
            return self._tokens.token(digits).encode()
        made = self._tokens.fpe(digits)
        if made is not None:
            left = iter(made.encode())
            token = bytes(next(left) if 48 <= byte < 58 else byte for byte in shown)
            if not self._scanner.find(token):
                return token
        masked = bytearray(shown)
        self._scanner.mask(masked, KINDS["last4"])
        return bytes(masked)

    # --- what is not a PAN ----------------------------------------------------------------------------

    def _exempt(
        self, data: bytes | bytearray, hits: Sequence[tuple[int, int, int]]
    ) -> tuple[list[tuple[int, int]], Sequence[tuple[int, int, int]]]:
        """Spans that are left as they are, and the hits that are not. A hit that meets one which is
        not exempt is not exempt either."""
        if not hits or not (
            self._least
            or self._allowed
            or self._columns.leaves
            or (self._ignore_uuids and any(45 in data[start:end] for start, end, _ in hits))
        ):
            return [], hits
        kept: list[Value] = []
        if self._columns.leaves:
            places = look(data, self._look)
            values = self._columns.values(data, places.names)
            kept = [value for value in values if value.action == "leave"]
        spans: list[tuple[int, int]] = []
        left: list[tuple[int, int, int]] = []
        for cluster in clusters(hits):
            if all(self._is_exempt(data, hit, kept) for hit in cluster):
                spans.append((cluster[0][0], max(end for _, end, _ in cluster)))
            else:
                left += cluster
        return spans, left

    def _is_exempt(
        self, data: bytes | bytearray, hit: tuple[int, int, int], kept: Sequence[Value]
    ) -> bool:
        start, end, _ = hit
        if self._ignore_uuids and 45 in data[start:end] and in_uuid(data, start, end):
            return True
        if any(value.start <= start and end <= value.end for value in kept):
            return True
        if self._allowed and self.key is not None:
            digits = bytes(byte for byte in data[start:end] if 48 <= byte < 58).decode()
            if self.key.digest(digits) in self._allowed:
                return True
        if self._least:
            return CONFIDENCES.index(confidence(data, start, end)) < self._least
        return False


# --- helpers ----------------------------------------------------------------------------------------------


@cache
def _scanner(packs: frozenset[str], without: frozenset[str]) -> Scanner:
    if packs == {iin.CORE} and not without:
        from pangate.masking import default_scanner

        return default_scanner()
    return Scanner(iin.compile_ranges(iin.select(packs, without)))


def _decoders(names: str | Collection[str]) -> tuple[decode.Decoder, ...]:
    return decode.choose(names)


def _allowed(allow: Collection[str], key: Key | None) -> frozenset[str]:
    if not allow:
        return frozenset()
    if key is None:
        raise MaskingError("allow: the numbers are kept as keyed digests, so a key is needed")
    if len(allow) > _LONGEST_LIST:
        raise MaskingError(f"allow: {len(allow)} numbers are more than {_LONGEST_LIST}")
    for entry in allow:
        if not isinstance(entry, str) or len(entry) != 64 or set(entry) - set("0123456789abcdef"):
            raise MaskingError(
                "allow: an entry is not a digest of 64 hexadecimal digits; Key.digest makes one, and a "
                "number itself is not taken"
            )
    return frozenset(allow)


_CHARACTER = re.compile(rb"\\+u[0-9a-fA-F]{4}|\\+x[0-9a-fA-F]{2}|\\.|.", re.DOTALL)


def _plain(part: bytes) -> int:
    """The byte that a character of a text with escapes is read as, 0xff for one beyond ASCII."""
    if len(part) == 1:
        return part[0]
    code = part.lstrip(b"\\")[1:]
    return decode.fold(int(code, 16)) if code else 0xFF


def _flat(buffer: Any) -> memoryview:
    """A buffer as bytes. TypeError when it is none, or none of bytes in a row."""
    try:
        view = memoryview(buffer)
    except TypeError:
        raise TypeError(f"a buffer of bytes is needed, not {type(buffer).__name__}") from None
    if not view.c_contiguous:
        raise TypeError("the buffer is not contiguous; copy it first")
    if view.format not in ("B", "b", "c"):
        raise TypeError(f"the buffer holds items of format {view.format!r}, not bytes")
    return view.cast("B") if view.format != "B" or view.ndim != 1 else view


def _is_masked(data: bytes | bytearray, value: Value) -> bool:
    """Whether a value is what a rule by name left of one."""
    text = bytes(data[value.start : value.end])
    if value.action == "mask":
        return b"*" in text and sum(48 <= byte < 58 for byte in text) <= 4
    return not text.strip(b"*") or (value.bare and text == b"0")


def _characters(data: bytes, offset: int) -> int:
    return len(data[:offset].decode("utf-8", "surrogatepass"))


def _starred(text: bytes) -> bytes:
    return bytes(42 if 48 <= byte < 58 else byte for byte in text)


def _likely(data: bytes, hit: tuple[int, int, int]) -> tuple[int, int, int]:
    """How much a hit looks like the PAN that was meant: without separators, then in fours, then long."""
    groups = data[hit[0] : hit[1]].replace(b"-", b" ").split(b" ")
    sizes = [len(group) for group in groups]
    regular = set(sizes[:-1]) <= {4} or sizes in ([4, 6, 5], [4, 6, 4])
    return (2 if len(sizes) == 1 else int(regular), hit[1] - hit[0], -hit[0])


def _apply(data: bytearray, edits: list[Edit]) -> bytearray:
    """`data` with all edits made. Those that keep their length may meet: a masked byte wins. Where one
    of another length meets others, what it covers is its own."""
    if not edits:
        return data
    longer = [edit for edit in edits if edit.end - edit.start != len(edit.text)]
    for edit in edits:
        if edit.end - edit.start == len(edit.text):
            for i, byte in enumerate(edit.text, edit.start):
                if data[i] not in b"*":
                    data[i] = byte
    if not longer:
        return data
    longer.sort(key=lambda edit: (edit.start, -edit.end))
    out, at = bytearray(), 0
    for edit in longer:
        if edit.end <= at:
            continue
        if edit.start < at:  # its beginning is another's
            out += _starred(bytes(data[at : edit.end]))
        else:
            out += data[at : edit.start] + edit.text
        at = edit.end
    return out + data[at:]
