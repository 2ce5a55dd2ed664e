"""The server's half of the codec: its answers, message by message, against the queue of what it owes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from pangate import sql
from pangate._frame import Plan
from pangate._scan import Scanner
from pangate.errors import ProtocolError
from pangate.protocols import Action, Buffer, Close, Described, Learn, ToBackend, ToFrontend
from pangate.protocols.postgres import largeobjects, messages
from pangate.protocols.postgres.catalog import KEPT_TEXT
from pangate.protocols.postgres.conversation import (
    ENCODINGS,
    Conversation,
    CopyPlan,
    Expected,
    Prepared,
    Running,
)
from pangate.protocols.postgres.details import quotes_data, without_quoted, without_values
from pangate.protocols.postgres.messages import Column, Reader, message
from pangate.protocols.postgres.plans import Planned, is_expression, plan_for
from pangate.sql import CopyOut, Given, Lineage, lineage, settled
from pangate.sql.carried import EVERYTHING
from pangate.sql.tree import MAX_TEXT

_PLAIN = frozenset("\t!\"#%&':;<=>?@^_`|~ -")
"""What may stand between the values of a COPY and around them. A digit would glue itself to a PAN. The
rest of what is left out can be a part of a value's hex form, and would tear it apart."""

_REMEMBERED, _REMEMBERED_BYTES = 32, 4096
"""Descriptions of results whose plans a session remembers, and how long one may be."""


_GIVING = (b"CREATE ", b"ALTER ", b"DECLARE ", b"PREPARE\0")
"""Tags of commands that give a name to something."""


class Answers(Conversation):
    """Takes the server's bytes; what may go to the agent comes out."""

    def __init__(self, scanner: Scanner, max_message: int) -> None:
        super().__init__(scanner, max_message)
        self._plans: dict[bytes | tuple[bytes, tuple[tuple[int, int], ...]], Planned] = {}
        self._plans_of = 0
        self._learning: Learn | None = None
        self._asked_at = -1
        """Generation of the catalog when it was asked last."""
        self._encoding = "UTF8"
        self._given = Given(self._prepared_text)
        self._lineages: dict[str, Lineage] = {}
        self._lineages_of = (-1, -1)
        self._standing.changed = False
        """Whether the transaction under way changes tables, which nobody else sees yet."""
        self._reads = largeobjects.Reads()

    def backend(self, data: Buffer) -> list[Action]:
        """Take bytes from the server, after its login."""
        walker = self._walker
        walker.load(data)
        actions: list[Action] = []
        while not self._learning and (code := walker.advance(self._plan)):
            handler = _BACKEND.get(code)
            if handler is None:
                raise ProtocolError(
                    f"the backend sent a message of type {bytes([code])!r}, which is not known",
                    "backend",
                )
            if code in _BARE and len(walker.body()) != _BARE[code]:
                raise ProtocolError(
                    f"the backend sent a message of type {bytes([code])!r} of a wrong length",
                    "backend",
                )
            handler(self, actions)
            if actions and isinstance(actions[-1], Close):
                break
        if self._learning and self._learning not in actions:
            actions.append(self._learning)
        return [*(ToFrontend(buffer) for buffer in walker.release()), *actions]

    def learned(self) -> list[Action]:
        """Go on after `Learn`."""
        self._learning = None
        return self.backend(b"")

    @property
    def _plan(self) -> Plan | None:
        return self._planned.plan if self._planned else None

    def _unknown(self, columns: list[Column], *, tables: bool = False) -> str:
        """Ask for what a plan for these columns needs and the catalog does not know, and with `tables` which
        have sensitive columns: then `_learning` is set. When that was in vain, why; empty when all is
        known."""
        types = [column.oid for column in columns if column.format]
        wanted = self._catalog.wanted(
            types,
            [(column.table, column.attribute) for column in columns],
            expressions=tables or any(map(is_expression, columns)),
        )
        if not wanted:
            self._asked_at = -1
            return ""
        if self._asked_at == self._catalog.generation:
            self._asked_at = -1
            return (
                "the gateway cannot read what the database says of this result's columns, so it "
                "cannot be masked; try again, or tell whoever runs the gateway to see its log"
            )
        self._asked_at = self._catalog.generation
        self._learning = Learn(self._catalog.errand(wanted))
        return ""

    def _head(self, kinds: str) -> Expected:
        """What the server answers now; ProtocolError when it owes nothing of these kinds."""
        self._pass_marks()
        if not self._queue or self._queue[0].kind not in kinds:
            raise ProtocolError("the backend sent an answer that nobody asked for", "backend")
        return self._queue[0]

    def _pass_marks(self) -> None:
        while self._queue and self._queue[0].kind == "m":
            self._queue.popleft()

    def _keep(self) -> None:
        if self._muted:
            self._walker.drop()
        else:
            self._walker.keep()

    def _on_row(self, actions: list[Action]) -> None:
        # only while muted does a row come here, or when it cannot be decoded
        if self._walker.undecodable:
            self._refuse_result(
                "a value in this result cannot be decoded, so it cannot be masked",
                self._runs(),
                hint="Cast the column to text, or ask for text results.",
            )
        else:
            self._walker.drop()

    def _refuse_result(self, reason: str, running: Running | None, *, hint: str = "") -> None:
        """An error in the place of the message, and nothing more of this result: that of `running`."""
        self._walker.replace(messages.error("0A000", reason, hint=hint))
        self._mute("0A000", running)

    def _on_parse_complete(self, actions: list[Action]) -> None:
        expected = self._head("Pp")
        self._queue.popleft()
        if expected.placed:
            expected.placed.state = "there"
        if expected.kind == "p":
            self._walker.drop()
            return
        if expected.prepared:
            self._prepared[expected.name] = expected.prepared
        self._finish(expected.statement, actions)
        self._keep()

    def _on_bind_complete(self, actions: list[Action]) -> None:
        self._head("B")
        self._queue.popleft()
        self._keep()

    def _on_close_complete(self, actions: list[Action]) -> None:
        expected = self._head("Cc")
        self._queue.popleft()
        if expected.kind == "c":
            self._walker.drop()
            return
        name = expected.name[1:]
        if expected.name[:1] == b"S":
            self._prepared.pop(name, None)
        else:
            if self._portals.get(name) == expected.closes:
                self._portals.pop(name, None)
            self._finish(expected.closes, actions)
        self._keep()

    def _on_row_description(self, actions: list[Action]) -> None:
        walker = self._walker
        expected = self._head("QDdy")
        body = walker.body()
        columns = messages.row_description(body)
        shown = self._shown(body, columns)
        if expected.kind == "D" and expected.describes == "S":
            self._queue.popleft()
            self._show(shown, body)
            return
        running = self._running.get(expected.statement)
        if expected.kind == "y" and running and running.copy:
            # Of a statement the format is not known yet; of a COPY it was said.
            binary = int(running.copy.out.format == "binary")
            columns = [replace(column, format=binary) for column in columns]
        unreadable = self._unknown(columns)
        if self._learning:
            return
        if expected.kind != "Q":
            self._queue.popleft()
        if expected.kind == "y":
            if running and running.copy and not unreadable:
                running.copy.columns = columns
                actions.append(Described(expected.statement, walker.place, shown))
            walker.drop()
            return
        running = self._running.get(expected.portal or expected.statement)
        if running is None and expected.kind == "D":
            # a cursor that SQL declared: what comes of it is what a FETCH would give
            name = expected.name.decode("utf-8", "replace")
            running = Running(0, f"fetch from {sql.quoted(name)}")
        planned = None if unreadable else self._plan_for(body, columns, running)
        self._planned = planned if planned and planned.plan else None
        if self._planned or self._muted:
            if expected.kind == "d" and not self._muted:
                actions.append(Described(expected.portal, walker.place, shown))
            if expected.kind == "d" or self._muted:
                walker.drop()
            else:
                self._show(shown, body)
            return
        reason, hint = unreadable, ""
        if planned:
            column = columns[planned.refused]
            name = messages.row_description(shown)[planned.refused].name.decode("utf-8", "replace")
            if planned.untold:
                reason, hint = _untold(name)
            else:
                reason = (
                    f"column {name!r} has a type (OID {column.oid}) whose "
                    "binary form pangate cannot mask; cast it to text, or ask for text results"
                )
        self._refuse_result(reason, running, hint=hint)

    def _show(self, shown: bytes, body: bytes) -> None:
        if self._muted:
            self._walker.drop()
        elif shown != body:
            self._walker.replace(message(b"T", shown))
        else:
            self._walker.keep()

    def _shown(self, body: bytes, columns: list[Column]) -> bytes:
        """A RowDescription with its column names masked."""
        names = []
        for column in columns:
            name = bytearray(column.name)
            self._walker.mask_text(name)
            names.append(bytes(name))
        if names == [column.name for column in columns]:
            return body
        return messages.with_names(body, names)

    def settle(self) -> None:
        """From now on plans, and what is done with types, go by what is known now."""
        catalog = self._catalog
        if self._plans_of != catalog.generation:
            self._plans.clear()
            self._plans_of = catalog.generation
            self._walker.types = catalog.types

    def _plan_for(self, body: bytes, columns: list[Column], running: Running | None) -> Planned:
        """The plan of a RowDescription, and of the text behind it where that counts."""
        catalog = self._catalog
        self.settle()
        if len(self._plans) >= _REMEMBERED:
            self._plans.clear()
        found = self._plans.get(body)
        if found is None:
            found = plan_for(columns, catalog)
            if len(body) <= _REMEMBERED_BYTES:
                self._plans[body] = found
        if not found.traced:
            return found
        text = running.text if running else None
        if untold := self._untold(found, running, text):
            return untold
        carried = self._carried(found, running, text)
        if not carried:
            return found
        key = body, tuple(carried.items())
        traced = self._plans.get(key)
        if traced is None:
            traced = plan_for(columns, catalog, carried)
            if len(body) <= _REMEMBERED_BYTES:
                self._plans[key] = traced
        return traced

    def _untold(
        self, planned: Planned, running: Running | None, text: str | None
    ) -> Planned | None:
        """In place of a plan when nobody can tell what its columns are made of: a number that is silently
        wiped to 0 would be taken for the result."""
        if not self._catalog.rules.any or not self._lineage(running, text).unknown:
            return None
        return Planned(None, planned.names, planned.traced[0], untold=True)

    def _carried(
        self, planned: Planned, running: Running | None, text: str | None
    ) -> dict[int, int]:
        """What the text behind a plan has its columns carry, by their index, where it is anything."""
        if not self._catalog.rules.any:
            return {}
        made = self._lineage(running, text)
        if not made:
            return {}
        known = self._catalog.carriers
        values = running.values if running else ()
        found = ((index, settled(made.of(index), values, known)) for index in planned.traced)
        return {index: bits for index, bits in found if bits}

    def _lineage(self, running: Running | None, text: str | None) -> Lineage:
        if text is None or running is None or running.doubtful:
            return EVERYTHING  # nobody knows what runs
        given = self._given
        lowered = text.lower()
        if not given.version and "fetch" not in lowered and "execute" not in lowered:
            return self._catalog.lineage(text)
        of = self._catalog.generation, given.version
        if self._lineages_of != of or len(self._lineages) >= 256:
            self._lineages.clear()
            self._lineages_of = of
        found = self._lineages.get(text)
        if found is None:
            found = lineage(text, self._catalog.carriers, given)
            if "execute" not in lowered and len(text) <= KEPT_TEXT:
                self._lineages[text] = found
        return found

    def _prepared_text(self, name: str) -> str | None:
        """What SQL EXECUTE runs of what Parse prepared."""
        prepared = self._prepared.get(name.encode())
        return None if prepared is None or prepared.doubtful else prepared.text

    def _mute(self, code: str, running: Running | None) -> None:
        """Drop everything up to the next ReadyForQuery: the agent has had its error."""
        self._muted = True
        self._walker.muted = True
        if running:
            running.error = running.error or code

    def _runs(self) -> Running | None:
        """The statement whose answer comes now."""
        return self._running.get(self._queue[0].statement) if self._queue else None

    def _on_no_data(self, actions: list[Action]) -> None:
        expected = self._head("Ddy")
        self._queue.popleft()
        if expected.describes == "P":
            self._planned = None
        if expected.kind in "dy":
            self._walker.drop()
        else:
            self._keep()

    def _on_parameter_description(self, actions: list[Action]) -> None:
        expected = self._head("Dy")
        reader = Reader(self._walker.body(), "backend")
        types = reader.uint32s(reader.int16())
        reader.done()
        if expected.kind == "y":
            self._walker.drop()
            return
        prepared = self._prepared.get(expected.name)
        if prepared:
            prepared.types = types
            self._on_types(prepared, types)
        self._keep()

    def _on_types(self, prepared: Prepared, types: tuple[int, ...]) -> None:
        """The agent is told the types of a statement's parameters."""

    def _on_complete(self, actions: list[Action]) -> None:
        # CommandComplete and EmptyQueryResponse
        expected = self._head("QE")
        running = self._running.get(expected.statement)
        if running and running.secret:
            # In doubt it counts as touching a sensitive column; the next one like it need not be in doubt.
            self._unknown([], tables=True)
            if self._learning:
                return
        self._count(expected)
        tag = self._walker.body()
        given = tag.startswith(_GIVING) or (self._planned is None and tag.startswith(b"SELECT"))
        if given and running:
            self._given.note(running.text)
        if expected.kind == "E":
            self._queue.popleft()
            self._finish(expected.statement, actions)
        else:
            self._planned = None
        if tag.startswith((b"DEALLOCATE", b"DISCARD ALL")):
            self._on_deallocated(tag, running)
        if tag == b"PREPARE\0":
            # SQL may have given a name that Parse gave before another meaning: none is trusted now.
            self._prepared.clear()
        elif tag.startswith((b"ALTER ", b"CREATE ", b"DROP ")):
            self._standing.changed = True
            self._catalog.expire()
        elif tag == b"DO\0":
            self._doubt(running)
        self._walker.mask_body(0)
        self._keep()

    def _on_deallocated(self, tag: bytes, running: Running | None) -> None:
        """SQL took prepared statements away."""

    def _on_unnamed_gone(self) -> None:
        """The server has taken the prepared statement without a name away."""

    def _doubt(self, running: Running | None) -> None:
        """Code was run, which can prepare and declare as well, under names that are known here."""
        self._given.forget()
        text = running.text.lower() if running else ""
        if not running or any(word in text for word in ("execute", "prepare", "language")):
            for prepared in self._prepared.values():
                prepared.doubtful = True

    def _on_suspended(self, actions: list[Action]) -> None:
        expected = self._head("E")
        self._count(expected)
        self._queue.popleft()
        self._keep()

    def _on_copy_out(self, actions: list[Action]) -> None:
        expected = self._head("QE")
        body = self._walker.body()
        if self._muted:
            self._walker.drop()
            return
        running = self._running.get(expected.statement)
        copy = running.copy if running else None
        reader = Reader(body, "backend")
        format_ = reader.take(1)[0]
        reader.int16s(reader.int16())
        reader.done()
        if copy is None:
            reason = (
                "this COPY is not understood, so what it sends cannot be masked; send it by itself"
            )
        else:
            reason = _copy_refusal(copy.out) or self._plan_copy(running, copy, body)
        if format_ > 1 or (copy and (format_ == 1) != (copy.out.format == "binary")):
            reason = reason or "the server sends this COPY in a format that was not asked for"
        if reason:
            self._refuse_result(reason, running)
        else:
            self._walker.keep()

    def _plan_copy(self, running: Running | None, copy: CopyPlan, body: bytes) -> str:
        """Plan the rows of a COPY, whose CopyOutResponse is `body`; or say why that cannot be done."""
        out, columns = copy.out, copy.columns
        count = int.from_bytes(body[1:3], "big")
        if columns is not None and len(columns) != count and out.relation and not out.columns:
            # A table's generated columns are described and not copied.
            facts = [self._catalog.fact(column.table, column.attribute) for column in columns]
            pairs = zip(columns, facts, strict=True)
            columns = [column for column, fact in pairs if not (fact and fact.generated)]
        if columns is None or len(columns) != count:
            return "the columns of this COPY are not known, so they cannot be masked; name them"
        binary = out.format == "binary"
        self._walker.types = self._catalog.types
        planned = plan_for(columns, self._catalog)
        if planned.traced and self._untold(planned, running, out.select):
            return _untold(planned.names[planned.traced[0]])[0]
        if planned.traced and (carried := self._carried(planned, running, out.select)):
            planned = plan_for(columns, self._catalog, carried)
        if planned.plan is None:
            return (
                f"column {planned.names[planned.refused]!r} has a type (OID "
                f"{columns[planned.refused].oid}) whose binary form pangate cannot mask; use the text "
                "or csv format"
            )
        if binary:
            self._walker.copy_binary()
        else:
            marks = (out.delimiter + out.quote + out.escape).encode()
            if len(marks) != 3:
                return "COPY takes one byte as a DELIMITER, QUOTE or ESCAPE"
            delimiter, quote, escape = marks
            csv = out.format == "csv"
            self._walker.copy_cells(csv, delimiter, quote, escape, out.null.encode(), out.header)
        self._planned = planned
        return ""

    def _on_copy_in(self, actions: list[Action]) -> None:
        self._head("QE")
        # Until the COPY ends the server ignores Sync, also one that was sent ahead.
        behind = [expected.kind for expected in self._queue][1:]
        ended = behind.index("m") if "m" in behind else len(behind)
        ignored = behind[:ended].count("S")
        if self._muted:
            # nobody is there who could answer with rows
            self._walker.drop()
            refusal = message(b"f", b"refused by the gateway\0")
            actions.append(ToBackend(refusal + message(b"S") * ignored))
            return
        for _ in range(ignored):
            self._queue.remove(Expected("S"))
        self._copying = ended == len(behind)
        self._walker.keep()

    def _on_copy_done(self, actions: list[Action]) -> None:
        self._head("QE")
        self._keep()

    def _on_call_result(self, actions: list[Action]) -> None:
        expected = self._head("F")
        value = self._reads.mask(expected.call, self._walker)
        if value is None:
            self._refuse_result("the result of this function cannot be masked", self._runs())
        else:
            self._walker.replace(message(b"V", value))

    def _on_error(self, actions: list[Action]) -> None:
        walker = self._walker
        self._pass_marks()
        self._copying = False
        fields = messages.error_fields(walker.body())
        expected = self._queue[0] if self._queue else None
        code = fields.get("C", "XX000")
        if fields.get("V", fields.get("S")) in ("FATAL", "PANIC"):
            # whatever was asked: nothing comes after it
            if expected and expected.statement in self._running:
                self._count(expected)
                self._running[expected.statement].error = code
                self._finish(expected.statement, actions)
            walker.mask_body(0)
            walker.keep()
            actions.append(Close("the backend ended the session"))
            return
        if expected and expected.kind in "py" and expected.name == SIMPLE:
            # What was asked in front of a COPY; the COPY itself will say what is wrong.
            while self._queue[0].kind != "s":
                skipped = self._queue.popleft()
                if skipped.placed:
                    skipped.placed.state = "lost"
            walker.mask_body(0)
            self._queue[1].aborted = message(b"E", walker.body())
            walker.drop()
            return
        if expected is None:
            raise ProtocolError("the backend sent an error that nobody caused", "backend")
        if expected.statement and expected.statement in self._running:
            self._count(expected)
            running = self._running[expected.statement]
            running.error = running.error or expected.sqlstate or code
        if self._muted:
            walker.drop()
        elif expected.error:
            walker.replace(expected.error)
        elif expected.aborted and code == "25P02":
            walker.replace(expected.aborted)
        else:
            walker.mask_body(0)
            body = walker.body()
            shown = self._without_values(
                self._as_named(body), self._running.get(expected.statement)
            )
            if shown == body:
                walker.keep()
            else:
                walker.replace(message(b"E", shown))
        self._planned = None
        if expected.kind == "P" and not expected.name:
            self._on_unnamed_gone()
        if expected.call:
            self._reads.failed()
        if expected.kind not in "QF":
            self._failed = True

    def _as_named(self, body: bytes) -> bytes:
        """An error with the names that the agent gave."""
        return body

    def _without_values(self, body: bytes, running: Running | None) -> bytes:
        """An error or a notice without what it quotes of sensitive columns."""
        rules = self._catalog.rules
        if not rules.any:
            return body
        if self._may_be_secret(running) and quotes_data(messages.error_fields(body)):
            return without_quoted(body)
        return without_values(body, lambda name: rules.label(name)[0] is not None)

    def _may_be_secret(self, running: Running | None) -> bool:
        """Whether what runs may touch a sensitive column."""
        if running is None or running.secret or running.doubtful:
            return True
        if "fetch" in running.text.lower():
            return True  # from a cursor, whose text is not this one
        return not all(part.command for part in sql.understand(running.text).parts)

    def _on_notice(self, actions: list[Action]) -> None:
        walker = self._walker
        walker.mask_body(0)
        body = walker.body()
        running = self._running.get(self._queue[0].statement) if self._queue else None
        shown = self._without_values(body, running) if running and running.secret else body
        if shown == body:
            walker.keep()
        else:
            walker.replace(message(b"N", shown))

    def _on_notification(self, actions: list[Action]) -> None:
        # the process id in front is binary and could look like digits
        self._walker.mask_body(4)
        self._walker.keep()

    def _on_parameter_status(self, actions: list[Action]) -> None:
        reader = Reader(self._walker.body(), "backend")
        name, value = reader.cstring(), reader.cstring()
        reader.done()
        self._on_setting(name, value)
        if name == b"client_encoding":
            self._encoding = value.decode("ascii", "replace")
            self._check_encoding(self._encoding)
        elif name == b"standard_conforming_strings":
            self._check_strings(value.decode("ascii", "replace"))
        self._walker.mask_body(0)
        self._walker.keep()

    def _on_setting(self, name: bytes, value: bytes) -> None:
        """The server reports a setting."""

    def _on_ready(self, actions: list[Action]) -> None:
        if not self._queue:
            raise ProtocolError("the backend said that it is ready, unasked", "backend")
        self._standing.status = bytes(self._walker.body())
        if self._queue[0].kind == "s":
            self._queue.popleft()
            self._walker.drop()
            return
        ends = "S" if self._failed else "SQF"
        while self._queue:
            expected = self._queue.popleft()
            if expected.placed:
                expected.placed.state = "lost"  # it failed, or was skipped
            if expected.statement:
                if expected.kind not in ends and expected.statement in self._running:
                    # skipped by the server after an error before it
                    running = self._running[expected.statement]
                    running.error = running.error or "skipped"
                self._finish(expected.statement, actions)
            if expected.kind in ends:
                break
        else:
            raise ProtocolError("the backend said that it is ready, unasked", "backend")
        if expected.kind == "Q":
            self._on_unnamed_gone()
        if self._standing.status == b"I":
            if self._running or self._portals:
                self._sweep(actions)
            if self._standing.changed:
                self._standing.changed = False
                self._catalog.expire()  # now it is there for everybody
        self._failed = False
        self._planned = None
        self._walker.muted = self._muted = False
        self._walker.keep()
        if not self._queue:
            self._on_rest()

    def _on_rest(self) -> None:
        """Everything is answered."""

    def _sweep(self, actions: list[Action]) -> None:
        # Outside of a transaction no portal lives on: what is bound, not in the queue and not being
        # decided will never run.
        if not self._running and not self._queue and not self._deciding:
            self._portals.clear()
            return
        ahead = {expected.statement for expected in self._queue}
        if self._deciding:
            ahead.add(self._deciding)
        for number in [number for number in self._running if number not in ahead]:
            self._finish(number, actions)
        for name in [name for name, number in self._portals.items() if number not in ahead]:
            del self._portals[name]


def _untold(column: str) -> tuple[str, str]:
    """The error for a column of which nobody can tell what it is made of, and what helps."""
    return (
        f"what column {column!r} is made of cannot be read off this statement, so a sensitive column may "
        "be in it",
        f"Send one statement of at most {MAX_TEXT} characters that the gateway's grammar reads, prepare it "
        "again if it was prepared before other code ran, or give columns of tables as they are.",
    )


def _copy_refusal(copy: CopyOut) -> str:
    """Why what a COPY sends cannot be masked, by its options; empty when it can."""
    if copy.unknown:
        return f"the COPY option {copy.unknown[0]!r} is not known to this gateway; leave it out"
    if copy.encoding and copy.encoding.upper() not in ENCODINGS:
        return f"COPY with ENCODING {copy.encoding} is not passed through this gateway; use UTF8"
    if copy.format == "binary":
        return ""
    for name in ("delimiter", "quote", "escape"):
        given = getattr(copy, name)
        if given not in _PLAIN and (name, given, copy.format) != ("delimiter", ",", "csv"):
            return (
                f"COPY with this {name.upper()} is not passed through this gateway, because it "
                f"could hide a card number; use one of {''.join(sorted(_PLAIN - {chr(9), ' '}))}"
            )
    return ""


SIMPLE = b"simple"
"""Name of messages of our own that stand in front of a Query."""


_BACKEND: Mapping[int, Callable[[Answers, list[Action]], None]] = {
    ord("D"): Answers._on_row,
    ord("d"): Answers._on_row,
    ord("1"): Answers._on_parse_complete,
    ord("2"): Answers._on_bind_complete,
    ord("3"): Answers._on_close_complete,
    ord("T"): Answers._on_row_description,
    ord("n"): Answers._on_no_data,
    ord("t"): Answers._on_parameter_description,
    ord("C"): Answers._on_complete,
    ord("I"): Answers._on_complete,
    ord("s"): Answers._on_suspended,
    ord("H"): Answers._on_copy_out,
    ord("G"): Answers._on_copy_in,
    ord("c"): Answers._on_copy_done,
    ord("V"): Answers._on_call_result,
    ord("E"): Answers._on_error,
    ord("N"): Answers._on_notice,
    ord("A"): Answers._on_notification,
    ord("S"): Answers._on_parameter_status,
    ord("Z"): Answers._on_ready,
}

_BARE: Mapping[int, int] = {ord("Z"): 1, **dict.fromkeys(b"123nscI", 0)}
"""Lengths of the bodies that are not looked at: what a client skips could hold anything."""
