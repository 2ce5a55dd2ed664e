"""The index of a record: what it finds is what a slow scan of the record finds, however it came to be."""

import json
import random
import re
import sqlite3
import stat
from collections import Counter, defaultdict
from datetime import UTC, datetime
from itertools import islice

import pytest
import questions

import ledgers
import records
from pangate.audit import leaf_encoder
from pangate.audit.index import BLOCK, Index, Query, Record, Total
from pangate.audit.index.source import Position
from pangate.errors import LedgerError
from pangate.model import Event

COUNT = 2 * BLOCK + 1500


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return records.write(tmp_path_factory.mktemp("record") / "audit.jsonl", COUNT, seconds=2.0)


@pytest.fixture(scope="module")
def index(record):
    made = Index(Record(record))
    assert made.catch_up() == COUNT
    return made


# The oracle: one pass over the lines, nothing shared with the index.


class Scan:
    def __init__(self, path):
        self.events = [json.loads(line) for line in path.read_bytes().splitlines()]
        self.ends = {}
        began = {}
        for event in self.events:
            key = event["session"], event["data"].get("number")
            if event["code"] == "log.start":
                began = {}
            elif event["code"] == "statement.allowed":
                began[key] = event["sequence"]
            elif event["code"] == "statement.finished" and key in began:
                self.ends[began.pop(key)] = event
        self.told = {event["sequence"] for event in self.ends.values()}
        self.known = {
            event["sequence"]: (
                datetime.fromisoformat(event["time"]).timestamp(),
                frozenset(self.facts(event)),
                self.words(event),
            )
            for event in self.events
        }

    def end_of(self, event):
        if event["code"] == "statement.finished":
            return event
        return self.ends.get(event["sequence"], {"data": {}})

    def facts(self, event):
        """(kind, value) of an event."""
        data, ended = event["data"], self.end_of(event)["data"]
        yield from ((kind, event[kind]) for kind in ("code", "principal", "resource"))
        yield "principal", event["principal"].rpartition("#")[2]
        yield "day", event["time"][:10]
        yield "address", event["origin"].rpartition(":")[0] or event["origin"]
        yield "success", str(event["success"]).lower()
        yield "role", event["role"] or data.get("role", "")
        yield "session", event["session"]
        yield from ((kind, data[kind]) for kind in ("verdict", "rule") if kind in data)
        yield from (("effect", one) for one in data.get("effects", ()))
        for one in data.get("relations", ()):
            yield "table", one
            yield "table", one.rpartition(".")[2]
        if event["code"].startswith("statement."):
            yield from (("network", one) for one in ended.get("masked", {}))
        if "error" in ended:
            yield "error", ended["error"]

    def masked(self, event):
        if not event["code"].startswith("statement."):
            return 0
        return sum(self.end_of(event)["data"].get("masked", {}).values())

    def words(self, event):
        data = event["data"]
        found = [data.get(key, "") for key in ("text", "reason", "detail", "note", "application")]
        found += [one for one in data.get("parameters", ()) if one]
        return [re.findall(r"\w+", one.lower()) for one in found]

    def says(self, texts, text):
        for phrase in re.findall(r'"[^"]*"|\S+', text):
            wanted = re.findall(r"\w+", phrase.lower())
            if not any(
                words[at : at + len(wanted)] == wanted
                or (
                    phrase.endswith("*")
                    and words[at : at + len(wanted) - 1] == wanted[:-1]
                    and words[at + len(wanted) - 1].startswith(wanted[-1])
                )
                for words in texts
                for at in range(len(words) - len(wanted) + 1)
            ):
                return False
        return True

    def find(self, asked):
        for event in reversed(self.events):
            if event["sequence"] in self.told and not (asked.every or "code" in asked.terms):
                continue
            when, facts, texts = self.known[event["sequence"]]
            if asked.since is not None and when < asked.since:
                continue
            if asked.until is not None and when >= asked.until:
                continue
            if event["sequence"] <= asked.after or self.masked(event) < asked.masked:
                continue
            if asked.before is not None and event["sequence"] >= asked.before:
                continue
            if all(
                any((kind, value) in facts for value in values)
                for kind, values in asked.terms.items()
            ) and (not asked.text or self.says(texts, asked.text)):
                yield event["sequence"]


@pytest.fixture(scope="module")
def scan(record):
    return Scan(record)


def found(index, asked, most=None):
    return [hit.sequence for hit in index.search(asked, most)]


VALUES = {
    "code": ("statement.allowed", "statement.denied", "statement.finished", "auth.failed", "config.reloaded"),
    "principal": ("job-3", "https://id.example/realms/ci#job-40", "job-170", "unknown", "gateway"),
    "role": ("payments-reader", "ledger-writer"),
    "resource": ("payments", "archive", "audit"),
    "address": ("10.1.3.4", "10.0.0.0", "local"),
    "verdict": ("allow", "deny"),
    "effect": ("read", "write", "bulk_write", "schema"),
    "table": ("sales.cards", "cards", "ops.notes"),
    "network": ("visa", "jcb"),
    "success": ("false",),
    "error": ("42P01",),
}  # fmt: skip
TEXTS = ("select", "disputes", '"delete from"', "select delete", "sales.c*", "1111", "nowhere",
         "select limit", "di* select", "1*", '"delete from" b*')  # fmt: skip
DAYS = [records.BEGAN + 3600 * hours for hours in range(-2, 14)]


@pytest.mark.parametrize("seed", range(40))
def test_it_finds_what_a_scan_finds(index, scan, seed):
    chance = random.Random(seed)
    kinds = chance.sample(list(VALUES), chance.randrange(3))
    since, until = sorted(chance.sample(DAYS, 2))
    asked = Query(
        terms={kind: chance.sample(VALUES[kind], chance.randrange(1, 2 + (len(VALUES[kind]) > 1)))
               for kind in kinds},
        text=chance.choice(TEXTS) if chance.random() < 0.5 else "",
        since=since if chance.random() < 0.3 else None,
        until=until if chance.random() < 0.3 else None,
        masked=chance.choice((0, 0, 0, 1, 150)),
        after=chance.choice((0, 0, 0, 700, BLOCK)),
        before=chance.choice((None, None, BLOCK, COUNT)),
        every=chance.random() < 0.2,
    )  # fmt: skip
    right = list(scan.find(asked))
    assert found(index, asked) == right
    assert found(index, asked, 7) == right[:7]
    codes = Counter(scan.events[sequence - 1]["code"] for sequence in right)
    totals = dict(index.count(asked, ["code"])["code"])
    assert {code: total.events for code, total in totals.items()} == codes
    masked = sum(scan.masked(scan.events[sequence - 1]) for sequence in right)
    assert sum(total.masked for total in totals.values()) == masked


@pytest.mark.parametrize("text", TEXTS)
def test_words_in_full_blocks_and_in_the_last(index, scan, text):
    for before in (None, BLOCK, 2 * BLOCK + 1):
        asked = Query(text=text, before=before)
        assert found(index, asked) == list(scan.find(asked))


def test_every_value_of_every_kind(index, scan):
    kinds = ("code", "resource", "role", "verdict", "effect", "network", "day", "table")
    events, failed = Counter(), Counter()
    for event in scan.events:
        if event["sequence"] not in scan.told:
            facts = scan.known[event["sequence"]][1]
            events.update(facts)
            failed.update(facts if not event["success"] else ())
    made = index.count(Query(), kinds)
    for kind in kinds:
        assert made[kind]
        for value, total in made[kind]:
            right = events[kind, value], failed[kind, value]
            assert (total.events, total.failed) == right, (kind, value)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_counted_is_what_a_scan_counts(index, scan, seed):
    """Of all that is asked for in a period that begins and ends within blocks: of every kind and value how
    many, how many failures, how many card numbers."""
    chance = random.Random(seed)
    kind = chance.choice([None, *VALUES])
    since, until = (second + chance.random() for second in sorted(chance.sample(DAYS, 2)))
    asked = Query(
        terms={} if kind is None else {kind: VALUES[kind][:2]},
        text=chance.choice(("", "", "select", "di*")),
        since=chance.choice((None, since)),
        until=chance.choice((None, until)),
        before=chance.choice((None, BLOCK + 5)),
    )
    kinds = (
        *("day", "principal", "role", "resource", "verdict", "code", "effect", "table", "address"),
        *("rule", "error", "success"),
    )
    right: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for sequence in scan.find(asked):
        event = scan.events[sequence - 1]
        for fact in scan.known[sequence][1]:
            total = right[fact]
            total[0] += 1
            total[1] += scan.masked(event)
            total[2] += not event["success"]
    made = index.count(asked, kinds)
    for name in kinds:
        # the scan knows parts of values too, such as tables without their schema
        known = {value for value, _ in index.values(name)}
        wanted = {
            value: total for (one, value), total in right.items() if one == name and value in known
        }
        assert {value: [*total] for value, total in made[name]} == wanted, name
        assert [total.events for _, total in made[name]] == sorted(
            (total[0] for total in wanted.values()), reverse=True
        )


def test_the_beginning_of_a_word_is_looked_up_once(index, monkeypatch):
    """However many windows and candidates there are: FTS5 takes long to begin with it."""
    asked = []
    real = sqlite3.connect

    def traced(*arguments, **named):
        db = real(*arguments, **named)
        db.set_trace_callback(lambda sql: asked.append(sql) if " match " in sql else None)
        return db

    monkeypatch.setattr(sqlite3, "connect", traced)
    for terms in ({}, {"principal": ("job-3",)}, {"verdict": ("deny",)}):
        asked.clear()
        index.search(Query(terms=terms, text="sales.c*"), None)
        assert len(asked) <= 1, asked


QUESTIONS = questions.questions(COUNT, 2.0)


@pytest.mark.parametrize("about", QUESTIONS)
def test_the_questions_of_the_benchmark(index, scan, about):
    asked = QUESTIONS[about]
    if about == "addresses of a network":
        return  # the scan knows single addresses only; test_patterns_and_networks has it
    assert found(index, asked, 50) == list(islice(scan.find(asked), 50))


def test_card_numbers_by_network(index, scan):
    right = Counter()
    for event in scan.ends.values():
        right.update(event["data"].get("masked", {}))
    made = index.count(Query(), ["network"])["network"]
    assert {network: total.masked for network, total in made} == right


def test_what_a_hit_says(index, scan, record):
    for hit in index.search(Query(terms={"code": ("statement.allowed",)}), 200):
        event = scan.events[hit.sequence - 1]
        assert json.loads(Record(record).line(hit.sequence, hit.offset)) == event
        ended = scan.ends.get(hit.sequence)
        assert hit.ended == (ended["sequence"] if ended else 0)
        if ended:
            assert json.loads(Record(record).line(hit.ended, hit.ended_offset)) == ended


def test_patterns_and_networks(index, scan):
    people = {event["principal"] for event in scan.events if event["principal"].endswith("7")}
    assert found(index, Query(terms={"principal": ("*#job-*7",)})) == list(
        scan.find(Query(terms={"principal": tuple(people)}))
    )
    addresses = {
        value for event in scan.events for kind, value in scan.facts(event)
        if kind == "address" and value.startswith(("10.1.2.", "10.1.3."))
    }  # fmt: skip
    assert found(index, Query(terms={"address": ("10.1.2.0/23",)})) == list(
        scan.find(Query(terms={"address": tuple(addresses)}))
    )
    with pytest.raises(LedgerError, match="is no network"):
        found(index, Query(terms={"address": ("10.1/300",)}))
    with pytest.raises(LedgerError, match="no word"):
        found(index, Query(text="*** '"))


ORDERS = ('"', '" OR "', "a AND", "NEAR(a b)", "text:select", "^select", "(", "-x", "a*b*")


@pytest.mark.parametrize("text", ORDERS)
def test_no_text_is_an_order_to_the_index(index, text):
    try:
        found(index, Query(text=text))
    except LedgerError as wrong:
        assert "no word" in str(wrong)  # noqa: PT017


def dump(path):
    with sqlite3.connect(path) as db:
        numbers = dict(db.execute("select id, kind || ' ' || value from terms").fetchall())
        rows = db.execute("select term, block, bits, counts from postings").fetchall()
        common = {term for term, name in numbers.items() if name.startswith("19 ")}
        made = {
            (numbers[term], block): (bits, counts)
            for term, block, bits, counts in rows
            if term not in common
        }
        blocks = db.execute("select * from blocks").fetchall()
        terms = db.execute(
            "select kind, value, first from terms where kind <> 19 order by 1, 2"
        ).fetchall()
        running = db.execute("select * from running order by 1, 2").fetchall()
    db.close()
    return made, blocks, terms, running


def test_in_pieces_it_becomes_the_same(index, record, scan, tmp_path):
    chance = random.Random(5)
    data = record.read_bytes()
    path = tmp_path / "audit.jsonl"
    path.touch(mode=0o600)
    grown, at = None, 0
    while at < len(data):
        size = chance.choice((1, 50, 1000, 100_000, 3_000_000))
        with path.open("ab") as file:
            file.write(data[at : at + size])
        at += size
        grown = Index(Record(path)) if chance.random() < 0.5 or grown is None else grown
        grown.catch_up(chance.choice((None, 1, 300)))
    grown.catch_up()
    assert dump(grown.path) == dump(index.path)
    for text in TEXTS:
        assert found(grown, Query(text=text)) == found(index, Query(text=text))


def test_one_that_stays_open_sees_what_others_do_to_it(tmp_path):
    leaves = list(records.leaves(900))
    path = tmp_path / "audit.jsonl"
    path.touch(mode=0o600)

    def more(first, last):
        with path.open("ab") as file:
            file.writelines(leaf + b"\n" for leaf in leaves[first:last])

    index = Index(Record(path), keep=True)
    more(0, 100)
    assert index.catch_up() == 100
    more(100, 200)
    assert Index(Record(path)).catch_up() == 100  # another one has it, and lets go of it
    more(200, 300)
    assert index.catch_up() == 100
    assert Index(Record(path)).make_anew() == 300
    more(300, 400)
    assert index.catch_up() == 100
    index.path.unlink()  # by hand, with what is beside it
    index.path.with_name(index.path.name + "-wal").unlink()
    assert index.catch_up() == 400
    with sqlite3.connect(tmp_path / "other.index") as other:
        other.execute("create table other (a)")
    other.close()
    (tmp_path / "other.index").replace(index.path)
    index.path.with_name(index.path.name + "-wal").unlink()
    more(400, 900)
    assert index.catch_up() == 900
    index.close()
    index.close()
    whole = Index(Record(path), path=tmp_path / "whole")
    whole.catch_up()
    assert dump(index.path) == dump(whole.path)


def test_a_line_that_is_not_whole_waits(tmp_path):
    path = records.write(tmp_path / "a.jsonl", 10)
    index = Index(Record(path))
    with path.open("ab") as file:
        file.write(b'{"clock":"unknown"')
    assert index.catch_up() == 10
    assert index.catch_up() == 0


def test_mode_and_place(index):
    assert index.path.name == "audit.jsonl.index"
    assert stat.S_IMODE(index.path.stat().st_mode) == 0o600


# When it is not what it should be


@pytest.fixture
def small(tmp_path):
    path = records.write(tmp_path / "audit.jsonl", 300)
    said = []
    index = Index(Record(path), notice=said.append)
    index.catch_up()
    return path, index, said


def test_one_that_is_damaged_is_made_anew(small):
    _, index, said = small
    data = bytearray(index.path.read_bytes())
    data[:4096] = b"\x55" * 4096
    index.path.write_bytes(data)
    assert index.catch_up() == 300
    (line,) = said
    assert "is damaged" in line
    assert "made anew" in line


@pytest.mark.parametrize(
    "change", ["pragma user_version = 99", "drop table words", "drop table postings"]
)
def test_one_of_another_form_is_made_anew(small, change):
    path, index, said = small
    with sqlite3.connect(index.path) as db:
        db.execute(change)
    db.close()
    with path.open("ab") as file:
        for leaf in list(records.leaves(310))[300:]:
            file.write(leaf + b"\n")
    assert index.catch_up() == 310
    assert len(said) == 1
    assert len(found(index, Query(every=True))) == 310


def test_another_record_under_the_name_is_noticed(small):
    path, index, said = small
    path.write_bytes(b"")
    records.write(path, 50, seed=9)
    assert index.catch_up() == 50
    assert "of another record" in said[0]
    assert len(found(index, Query(every=True))) == 50


def test_what_is_no_record(tmp_path):
    with pytest.raises(LedgerError, match="cannot be read"):
        Index(Record(tmp_path / "none.jsonl")).catch_up()
    with pytest.raises(LedgerError, match="holds no record"):
        Record(tmp_path)
    (tmp_path / "a.jsonl").write_bytes(b"hello\n")
    with pytest.raises(LedgerError, match="no event at byte 0"):
        Index(Record(tmp_path)).catch_up()
    (tmp_path / "holds.jsonl").touch()
    assert Record(tmp_path).file == tmp_path / "a.jsonl", "holds are no record"
    (tmp_path / "b.jsonl").touch()
    with pytest.raises(LedgerError, match="several records"):
        Record(tmp_path)


def test_an_index_in_use_is_waited_for_and_then_said(small):
    _, index, _ = small
    other = Index(index.record, lock_seconds=0.1)
    with index._reading():
        assert len(other.search(Query(), 5)) == 5
        with pytest.raises(LedgerError, match="in use by another process"):
            other.catch_up()


# Ledgers without the file that they were made of


def test_a_ledger_alone(tmp_path):
    leaves = list(records.leaves(700))
    ledger = ledgers.write(tmp_path / "copy", ledgers.files_of(leaves[:600], unsealed=leaves[600:]))
    index = Index(Record(ledger))
    assert index.catch_up() == 700
    file = tmp_path / "audit.jsonl"
    file.write_bytes(b"".join(leaf + b"\n" for leaf in leaves))
    other = Index(Record(file))
    other.catch_up()
    for asked in (Query(), Query(text="select"), Query(terms={"network": ("visa",)})):
        hits = index.search(asked, None)
        assert [hit.sequence for hit in hits] == found(other, asked)
        assert all(
            index.record.line(hit.sequence, hit.offset) == leaves[hit.sequence - 1]
            for hit in hits[:20]
        )
    assert index.catch_up() == 0


def test_a_file_that_begins_later_goes_on_where_the_ledger_ends(tmp_path):
    leaves = list(records.leaves(900))
    ledger = ledgers.write(tmp_path / "ledger", ledgers.files_of(leaves[:600]))
    file = ledger / "audit.jsonl"
    file.write_bytes(b"".join(leaf + b"\n" for leaf in leaves[:600]))
    said = []
    index = Index(Record(ledger), notice=said.append)
    assert index.catch_up() == 600
    file.write_bytes(b"".join(leaf + b"\n" for leaf in leaves[512:]))
    assert index.catch_up() == 300
    assert said == []
    assert len(found(index, Query(every=True))) == 900
    assert index.make_anew() == 900
    (hit,) = index.search(Query(before=101, after=99, every=True), None)
    assert index.record.line(hit.sequence, hit.offset) == leaves[99]


def test_bundles_that_are_retired_are_left_out(tmp_path):
    leaves = list(records.leaves(700))
    ledger = ledgers.write(tmp_path / "copy", ledgers.files_of(leaves))
    (ledger / "tile/entries/000").unlink()
    record = Record(ledger)
    index = Index(record)
    assert index.catch_up() == 444
    assert record.missing == 256
    assert min(found(index, Query(every=True))) == 257


# Odd events


def encoded(*events):
    encode = leaf_encoder()
    return [encode(event, number) for number, event in enumerate(events, 1)]


def event(code="statement.allowed", session="s", success=True, resource="r", **data):
    return Event(code, records.BEGAN, session, "p", "::1:5000", resource, success, data)


def indexed(tmp_path, leaves):
    path = tmp_path / "odd.jsonl"
    path.write_bytes(b"".join(leaf + b"\n" for leaf in leaves))
    index = Index(Record(path))
    index.catch_up()
    return index


def test_data_of_other_types_does_no_harm(tmp_path):
    index = indexed(tmp_path, encoded(
        event(text=["a"], verdict=3, effects="read", relations=[1], masked="x", number="one", error=True),
        event("odd", text="found", parameters=[1, None, "two"], effects=["read", 2]),
        event("statement.finished", number=4, masked={"visa": -1}),
    ))  # fmt: skip
    assert found(index, Query(every=True)) == [3, 2, 1]
    assert found(index, Query(text="found")) == [2]
    assert found(index, Query(terms={"address": ("::1",)})) == [3, 2, 1]
    assert found(index, Query(masked=1)) == []


def test_a_long_statement_is_found_by_what_is_beside_its_leaf(tmp_path):
    encode = leaf_encoder(tmp_path / "large")
    long = event(
        number=1, text="insert " + "x" * 60_000 + " needle", verdict="allow", relations=["t"]
    )
    index = indexed(tmp_path, [encode(long, 1)])
    assert found(index, Query(text="needle")) == [1]
    assert found(index, Query(terms={"table": ("t",)})) == [1]


def test_a_statement_of_a_gateway_that_was_killed_is_not_ended_by_another(tmp_path):
    index = indexed(tmp_path, encoded(
        event(number=1, text="one"), event("log.start", session="-"),
        event("statement.finished", number=1, masked={"visa": 2}),
    ))  # fmt: skip
    assert found(index, Query(masked=1)) == [3]
    assert index.count(Query(), ["all"])["all"] == [("", Total(3, 2, 0))]


def test_where_masked_and_first_seen(tmp_path):
    index = indexed(tmp_path, encoded(
        event(number=1, text="one", relations=["a.t"]),
        event(number=2, text="two", relations=["b.t"]),
        event("statement.finished", number=1, masked={"visa": 2}),
        event("statement.finished", number=2),
    ))  # fmt: skip
    assert index.values("place") == [("r a.t", 1), ("r b.t", 2)]
    assert index.values("masked_at") == [("r a.t", 3)]
    assert index.first_at(records.BEGAN - 1) == 1
    assert index.first_at(records.BEGAN + 1) == 5
    assert index.position() == Position(4, index.position().end, index.position().digest)
    later = datetime.fromtimestamp(records.BEGAN, UTC).strftime("%Y-%m-%d")
    assert index.values("day") == [(later, 1)]
