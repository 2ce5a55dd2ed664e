"""Others at the same work: speed on the same bytes, recall and false positives on one labelled corpus.

A peer that is not installed is skipped, and the reason printed: `pip install 'pangate[peers]'` brings them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from corpora import corpora
from labelled import cases

import oracle
from pangate import Masker
from pangate.masking import default_scanner

SIZE = int(os.environ.get("PANGATE_PEERS_KB", "512")) << 10
CORPORA = {
    corpus.name: corpus for corpus in corpora(SIZE) if corpus.name in ("prose", "logs", "CSV")
}
RUN = r"[0-9](?:[ -]?[0-9]){11,18}"
Finder = Callable[[str], list[str]]
"""Takes a text, gives the digits of every card number that it would mask."""


def digits(text: str) -> str:
    return "".join(str(int(c)) for c in text if c.isdecimal())


def ours(decode: str) -> Finder:
    masker = Masker(decode=decode)

    def find(text: str) -> list[str]:
        return [digits(re.sub(r"%20", "", text[h.start : h.end])) for h in masker.find(text)]

    return find


def kernel() -> Finder:
    scanner = default_scanner()

    def find(text: str) -> list[str]:
        data = text.encode()
        return [digits(data[start:end].decode()) for start, end, _ in scanner.find(data)]

    return find


def plain_re() -> Finder:
    pattern = re.compile(RUN)
    return lambda text: [d for m in pattern.finditer(text) if oracle.luhn(d := digits(m[0]))]


def re2() -> Finder:
    module = pytest.importorskip("re2", reason="pip install google-re2")
    pattern = module.compile(RUN)
    return lambda text: [d for m in pattern.finditer(text) if oracle.luhn(d := digits(m[0]))]


def hyperscan() -> Finder:
    module = pytest.importorskip("hyperscan", reason="pip install hyperscan")
    database = module.Database()
    flags = module.HS_FLAG_SOM_LEFTMOST
    database.compile(expressions=[RUN.encode()], ids=[0], elements=1, flags=[flags])

    def find(text: str) -> list[str]:
        data = text.encode()
        longest: dict[int, int] = {}

        def on_match(_id, start, end, _flags, _context) -> None:
            longest[start] = max(end, longest.get(start, 0))

        database.scan(data, match_event_handler=on_match)
        runs = (
            digits(data[start:end].decode("utf-8", "replace")) for start, end in longest.items()
        )
        return [run for run in runs if oracle.luhn(run)]

    return find


def presidio() -> Finder:
    module = pytest.importorskip(
        "presidio_analyzer.predefined_recognizers", reason="pip install presidio-analyzer"
    )
    recogniser = module.CreditCardRecognizer()

    def find(text: str) -> list[str]:
        return [digits(text[r.start : r.end]) for r in recogniser.analyze(text, ["CREDIT_CARD"])]

    return find


def scrubadub() -> Finder:
    module = pytest.importorskip("scrubadub", reason="pip install scrubadub")
    detector = module.detectors.CreditCardDetector()

    def find(text: str) -> list[str]:
        return [digits(filth.text) for filth in detector.iter_filth(text)]

    return find


PEERS: dict[str, Callable[[], Finder]] = {
    "pangate, kernel alone": kernel,
    "pangate": lambda: ours("default"),
    "pangate, all decoders": lambda: ours("all"),
    "re and Luhn": plain_re,
    "google-re2 and Luhn": re2,
    "hyperscan and Luhn": hyperscan,
    "Presidio": presidio,
    "scrubadub": scrubadub,
}


MASKS: dict[str, Callable[[str], object]] = {
    "pangate, kernel alone": lambda text: default_scanner().mask(bytearray(text.encode())),
    "pangate": Masker().mask,
    "pangate, all decoders": Masker(decode="all").mask,
}


@pytest.fixture
def quiet() -> Iterator[None]:
    """Peers warn of their own dependencies."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.timeout(900)
@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("name", CORPORA)
def test_speed(benchmark, quiet, name, peer):
    corpus = CORPORA[name]
    find = PEERS[peer]()
    text = corpus.data.decode()
    benchmark.group = f"peers: {name}"
    if peer in MASKS:
        # we mask, they only find
        benchmark.pedantic(MASKS[peer], args=(text,), rounds=3)
        found = find(text)
        assert len(found) >= corpus.pans
    elif "Luhn" in peer:
        found = benchmark.pedantic(find, args=(text,), rounds=3)
    else:
        # made for sentences, so given lines
        lines = text.splitlines()
        found = benchmark.pedantic(lambda: [hit for line in lines for hit in find(line)], rounds=2)
    benchmark.extra_info.update(
        mb_per_second=round(len(corpus.data) / benchmark.stats.stats.min / 1e6, 2),
        found=len(found),
        pans=corpus.pans,
        kilobytes=len(corpus.data) >> 10,
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize("peer", PEERS)
def test_labelled_corpus(benchmark, quiet, peer):
    find = PEERS[peer]()
    benchmark.group = "peers: labelled"
    all_cases = cases()
    results = benchmark.pedantic(lambda: [find(case.text) for case in all_cases], rounds=1)
    of, right, wrong = Counter(), Counter(), Counter()
    for case, hits in zip(all_cases, results, strict=True):
        of[case.group] += 1
        if case.pan:
            right[case.group] += any(case.pan in hit for hit in hits)
        else:
            wrong[case.group] += bool(hits)
    with_pan = [g for g in of if not g.startswith("not")]
    benchmark.extra_info.update(
        recall={g: round(right[g] / of[g], 3) for g in with_pan},
        false_positives={g: round(wrong[g] / of[g], 3) for g in of if g.startswith("not")},
        recall_all=round(sum(right.values()) / sum(of[g] for g in with_pan), 3),
    )
    if peer == "pangate, kernel alone":
        for group in (
            "alone",
            "in prose",
            "in JSON",
            "in CSV",
            "behind letters",
            "behind a date",
            "spaces",
        ):
            assert right[group] == of[group], group
