"""How fast a ledger is verified: every leaf hashed, every tile compared, every event read. Beside it stands what
no verifier can do without, two SHA-256 an event by the same library."""

from __future__ import annotations

import os
from hashlib import sha256

import pytest

import ledgers
from pangate.audit.verify import verify
from pangate.ledger.tree import leaf_hash

COUNT = 400_000
TEXT = "select id, holder, amount, currency from payments where merchant = $1 and day >= $2 order by id"


@pytest.fixture(scope="module")
def leaves():
    return [
        ledgers.event(number, text=TEXT, number=number % 50, effects=["read"], rows=3)
        for number in range(1, COUNT + 1)
    ]


@pytest.fixture(scope="module")
def directory(leaves, tmp_path_factory):
    return ledgers.write(tmp_path_factory.mktemp("log") / "ledger", ledgers.files_of(leaves))


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.benchmark(group="ledger: verify")
def test_verify(benchmark, directory, leaves, processes):
    if processes > len(os.sched_getaffinity(0)):
        pytest.skip("there is one core only")
    report = benchmark.pedantic(
        verify, (directory, ledgers.KEYS), {"processes": processes}, rounds=5
    )
    assert report.ok
    assert report.events == COUNT
    benchmark.extra_info["events"] = COUNT
    benchmark.extra_info["bytes"] = sum(map(len, leaves))
    benchmark.extra_info["events_a_second"] = round(COUNT / benchmark.stats.stats.min)


@pytest.mark.benchmark(group="ledger: two SHA-256 an event")
def test_hashes_alone(benchmark, leaves):
    def hashes():
        node = bytes(65)
        for leaf in leaves:
            sha256(leaf).digest()
            sha256(node).digest()

    benchmark.pedantic(hashes, rounds=5)
    benchmark.extra_info["events_a_second"] = round(COUNT / benchmark.stats.stats.min)
    assert leaf_hash(leaves[0]) == sha256(b"\0" + leaves[0]).digest()
