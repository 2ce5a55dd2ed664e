"""Records for tests and benchmarks: events as a gateway has them over days, encoded as it encodes them."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from pathlib import Path

from pangate.audit import leaf_encoder
from pangate.model import Event

BEGAN = 1_795_000_000.0
"""Seconds since 1970 of the first event."""

TABLES = [f"{schema}.{name}" for schema in ("sales", "billing", "ops") for name in (
    "orders", "customers", "cards", "payments", "refunds", "invoices", "disputes", "notes", "audits",
    "ledger",
)]  # fmt: skip
NETWORKS = ("visa", "mastercard", "amex", "discover", "jcb")
SHAPES = (
    ("select", ["read"], "select id, holder, number from {table} where id = {number}"),
    ("select", ["read"], "select count(*) from {table} where created > '2026-11-{day:02d}'"),
    ("select", ["read"], "select o.id from {table} as o join {other} as p on p.id = o.id limit {number}"),
    ("insert", ["write"], "insert into {table} (id, note) values ({number}, 'seen by job {day}')"),
    ("update", ["write"], "update {table} set state = 'paid' where id = {number}"),
    ("delete", ["write", "bulk_write"], "delete from {table}"),
    ("ddl", ["schema"], "alter table {table} add column extra_{number} text"),
)  # fmt: skip
WEIGHTS = (50, 20, 10, 10, 8, 1, 1)


class Trail:
    """Events without end, always the same for a seed. `sessions` of them are open at a time."""

    def __init__(self, seed: int = 1, sessions: int = 20, seconds: float = 0.05) -> None:
        self._chance = random.Random(seed)
        self._sessions = sessions
        self._step = seconds
        self._now = BEGAN
        self.people = [f"https://id.example/realms/ci#job-{number}" for number in range(200)]

    def events(self) -> Iterator[Event]:
        """The events, in their order."""
        chance = self._chance
        yield self._event("log.start", "-", "gateway", "local", "audit", {"config": "abc"})
        open_now: list[Iterator[Event]] = []
        while True:
            while len(open_now) < self._sessions:
                open_now.append(self._session())
            index = chance.randrange(len(open_now))
            event = next(open_now[index], None)
            if event is None:
                open_now.pop(index)
                continue
            yield event
            if chance.random() < 1e-4:
                yield self._event(
                    "config.reloaded", "-", "gateway", "local", "configuration", {"before": "abc"}
                )

    def _event(self, code, session, who, origin, resource, data, success=True, role="", number=0):
        self._now += self._step * self._chance.random() * 2
        return Event(
            code,
            self._now,
            session,
            who,
            origin,
            resource,
            success,
            data,
            "kmlpebagdgjd",
            role,
            number,
        )

    def _session(self) -> Iterator[Event]:
        chance = self._chance
        who = self.people[min(int(chance.expovariate(1 / 30)), len(self.people) - 1)]
        address = f"10.{chance.randrange(3)}.{chance.randrange(8)}.{chance.randrange(20)}"
        origin = f"{address}:{chance.randrange(30_000, 60_000)}"
        resource = chance.choice(("payments", "payments", "ledger", "reports", "archive"))
        name = "".join(chance.choices(string.ascii_lowercase, k=16))
        if chance.random() < 0.05:
            detail = {"detail": "the token has expired", "kind": "expired"}
            yield self._event(
                "auth.failed", name, "unknown", origin, resource, detail, success=False
            )
            return
        role = f"{resource}-{chance.choice(('reader', 'writer'))}"
        common = name, who, origin, resource
        yield self._event("session.start", *common,
                          {"role": role, "mask": "last4", "application": "psql"}, role=role)  # fmt: skip
        for number in range(1, chance.randrange(2, 30)):
            yield from self._statement(common, role, number)
        yield self._event("session.end", *common,
                          {"reason": "the agent ended it", "masked": {"visa": 1}}, role=role)  # fmt: skip

    def _statement(self, common, role, number):
        chance = self._chance
        ((kind, effects, shape),) = chance.choices(SHAPES, WEIGHTS)
        tables = chance.sample(TABLES, 2)
        text = shape.format(
            table=tables[0],
            other=tables[1],
            number=chance.randrange(10**7),
            day=chance.randrange(1, 29),
        )
        data = {"number": number, "kind": kind, "text": text, "verdict": "allow", "rule": "role",
                "effects": effects, "relations": tables if "join" in text else tables[:1]}  # fmt: skip
        if "schema" in effects or chance.random() < 0.01:
            yield self._event(
                "statement.denied", *common,
                data | {"verdict": "deny", "reason": "no role of yours may do this"}, False, role, number,
            )  # fmt: skip
            return
        if chance.random() < 0.2:
            data["parameters"] = [str(chance.randrange(1000)), None, "4111111111111111"]
        yield self._event("statement.allowed", *common, data, True, role, number)
        done = {
            "number": number,
            "rows": chance.randrange(100),
            "bytes": 1000,
            "masked": {},
            "seconds": 0.01,
        }
        if effects == ["read"] and "cards" in text:
            networks = chance.sample(NETWORKS, chance.choice((1, 1, 1, 2)))
            done["masked"] = {network: chance.randrange(1, 200) for network in networks}
        if chance.random() < 0.01:
            done["error"] = "42P01"
        yield self._event("statement.finished", *common, done, "error" not in done, role, number)


def leaves(count: int, seed: int = 1, **more: float) -> Iterator[bytes]:
    """The first `count` events of a trail, as the gateway writes them."""
    encode = leaf_encoder()
    for sequence, event in enumerate(Trail(seed, **more).events(), 1):
        if sequence > count:
            return
        yield encode(event, sequence)


def write(path: Path, count: int, seed: int = 1, **more: float) -> Path:
    """A record of `count` events at `path`."""
    path.touch(mode=0o600)
    with path.open("ab") as file:
        for leaf in leaves(count, seed, **more):
            file.write(leaf + b"\n")
    return path
