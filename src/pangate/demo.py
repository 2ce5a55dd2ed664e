"""The demonstration: an agent's real psql through a real gateway to a real PostgreSQL, told as a short
story. It checks what it shows, and fails with the step and the reason when something is not so."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pangate.embedded import EmbeddedPostgres, unwinding_signals
from pangate.errors import PangateError
from pangate.trial import Trial, until

WIDTH = 98

NAMES = (
    "Ada Wong",
    "Bela Kiss",
    "Chioma Obi",
    "Dai Evans",
    "Eva Novak",
    "Farid Aziz",
    "Grete Lind",
)
# Test PANs that processors publish, and heads from which more are made.
PUBLISHED = (
    "4111111111111111",
    "5555555555554444",
    "378282246310005",
    "6011000990139424",
    "3566002020360505",
    "30569309025904",
)
HEADS = (
    ("411111", 16),
    ("453201", 16),
    ("555555", 16),
    ("222300", 16),
    ("378282", 15),
    ("601100", 16),
    ("352800", 16),
)

CVV = "7319"
"""What no card of the demonstration has in its number."""

SCHEMA = """\
create schema payments;
create table payments.charges (
    id bigint primary key, holder text, card text, card_number bigint, reference numeric,
    amount numeric(12, 2), gateway jsonb, receipt json, note text, cvv text, history text[], raw bytea
);
grant usage on schema payments to payments_service;
grant select on all tables in schema payments to payments_service;
create table payments.charges_2019 as select 1 as id;
alter table payments.charges_2019 owner to payments_service;
alter role payments_service set search_path = payments;
"""

COLUMNS = "select id, holder, card, card_number, reference, amount from charges order by id limit 4"
NESTED = "select gateway, receipt, note from charges where id = 1"
HIDDEN = "select cvv as harmless, history, raw from charges where id = 1"
COPY = "copy (select id, holder, card from charges order by id limit 2) to stdout"
UNMASKABLE = "copy (select 1, card from charges) to stdout (format csv, delimiter '7')"
WRITE = "delete from charges"
DROP = "drop table charges_2019"
EVERYTHING = ("select * from charges", "copy charges to stdout")


EFFECTS = 'effects = ["read", "schema"]'
TABLES = """
[[approvers]]
name = "payments-owners"
match = { groups = "payments-owners" }
owns = "owner"

[[rules]]
name = "schema changes wait"
verdict = "hold"
effects = ["schema"]
hold = { approvers = ["payments-owners"], reason_required = true }

[control]
port = 0
"""
"""Who decides what waits. The agent of the demonstration belongs to dana, who is one of them."""

SEALED = "seal_seconds = 0.2"

CONTROL = re.compile(r"control plane at (http://[\w.:]+)")


class StepFailed(PangateError):
    """A step of the demonstration did not show what it should; names it and says why."""


def main(keep: bool = False) -> int:
    """Run the demonstration; `keep` leaves it up until Ctrl-C. Returns the exit code."""
    began = time.monotonic()
    try:
        with unwinding_signals():
            print("Starting PostgreSQL, a token issuer and the gateway.", flush=True)
            with (
                _step("starting"),
                EmbeddedPostgres() as postgres,
                Trial(postgres, effects=EFFECTS, audit=SEALED, tables=TABLES) as trial,
            ):
                tell(trial)
                if keep:
                    _keep(trial)
                left = (postgres.pid, trial.pid, postgres.directory, trial.directory)
            with _step("stopping"):
                _check_gone(left)
    except PangateError as wrong:
        sys.stdout.flush()
        print(f"\nThe demonstration failed at {wrong}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nEverything was stopped and removed.", file=sys.stderr)
        return 0 if keep else 130
    _say(f"Everything was stopped and removed. It took {time.monotonic() - began:.1f} seconds.")
    return 0


def tell(trial: Trial) -> None:
    """Seed the database behind `trial` and go through the steps. Raises StepFailed."""
    with _step("seeding the database"):
        pans = _seed(trial)
    for name, step in (
        ("1. What the table holds", _holds),
        ("2. What the agent sees", _sees),
        ("3. Who has no grant gets nothing", _denied),
        ("4. A dangerous command waits for a person", _waits),
        ("5. What was recorded", _recorded),
        ("6. Nobody changes that unnoticed", _sealed),
    ):
        with _step(name):
            step(trial, pans)


@contextlib.contextmanager
def _step(name: str) -> Iterator[None]:
    """What goes wrong inside becomes a StepFailed that names the step."""
    try:
        yield
    except (StepFailed, BrokenPipeError):
        raise
    except (PangateError, OSError, subprocess.SubprocessError) as wrong:
        raise StepFailed(f"{name}: {wrong}") from wrong


# --- the steps -------------------------------------------------------------------------------------


def _holds(trial: Trial, pans: Sequence[str]) -> None:
    _title("1. What the table holds", "the DBA's psql, straight to PostgreSQL")
    shown = trial.postgres.psql(f"set search_path = payments; {COLUMNS}").rstrip()
    print(shown)
    nested = trial.postgres.psql(f"set search_path = payments; {NESTED}", "postgres", "-x").rstrip()
    hidden = trial.postgres.psql(f"set search_path = payments; {HIDDEN}", "postgres", "-x").rstrip()
    print(f"\n{nested}\n\n{hidden}")
    missing = [pan for pan in pans[:4] if shown.count(pan) != 3]
    there = nested.count(pans[0]) == 2 and CVV in hidden and hidden.count(pans[0]) == 2
    _check(not missing and there, "the test data is not there")


def _sees(trial: Trial, pans: Sequence[str]) -> None:
    _title("2. What the agent sees", "its own psql through pangate; its password is its token")
    token = trial.token()
    for sql, arguments in ((COLUMNS, ()), (NESTED, ("-x",)), (HIDDEN, ("-x",)), (COPY, ())):
        print(f"payments=> {sql};")
        shown = _agent(trial, token, sql, arguments=arguments)
        _check_masked(shown, pans, "psql's output")
        print(shown.rstrip() + "\n")
    print(f"payments=> {UNMASKABLE};")
    done = trial.psql(token, UNMASKABLE)
    reason = done.stderr.strip().partition("ERROR:  ")[2]
    _check(
        done.returncode != 0 and not done.stdout and "could hide a card number" in reason,
        f"a COPY that glues a digit to each card number was not refused: {done.stdout}{done.stderr}",
    )
    print(_hanging("ERROR:  ", reason) + "\n")
    everything = _agent(trial, token, *EVERYTHING)
    _check_masked(everything, pans, "the whole table")
    _check(CVV not in everything, "the CVV is in the whole table")
    missing = [pan for pan in pans if everything.count(_masked(pan)) < len(EVERYTHING)]
    _check(not missing, f"{len(missing)} of {len(pans)} rows do not show their masked card number")
    print(
        f"All {len(pans)} rows, by SELECT and by COPY, hold no card number and no CVV, under whatever name.\n"
        "Numbers stay numbers, and JSON stays JSON."
    )


def _denied(trial: Trial, pans: Sequence[str]) -> None:
    _title("3. Who has no grant gets nothing", "another team's agent, and what is no valid token")
    other = trial.token("nightly-report", team="marketing")
    head, body, _ = trial.token().split(".")
    no_token = "must be a valid, unexpired identity token"
    for name, token, expected in (
        ("another team", other, "no role of this identity"),
        ("forged", f"{head}.{body}.{other.split('.')[2]}", no_token),
        ("expired", trial.token(seconds=-3600), no_token),
        ("a password", "swordfish", no_token),
    ):
        done = trial.psql(token, "select card from charges")
        _check(
            done.returncode == 2 and not done.stdout,
            f"{name}: psql was not refused; it ended with {done.returncode}: {done.stdout}",
        )
        reason = done.stderr.strip().partition("FATAL:  ")[2]
        _check(expected in reason, f"{name}: psql was refused otherwise: {done.stderr.strip()}")
        print(_hanging(f"{name + ':':<14}", reason))
    done = trial.psql(trial.token(), WRITE)
    reason = done.stderr.strip().partition("ERROR:  ")[2]
    _check(
        done.returncode == 1 and "needs the effect" in reason,
        f"a role that reads was not refused a DELETE: {done.stdout}{done.stderr}",
    )
    print(f"\nAnd who may read may not write:\n\npayments=> {WRITE};")
    print(_hanging("ERROR:  ", reason))


def _waits(trial: Trial, pans: Sequence[str]) -> None:
    _title("4. A dangerous command waits for a person", "the agent's psql just takes longer")
    print(f"payments=> {DROP};")
    held = subprocess.Popen(
        [str(trial.postgres.bin / "psql"), "-X", "-c", DROP],
        env=trial.environment(trial.token(owner="dana")),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        listed = _person(trial, "emil", "list")
        until(lambda: DROP in listed().stdout, "the request of the agent")
        listing = listed().stdout.strip()
        request = listing.split()[0]
        print(f"\nemil$ pangate approvals list\n{textwrap.fill(listing, WIDTH)}")
        reason = ("--reason", "moved to the archive")
        own = _person(trial, "dana", "approve", request, *reason)()
        _check(
            own.returncode != 0, f"who owns the agent could approve what it asks for: {own.stdout}"
        )
        print(f"\ndana$ pangate approvals approve {request} --reason ...")
        print(textwrap.fill(own.stderr.strip(), WIDTH))
        _check(held.poll() is None, "the statement did not wait")
        other = _person(trial, "emil", "approve", request, *reason)()
        _check(other.returncode == 0, f"emil could not approve it: {other.stderr.strip()}")
        print(f"\nemil$ pangate approvals approve {request} --reason {reason[1]!r}")
        print(textwrap.fill(other.stdout.strip(), WIDTH))
        out, said = held.communicate(timeout=20)
    finally:
        if held.poll() is None:
            held.kill()
            held.communicate()
    _check(out.strip() == "DROP TABLE", f"the approved statement did not run: {out}{said}")
    print(f"\nAnd psql, which has waited:\n\n{out.strip()}")
    gone = trial.postgres.psql(
        "select to_regclass('payments.charges_2019') is null", "postgres", "-At"
    )
    _check(gone.strip() == "t", "the table is still there")


def _person(trial: Trial, who: str, *words: str) -> Callable[[], subprocess.CompletedProcess[str]]:
    """`pangate approvals` of a person of the group that decides."""
    found = CONTROL.findall(trial.log.read_text())
    _check(bool(found), "the gateway's log does not say where its control plane is")
    token = trial.directory / f"{who}.token"
    token.touch(mode=0o600)
    token.write_text(trial.issuer.mint(who, groups=["payments-owners"]))
    command = [sys.executable, "-m", "pangate.cli", "approvals", "--url", found[-1]]
    command += ["--token-file", str(token), *words]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run


def _recorded(trial: Trial, pans: Sequence[str]) -> None:
    _title("5. What was recorded", "before it was forwarded, and masked")
    command = f"select card from charges where card = '{pans[0]}'"
    print(f"payments=> {command};")
    print(_agent(trial, trial.token(), command).rstrip() + "\n")
    # The gateway sees the agent's end a moment after psql has gone.
    until(lambda: '"session.end"' in _last_line(trial.audit), "the end of the agent's session")
    text = trial.audit.read_text()
    events = [json.loads(line) for line in text.splitlines()]
    codes = [event["code"] for event in events]
    print(f"{'seq':>4}  {'event':<20} {'who':<14} what")
    for event in events[codes.index("authorisation.denied") :]:
        who = event["principal"].rpartition("#")[2]
        print(f"{event['sequence']:>4}  {event['code']:<20} {who:<14} {_what(event)}")
    _check_masked(text, pans, "the record")
    for place, path in (("record", trial.audit), ("log", trial.log)):
        _check(trial.secret not in path.read_text(), f"the real password is in the {place}")
    _check_masked(trial.log.read_text(), pans, "the log")
    in_order = [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    _check(in_order, "the sequence has gaps")
    _check(
        codes.count("authorisation.denied") == 1 and codes.count("auth.failed") == 3,
        f"the four refusals of step 3 are not all there: {codes}",
    )
    asked = [COLUMNS, NESTED, HIDDEN, COPY, UNMASKABLE, *EVERYTHING, DROP, command]
    sent = [
        event["data"]["text"]
        for event in events
        if event["code"] == "statement.allowed" and "text" in event["data"]
    ]
    asked = [sql.replace(pans[0], _masked(pans[0])) for sql in asked]
    _check(sent == asked, f"the agent's statements are not what is recorded: {sent}")
    _say(f"{len(events)} events, no gap, no card number, and nowhere the database's real password.")


def _sealed(trial: Trial, pans: Sequence[str]) -> None:
    _title("6. Nobody changes that unnoticed", "the record is sealed while it is written")
    events = len(trial.audit.read_bytes().splitlines())
    until(lambda: _size_sealed(trial) >= events, "the seal on what was recorded")
    copy = trial.directory / "copy"
    copy.mkdir(mode=0o700)
    for name in ("checkpoint", "log.pub"):
        shutil.copy2(trial.directory / name, copy / name)
    for name in ("tile", "sessions"):
        shutil.copytree(trial.directory / name, copy / name)
    sizes = [path.stat().st_size for path in (copy / "sessions").rglob("*.rec")]
    print(
        f"A copy of it, with the recordings of {len(sizes)} sessions, and the public key alone:\n"
    )
    done = _verify(copy, trial.directory / "log.pub")
    _check(done.returncode == 0, f"the record does not verify: {done.stdout}{done.stderr}")
    for bundle in (copy / "tile/entries").rglob("[0-9]*"):
        if bundle.is_file():
            data = bundle.read_bytes()
            bundle.write_bytes(
                data.replace(WRITE.encode(), WRITE.encode().replace(b"delete", b"select"))
            )
    print("\nSomebody makes of the agent's `delete` a `select`, and nothing else:\n")
    done = _verify(copy, trial.directory / "log.pub")
    _check(
        done.returncode == 1 and "WRONG (edited)" in done.stdout,
        f"a changed record was not noticed: {done.stdout}{done.stderr}",
    )


def _size_sealed(trial: Trial) -> int:
    try:
        return int((trial.directory / "checkpoint").read_text().splitlines()[1])
    except FileNotFoundError:
        return 0


def _verify(ledger: Path, keys: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pangate.cli",
        "audit",
        "verify",
        str(ledger),
        "--key",
        str(keys),
    ]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    print("$ pangate audit verify copy --key log.pub")
    for line in done.stdout.splitlines():
        print(textwrap.fill(line, WIDTH, subsequent_indent="  "))
    return done


def _last_line(path: Path) -> str:
    return path.read_text().rstrip("\n").rpartition("\n")[2]


def _what(event: dict[str, object]) -> str:
    data = event["data"]
    assert isinstance(data, dict)
    if event["code"] == "statement.finished":
        masked = " ".join(f"{network}={count}" for network, count in data["masked"].items())
        rows = "1 row" if data["rows"] == 1 else f"{data['rows']} rows"
        return f"{rows}, {data['seconds'] * 1000:.1f} ms, masked: {masked or 'nothing'}"
    if event["code"] == "session.connected":
        return f"to the database's process {data['backend']}"
    if event["code"] == "session.recording":
        return f"what the agent was sent: {data['bytes']} bytes, with their digest"
    if event["code"] == "approval.executed":
        return f"request {data['request']}: once, and not again"
    text = str(data.get("text") or data.get("detail") or data.get("reason") or data.get("role", ""))
    room = WIDTH - 42
    return text if len(text) <= room else text[: room - 3] + "..."


def _keep(trial: Trial) -> None:
    token = trial.directory / "token"
    token.touch(mode=0o600)
    token.write_text(trial.token(seconds=86_400))
    _say("It is running until Ctrl-C. In another terminal:")
    print(
        f"\nPGPASSWORD=$(cat {token}) \\\n{trial.postgres.bin / 'psql'} \\\n"
        f'"host={trial.host} port={trial.port} dbname=payments user=agent \\\n'
        f'sslmode=verify-full sslrootcert={trial.ca}"\n'
    )
    print(f"the record:  tail -f {trial.audit}\nthe log:     tail -f {trial.log}", flush=True)
    while True:
        time.sleep(3600)


# --- checks ----------------------------------------------------------------------------------------
# By plain search for what was put into the table, so that the scanner is not its own judge.


def _check(fine: bool, why: str) -> None:
    if not fine:
        raise PangateError(why)


def _check_masked(text: str, pans: Sequence[str], where: str) -> None:
    joined = re.sub(r"(?<=\d)[ -](?=\d)", "", text)
    found = sum(pan in joined for pan in pans)
    _check(not found, f"{found} of {len(pans)} card numbers are in {where}")


def _check_gone(left: Sequence[int | Path]) -> None:
    for each in left:
        if isinstance(each, Path):
            _check(not each.exists(), f"the directory {each} is left")
            continue
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, 0)
            raise PangateError(f"process {each} is still running")


def _agent(trial: Trial, token: str, *commands: str, arguments: tuple[str, ...] = ()) -> str:
    """What the agent's psql prints for these commands, which have to succeed."""
    done = trial.psql(token, *commands, arguments=arguments)
    _check(done.returncode == 0 and not done.stderr, f"psql failed: {done.stderr.strip()}")
    return done.stdout


# --- data and words --------------------------------------------------------------------------------


def _seed(trial: Trial, rows: int = 300) -> tuple[str, ...]:
    """Fill the table, the same way every time. Returns the PAN of each row."""
    chance = random.Random(20_260_101)
    pans = PUBLISHED + tuple(_pan(chance) for _ in range(rows - len(PUBLISHED)))
    lines = []
    for number, pan in enumerate(pans, 1):
        spaced = " ".join(pan[i : i + 4] for i in range(0, len(pan), 4))
        row = (
            number,
            chance.choice(NAMES),
            pan,
            pan,
            pan,
            f"{chance.randrange(100, 99_999) / 100:.2f}",
            json.dumps({"pan": pan, "acct": int(pan), "ok": True}),
            json.dumps(
                {"lines": [f"CARD {pan[:4]}-{pan[4:8]}-{pan[8:12]}-{pan[12:]}", "APPROVED"]}
            ),
            f"paid by phone, card {spaced}, called back",
            CVV,
            "{" + f'"declined {pan}","settled {pan}"' + "}",
            r"\\x" + f"ref {pan}".encode().hex(),
        )
        lines.append("\t".join(map(str, row)))
    trial.postgres.psql(
        SCHEMA + "copy payments.charges from stdin;\n" + "\n".join(lines) + "\n\\.\n"
    )
    return pans


def _pan(chance: random.Random) -> str:
    """A number with a real issuer's head and a right check digit (ISO/IEC 7812-1)."""
    head, length = chance.choice(HEADS)
    body = head + "".join(str(chance.randrange(10)) for _ in range(length - len(head) - 1))
    total = 0
    for place, digit in enumerate(reversed(body)):
        value = int(digit) * (2 - place % 2)
        total += value - 9 if value > 9 else value
    return body + str(-total % 10)


def _masked(pan: str) -> str:
    return "*" * (len(pan) - 4) + pan[-4:]


def _title(title: str, rest: str) -> None:
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        title = f"\x1b[1m{title}\x1b[0m"
    print(f"\n{title}: {rest}\n", flush=True)


def _say(text: str) -> None:
    print(f"\n{text}", flush=True)


def _hanging(label: str, text: str) -> str:
    indent = " " * len(label)
    return textwrap.fill(text, WIDTH, initial_indent=label, subsequent_indent=indent)
