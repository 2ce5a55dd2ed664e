"""What a ledger costs: events recorded, on the thread that also serves agents; sealed; verified, every leaf hashed,
every tile compared, every event read. Beside it stands what no verifier can do without, two SHA-256 an event by the
same library."""

from __future__ import annotations

import itertools
import json
import os
import time
from hashlib import sha256

import pytest

import ledgers
import records
from pangate._book import Book, Decided, InForce, Tally
from pangate.audit import Recorder, leaf_encoder
from pangate.audit.clock import Steps
from pangate.audit.index import Index, Record
from pangate.audit.jsonl import JsonLines
from pangate.audit.marks import is_whole
from pangate.audit.sealer import Sealer
from pangate.audit.verify import verify
from pangate.ledger.tree import leaf_hash
from pangate.metrics import Metrics
from pangate.model import Event

COUNT = 400_000
SECONDS = 15
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


RATE, TURNS = 20_000, 1_000
"""Events a second, and turns of the event loop in which they come; each turn ends with a write."""
PAIRS = RATE // TURNS // 2


def allowed(number):
    """What is recorded of a statement before it is forwarded."""
    return made("statement.allowed", number, {
        "number": number, "kind": "query", "text": TEXT, "verdict": "allow", "rule": "role:reader",
        "effects": ["read"], "relations": ["payments"],
    })  # fmt: skip


VALUES = ("81723", "2026-11-29")


def asked(number):
    """The same of one with values."""
    event = allowed(number)
    return event._replace(data={**event.data, "kind": "execute", "parameters": list(VALUES)})


def finished(number):
    """And of how it ended."""
    return made("statement.finished", number, {
        "bytes": 211, "masked": {"visa": 2}, "number": number, "rows": 3, "seconds": 0.000731,
    })  # fmt: skip


def made(code, number, data):
    return Event(code, time.time(), "abcdefghijklmnop", "https://issuer.example#job", "192.0.2.7:51234",
                 "payments", True, data, "abcdefghijkl", "reader", number)  # fmt: skip


def book_of(recorder):
    """The book of a session that is admitted to everything."""
    metrics = Metrics()
    book = Book(
        recorder.leaves,
        metrics.statement_seconds,
        metrics.count_masked,
        InForce(""),
        metrics.given,
    )
    book.admit(None, None, None)
    return book


def whole_events(path):
    """How many are in the file, each whole and in its place."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            assert is_whole(line[:-1])
            assert json.loads(line)["sequence"] == number
    return number


@pytest.mark.parametrize("way", ["anew", "as before"])
@pytest.mark.benchmark(group="ledger: record")
def test_record(benchmark, tmp_path, way):
    """Events of statements and their ends, masked, encoded, checked and written; the disk follows meanwhile.
    `anew` is a statement that was not there before, `as before` one that was. What the gate makes an event
    of is its own."""
    path = tmp_path / "audit.jsonl"
    recorder = Recorder(JsonLines(path), leaf_encoder(None, Steps(1.0)), steps=Steps(1.0))
    before, used = recorder.sequence, []
    book = book_of(recorder)
    form = recorder.form(allowed(1), ("number",))
    ended = recorder.form(finished(1), tuple(sorted(finished(1).data)))
    known = Decided(None, "", ((Tally(), form),), ended)
    numbers = itertools.count(1)

    def turn_anew():
        events = [make(next(numbers)) for _ in range(PAIRS) for make in (allowed, finished)]
        began = time.thread_time()
        for event in events:
            recorder.record(event)
        recorder.flush()
        return time.thread_time() - began

    def turn_as_before():
        began = time.thread_time()
        for _ in range(PAIRS):
            assert book.again(known, (), None)
            assert book.answered(known, book.statements, 1, 3, 211, {"visa": 2}, {}, 0, 0)
        recorder.flush()
        return time.thread_time() - began

    turn = turn_anew if way == "anew" else turn_as_before

    def second():
        used.append(sum(turn() for _ in range(TURNS)))

    benchmark.pedantic(second, rounds=5)
    last = recorder.sequence
    recorder.close()
    assert whole_events(path) == last + 1 == before + 5 * RATE + 1
    assert b'"masked":{"visa":2}' in path.read_bytes().splitlines()[-2]
    benchmark.extra_info["events"] = RATE
    benchmark.extra_info["cpu_microseconds_an_event"] = round(min(used) / RATE * 1e6, 2)


@pytest.mark.benchmark(group="ledger: record, as they come")
def test_record_as_they_come(benchmark, tmp_path):
    """The same at the pace of RATE: a turn every millisecond, and between turns the thread sleeps, so that what it
    needs is as cold as it is for a gateway that waits for its sockets. One statement in four was not there before;
    all have two values, which are masked. In a turn are the statements that came and the ends of those of the turn before, and one write for all."""
    path = tmp_path / "audit.jsonl"
    steps = Steps(1.0)
    recorder = Recorder(JsonLines(path), leaf_encoder(tmp_path / "large", steps), steps=steps)
    before, used, late = recorder.sequence, [], []
    book = book_of(recorder)
    form = recorder.form(asked(1), ("number", "parameters"))
    ended = recorder.form(finished(1), tuple(sorted(finished(1).data)))
    known = Decided(None, "", ((Tally(), form),), ended)
    numbers = itertools.count(1)
    open_new, open_known = 0, []

    def turn():
        nonlocal open_new, open_known
        # what the gate makes an event of is its own
        new = [asked(next(numbers)) for _ in range(next(turns) % 2 + 2)]
        over = [finished(next(numbers)) for _ in range(open_new)]
        began = time.thread_time()
        for event in over:
            recorder.record(event)
        for number in open_known:
            assert book.answered(known, number, 1, 3, 211, {"visa": 2}, {}, 0, 0)
        for event in new:
            recorder.record(event)
        for _ in range(PAIRS - len(new)):
            assert book.again(known, VALUES, None)
        recorder.flush()
        seconds = time.thread_time() - began
        many = PAIRS - len(new)
        open_new, open_known = len(new), range(book.statements - many + 1, book.statements + 1)
        return seconds

    turns = itertools.count()
    turn()

    def second():
        total, due = 0.0, time.perf_counter()
        for _ in range(TURNS):
            due += 1 / TURNS
            time.sleep(max(0.0, due - time.perf_counter()))
            total += turn()
        used.append(total)
        late.append(time.perf_counter() - due)

    benchmark.pedantic(second, rounds=10)
    last = recorder.sequence
    recorder.close()
    assert whole_events(path) == last + 1 == before + PAIRS + 10 * RATE + 1
    micros = sorted(seconds / RATE * 1e6 for seconds in used)
    benchmark.extra_info["events"] = RATE
    benchmark.extra_info["cpu_microseconds_an_event"] = round(micros[0], 2)
    benchmark.extra_info["median_cpu_microseconds_an_event"] = round(micros[len(micros) // 2], 2)
    benchmark.extra_info["seconds_late"] = round(min(late), 3)


@pytest.mark.benchmark(group="ledger: seal")
def test_seal(benchmark, leaves, tmp_path):
    count, places = COUNT // 16, itertools.count()
    data = b"".join(leaf + b"\n" for leaf in leaves[:count])

    def fresh():
        directory = tmp_path / str(next(places))
        directory.mkdir(mode=0o700)
        journal = directory / "audit.jsonl"
        journal.write_bytes(data)
        return (Sealer(journal, directory, ledgers.SIGNER),), {}

    def seal(sealer):
        checkpoint = sealer.seal()
        sealer.close()
        return checkpoint

    checkpoint = benchmark.pedantic(seal, setup=fresh, rounds=3)
    assert checkpoint.size == count
    assert checkpoint.root == ledgers.root_of(leaves[:count])
    benchmark.extra_info["events_a_second"] = round(count / benchmark.stats.stats.min)


@pytest.mark.parametrize("rate", [400, 4_000])
@pytest.mark.benchmark(group="ledger: seal and index, as they come")
def test_seal_and_index_as_they_come(benchmark, tmp_path, rate):
    """What the sealer's process does with what came in a second, for as long as it comes: a checkpoint, and the
    index. Statements have an event before and one behind them, so a query is two."""
    source = records.write(tmp_path / "all.jsonl", rate * (SECONDS + 1), seconds=1 / rate)
    directory = tmp_path / "ledger"
    directory.mkdir(mode=0o700)
    journal = directory / "audit.jsonl"
    journal.touch(mode=0o600)
    sealer, index = Sealer(journal, directory, ledgers.SIGNER), Index(Record(journal))
    used = []

    def second():
        began = time.process_time()
        sealer.seal()
        index.catch_up()
        used.append(time.process_time() - began)

    with source.open("rb") as lines, journal.open("ab") as file:

        def more():
            file.writelines(itertools.islice(lines, rate))
            file.flush()

        benchmark.pedantic(second, setup=more, rounds=SECONDS, warmup_rounds=1)
    assert sealer.size == index.position().sequence == rate * (SECONDS + 1)
    sealer.close()
    mean = sum(used[1:]) / SECONDS / rate
    benchmark.extra_info["events"] = rate * SECONDS
    benchmark.extra_info["cpu_microseconds_a_query"] = round(2 * mean * 1e6, 1)


@pytest.fixture(params=["a copy of the tree", "with the file that events were written to"])
def verified(request, directory, leaves, tmp_path):
    """`directory`, as it is, or with the file that a gateway has beside its tree."""
    file = directory / "audit.jsonl"
    if request.param != "a copy of the tree":
        file.write_bytes(b"\n".join(leaves) + b"\n")
        file.chmod(0o600)
    yield directory
    file.unlink(missing_ok=True)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.benchmark(group="ledger: verify")
def test_verify(benchmark, verified, leaves, processes):
    if processes > len(os.sched_getaffinity(0)):
        pytest.skip("there is one core only")
    report = benchmark.pedantic(
        verify, (verified, ledgers.KEYS), {"processes": processes}, rounds=5
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
