"""`pangate find`: report what is there, never showing a card number."""

from __future__ import annotations

import argparse
import json
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, NamedTuple

from pangate.errors import MaskingError
from pangate.mask_cli.inputs import Failed, Progress, Source, Utf16, chunks, reading, sources
from pangate.mask_cli.table import LONGEST_RECORD, Table
from pangate.masking.hit import Hit

if TYPE_CHECKING:
    from pangate.masking.masker import Masker

OK, FOUND, FAILED = 0, 1, 2
"""Exit codes; FAILED when some input could not be read, whatever was found in the others."""


class Found(NamedTuple):
    """One hit as it is reported. `line` and `column` count from 1, the column in bytes; both are 0 for
    one in the name of the file. `path` and all else are masked."""

    path: str
    line: int
    column: int
    what: str
    masked: str
    decoder: str
    confidence: str
    digest: str


def run(masker: Masker, options: argparse.Namespace) -> int:
    """The command behind its options. Returns the exit code."""
    masker.check_stream("text")
    if options.digests and masker.key is None:
        raise MaskingError("--digests needs a key; give --key-file or --key-environment")
    inputs, skipped = sources(options)
    progress = Progress(options, inputs)
    counts: Counter[str] = Counter()
    files = 0
    failed = False
    for source in inputs:
        hits = 0
        try:
            for found in _found(masker, source, options, progress):
                hits += 1
                counts[found.what] += 1
                if not options.count:
                    progress.clear()
                    _report(found, options)
        except Failed as error:
            failed = True
            progress.clear()
            print(f"pangate find: {error}", file=sys.stderr)
        files += hits > 0
        progress.next()
    progress.clear()
    sys.stdout.flush()
    if not options.quiet:
        kinds = ", ".join(f"{count} {what}" for what, count in counts.most_common())
        summary = f"{sum(counts.values())} found in {files} of {len(inputs)} inputs"
        left = f"; {skipped} binary files left out, --binary takes them" if skipped else ""
        print(summary + (f": {kinds}" if kinds else "") + left, file=sys.stderr)
    return FAILED if failed else FOUND if counts else OK


def _report(found: Found, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps({name: value for name, value in found._asdict().items() if value != ""}))
        return
    place = f"{found.path}:{found.line}:{found.column}"
    more = f"  ({found.decoder})" if found.decoder else ""
    more += f"  {found.digest}" if found.digest else ""
    print(f"{place}  {found.what:<12} {found.confidence:<6} {found.masked}{more}")


def _found(
    masker: Masker, source: Source, options: argparse.Namespace, progress: Progress
) -> Iterator[Found]:
    from pangate.masking.stream import LONGEST_LINE, OVERLAP, last_mark, whole_lines

    for hit in masker.find(source.path.name) if source.path is not None else ():
        if hit.rule == "pan":
            yield Found(source.shown, 0, 0, _what(hit), hit.masked, hit.decoder, hit.confidence, "")
    table = Table(masker, source, options) if source.form == "csv" else None
    place = (0, 0)  # line and column, counted from 0
    held = bytearray()
    with reading(source) as (file, _, raw):
        text = Utf16()
        for chunk in chunks(file):
            held += text.read(chunk.view)
            whole = whole_lines(held) if table is None else 0
            cut = table.whole(held) if table else masker.settled(held, whole)
            if whole and not cut and len(held) - whole >= LONGEST_LINE:
                cut = whole
            again = 0
            if not cut and len(held) > (LONGEST_RECORD if table else 16 * LONGEST_LINE):
                cut = last_mark(held, joined=masker.joins_marks)
                if not cut:
                    cut, again = len(held), OVERLAP
            if cut:
                block = bytes(held[:cut])
                place = yield from _in_block(masker, source, options, block, table, *place, again)
                del held[: cut - again]
            if source.path is not None:
                progress.at(raw.tell())
        held += text.rest()
        yield from _in_block(masker, source, options, bytes(held), table, *place)


def _in_block(
    masker: Masker,
    source: Source,
    options: argparse.Namespace,
    block: bytes,
    table: Table | None,
    line: int,
    column: int,
    again: int = 0,
) -> Generator[Found, None, tuple[int, int]]:
    """The hits of one block that begins at this line and column. Returns those behind it. The last
    `again` bytes come again with the next block, and what begins in them is reported then."""
    hits = masker.find(block)
    if table is not None:
        hits = _with_columns(hits, table, block)
    if again:
        hits = [hit for hit in hits if hit.start < len(block) - again]
    seen = 0
    for hit in hits:
        line += block.count(b"\n", seen, hit.start)
        begins = block.rfind(b"\n", 0, hit.start) + 1
        seen = hit.start
        digest = ""
        if options.digests and masker.key is not None and hit.rule == "pan" and not hit.decoder:
            digits = bytes(byte for byte in block[hit.start : hit.end] if 48 <= byte < 58)
            digest = masker.key.digest(digits.decode())
        place = hit.start - begins + (column if begins == 0 else 0)
        yield Found(
            source.shown,
            line + 1,
            place + 1,
            _what(hit),
            hit.masked,
            hit.decoder,
            hit.confidence,
            digest,
        )
    end = len(block) - again
    line += block.count(b"\n", seen, end)
    last = block.rfind(b"\n", 0, end)
    return line, end - last - 1 if last >= 0 else column + end


def _what(hit: Hit) -> str:
    return hit.network if hit.rule == "pan" else hit.rule


def _with_columns(hits: list[Hit], table: Table, block: bytes) -> list[Hit]:
    """The hits without those in columns that are left, with those that only a column's name shows."""
    begin = table.offset(block)
    left = [(start + begin, end + begin) for start, end in table.left]
    hits = [hit for hit in hits if not any(a <= hit.start and hit.end <= b for a, b in left)]
    starts = sorted(hit.start for hit in hits)
    for start, end, name in table.column_hits:
        at = bisect_left(starts, start + begin)
        if at == len(starts) or starts[at] >= end + begin:
            rule = "column:" + table.rule(name)
            hits.append(Hit(start + begin, end + begin, "", "***", rule, "", "high"))
    return sorted(hits)
