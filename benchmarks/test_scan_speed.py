"""The scanner on the seven corpora, beside memcpy and memchr, the limits of the machine, and `re` with a
Luhn check, in one run. Ratios to memcpy and memchr are what is judged: machines differ and are noisy."""

from __future__ import annotations

import ctypes
import os
import re
import time
import timeit

import pytest
from corpora import Corpus, corpora

import oracle
from pangate import _scan
from pangate.masking import default_scanner
from pangate.masking.iin import compile_ranges, select

SIZE = int(os.environ.get("PANGATE_BENCH_MB", "64")) << 20
SLOW = 512 << 10  # bytes that `re` is given: it needs a hundred times as long
CORPORA = {corpus.name: corpus for corpus in corpora(SIZE)}
KERNELS = {name: _scan.Scanner(compile_ranges(select()), name) for name in _scan.kernels()}

LIBC = ctypes.CDLL(None)
LIBC.memchr.restype = ctypes.c_void_p
LIBC.memchr.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
LIBC.memcpy.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def seconds(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def limits(data: bytes) -> dict[str, float]:
    """GB/s of memcpy and memchr on the same bytes, best of five."""
    source = (ctypes.c_char * len(data)).from_buffer_copy(data)
    target = ctypes.create_string_buffer(len(data))
    LIBC.memcpy(target, source, len(data))
    copy = min(seconds(lambda: LIBC.memcpy(target, source, len(data))) for _ in range(5))
    find = min(seconds(lambda: LIBC.memchr(source, 0xFE, len(data))) for _ in range(5))
    return {"memcpy_gb": len(data) / copy / 1e9, "memchr_gb": len(data) / find / 1e9}


def scan(scanner: _scan.Scanner, corpus: Corpus, buffer: bytearray) -> int:
    if corpus.offsets is None:
        return scanner.mask(buffer)
    return scanner.mask_fields(buffer, corpus.offsets, corpus.lengths)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.timeout(600)
def test_corpus(benchmark, name, kernel):
    corpus = CORPORA[name]
    if kernel == "portable" and SIZE > 16 << 20:
        pytest.skip("the portable kernel is measured with PANGATE_BENCH_MB=16 or less")
    found = []

    def setup():
        return (bytearray(corpus.data),), {}

    benchmark.group = f"scan: {name}"
    benchmark.pedantic(
        lambda buffer: found.append(scan(KERNELS[kernel], corpus, buffer)), setup=setup, rounds=5
    )
    assert set(found) == {corpus.pans}
    rate = len(corpus.data) / benchmark.stats.stats.min / 1e9
    bounds = limits(corpus.data)
    benchmark.extra_info.update(
        gb_per_second=round(rate, 3),
        to_memcpy=round(rate / bounds["memcpy_gb"], 3),
        to_memchr=round(rate / bounds["memchr_gb"], 3),
        memcpy_gb=round(bounds["memcpy_gb"], 2),
        memchr_gb=round(bounds["memchr_gb"], 2),
        pans=corpus.pans,
        megabytes=len(corpus.data) >> 20,
    )


CALLS = 1000
"""Of what is measured at a time, where one is too short."""

RUN = re.compile(rb"[0-9](?:[ -]?[0-9]){11,18}")


@pytest.mark.parametrize("name", ["prose", "logs", "CSV"])
@pytest.mark.timeout(600)
def test_re_and_luhn(benchmark, name):
    """What people write first: a regular expression and a Luhn check on what it finds."""
    corpus = CORPORA[name]
    data = corpus.data[: corpus.data.rindex(b"\n", 0, SLOW) + 1]

    def mask() -> tuple[bytes, int]:
        count = 0

        def one(match: re.Match[bytes]) -> bytes:
            nonlocal count
            digits = re.sub(rb"[ -]", b"", match[0]).decode()
            if not oracle.luhn(digits):
                return match[0]
            count += 1
            return b"*" * (len(match[0]) - 4) + match[0][-4:]

        return RUN.sub(one, data), count

    benchmark.group = f"scan: {name}"
    _, count = benchmark.pedantic(mask, rounds=3)
    right = len(oracle.find(data))
    benchmark.extra_info.update(
        gb_per_second=round(len(data) / benchmark.stats.stats.min / 1e9, 5), found=count, pans=right
    )
    assert count > 0 or right == 0


@pytest.mark.parametrize(("label", "size"), [("64 B", 64), ("1 KB", 1024), ("8 KB of logs", 8192)])
def test_one_call(benchmark, label, size):
    """One call from Python, the interpreter's share included: a thousand of them in the loop of `timeit`,
    since the plugin's own loop takes as long as the call."""
    scanner = default_scanner()
    buffer = bytearray(CORPORA["logs"].data[:size])
    scanner.mask(buffer)
    benchmark.group = "scan: one call"
    loop = timeit.Timer("mask(buffer)", globals={"mask": scanner.mask, "buffer": buffer}).timeit
    benchmark(loop, CALLS)
    benchmark.extra_info.update(
        nanoseconds=round(benchmark.stats.stats.median / CALLS * 1e9, 1),
        shortest=round(benchmark.stats.stats.min / CALLS * 1e9, 1),
        calls=CALLS,
    )
    assert scanner.find(buffer) == []
