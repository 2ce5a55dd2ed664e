"""`pangate mask` and `pangate find` as processes: what goes in, what comes out, and the exit codes."""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import random
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pangate import Key, Masker
from pangate.mask_cli.inputs import Failed, Progress, Source
from pangate.mask_cli.table import Table

PAN, MASKED = "4111111111111111", "************1111"
TEXT = f"a line\ncard {PAN} paid\ncvv=123 x\n"
SHOWN = f"a line\ncard {MASKED} paid\ncvv=*** x\n"


def run(
    *arguments: object, stdin: bytes = b"", cwd: Path | None = None, **environment: str
) -> tuple[int, bytes, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pangate.cli", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        timeout=100,
        check=False,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "app.log").write_text(TEXT)
    (tmp_path / "sub" / "clean.txt").write_text("nothing here 4111111111111112\n")
    (tmp_path / "sub" / "app.log.gz").write_bytes(gzip.compress(TEXT.encode()))
    (tmp_path / "picture.bin").write_bytes(b"\x89PNG\0\0" + PAN.encode())
    return tmp_path


def test_a_pipe_is_masked() -> None:
    assert run("mask", stdin=TEXT.encode()) == (0, SHOWN.encode(), "")


def test_lines_come_out_as_they_go_in() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "pangate.cli", "mask"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        for i in range(3):
            process.stdin.write(f"{i} {PAN}\n".encode())
            process.stdin.flush()
            assert process.stdout.readline() == f"{i} {MASKED}\n".encode()
        process.stdin.close()
    assert process.returncode == 0


def test_files_go_to_stdout_and_into_a_file(tree: Path) -> None:
    assert run("mask", tree / "app.log", tree / "sub" / "app.log.gz") == (
        0,
        (SHOWN * 2).encode(),
        "",
    )
    assert run("mask", tree / "app.log", "-o", tree / "out.gz")[0] == 0
    assert gzip.decompress((tree / "out.gz").read_bytes()).decode() == SHOWN
    code, _, error = run("mask", tree / "app.log", "-o", tree / "out.gz")
    assert code == 2
    assert "it exists" in error


def test_in_place_with_a_backup(tree: Path) -> None:
    (tree / "app.log").chmod(0o640)
    (tree / "link.log").symlink_to(tree / "app.log")
    code, out, error = run("mask", "--in-place", "--backup", ".orig", tree)
    assert (code, out) == (0, b"")
    assert "2 of 3 files changed; 1 binary files left out" in error
    assert (tree / "app.log").read_text() == SHOWN
    assert (tree / "app.log.orig").read_text() == TEXT
    assert stat.S_IMODE((tree / "app.log").stat().st_mode) == 0o640
    assert gzip.decompress((tree / "sub" / "app.log.gz").read_bytes()).decode() == SHOWN
    assert not (tree / "sub" / "clean.txt.orig").exists()
    assert PAN.encode() in (tree / "picture.bin").read_bytes()
    assert sorted(p.name for p in tree.iterdir()) == [
        "app.log", "app.log.orig", "link.log", "picture.bin", "sub",
    ]  # fmt: skip
    (tree / "app.log").write_text(TEXT)
    code, _, error = run("mask", "--in-place", "--backup", ".orig", tree / "app.log")
    assert code == 2
    assert "the backup exists already" in error
    assert (tree / "app.log").read_text() == TEXT
    assert run("mask", "--in-place", "--no-backup", tree / "app.log")[0] == 0
    assert (tree / "app.log").read_text() == SHOWN


def test_zst_is_read_and_written(tmp_path: Path) -> None:
    zstd = pytest.importorskip(
        "backports.zstd" if sys.version_info < (3, 14) else "compression.zstd"
    )
    file = tmp_path / "app.log.zst"
    file.write_bytes(zstd.compress(TEXT.encode()))
    assert run("mask", file)[1] == SHOWN.encode()
    assert run("mask", "-i", "--no-backup", file)[0] == 0
    assert zstd.decompress(file.read_bytes()).decode() == SHOWN
    assert run("find", file)[0] == 0


def test_json_stays_json(tmp_path: Path) -> None:
    rows = [{"pan": int(PAN), "text": PAN, "cvv": i, "n": i} for i in range(5)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, out, _ = run("mask", file)
    assert [json.loads(line) for line in out.splitlines()] == [
        {"pan": 1000000000001111, "text": MASKED, "cvv": 0, "n": i} for i in range(5)
    ]


CSV = (
    "id;card;CVV2;order no;note\r\n"
    f'1;{PAN};123;5555555555554444;"a; {PAN}"\r\n'
    f'2;"not a pan: 1234567890123";"9""9";5555555555554444;"two\nlines {PAN}"\r\n'
    "3;;;;\r\n"
)


def test_csv_by_column(tmp_path: Path) -> None:
    file = tmp_path / "cards.csv"
    file.write_bytes(CSV.encode())
    _, out, _ = run("mask", file, "--column", "card=mask", "--column", "order no=leave")
    assert out.decode() == (
        "id;card;CVV2;order no;note\r\n"
        f'1;{MASKED};***;5555555555554444;"a; {MASKED}"\r\n'
        f'2;"not a pan: *********0123";"***";5555555555554444;"two\nlines {MASKED}"\r\n'
        "3;;;;\r\n"
    )
    _, out, _ = run("find", file, "--json", "--column", "card=mask", "--column", "order no=leave")
    found = [json.loads(line) for line in out.splitlines()]
    assert [(hit["line"], hit["what"]) for hit in found] == [
        (2, "visa"), (2, "column:cvv2"), (2, "visa"),
        (3, "column:card"), (3, "column:cvv2"), (4, "visa"),
    ]  # fmt: skip


def test_a_star_in_a_value_hides_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("id,card,cvv\n1,1234567890123456*,12*\n")
    assert (
        run("mask", file, "--column", "card=mask")[1] == b"id,card,cvv\n1,************3456*,***\n"
    )


def test_what_is_masked_is_not_found_again(tmp_path: Path) -> None:
    for name, content in (
        ("a.csv", CSV),
        ("a.log", TEXT),
        ("a.json", f'{{"n":{PAN},"cvv":"123"}}'),
    ):
        file = tmp_path / name
        file.write_text(content)
        assert run("find", file)[0] == 1
        assert run("mask", "-i", "--no-backup", file, "--column", "card=mask")[0] == 0
        assert run("find", file, "--column", "card=mask") == (0, b"", "0 found in 0 of 1 inputs\n")


def test_csv_in_chunks_is_the_csv_in_one(tmp_path: Path) -> None:
    rng = random.Random(3)
    rows = [
        f'{i},{PAN},{rng.randrange(999)},"{"x" * rng.randrange(3000)}\n{PAN}"\n'
        for i in range(1500)
    ]
    file = tmp_path / "big.csv"
    file.write_text("id,card,cvv,note\n" + "".join(rows))
    assert file.stat().st_size > 2 << 20
    _, out, _ = run("mask", file)
    assert out.count(b"***,") == 1500
    assert PAN.encode() not in out
    assert out.count(b"\n") == 3001


def by_hand(text: str, mark: str) -> list[int]:
    """Where the records of a CSV text end, one character after the other."""
    ends, quoted, begins, i = [], False, True, 0
    while i < len(text):
        one = text[i]
        if quoted:
            if text[i : i + 2] == '""':
                i += 1
            elif one == '"':
                quoted = False
        elif one == '"' and begins:
            quoted = True
        begins = not quoted and one in (mark, "\n", "\r")
        if one == "\n" and not quoted:
            ends.append(i + 1)
        i += 1
    return ends


@given(
    st.text('a,;"\n\r', max_size=40),
    st.sampled_from(",;"),
    st.lists(st.integers(0, 50), max_size=4),
)
@settings(max_examples=400, deadline=None)
def test_records_end_outside_of_quotes(text: str, mark: str, places: list[int]) -> None:
    """A quote in the middle of a field is a character. However much is there, no record is cut."""
    content = f"id{mark}card\n{text}"
    ends = by_hand(content, mark)
    options = argparse.Namespace(delimiter=mark)
    table = Table(Masker(), Source(None, "csv"), options)
    held, done = bytearray(), 0
    cuts = [0, *sorted({min(place, len(content)) for place in places}), len(content)]
    for a, b in itertools.pairwise(cuts):
        held += content[a:b].encode()
        cut = table.whole(held)
        assert cut == 0 or done + cut in ends
        del held[:cut]
        done += cut
    table = Table(Masker(), Source(None, "csv"), options)
    assert table.whole(bytearray(content.encode())) == ends[-1]


def test_a_quote_that_is_none_costs_no_time(tmp_path: Path) -> None:
    file = tmp_path / "pizza.csv"
    row = f"1,abc,{PAN}\n"
    file.write_text('id,what,card\n1,12" wide,x\n' + row * 200_000)
    code, out, _ = run("mask", file)
    assert code == 0
    assert out.count(MASKED.encode()) == 200_000
    assert run("find", "--count", file)[2].startswith("200000 found")
    file.write_text('id,what,card\n1,"never closed,x\n' + row * 1_000_000)
    code, _, error = run("mask", file)
    assert (code, error) == (2, f"pangate mask: {file}: a CSV record is longer than 16 MiB\n")


@pytest.mark.parametrize("filler", ["a", "7 ", "ab, "])
def test_find_in_a_line_longer_than_memory_may_be(tmp_path: Path, filler: str) -> None:
    size = 5 << 20
    data = bytearray((filler * size)[:size].encode())
    places = [(n << 20) - 8 for n in range(1, 5)] + [(2 << 20) + 100]
    for place in places:
        data[place - 2 : place + 18] = f"x {PAN} x".encode()
    file = tmp_path / "line.txt"
    file.write_bytes(data)
    _, out, _ = run("find", file)
    found = [int(line.split()[0].rpartition(":")[2]) for line in out.decode().splitlines()]
    assert found == sorted(place + 1 for place in places)


def test_a_pan_in_a_name_is_reported_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / f"{PAN}.txt"
    file.write_text("nothing")
    code, out, _ = run("find", "--json", file)
    assert code == 1
    found = json.loads(out)
    assert found["path"].endswith(f"/{MASKED}.txt")
    assert (found["line"], found["column"], found["what"]) == (0, 0, "visa")
    for arguments in (
        ["find", f"{file}x"],
        ["mask", f"{file}x"],
        ["mask", "-i", "--no-backup", tmp_path / f"{PAN}"],
    ):
        code, out, error = run(*arguments)
        assert code == 2
        assert MASKED in error
        assert PAN not in error
    odd = tmp_path / os.fsdecode(b"\xff\n.log")
    odd.write_text(TEXT)
    code, out, _ = run("find", odd)
    assert code == 1
    assert out.startswith(str(tmp_path).encode() + b"/\\xff\\n.log:2:6 ")


def test_find_reports_and_never_shows_a_pan(tree: Path) -> None:
    code, out, error = run("find", tree)
    assert code == 1
    assert PAN.encode() not in out
    lines = out.decode().splitlines()
    assert [line.split()[:3] for line in lines] == [
        [f"{tree}/app.log:2:6", "visa", "high"],
        [f"{tree}/app.log:3:5", "column:cvv", "high"],
        [f"{tree}/sub/app.log.gz:2:6", "visa", "high"],
        [f"{tree}/sub/app.log.gz:3:5", "column:cvv", "high"],
    ]
    assert "4 found in 2 of 3 inputs: 2 visa, 2 column:cvv; 1 binary files left out" in error


def test_the_exit_codes_of_find(tree: Path) -> None:
    assert run("find", "--quiet", tree / "sub" / "clean.txt") == (0, b"", "")
    assert run("find", "--count", stdin=PAN.encode())[0] == 1
    (tree / "broken.gz").write_bytes(gzip.compress(TEXT.encode() * 1000)[:-30])
    for arguments in ([tree / "missing"], [tree / "broken.gz"], [tree / "broken.gz", tree / "app.log"],
                      ["--decode", "rot13", tree / "app.log"], ["--no-such-option"]):  # fmt: skip
        code, _, error = run("find", *arguments)
        assert code == 2
        assert "Traceback" not in error
        assert error


def test_line_numbers_over_chunks(tmp_path: Path) -> None:
    file = tmp_path / "long.log"
    rng = random.Random(5)
    expected = []
    with file.open("w") as out:
        for number in range(1, 40_001):
            before = "x" * rng.randrange(120)
            hit = rng.random() < 0.01
            out.write(before + (f" {PAN}" if hit else "") + "\n")
            if hit:
                expected.append(f"{file}:{number}:{len(before) + 2}")
    _, out, _ = run("find", file)
    assert [line.split()[0] for line in out.decode().splitlines()] == expected


def test_keys_kinds_and_configuration(tmp_path: Path) -> None:
    secret = bytes(range(32))
    (tmp_path / "key").write_bytes(secret)
    token = Masker("token", key=Key(secret)).mask(PAN).encode()
    assert (
        run("mask", "--kind", "token", "--key-file", tmp_path / "key", stdin=PAN.encode())[1]
        == token
    )
    hexed = "hex:" + secret.hex()
    assert (
        run("mask", "--kind", "token", "--key-environment", "K", stdin=PAN.encode(), K=hexed)[1]
        == token
    )
    config = tmp_path / "mask.toml"
    config.write_text(
        f'[masking]\nkind = "first6_last4"\nkey_file = "{tmp_path}/key"\n'
        '[masking.columns]\nnote = "wipe"\n[masking.patterns]\niban = "DE[0-9]{20}"\n'
    )
    text = f"{PAN} note=secret DE89370400440532013000"
    shown = b"411111******1111 note=*** **********************"
    assert run("mask", "--config", config, stdin=text.encode())[1] == shown
    _, out, _ = run("find", "--config", config, "--digests", "--json", stdin=PAN.encode())
    digest = json.loads(out)["digest"]
    config.write_text(f'[masking]\nkey_file = "{tmp_path}/key"\nallow = ["{digest}"]\n')
    assert run("mask", "--config", config, stdin=PAN.encode())[1] == PAN.encode()
    for arguments, reason in (
        (["--kind", "token"], "needs a key"),
        (["--key-environment", "NOT_SET_AT_ALL", "--kind", "fpe"], "NOT_SET_AT_ALL is not set"),
        (["--config", tmp_path / "none.toml"], "No such file"),
        (["--column", "cvv"], "write it as NAME=VALUE"),
        (["--pattern", "x=(("], "patterns.x"),
    ):
        code, out, error = run("mask", *arguments, stdin=PAN.encode())
        assert (code, out) == (2, b"")
        assert reason in error


def test_in_place_needs_a_decision_about_the_originals(tree: Path) -> None:
    for arguments in (
        ["-i", tree],
        ["-i", "--no-backup"],
        ["--backup", "x", tree],
        ["-i", "--backup", "", tree],
    ):
        code, _, error = run("mask", *arguments)
        assert code == 2
        assert "usage: pangate mask" in error
    assert (tree / "app.log").read_text() == TEXT


def test_what_cannot_be_masked_is_left_as_it_was(tree: Path) -> None:
    broken = gzip.compress(TEXT.encode() * 5000)[:-40]
    (tree / "broken.gz").write_bytes(broken)
    code, _, error = run("mask", "-i", "--no-backup", tree / "broken.gz", tree / "app.log")
    assert code == 2
    assert "broken.gz" in error
    assert (tree / "broken.gz").read_bytes() == broken
    assert (tree / "app.log").read_text() == SHOWN  # the others are done
    assert not [p for p in tree.iterdir() if "pangate" in p.name]


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / "some.log"
    file.write_text(TEXT * 200_000)
    with subprocess.Popen(
        [sys.executable, "-m", "pangate.cli", "mask", file],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == b"a line\n"
        process.stdout.close()
        assert process.wait(30) != 0
        assert process.stderr.read() == b""


@pytest.mark.slow
def test_memory_is_bounded_on_a_file_larger_than_it_may_take(tmp_path: Path) -> None:
    file = tmp_path / "huge.log"
    block = (("user=bob status=200 path=/a?b=c%20d " * 20 + PAN + "\n") * 400).encode()
    with file.open("wb") as out:
        for _ in range(3 * (256 << 20) // len(block) // 2):
            out.write(block)
    limit = 384 << 20

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    with file.open("rb") as source:
        done = subprocess.run(
            [sys.executable, "-m", "pangate.cli", "mask"], stdin=source, stdout=subprocess.PIPE,
            preexec_fn=bounded, timeout=100, check=False,
        )  # fmt: skip
    assert done.returncode == 0
    assert len(done.stdout) == file.stat().st_size
    assert PAN.encode() not in done.stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\nid,cvv\n1,123\n", "\nid,cvv\n1,***\n"),
        ("# made by x\nid,cvv\n1,123\n", "# made by x\nid,cvv\n1,***\n"),
        ("sep=;\nid;cvv\n1;123\n", "sep=;\nid;cvv\n1;***\n"),
        ("id,cvv\r1,123\r2,456\r", "id,cvv\r1,***\r2,***\r"),
        ('"a,b,c";cvv;n\n1;123;2\n', '"a,b,c";cvv;n\n1;***;2\n'),
    ],
)
def test_csv_whose_header_is_not_plainly_the_first_line(text: str, expected: str) -> None:
    assert run("mask", "--format", "csv", stdin=text.encode()) == (0, expected.encode(), "")


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        (
            "csv",
            "id,cvv,n\n1,123,\u4e304111111111111111\n",
            "id,cvv,n\n1,***,\u4e30************1111\n",
        ),
        ("json", '{"cvv": 123, "n": 4111111111111111}', '{"cvv": 0, "n": 1000000000001111}'),
        ("text", "cvv=123 \uff14111111111111111 \ud83d", "cvv=*** \uff0a***********1111 \ud83d"),
        ("text", "x", "x"),
    ],
)
def test_utf16_is_read_as_text(order: str, form: str, text: str, expected: str) -> None:
    given_, wanted = (
        ("\ufeff" + one).encode(order, "surrogatepass") + b"\x41" for one in (text, expected)
    )
    assert run("mask", "--format", form, stdin=given_) == (0, wanted, "")
    assert run("find", "--format", form, "--count", stdin=given_)[0] == (text != expected)


def test_other_names_of_a_file_are_not_left_behind(tree: Path) -> None:
    os.link(tree / "app.log", tree / "other.log")
    code, _, error = run("mask", "--in-place", "--no-backup", tree / "app.log")
    assert code == 2
    assert "hard links" in error
    assert (tree / "app.log").read_text() == TEXT


def test_access_lists_stay(tree: Path) -> None:
    try:
        os.setxattr(tree / "app.log", "user.kept", b"yes")
    except OSError:
        pytest.skip("the file system has no extended attributes")
    assert run("mask", "--in-place", "--no-backup", "--quiet", tree / "app.log")[0] == 0
    assert os.getxattr(tree / "app.log", "user.kept") == b"yes"
    assert (tree / "app.log").read_text() == SHOWN


def test_a_file_that_grows_meanwhile_is_left_as_it_is(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that is still written to: what came after the copy was made would be lost."""
    from pangate.mask_cli import mask

    whole = mask._copy

    def growing(*arguments: object) -> bool:
        changed = whole(*arguments)  # type: ignore[arg-type]
        with (tree / "app.log").open("a") as file:
            file.write("one more line\n")
        return changed

    monkeypatch.setattr(mask, "_copy", growing)
    options = argparse.Namespace(in_place=True, backup="", quiet=True)
    with pytest.raises(Failed, match="written to meanwhile"):
        source = Source(tree / "app.log", "text")
        mask._mask_in_place(Masker(), source, options, Progress(options, [source]))
    assert (tree / "app.log").read_text() == TEXT + "one more line\n"
    assert sorted(path.name for path in tree.iterdir() if path.is_file()) == [
        "app.log",
        "picture.bin",
    ]


def test_no_name_of_a_file_controls_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2J\nb.log").write_text(TEXT)
    code, out, error = run("find", tmp_path)
    assert code == 1
    assert b"\x1b" not in out
    assert "\x1b" not in error
    assert b"a\\x1b[2J\\nb.log:2:6" in out


def test_a_long_input_is_read_ahead_and_its_errors_are_seen(tmp_path: Path) -> None:
    line = f"card {PAN} {'x' * 90}\n".encode()
    packed = gzip.compress(line * 100_000, 1)
    (tmp_path / "a.gz").write_bytes(packed)
    (tmp_path / "cut.gz").write_bytes(packed[:-20])
    code, out, _ = run("mask", tmp_path / "a.gz")
    assert (code, out) == (0, line.replace(PAN.encode(), MASKED.encode()) * 100_000)
    code, out, error = run("mask", tmp_path / "cut.gz")
    assert code == 2
    assert "cut.gz" in error
    assert PAN.encode() not in out
