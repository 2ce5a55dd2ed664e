"""The seven corpora of the scanner's benchmark, made from seeds, each with the number of PANs that are in
it. A benchmark that finds another number has failed, however fast it was.

Each is a unit of lines that is made once and then repeated, so that a corpus of any size has an exact count:
units are separated by a newline, which ends every chain."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

UNIT_LINES = 20_000
"""Lines of a unit: so many that no processor learns by heart where its branches go, as it does with 2,000."""

CHAIN_BYTES = 200_000
HEADS = (("4", 16), ("51", 16), ("2223", 16), ("37", 15), ("6011", 16), ("3530", 16))
WORDS = (
    "the",
    "order",
    "was",
    "sent",
    "to",
    "a",
    "customer",
    "who",
    "paid",
    "for",
    "it",
    "and",
    "asked",
)


@dataclass(frozen=True)
class Corpus:
    """`data` holds `pans` card numbers. `offsets` and `lengths` are its fields where it is scanned field by
    field, None where it is scanned whole."""

    name: str
    data: bytes
    pans: int
    offsets: npt.NDArray[np.int64] | None = None
    lengths: npt.NDArray[np.int64] | None = None


def check_digit(body: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(body)):
        value = int(digit) * (2 - place % 2)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def pan(chance: random.Random) -> str:
    head, length = chance.choice(HEADS)
    body = head + "".join(str(chance.randrange(10)) for _ in range(length - len(head) - 1))
    return body + check_digit(body)


def prose(chance: random.Random) -> tuple[str, int]:
    return " ".join(chance.choice(WORDS) for _ in range(12)), 0


def logs(chance: random.Random) -> tuple[str, int]:
    """Log lines and JSON, one PAN in about 2 KB."""
    second = chance.randrange(60)
    if chance.randrange(18) == 0:
        return (
            f'{{"level":"debug","card":"{pan(chance)}","ok":true,"ms":{chance.randrange(900)}}}',
            1,
        )
    return (
        f"2026-11-24T12:{second:02d}:{chance.randrange(60):02d}.{chance.randrange(1000):03d}Z INFO "
        f"svc=charge id={chance.randrange(10**9)} path=/v1/orders/{chance.randrange(10**5)} "
        f"took={chance.randrange(5000)}us",
        0,
    )


def table(chance: random.Random) -> tuple[str, int]:
    """CSV with one PAN a row."""
    return (
        f"{chance.randrange(10**6)},{chance.choice(WORDS)} {chance.choice(WORDS)},{pan(chance)},"
        f"{chance.randrange(1000)}.{chance.randrange(100):02d},2026-11-{chance.randrange(1, 29):02d},EUR",
        1,
    )


def wrong(chance: random.Random) -> tuple[str, int]:
    """Runs that begin like a card; nine in ten fail the Luhn check."""
    number = pan(chance)
    if chance.randrange(10):
        return number[:-1] + str((int(number[-1]) + chance.randrange(1, 10)) % 10), 0
    return number, 1


def _lines(
    make: Callable[[random.Random], tuple[str, int]], size: int, seed: int
) -> tuple[bytes, int]:
    chance = random.Random(seed)
    unit, pans = bytearray(), 0
    for _ in range(UNIT_LINES):
        line, count = make(chance)
        unit += line.encode() + b"\n"
        pans += count
        if len(unit) >= size:
            break
    times = max(1, size // len(unit))
    return bytes(unit) * times, pans * times


def _chained(group: int, size: int, seed: int) -> tuple[bytes, int]:
    """One endless chain of groups of so many digits. Its PANs are counted by the plain definition, on a
    unit between newlines, which is repeated."""
    import oracle

    chance = random.Random(seed)
    groups = [
        "".join(chance.choices("0123456789", k=group))
        for _ in range(min(CHAIN_BYTES, size) // (group + 1))
    ]
    unit = " ".join(groups).encode() + b"\n"
    times = max(1, size // len(unit))
    return unit * times, len(oracle.find(unit)) * times


def _cells(size: int, seed: int) -> Corpus:
    """DataRow messages of six columns, one of them a PAN, scanned field by field."""
    chance = random.Random(seed)
    unit, offsets, lengths = bytearray(), [], []
    for _ in range(UNIT_LINES):
        cells = (
            str(chance.randrange(10**6)), f"{chance.choice(WORDS)} {chance.choice(WORDS)}", pan(chance),
            f"{chance.randrange(1000)}.{chance.randrange(100):02d}", "2026-11-24 12:00:00+00", "EUR",
        )  # fmt: skip
        body = bytearray(len(cells).to_bytes(2, "big"))
        starts = []
        for cell in cells:
            body += len(cell).to_bytes(4, "big")
            starts.append(len(body))
            body += cell.encode()
        base = len(unit) + 5
        unit += b"D" + (len(body) + 4).to_bytes(4, "big") + body
        offsets += [base + start for start in starts]
        lengths += [len(cell) for cell in cells]
    times = max(1, size // len(unit))
    at = np.array(offsets, dtype=np.int64)
    every = (np.arange(times, dtype=np.int64)[:, None] * len(unit) + at).ravel()
    return Corpus(
        "DataRow", bytes(unit) * times, UNIT_LINES * times, every, np.tile(lengths, times)
    )


MAKERS: dict[str, Callable[[int], Corpus]] = {
    "prose": lambda size: Corpus("prose", *_lines(prose, size, 1)),
    "logs": lambda size: Corpus("logs", *_lines(logs, size, 2)),
    "CSV": lambda size: Corpus("CSV", *_lines(table, size, 3)),
    "DataRow": lambda size: _cells(size, 4),
    "bad Luhn": lambda size: Corpus("bad Luhn", *_lines(wrong, size, 5)),
    "endless chain": lambda size: Corpus("endless chain", *_chained(4, size, 6)),
    "separators": lambda size: Corpus("separators", *_chained(1, size, 7)),
}


def corpora(size: int, names: Collection[str] = tuple(MAKERS)) -> list[Corpus]:
    """All seven, or those that are named, of about `size` bytes each."""
    return [MAKERS[name](size) for name in names]
