"""run.py SECONDS [SEED]: mutate for that long what the scanner, the cells and the codec get, and compare
with the plain definition. Prints what it did; exits 1 with the input, escaped, on the first difference.

Meant for the sanitized build (`make fuzz`): then a byte read or written outside of a buffer ends it too."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import oracle
from pangate import Masker, _frame, _scan
from pangate.errors import ProtocolError, Refused
from pangate.masking import DIGITS, KINDS, default_scanner
from pangate.masking.iin import compile_ranges, packs, select
from pgtalk import anywhere, begin, beginning, leaks, log_in, same, spoiler, talk
from pgwire import Bench, complete, query, ready, row, row_description

PANS = [
    b"4111111111111111", b"4222222222222", b"4000000000000000006", b"5555555555554444", b"378282246310005",
    b"30569309025904", b"3566002020360505", b"8171999900000000021", b"6799998900000099990", b"501800000009",
]  # fmt: skip
GLUE = [
    b" ",
    b"-",
    b"  ",
    b"--",
    b" -",
    b"",
    b"x",
    b"\n",
    b"\x00",
    b"\xff",
    b"\\",
    b"\\x",
    b"\\001",
    b'"',
    b"e+15",
]


class Difference(Exception):
    """The code under test and the plain definition disagree."""


def piece(chance: random.Random) -> bytes:
    kind = chance.randrange(6)
    if kind == 0:
        return chance.choice(PANS)
    if kind == 1:
        pan, step = chance.choice(PANS).decode(), chance.randrange(1, 6)
        groups = [pan[i : i + step] for i in range(0, len(pan), step)]
        return chance.choice([" ", "-"]).join(groups).encode()
    if kind == 2:
        return bytes(chance.choices(b"0123456789", k=chance.randrange(1, 40)))
    if kind == 3:
        return bytes(chance.choices(b"0123456789 -", k=chance.randrange(1, 90)))
    if kind == 4:
        return b"x" * chance.randrange(1, 70)
    return chance.randbytes(chance.randrange(1, 20))


def text(chance: random.Random) -> bytes:
    data = bytearray()
    for _ in range(chance.randrange(1, 9)):
        data += piece(chance) + chance.choice(GLUE)
    for _ in range(chance.randrange(3)):
        data[chance.randrange(len(data))] = chance.choice(b"0123456789 -x\x00\xff")
    return bytes(data)


def kernels(chance: random.Random, scanners: list[tuple[_scan.Scanner, object]]) -> None:
    data = text(chance)
    scanner, ranges = chance.choice(scanners)
    name = chance.choice(list(KINDS))
    hits = [(s, e, n) for s, e, n, _ in oracle.find(data, ranges)]
    if [(s, e, scanner.networks[n]) for s, e, n in scanner.find(data)] != hits:
        raise Difference(f"find by {scanner.kernel}: {data!r}")
    out = bytearray(data)
    if scanner.mask(out, KINDS[name]) != len(hits) or out != oracle.mask(data, name, ranges):
        raise Difference(f"mask {name} by {scanner.kernel}: {data!r}")
    out = bytearray(data)
    if scanner.mask(out, KINDS[name] | DIGITS) != len(hits):
        raise Difference(f"digits {name} by {scanner.kernel}: {data!r}")
    alone = bytearray(data)
    left = scanner.mask_alone(alone, KINDS[name])
    if (left, alone) != ((-1, data) if left < 0 else (len(hits), oracle.mask(data, name, ranges))):
        raise Difference(f"mask_alone {name} by {scanner.kernel}: {data!r}")


def stream(chance: random.Random, scanners: list[tuple[_scan.Scanner, object]]) -> None:
    data = text(chance)
    scanner, ranges = chance.choice(scanners)
    name = chance.choice(list(KINDS))
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(12)))
    parts = _scan.Stream(scanner, KINDS[name])
    out = (
        b"".join(parts.feed(data[a:b]) for a, b in itertools.pairwise([0, *cuts, len(data)]))
        + parts.finish()
    )
    if out != oracle.mask(data, name, ranges):
        raise Difference(f"stream {name} by {scanner.kernel}, cut at {cuts}: {data!r}")
    if parts.counts != scanner.mask_counted(bytearray(data), KINDS[name]):
        raise Difference(f"counts of a stream by {scanner.kernel}, cut at {cuts}: {data!r}")


def json_text(chance: random.Random) -> None:
    values = [
        chance.choice(PANS).decode(),
        int(chance.choice(PANS)),
        text(chance).decode("latin-1"),
        None,
        1.5,
    ]
    chance.shuffle(values)
    data = json.dumps(
        {"a": values, chance.choice(PANS).decode(): 1}, ensure_ascii=chance.random() < 0.5
    )
    out = bytearray(data.encode())
    default_scanner().mask_json(out)
    if len(out) != len(data.encode()):
        raise Difference(f"JSON changed its length: {data!r}")
    try:
        json.loads(out)
    except ValueError:
        raise Difference(f"no JSON any more: {data!r}") from None
    broken = bytearray(data.encode())
    broken[chance.randrange(len(broken))] = chance.randrange(256)
    default_scanner().mask_json(broken)


MASKERS = {
    "default": Masker(),
    "all": Masker(decode="all"),
    "wiping": Masker("digits", columns={"x": "wipe"}, patterns={"three": "[0-9]{3}"}),
}
MARKS = [
    "cvv=123 ",
    "\\u0034",
    "%34",
    "%C3%A9",
    "\uff14",
    "\xa0",
    "&#52;",
    "+",
    "^",
    ";",
    "=2512101",
    "pin: [\n1234\n]",
]


def whole(chance: random.Random) -> None:
    """What the oracle masks is masked, streams give the same as the whole, and JSON stays JSON."""
    parts = [text(chance).decode("latin-1") if chance.random() < 0.6 else chance.choice(MARKS)
             for _ in range(chance.randrange(1, 6))]  # fmt: skip
    name = chance.choice(list(MASKERS))
    masker = MASKERS[name]
    data = "".join(parts).encode()
    out = masker.mask(data)
    if name == "default":
        for i, byte in enumerate(oracle.mask(data)):
            if (
                byte == 42
                and out[i : i + 1].isdigit()
                and len(out) == len(data)
                and b"-" not in data
            ):
                raise Difference(f"masker {name}: {data!r}")
        stream, size = masker.stream(), chance.randrange(1, 40)
        pieces = [stream.feed(data[i : i + size]) for i in range(0, len(data), size)]
        if b"".join([*pieces, stream.finish()]) != out:
            raise Difference(f"stream of {size} of masker {name}: {data!r}")
    value = json.dumps({chance.choice(["x", "cvv", "n"]): [*parts, int(chance.choice(PANS))]})
    try:
        json.loads(masker.mask(value, "json"))
    except ValueError:
        raise Difference(f"no JSON any more by masker {name}: {value!r}") from None


def cells(chance: random.Random) -> None:
    operation = chance.randrange(_frame.OPS)
    data = bytearray(
        text(chance) if chance.random() < 0.6 else chance.randbytes(chance.randrange(80))
    )
    size = len(data)
    hits = _frame.mask_cell(default_scanner(), chance.choice([0, 1, 2, 3]), operation, data)
    if hits < -1 or len(data) != size:
        raise Difference(f"operation {operation} gave {hits}: {bytes(data)!r}")


def codec(chance: random.Random) -> None:
    values = [text(chance) for _ in range(3)]
    server = bytearray(
        row_description([("a", 25, 0), ("b", 1043, 0), ("c", 17, 1)])
        + row(*values)
        + complete("SELECT 1")
        + ready()
    )
    bench = Bench().log_in().agent(query("select 1"))
    whole = Bench().log_in().agent(query("select 1"))
    whole.server(bytes(server))
    cuts = sorted(chance.randrange(len(server)) for _ in range(5))
    edges = [0, *cuts, len(server)]
    for a, b in itertools.pairwise(edges):
        bench.server(bytes(server[a:b]))
    if bench.to_frontend != whole.to_frontend:
        raise Difference(f"the codec depends on the cuts {cuts}: {bytes(server)!r}")
    for _ in range(chance.randrange(1, 5)):
        server[chance.randrange(len(server))] = chance.randrange(256)
    with contextlib.suppress(ProtocolError, Refused):
        Bench().log_in().agent(query("select 1")).server(bytes(server))
    with contextlib.suppress(ProtocolError, Refused):
        Bench().log_in().agent(bytes(server))


def conversation(chance: random.Random) -> None:
    """A whole one, cut anywhere: the same comes out, and no card number."""
    seed, turns = chance.randrange(2**40), chance.randrange(1, 7)
    one = talk(seed, turns)
    two = talk(seed, turns, anywhere(chance), anywhere(chance))
    if not same(one, two):
        raise Difference(f"conversation {seed} of {turns} turns depends on its cuts")
    if leaks(one):
        raise Difference(f"conversation {seed} of {turns} turns lets a card number out")


def frontend(chance: random.Random) -> None:
    """A spoilt agent: ProtocolError or Refused, and nothing else."""
    spoil = spoiler(chance, chance.choice((0.2, 0.6, 1.0)))
    with contextlib.suppress(ProtocolError, Refused):
        talk(chance.randrange(2**40), 4, anywhere(chance), spoil_agent=spoil)
    data = spoiler(chance, 1.0)(beginning(chance))
    with contextlib.suppress(ProtocolError, Refused):
        begin(data, chance.choice(("required", "offered", "none")), anywhere(chance))


def backend(chance: random.Random) -> None:
    """A spoilt server: the same; and what it was not asked for by a change of its own bytes stays hidden."""
    spoil = spoiler(chance, chance.choice((0.1, 0.3, 1.0)))
    with contextlib.suppress(ProtocolError, Refused):
        talk(chance.randrange(2**40), 4, server=anywhere(chance), spoil_server=spoil)
    log_in(chance.randrange(2**40), anywhere(chance), spoiler(chance, 0.6))


def main(seconds: float, seed: int) -> int:
    chance = random.Random(seed)
    core, everything = select(), select(packs())
    scanners = [
        (_scan.Scanner(compile_ranges(ranges), kernel), ranges)
        for kernel in _scan.kernels()
        for ranges in (core, everything)
    ]
    targets = (
        kernels, kernels, kernels, stream, json_text, whole, cells, codec,
        conversation, frontend, backend,
    )  # fmt: skip
    done: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        target = chance.choice(targets)
        try:
            if target in (kernels, stream):
                target(chance, scanners)
            else:
                target(chance)
        except Difference as found:
            print(f"seed {seed}, after {sum(done.values())}: {found}")
            return 1
        except Exception:
            print(f"seed {seed}, after {sum(done.values())}, in {target.__name__}:", flush=True)
            raise
        done[target.__name__] += 1
    print(
        f"seed {seed}: no difference in " + ", ".join(f"{n} of {name}" for name, n in done.items())
    )
    return 0


if __name__ == "__main__":
    sys.exit(
        main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 10**6)
    )
