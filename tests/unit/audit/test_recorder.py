import json
import re
from collections.abc import Callable, Sequence

import pytest

from leaves import encode as encode_leaf
from pangate import audit
from pangate.audit import MAX_PENDING_BYTES, Recorder
from pangate.errors import RecordFailed
from pangate.model import Event

PAN = "4111111111111111"
MASKED = "************1111"


def mask_text(text: str) -> str:
    """Every run of 13 to 19 digits but for its last four."""
    return re.sub(
        r"(?<!\d)\d{9,15}(\d{4})(?!\d)", lambda hit: "*" * (len(hit[0]) - 4) + hit[1], text
    )


def encode(event: Event, sequence: int, mask=mask_text) -> bytes:
    return encode_leaf(event, sequence, mask_text=mask)


class Memory:
    """A sink that keeps leaves, and fails when it is told to."""

    def __init__(self, last_sequence: int = 0, repaired_bytes: int = 0) -> None:
        self.last_sequence = last_sequence
        self.repaired_bytes = repaired_bytes
        self.leaves: list[bytes] = []
        self.calls = 0
        self.failing = False
        self.takes = 0
        """How many it takes when it fails."""
        self.failure = ""
        self.synced_sequence = last_sequence
        self.syncs = 0
        self.closed = 0

    def append(self, leaves: Sequence[bytes]) -> None:
        self.calls += 1
        taken = leaves[: self.takes] if self.failing else leaves
        self.leaves += taken
        self.last_sequence += len(taken)
        if self.failing:
            raise RecordFailed("the disk is full")

    def sync(self, notice: Callable[[], None] | None = None) -> None:
        self.syncs += 1
        self.synced_sequence = self.last_sequence
        if notice is not None:
            notice()

    def close(self) -> None:
        self.closed += 1

    @property
    def records(self) -> list[dict[str, object]]:
        return [json.loads(leaf) for leaf in self.leaves]


def event(code: str = "statement.allowed", **changes: object) -> Event:
    values: dict[str, object] = {
        "code": code,
        "time": 1_700_000_000.123456,
        "session": "s-1",
        "principal": "https://issuer.example#agent-1",
        "origin": "192.0.2.1:4711",
        "resource": "payments",
        "success": True,
        "data": {},
    }
    return Event(**{**values, **changes})  # type: ignore[arg-type]


def test_the_form_of_a_record():
    leaf = encode(event(data={"text": "select 'é'", "rows": 3, "b": None}), 7, mask_text)
    assert leaf.decode() == (
        '{"clock":"unknown","code":"statement.allowed","config":"",'
        '"data":{"b":null,"rows":3,"text":"select \'é\'"},'
        '"origin":"192.0.2.1:4711","principal":"https://issuer.example#agent-1",'
        '"resource":"payments","role":"","sequence":7,"session":"s-1","statement":0,"success":true,'
        '"time":"2023-11-14T22:13:20.123456Z","v":3,"whole":"hhllnohl"}'
    )
    assert b"\n" not in encode(event(data={"text": "a\nb\r\u2028\x85\0"}), 1, mask_text)
    # Equal events have equal bytes, whatever order their data was put in.
    one = encode(event(data={"a": 1, "b": {"c": 2, "d": 3}}), 1, mask_text)
    assert one == encode(event(data={"b": {"d": 3, "c": 2}, "a": 1}), 1, mask_text)


@pytest.mark.parametrize(
    "data",
    [
        {"text": f"select {PAN}"},
        {"parameters": [PAN, None, f"x{PAN}"]},
        {"parameters": (PAN,)},
        {PAN: 1},
        {"a": {"b": [{PAN: PAN}]}},
        {"amount": int(PAN)},
        {"amount": -int(PAN)},
        {"amount": float(PAN)},
        {"text": f"\udcff{PAN}"},
        {"text": chr(0xDC80) + PAN},
        {"text": f"\ud800{PAN}\x00"},
    ],
)
def test_no_card_number_reaches_a_record(data):
    for mask in (mask_text, audit.pan_mask()):
        leaf = encode(event(data=data), 1, mask)
        assert PAN.encode() not in leaf
        assert b"*1111" in leaf


@pytest.mark.parametrize("name", ["principal", "origin", "resource"])
def test_no_card_number_reaches_a_field(name):
    leaf = encode(event(**{name: f"x {PAN}"}), 1, mask_text)
    assert PAN.encode() not in leaf
    assert json.loads(leaf)[name] == f"x {MASKED}"


def test_keys_that_differ_in_masked_digits_alone_are_all_kept():
    data = {"4111111111111111": 1, "4222222222221111": 2, "4333333333331111": 3}
    found = json.loads(encode(event(data=data), 1, mask_text))["data"]
    assert sorted(found.values()) == [1, 2, 3]
    assert all(key.startswith(MASKED) for key in found)


def test_numbers_keep_their_value_or_become_text():
    data = {"small": 2**53, "large": 2**63 + 1, "nan": float("nan"), "inf": float("inf"), "f": 0.5}
    found = json.loads(encode(event(data=data), 1, lambda text: text))["data"]
    assert found == {
        "small": 2**53,
        "large": "9223372036854775809",
        "nan": "nan",
        "inf": "inf",
        "f": 0.5,
    }


@pytest.mark.parametrize("value", [b"bytes", object(), {1, 2}])
def test_data_that_has_no_form_is_an_error(value):
    with pytest.raises(TypeError, match=type(value).__name__):
        encode(event(data={"a": value}), 1, mask_text)


def test_data_that_is_nested_without_end_is_an_error():
    endless: dict[str, object] = {}
    endless["a"] = endless
    with pytest.raises(TypeError, match="nested deeper"):
        encode(event(data=endless), 1, mask_text)


def test_the_life_of_a_recorder():
    sink = Memory()
    recorder = Recorder(sink, encode, lambda: 0.0, {"config": "abc"})
    assert [record["code"] for record in sink.records] == ["log.start"]
    assert sink.records[0]["data"] == {"config": "abc"}
    assert recorder.record(event("a")) == 2
    assert recorder.record(event("b")) == 3
    assert (len(sink.leaves), recorder.pending) == (1, 2)
    recorder.flush()
    assert (sink.calls, recorder.pending, recorder.sequence) == (2, 0, 3)
    recorder.flush()
    assert sink.calls == 2
    recorder.record(event("c"))
    recorder.close()
    recorder.close()
    assert [record["code"] for record in sink.records] == ["log.start", "a", "b", "c", "log.stop"]
    assert [record["sequence"] for record in sink.records] == [1, 2, 3, 4, 5]
    assert sink.closed == 1
    with pytest.raises(RecordFailed):
        recorder.record(event())


def test_a_recorder_goes_on_where_the_sink_ended():
    sink = Memory(last_sequence=41, repaired_bytes=17)
    Recorder(sink, encode, lambda: 0.0)
    assert [(record["sequence"], record["code"]) for record in sink.records] == [
        (42, "audit.repaired"),
        (43, "log.start"),
    ]
    assert sink.records[0]["data"] == {"removed_bytes": 17}


def test_what_could_not_be_written_is_kept_and_written_later():
    sink = Memory()
    recorder = Recorder(sink, encode)
    sink.failing = True
    recorder.record(event("a"))
    for _ in range(3):
        with pytest.raises(RecordFailed):
            recorder.flush()
    recorder.record(event("b"))
    sink.failing = False
    recorder.flush()
    assert [record["code"] for record in sink.records] == ["log.start", "a", "b"]
    assert [record["sequence"] for record in sink.records] == [1, 2, 3]


def test_what_was_written_of_a_flush_that_failed_is_not_written_again():
    sink = Memory()
    recorder = Recorder(sink, encode)
    sink.failing, sink.takes = True, 2
    for code in "abc":
        recorder.record(event(code))
    with pytest.raises(RecordFailed):
        recorder.flush()
    assert recorder.pending == 1
    sink.takes = 0
    recorder.record(event("d"))
    with pytest.raises(RecordFailed):
        recorder.flush()
    sink.failing = False
    recorder.flush()
    assert [record["code"] for record in sink.records] == ["log.start", "a", "b", "c", "d"]
    assert [record["sequence"] for record in sink.records] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("fsync", "urgent"),
    [("urgent", [1, 1, 3, 4, 4, 6]), ("always", [1, 2, 3, 4, 5, 6]), ("interval", [0] * 6)],
)
def test_what_has_to_be_on_the_disk_first(fsync, urgent):
    sink = Memory()
    recorder = Recorder(sink, encode, fsync=fsync)
    found = [recorder.urgent]
    syncs = [sink.syncs]
    for code, asked in (
        ("statement.allowed", False),
        ("statement.allowed", True),
        ("approval.decided", False),
        ("statement.finished", False),
        ("auth.failed", False),
    ):
        recorder.record(event(code), urgent=asked)
        recorder.flush()
        found.append(recorder.urgent)
        syncs.append(sink.syncs)
    assert found == urgent
    assert syncs == [len({*found[: n + 1]} - {0}) for n in range(6)], "one sync for each"


def test_nobody_relies_on_a_disk_that_failed():
    sink = Memory()
    recorder = Recorder(sink, encode, fsync="interval")
    assert recorder.on_disk(0)
    recorder.record(event("a"), urgent=True)
    recorder.flush()
    assert not recorder.on_disk(2)
    sink.failure = "the disk is broken"
    assert recorder.on_disk(0), "what is there is there"
    with pytest.raises(RecordFailed):
        recorder.on_disk(2)
    sink.failure = ""
    recorder.sync(lambda: None)
    assert recorder.on_disk(2)


def test_what_waits_is_bounded_and_no_sequence_is_skipped():
    sink = Memory()
    recorder = Recorder(sink, encode)
    sink.failing = True
    size = MAX_PENDING_BYTES // 4
    for _ in range(3):
        recorder.record(event(data={"text": "x" * size}))
    with pytest.raises(RecordFailed) as caught:
        recorder.record(event(data={"text": "x" * size}))
    assert "wait to be written" in caught.value.detail
    assert recorder.record(event("small")) == 5
    sink.failing = False
    recorder.flush()
    assert [record["sequence"] for record in sink.records] == [1, 2, 3, 4, 5]


def test_a_sink_that_cannot_take_the_start_starts_nothing():
    sink = Memory()
    sink.failing = True
    with pytest.raises(RecordFailed):
        Recorder(sink, encode)


def test_a_close_that_cannot_write_still_closes_and_says_so():
    sink = Memory()
    recorder = Recorder(sink, encode)
    sink.failing = True
    with pytest.raises(RecordFailed):
        recorder.close()
    assert sink.closed == 1
    recorder.close()


def test_the_agent_reads_nothing_of_the_file():
    error = RecordFailed("the audit file /var/log/pangate.jsonl cannot be written: No space left")
    assert "/var" not in error.reason + str(error)
    assert "nothing was executed" in error.reason


def test_the_mask_of_the_record_is_that_of_results():
    mask = audit.pan_mask()
    assert mask(f"select '{PAN}', 5555555555554444") == (
        "select '************1111', ************4444"
    )
    assert mask("nothing é here 123") == "nothing é here 123"
    hexed = PAN.encode().hex()
    for text in (f"\\x{hexed}", f"select '\\x{hexed}'::bytea", f"\\001{PAN}"):
        masked = mask(text)
        assert hexed not in masked
        assert PAN not in masked
    assert mask('{"cvv": "123", "id": 7}') == '{"cvv": "***", "id": 7}'
    assert mask('select "cvv"::text') == 'select "cvv"::text'


def test_no_form_of_a_long_event(tmp_path):
    """By a form nothing is put into a file of its own, and a leaf has a bound."""
    from pangate.audit import MAX_FORM, MAX_LEAF, leaf_encoder

    encode = leaf_encoder(tmp_path)
    short = Event("c", 1.0, "s", "p", "o", "r", True, {"text": "x" * 1000, "values": []})
    form = encode.form(short, ("values",))
    most = encode.encoder.fill(form, 1, 1.0, "unknown", 1, (["\x01" * 4000],))
    assert len(most) <= MAX_LEAF
    long = short._replace(data={"text": "x" * MAX_FORM, "values": []})
    assert encode.form(long, ("values",)) is None
