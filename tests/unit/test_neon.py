"""The NEON kernel against the oracle, built for aarch64 and run by an emulator on any other machine."""

from __future__ import annotations

import platform
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

import oracle
from pangate.masking.iin import compile_ranges, select

ROOT = Path(__file__).parents[2]
HERE = platform.machine() == "aarch64"
COMPILER = shutil.which("gcc" if HERE else "aarch64-linux-gnu-gcc")
EMULATOR = [] if HERE else [shutil.which("qemu-aarch64-static")]
NEON = 4

PANS = ("4111111111111111", "378282246310005", "5555555555554444", "30569309025904", "4222222222222",
        "8171999900000000021", "501800000009")  # fmt: skip


def text(chance: random.Random) -> bytes:
    out, size = "", chance.choice([5, 30, 70, 130, 300, 700]) + chance.randrange(10)
    while len(out) < size:
        pan, kind = chance.choice(PANS), chance.random()
        if kind < 0.3:
            out += pan
        elif kind < 0.45:
            out += " ".join(pan[i : i + 4] for i in range(0, len(pan), 4))
        elif kind < 0.5:
            out += "-".join(pan)
        elif kind < 0.8:
            out += chance.choice(" -  x\n,")
        else:
            out += "".join(chance.choices("0123456789 -", k=chance.randint(1, 40)))
    return out[:size].encode()


@pytest.mark.skipif(
    COMPILER is None or None in EMULATOR,
    reason="neither an aarch64 machine nor gcc-aarch64-linux-gnu with qemu-user-static",
)
def test_the_kernel_of_aarch64_agrees_with_the_oracle(tmp_path: Path) -> None:
    assert COMPILER is not None
    tables, chance, cases = compile_ranges(select()), random.Random(5), 2000
    kinds = ("last4", "first6_last4", "first8_last4", "full")
    with (tmp_path / "cases").open("wb") as file:
        file.write(struct.pack("<II", len(tables.next), tables.eight_plus_four))
        file.write(tables.next.tobytes() + tables.issuers.tobytes() + struct.pack("<I", cases))
        for i in range(cases):
            data, kind = text(chance), i % len(kinds)
            file.write(struct.pack("<III", kind, len(data), len(oracle.find(data))))
            file.write(data + oracle.mask(data, kinds[kind]))
    program = tmp_path / "neon"
    command = [
        COMPILER,
        "-std=c11",
        "-O3",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-static",
        "-o",
        str(program),
    ]
    sources = [ROOT / "tests" / "neon.c", *(ROOT / "ext" / "pangate").glob("[st]*.c")]
    subprocess.run([*command, f"-I{ROOT}/ext/pangate", *map(str, sources)], check=True)
    run = [one for one in EMULATOR if one] + [str(program), str(tmp_path / "cases")]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.stdout == f"{cases} cases, 2 kernels, preferred {NEON}, 0 wrong\n"
