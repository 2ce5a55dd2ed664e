"""The codes of events: what each says, which part of PCI DSS 10.2.1 asks for it, and whether it has to be on
the disk at once. A code never changes its meaning; what is new gets a new one."""

from __future__ import annotations

from typing import NamedTuple

from pangate.model import Effect


class Code(NamedTuple):
    """`pci` is empty for what no requirement of 10.2.1 asks for. What is `urgent` is on the disk before
    anything follows from it, with `audit.fsync = "urgent"`."""

    meaning: str
    pci: str = ""
    urgent: bool = False


CODES: dict[str, Code] = {
    "approval.broken_glass": Code("somebody let a statement run alone", "10.2.1.2", urgent=True),
    "approval.counted": Code(
        "how many rows a statement that waits concerns, or why none were counted"
    ),
    "approval.counting": Code(
        "a person asks how many rows a statement that waits concerns", "10.2.1.2"
    ),
    "approval.decided": Code("a person approved or denied", "10.2.1.2", urgent=True),
    "approval.delegated": Code(
        "a person lets another one decide in their place", "10.2.1.5", urgent=True
    ),
    "approval.delegation_revoked": Code("and not any more", "10.2.1.5", urgent=True),
    "approval.executed": Code(
        "an approval is used up: its statement runs", "10.2.1.2", urgent=True
    ),
    "approval.expired": Code("nobody decided in time, or the gateway was restarted"),
    "approval.listed": Code(
        "a person was shown these requests, or follows all that concern them", "10.2.1.3"
    ),
    "approval.noted": Code("what waits is in a transaction by now, so it waits for less long"),
    "approval.refused": Code("a person decided who may not, or not so", "10.2.1.4", urgent=True),
    "approval.requested": Code("a statement waits for a person"),
    "approval.reviewed": Code("whether breaking the glass was justified", "10.2.1.2", urgent=True),
    "approval.unknown": Code(
        "an approval was used up by a process that ended: its own record says whether the statement ran"
    ),
    "approval.untold": Code(
        "a channel did not take a message about a request, and is not asked again"
    ),
    "approval.viewed": Code("a person looked at a request", "10.2.1.3"),
    "approval.void": Code("what was decided could not be kept and has no effect", urgent=True),
    "approval.withdrawn": Code("nobody waits for it any more"),
    "audit.exported": Code(
        "somebody sets out to write an archive of a period with `pangate audit export`",
        "10.2.1.3",
    ),
    "audit.hold_placed": Code(
        "somebody sets out to place a legal hold: on which events, and why",
        "10.2.1.2",
        urgent=True,
    ),
    "audit.hold_released": Code("and to lift one", "10.2.1.2", urgent=True),
    "audit.note_refused": Code("a note of who read the record that was none", "10.2.1.4"),
    "audit.read": Code("somebody read the record with `pangate audit`", "10.2.1.3"),
    "audit.recovered": Code(
        "the record could not be written for a while, and can be again: why, and for how long",
        "10.2.1.6",
        urgent=True,
    ),
    "audit.repaired": Code(
        "the end of the file was not whole after a crash and was taken away: how many bytes",
        "10.2.1.6",
        urgent=True,
    ),
    "audit.retention_applied": Code(
        "somebody sets out to take away what is older than `keep_days`",
        "10.2.1.6",
        urgent=True,
    ),
    "auth.failed": Code("no principal could be made of a credential", "10.2.1.4", urgent=True),
    "authorisation.denied": Code("a principal without a grant", "10.2.1.4", urgent=True),
    "catalog.read": Code("the gateway asked the resource what its columns are"),
    "clock.accepted": Code(
        "a person says that a clock that went back is right", "10.2.1.6", urgent=True
    ),
    "clock.back": Code(
        "the system's clock went back; nothing is let through until it has caught up or is accepted",
        "10.2.1.6",
        urgent=True,
    ),
    "config.refused": Code(
        "a configuration that was to be loaded is wrong", "10.2.1.2", urgent=True
    ),
    "config.reloaded": Code("another configuration is in force", "10.2.1.2", urgent=True),
    "console.refused": Code(
        "somebody asked the console for what is not for them: a page, a form from elsewhere",
        "10.2.1.4",
        urgent=True,
    ),
    "console.signed_in": Code(
        "somebody signed in to the console: their roles there and their claims", "10.2.1.5"
    ),
    "console.signed_out": Code("they signed out, or an administrator ended it", "10.2.1.5"),
    "console.viewed": Code(
        "somebody looked at a page of the console, and what they searched for", "10.2.1.3"
    ),
    "key.rotated": Code(
        "the key that signs the record hands over to the next one: both by their hashes",
        "10.2.1.6",
        urgent=True,
    ),
    "limit.reached": Code("a login beyond a limit of its role", "10.2.1.4", urgent=True),
    "log.start": Code("recording starts", "10.2.1.6", urgent=True),
    "log.stop": Code("recording stops", "10.2.1.6", urgent=True),
    "session.cancel": Code("a cancel request was passed on"),
    "session.connected": Code("which process of the resource serves the session"),
    "session.end": Code("a session ended: totals, and why"),
    "session.pinned": Code(
        'the session keeps its connection from now on (`pool.mode = "transaction"`): what may have left '
        "something there"
    ),
    "session.recorded": Code("what the session was sent up to here, by its digest", "10.2.1.1"),
    "session.recording": Code("all that the session was sent, by its digest", "10.2.1.1"),
    "session.refused": Code("a connection that never came to a login", "10.2.1.4"),
    "session.start": Code("an agent was admitted: its role and mask", "10.2.1.1"),
    "session.unfinished": Code(
        "what a session had been sent when the gateway was killed", "10.2.1.6"
    ),
    "statement.allowed": Code("a command, before it is forwarded", "10.2.1.1"),
    "statement.denied": Code("a command that was refused", "10.2.1.4"),
    "statement.estimated": Code(
        "the resource's planner was asked how many rows a statement concerns"
    ),
    "statement.finished": Code("how a command ended: rows, bytes, card numbers masked", "10.2.1.1"),
    "worker.ended": Code("a worker ended by itself: its number and its exit code", "10.2.1.6"),
}
"""Every code that the gateway records."""

URGENT = frozenset(code for code, said in CODES.items() if said.urgent)

URGENT_EFFECTS: frozenset[Effect] = frozenset(
    {"bulk_write", "schema", "privilege", "code", "file", "admin"}
)
"""A statement that does one of these is on the disk before it is forwarded, and one of which it is not known
what it does."""


def reference() -> str:
    """The table of the documentation."""
    lines = ["| code | what it says | PCI DSS | on the disk first |", "|---|---|---|---|"]
    for code, (meaning, pci, urgent) in sorted(CODES.items()):
        lines.append(f"| `{code}` | {meaning} | {pci} | {'yes' if urgent else ''} |")
    return "\n".join(lines) + "\n"
