"""What channels are still to be told. It is kept in one step with what it is about, and gone only when the
channel took it, so neither a crash nor a channel that is down loses anything. Every channel has a task of
its own: none waits for another, and no statement waits for any."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import string
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import msgspec

from pangate.approvals import MaskText
from pangate.approvals.channels import Channel, ChannelFailed, ChannelRules
from pangate.errors import RecordFailed, StateFailed
from pangate.store import Decision, Notice, Request, Store

log = logging.getLogger("pangate")

AT_ONCE = 8
"""Requests that a channel is told of at the same time; those of one request are told one after another."""

MOST_KEPT = 10_000
"""Notices that are kept for a channel that takes none."""

DROPPED_AT_ONCE = 100

FIRST_SECONDS, MOST_SECONDS = 1.0, 300.0
"""The time between the first two attempts, which doubles, and the longest."""

LANE_SECONDS = 30.0
"""The longest that a channel that takes nothing is left alone; then one more look at all that is due."""

LAPSE_SECONDS = 0.5
"""An execution is told a moment later: it may still turn out that the agent is gone."""

LOOK_SECONDS = 0.05

MOST_STATEMENT = 4000
MOST_VALUES, MOST_VALUE = 50, 500
MOST_DECISIONS = 100


class Outbox:
    """For one event loop. `lost` is called with what a channel could not be told, and why; `gone` with the
    name of a channel that is configured no more, and how much it was still to be told. What they record is
    brought to the disk by `durable` before anything is forgotten."""

    def __init__(
        self,
        store: Store,
        mask: MaskText,
        lost: Callable[[Notice, str], None],
        gone: Callable[[str, int], None],
        durable: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._mask = mask
        self._lost = lost
        self._gone = gone
        self._durable = durable
        self._clock = clock
        self._using = asyncio.Lock()
        self._channels: dict[str, Channel] = {}
        self._wakes: dict[str, asyncio.Event] = {}
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self.sent: Counter[str] = Counter()
        """Notices that a channel took, by its name."""
        self.failed: Counter[str] = Counter()
        """Attempts that failed, by the name of the channel."""

    @property
    def channels(self) -> Mapping[str, Channel]:
        """The channels by name."""
        return self._channels

    async def use(self, channels: Sequence[Channel]) -> None:
        """Tell these from now on, and no others. What those of the same name are still to be told stays."""
        async with self._using:
            await self._use(channels)

    async def _use(self, channels: Sequence[Channel]) -> None:
        await self._end(self._lanes)
        self._channels = {channel.rules.name: channel for channel in channels}
        try:
            names = list(self._channels)
            for name, count in (await self._store.kept_for_others(names)).items():
                self._gone(name, count)
            await self._durable()
            dropped = await self._store.keep_channels(names)
            if dropped:
                log.warning(
                    "%d messages for channels that are configured no more are gone", dropped
                )
        except (RecordFailed, StateFailed) as wrong:
            log.error("%s", wrong.detail)
        loop = asyncio.get_running_loop()
        self._wakes = {name: asyncio.Event() for name in self._channels}
        self._lanes = {
            name: loop.create_task(self._lane(channel)) for name, channel in self._channels.items()
        }

    def notices(
        self, code: str, request: Request, decisions: Sequence[Decision] = ()
    ) -> list[Notice]:
        """What is to be told of a step: one for each channel that wants to know."""
        wanting = [one.rules for one in self._channels.values() if _wants(one.rules, code, request)]
        if not wanting:
            return []
        now = self._clock()
        body = body_of(code, now, request, decisions, self._mask)
        due = now + LAPSE_SECONDS if code == "approval.executed" else now
        return [
            Notice(
                id="msg_" + "".join(secrets.choice(string.ascii_letters) for _ in range(24)),
                channel=rules.name,
                request=request.id,
                code=code,
                time=now,
                body=body,
                due=due,
            )
            for rules in wanting
        ]

    def wake(self) -> None:
        """There is something to tell."""
        for event in self._wakes.values():
            event.set()

    async def close(self, seconds: float = 2.0) -> None:
        """Give what is due a moment, and stop. The rest is told after the next start."""
        with contextlib.suppress(StateFailed):
            for _ in range(int(seconds / LOOK_SECONDS)):
                if not any([await self._busy(name) for name in self._channels]):
                    break
                await asyncio.sleep(LOOK_SECONDS)
        await self._end(self._lanes)

    async def _busy(self, channel: str) -> bool:
        found = await self._store.due(channel, self._clock(), most=1)
        # what failed before is not waited for
        return bool(found) and not found[0][0].attempts

    async def _end(self, lanes: dict[str, asyncio.Task[None]]) -> None:
        for task in lanes.values():
            task.cancel()
        await asyncio.gather(*lanes.values(), return_exceptions=True)
        lanes.clear()

    async def _lane(self, channel: Channel) -> None:
        name, failures = channel.rules.name, 0
        wake = self._wakes[name]
        while True:
            wake.clear()
            try:
                found = await self._store.due(name, self._clock(), most=AT_ONCE)
                if not found:
                    due = await self._store.next_due(name)
                    await _wait(wake, None if due is None else max(0.05, due - self._clock()))
                    continue
                took = await asyncio.gather(
                    *(self._tell(channel, notice, place) for notice, place in found)
                )
                failures = 0 if any(took) else failures + 1
                if failures:
                    await self._drop_oldest(name)
            except (RecordFailed, StateFailed) as wrong:
                log.error("channel %s: %s", name, wrong.detail)
                failures += 1
            except Exception as wrong:
                log.error("channel %s: internal error", name, exc_info=wrong)
                failures += 1
            if failures:
                await asyncio.sleep(min(LANE_SECONDS, 0.25 * 2 ** min(failures, 10)))

    async def _drop_oldest(self, channel: str) -> None:
        """Drop what a channel that takes nothing is to be told beyond MOST_KEPT, once that is recorded."""
        dropped = await self._store.beyond(channel, most=MOST_KEPT, at_once=DROPPED_AT_ONCE)
        for notice in dropped:
            self._lost(notice, f"the channel takes nothing, and {MOST_KEPT} newer ones are kept")
        if dropped:
            await self._durable()
            for notice in dropped:
                await self._store.told(notice, "")
            log.error("channel %s: the oldest %d messages are dropped", channel, len(dropped))

    async def _tell(self, channel: Channel, notice: Notice, place: str) -> bool:
        """One attempt; whether the channel took it."""
        rules, after = channel.rules, None
        try:
            async with asyncio.timeout(rules.timeout_seconds + 1):
                place = await channel.tell(notice, place)
        except ChannelFailed as wrong:
            why, after = str(wrong), wrong.after
        except TimeoutError:
            why = "it does not come to an end"
        except Exception as wrong:  # noqa: BLE001 - one channel must not end the others
            why = f"internal error: {type(wrong).__name__}"
        else:
            self.sent[rules.name] += 1
            await self._store.told(notice, place)
            return True
        self.failed[rules.name] += 1
        now = self._clock()
        if now - notice.time >= rules.give_up_seconds:
            log.error("channel %s: %s of request %s is given up: %s", rules.name, notice.code,
                      notice.request, why)  # fmt: skip
            self._lost(replace(notice, attempts=notice.attempts + 1), why)
            await self._durable()
            await self._store.told(notice, "")
            return False
        if not notice.attempts:
            log.warning("channel %s: %s; it is tried again", rules.name, why)
        spread = random.uniform(0.8, 1.2)  # noqa: S311 - many gateways, one receiver
        pause = min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(notice.attempts, 16)) * spread
        pause = max(pause, min(after or 0.0, MOST_SECONDS))
        await self._store.postpone(notice.id, now + pause, why)
        return False


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _wants(rules: ChannelRules, code: str, request: Request) -> bool:
    if rules.events and code.removeprefix("approval.") not in rules.events:
        return False
    return not rules.approvers or bool(set(rules.approvers) & set(request.approvers))


def body_of(
    code: str, now: float, request: Request, decisions: Sequence[Decision], mask: MaskText
) -> bytes:
    """A step as JSON: type, timestamp and data, as Standard Webhooks recommends. Of a request that is kept
    masked, and cut to what is fit to be sent."""

    def cut(text: str, most: int) -> str:
        # a part of a long number could be read as a card number where the whole could not
        return text if len(text) <= most else mask(text[:most])

    left_out = max(0, len(request.statement) - MOST_STATEMENT)
    values = [
        None if value is None else cut(value, MOST_VALUE)
        for value in request.parameters[:MOST_VALUES]
    ]
    shown = {
        "id": request.id,
        "state": request.state,
        "outcome": request.outcome,
        "principal": request.principal,
        "claims": request.claims,
        "origin": request.origin,
        "role": request.role,
        "resource": request.resource,
        "kind": request.kind,
        "statement": cut(request.statement, MOST_STATEMENT),
        "characters_left_out": left_out,
        "parameters": values,
        "parameters_left_out": max(0, len(request.parameters) - MOST_VALUES),
        "effects": request.effects,
        "relations": request.relations,
        "words": request.words,
        "rule": request.rule,
        "reason": request.reason,
        "approvers": request.approvers,
        "quorum": request.quorum,
        "reason_required": request.reason_required,
        "mode": request.mode,
        "created": request.created,
        "expires": request.expires,
        "in_transaction": request.in_transaction,
        "estimate": request.estimate,
    }
    said = [
        {
            "person": one.person,
            "authority": one.authority,
            "choice": one.choice,
            "reason": one.reason,
            "time": one.time,
        }
        for one in decisions[-MOST_DECISIONS:]
    ]
    timestamp = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
    return msgspec.json.encode(
        {
            "type": code,
            "timestamp": timestamp.replace("+00:00", "Z"),
            "data": {"request": shown, "decisions": said},
        }
    )
