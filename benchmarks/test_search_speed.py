"""How long it takes to index a record, and to answer a question from the index: what the command does for one,
without starting Python, down to the 50 newest events read from the record.

PANGATE_BENCH_EVENTS says how many events there are (5 million). PANGATE_BENCH_RECORD names a file of these that
tests/records.py has written before, for making it takes minutes; its index stays beside it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from questions import NEVER, questions

import records
from pangate.audit.index import Index, Query, Record
from pangate.audit_cli.output import fetch
from pangate.audit_cli.stats import BY, DEFAULT

EVENTS = int(os.environ.get("PANGATE_BENCH_EVENTS", "5000000"))
GIVEN = os.environ.get("PANGATE_BENCH_RECORD", "")
SECONDS = 0.25
"""Between two events, on the average: five million are two weeks."""

LIMIT = 1.0
"""CPU seconds that an answer may take: what else the machine does is not the index's."""

QUESTIONS = questions(EVENTS, SECONDS)
COUNTS = {**{kind: [kind] for kind in BY}, "what is shown without --by": ["all", *DEFAULT]}


@pytest.fixture(scope="session")
def record(tmp_path_factory):
    if GIVEN:
        return Record(Path(GIVEN))
    return Record(
        records.write(tmp_path_factory.mktemp("search") / "audit.jsonl", EVENTS, seconds=SECONDS)
    )


@pytest.fixture(scope="session")
def index(record, tmp_path_factory):
    made = Index(record, None if GIVEN else tmp_path_factory.mktemp("index") / "index")
    made.catch_up()
    return made


@pytest.mark.timeout(0)
@pytest.mark.benchmark(group="search: indexing")
def test_indexing(benchmark, record, tmp_path):
    """Of a fifth of the events, from nothing; and what the whole index takes on the disk."""
    part = EVENTS // 5
    made = Index(record, tmp_path / "index")
    cpu = time.process_time()
    assert benchmark.pedantic(made.catch_up, args=(part,), rounds=1) == part
    benchmark.extra_info["events"] = part
    benchmark.extra_info["events_a_second"] = round(part / benchmark.stats["min"])
    benchmark.extra_info["events_a_cpu_second"] = round(part / (time.process_time() - cpu))


@pytest.mark.timeout(0)
@pytest.mark.benchmark(group="search: questions")
@pytest.mark.parametrize("about", QUESTIONS)
def test_question(benchmark, index, about):
    cpu = []

    def ask():
        began = time.process_time()
        index.catch_up()
        found = len(list(fetch(index.record, index.search(QUESTIONS[about], 50))))
        cpu.append(time.process_time() - began)
        return found

    found = benchmark.pedantic(ask, rounds=5, warmup_rounds=1)
    if about in NEVER:
        assert found == 0
    elif about != "words, rare" and EVENTS >= 1_000_000:
        assert found > 0
    benchmark.extra_info["found"] = found
    benchmark.extra_info["cpu_seconds"] = round(min(cpu), 4)
    benchmark.extra_info["events"] = EVENTS
    benchmark.extra_info["index_bytes_an_event"] = round(index.path.stat().st_size / EVENTS, 1)
    assert min(cpu) < LIMIT


@pytest.mark.timeout(0)
@pytest.mark.benchmark(group="search: counts")
@pytest.mark.parametrize("by", COUNTS)
@pytest.mark.parametrize("about", ["all", "what was denied"])
def test_count(benchmark, index, by, about):
    asked = Query() if about == "all" else Query(terms={"verdict": ("deny",)})
    cpu = []

    def count():
        began = time.process_time()
        found = index.count(asked, COUNTS[by])
        cpu.append(time.process_time() - began)
        return found

    found = benchmark.pedantic(count, rounds=5, warmup_rounds=1)
    if about == "all":
        assert all(found.values())
    benchmark.extra_info["cpu_seconds"] = round(min(cpu), 4)
    benchmark.extra_info["events"] = EVENTS
    assert min(cpu) < LIMIT


@pytest.mark.timeout(0)
@pytest.mark.benchmark(group="search: without an index")
def test_grep(benchmark, record, index):
    """The same rare word with grep over the record, which knows nothing of words, fields and time."""
    words = ["grep", "-c", "-F", "1234567", str(record.file)]
    done = benchmark.pedantic(
        lambda: subprocess.run(words, check=False, capture_output=True), rounds=2
    )
    # it counts what stands within a longer number too
    assert int(done.stdout) >= len(list(index.search(QUESTIONS["words, rare"], 50)))
    benchmark.extra_info["events"] = EVENTS
