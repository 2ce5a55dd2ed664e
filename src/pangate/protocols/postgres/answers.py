"""The server's half of the codec: its answers, message by message, against the queue of what it owes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pangate import sql
from pangate._frame import REFUSED, Plan, op_of
from pangate._scan import Scanner
from pangate.errors import ProtocolError
from pangate.protocols import Action, Buffer, Close, ToBackend, ToFrontend
from pangate.protocols.postgres import messages
from pangate.protocols.postgres.conversation import ENCODINGS, Conversation, Expected
from pangate.protocols.postgres.messages import Reader, message

_PLAIN = frozenset("\t!\"#%&':;<=>?@^_`|~")
"""What may stand between the values of a COPY and around them. A digit would glue itself to a PAN. The
rest of what is left out can be a part of one, and inside a value it would be doubled or escaped, which
tears the PAN (4111\\-1111...) or its hex form apart."""



class Answers(Conversation):
    """Takes the server's bytes; what may go to the agent comes out."""

    def __init__(self, scanner: Scanner, max_message: int) -> None:
        super().__init__(scanner, max_message)
        self._plans: dict[bytes, tuple[Plan | bytes, bytes]] = {}

    def backend(self, data: Buffer) -> list[Action]:
        """Take bytes from the server, after its login."""
        walker = self._walker
        walker.load(data)
        actions: list[Action] = []
        while code := walker.advance(self._plan):
            handler = _BACKEND.get(code)
            if handler is None:
                raise ProtocolError(
                    f"the backend sent a message of type {bytes([code])!r}, which is not known",
                    "backend",
                )
            handler(self, actions)
        return [*(ToFrontend(buffer) for buffer in walker.release()), *actions]

    def _head(self, kinds: str) -> Expected:
        """What the server answers now; ProtocolError when it owes nothing of these kinds."""
        if not self._queue or self._queue[0].kind not in kinds:
            raise ProtocolError("the backend sent an answer that nobody asked for", "backend")
        return self._queue[0]

    def _keep(self) -> None:
        if self._muted:
            self._walker.drop()
        else:
            self._walker.keep()

    def _on_row(self, actions: list[Action]) -> None:
        self._walker.drop()  # only while muted does a row come here

    def _on_parse_complete(self, actions: list[Action]) -> None:
        expected = self._head("P")
        self._queue.popleft()
        if expected.prepared:
            self._prepared[expected.name] = expected.prepared
        self._finish(expected.statement, actions)
        self._keep()

    def _on_bind_complete(self, actions: list[Action]) -> None:
        self._head("B")
        self._queue.popleft()
        self._keep()

    def _on_close_complete(self, actions: list[Action]) -> None:
        expected = self._head("C")
        self._queue.popleft()
        name = expected.name[1:]
        if expected.name[:1] == b"S":
            self._prepared.pop(name, None)
        else:
            self._finish(self._portals.pop(name, 0), actions)
        self._keep()

    def _on_row_description(self, actions: list[Action]) -> None:
        walker = self._walker
        expected = self._head("QDd")
        body = walker.body()
        plan, shown = self._plan_for(body)
        statement_only = expected.kind == "D" and expected.describes == "S"
        if expected.kind != "Q":
            self._queue.popleft()
        if expected.kind == "d" or self._muted:
            walker.drop()
        elif shown != body:
            walker.replace(message(b"T", shown))
        elif statement_only or isinstance(plan, Plan):
            walker.keep()
        if statement_only:
            return
        if isinstance(plan, Plan):
            self._plan = plan
            return
        self._plan = None
        if not self._muted:
            if expected.kind == "d" or shown != body:
                walker.insert(plan)
            else:
                walker.replace(plan)
            self._mute("0A000")

    def _plan_for(self, body: bytes) -> tuple[Plan | bytes, bytes]:
        """The plan of a RowDescription, or the error that says why there is none; and the description
        with its column names masked."""
        found = self._plans.get(body)
        if found:
            return found
        columns = messages.row_description(body)
        names = []
        for column in columns:
            name = bytearray(column.name)
            self._walker.mask_text(name)
            names.append(bytes(name))
        shown = body
        if names != [column.name for column in columns]:
            shown = messages.with_names(body, names)
        ops = [op_of(column.oid, column.format) for column in columns]
        plan: Plan | bytes
        if REFUSED in ops:
            at = ops.index(REFUSED)
            plan = messages.error(
                "0A000",
                f"column {names[at].decode('utf-8', 'replace')!r} has a type (OID "
                f"{columns[at].oid}) whose binary form pangate cannot mask",
                hint="Cast the column to text, or ask for text results.",
            )
        else:
            plan = Plan(ops)
        if len(self._plans) >= 256:
            self._plans.clear()
        self._plans[body] = (plan, shown)
        return plan, shown

    def _mute(self, code: str) -> None:
        """Drop everything up to the next ReadyForQuery: the agent has had its error."""
        self._muted = True
        self._walker.muted = True
        if self._queue:
            head = self._queue[0]
            running = self._running.get(head.statement)
            if running:
                running.error = running.error or code

    def _on_no_data(self, actions: list[Action]) -> None:
        expected = self._head("Dd")
        self._queue.popleft()
        if expected.describes == "P":
            self._plan = None
        if expected.kind == "d":
            self._walker.drop()
        else:
            self._keep()

    def _on_parameter_description(self, actions: list[Action]) -> None:
        expected = self._head("D")
        reader = Reader(self._walker.body(), "backend")
        types = reader.uint32s(reader.int16())
        reader.done()
        prepared = self._prepared.get(expected.name)
        if prepared:
            prepared.types = types
        self._keep()

    def _on_complete(self, actions: list[Action]) -> None:
        # CommandComplete and EmptyQueryResponse
        expected = self._head("QE")
        self._count(expected)
        if expected.kind == "E":
            self._queue.popleft()
            self._finish(expected.statement, actions)
        else:
            self._plan = None
        if self._walker.body() == b"PREPARE\0":
            # SQL may have given a name that Parse gave before another meaning: none is trusted now.
            self._prepared.clear()
        self._walker.mask_body(0)
        self._keep()

    def _on_suspended(self, actions: list[Action]) -> None:
        expected = self._head("E")
        self._count(expected)
        self._queue.popleft()
        self._keep()

    def _on_copy_out(self, actions: list[Action]) -> None:
        expected = self._head("QE")
        body = self._walker.body()
        if not body or self._muted:
            self._keep()
            return
        running = self._running.get(expected.statement)
        reason = ""
        if body[0] != 0:
            reason = "COPY in binary format cannot be masked; use the text or csv format"
        else:
            reason = _copy_refusal(running.text if running else "")
        if reason:
            self._walker.replace(messages.error("0A000", reason))
            self._mute("0A000")
        else:
            self._walker.keep()

    def _on_copy_in(self, actions: list[Action]) -> None:
        self._head("QE")
        if self._muted:
            # nobody is there who could answer with rows
            self._walker.drop()
            actions.append(ToBackend(message(b"f", b"refused by the gateway\0")))
        else:
            self._walker.keep()

    def _on_copy_done(self, actions: list[Action]) -> None:
        self._head("QE")
        self._keep()

    def _on_error(self, actions: list[Action]) -> None:
        walker = self._walker
        fields = messages.error_fields(walker.body())
        if fields.get("V", fields.get("S")) in ("FATAL", "PANIC") and not self._queue:
            walker.mask_body(0)
            walker.keep()
            actions.append(Close("the backend ended the session"))
            return
        expected = self._queue[0] if self._queue else None
        code = fields.get("C", "XX000")
        if expected is None:
            raise ProtocolError("the backend sent an error that nobody caused", "backend")
        if expected.statement and expected.statement in self._running:
            self._count(expected)
            running = self._running[expected.statement]
            running.error = running.error or ("42501" if expected.error else code)
        if self._muted:
            walker.drop()
        elif expected.error:
            walker.replace(expected.error)
        else:
            walker.mask_body(0)
            walker.keep()
        self._plan = None
        if expected.kind != "Q":
            self._failed = True

    def _on_notice(self, actions: list[Action]) -> None:
        self._walker.mask_body(0)
        self._walker.keep()

    def _on_notification(self, actions: list[Action]) -> None:
        # the process id in front is binary and could look like digits
        self._walker.mask_body(4)
        self._walker.keep()

    def _on_parameter_status(self, actions: list[Action]) -> None:
        reader = Reader(self._walker.body(), "backend")
        name, value = reader.cstring(), reader.cstring()
        reader.done()
        if name == b"client_encoding":
            self._check_encoding(value.decode("ascii", "replace"))
        self._walker.mask_body(0)
        self._walker.keep()

    def _on_ready(self, actions: list[Action]) -> None:
        if not self._queue:
            raise ProtocolError("the backend said that it is ready, unasked", "backend")
        ends = "S" if self._failed else "SQ"
        while self._queue:
            expected = self._queue.popleft()
            if expected.statement:
                if expected.kind not in "QSX" and expected.statement in self._running:
                    # skipped by the server after an error before it
                    running = self._running[expected.statement]
                    running.error = running.error or "skipped"
                self._finish(expected.statement, actions)
            if expected.kind in ends:
                break
        else:
            raise ProtocolError("the backend said that it is ready, unasked", "backend")
        if self._walker.body() == b"I" and self._running:
            self._sweep(actions)
        self._failed = False
        self._plan = None
        self._walker.muted = self._muted = False
        self._walker.keep()

    def _sweep(self, actions: list[Action]) -> None:
        # Outside of a transaction no portal lives on: what is bound, not in the queue and not being
        # decided will never run.
        ahead = {expected.statement for expected in self._queue}
        if self._deciding:
            ahead.add(self._deciding)
        for number in [number for number in self._running if number not in ahead]:
            self._finish(number, actions)
        for name in [name for name, number in self._portals.items() if number not in ahead]:
            del self._portals[name]


def _copy_refusal(text: str) -> str:
    """Why what a COPY in `text` sends cannot be masked; empty when it can."""
    copies = sql.copies_out(text)
    if not copies:
        return "this COPY is not understood, so what it sends cannot be masked; send it by itself"
    for copy in copies:
        if copy.unknown:
            return f"the COPY option {copy.unknown[0]!r} is not known to this gateway; leave it out"
        if copy.encoding and copy.encoding.upper() not in ENCODINGS:
            return f"COPY with ENCODING {copy.encoding} is not passed through this gateway; use UTF8"
        for name in ("delimiter", "quote", "escape"):
            given = getattr(copy, name)
            if given not in _PLAIN and (name, given, copy.format) != ("delimiter", ",", "csv"):
                return (
                    f"COPY with this {name.upper()} is not passed through this gateway, because it "
                    f"could hide a card number; use one of {''.join(sorted(_PLAIN - {chr(9)}))}"
                )
    return ""


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
    ord("E"): Answers._on_error,
    ord("N"): Answers._on_notice,
    ord("A"): Answers._on_notification,
    ord("S"): Answers._on_parameter_status,
    ord("Z"): Answers._on_ready,
}
