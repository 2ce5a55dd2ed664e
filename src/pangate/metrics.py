"""What the gateway counts, for Prometheus. The counts are made of the same events that are recorded, so
that a figure and the record cannot disagree.

Counting is an addition to a dictionary, without a lock, because one event loop does it all; text is made
when somebody reads. Every label has a bounded number of values: they come from our own code and from
the configuration, never from what an agent sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from pangate._book import Given, Histogram, Tally
from pangate.model import Event

MOST_VALUES = 64
"""Values of one label; what comes beyond them is counted as "other"."""

OTHER = "other"

STATEMENT_SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
SHORT_SECONDS = (
    *(1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0),
)
"""For what is short on a good day: from 10 microseconds."""


HOLD_SECONDS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14_400.0)


class Metrics(Collector):
    """The counts of one gateway. For one thread."""

    def __init__(self) -> None:
        self.sessions: Counter[str] = Counter()
        """Sessions that began, by resource."""
        self.ended: Counter[str] = Counter()
        """Sessions that ended, by "ok" or "error"."""
        self.refused: Counter[str] = Counter()
        """Connections that never became a session, by the code of their event."""
        self.auth_failures: Counter[str] = Counter()
        """Credentials that were not accepted, by the class of the reason."""
        self._statements: dict[tuple[str, str], Tally] = {}
        """Statements by kind and verdict."""
        self.failed_statements = 0
        self.masked: Counter[str] = Counter()
        """Card numbers that were masked in results, by network."""
        self.pinned: Counter[str] = Counter()
        """Sessions that keep their connection where others part with it, by what of them made it so."""
        self.given = Given()
        """Rows, and their bytes, that agents were given."""
        self.record_failures = 0
        self.reloads: Counter[str] = Counter({"ok": 0, "refused": 0})
        self.statement_seconds = Histogram(STATEMENT_SECONDS)
        self.to_backend_seconds = Histogram(SHORT_SECONDS)
        self.to_agent_seconds = Histogram(SHORT_SECONDS)
        self.flush_seconds = Histogram(SHORT_SECONDS)
        self.loop_lag_seconds = Histogram(SHORT_SECONDS)
        self.hold_seconds = Histogram(HOLD_SECONDS)
        self.approvals: Counter[str] = Counter()
        """Steps of requests for approval, by the code of their event."""
        self._by_code = {
            "session.start": self._session_start,
            "session.end": self._session_end,
            "session.pinned": self._session_pinned,
            "statement.allowed": self._statement,
            "statement.denied": self._statement,
            "statement.finished": self._finished,
            "config.reloaded": self._reload,
            "config.refused": self._reload,
        }

    # Counting

    def count(self, event: Event) -> None:
        """Count an event that was recorded."""
        known = self._by_code.get(event.code)
        if known is not None:
            known(event)
        elif event.code.startswith("approval."):
            self.approvals[_bounded(self.approvals, event.code.removeprefix("approval."))] += 1
        elif not event.success:
            self.refused[_bounded(self.refused, event.code)] += 1
            if event.code == "auth.failed":
                kind = str(event.data.get("kind", OTHER))
                self.auth_failures[_bounded(self.auth_failures, kind)] += 1

    def count_masked(self, masked: Mapping[str, int]) -> None:
        """Count card numbers that were masked, by network."""
        for network, count in masked.items():
            self.masked[_bounded(self.masked, network)] += count

    def _session_start(self, event: Event) -> None:
        self.sessions[event.resource] += 1

    def _session_end(self, event: Event) -> None:
        self.ended["ok" if event.success else "error"] += 1

    def _session_pinned(self, event: Event) -> None:
        what = str(event.data["detail"])
        self.pinned[_bounded(self.pinned, what)] += 1

    def _statement(self, event: Event) -> None:
        self.statement(str(event.data["kind"]), str(event.data["verdict"])).number += 1

    def statement(self, kind: str, verdict: str) -> Tally:
        """Where statements of a kind with a verdict are counted."""
        return self._statements.setdefault((kind, verdict), Tally())

    @property
    def statements(self) -> dict[tuple[str, str], int]:
        """How many statements were decided, by kind and verdict."""
        return {key: tally.number for key, tally in self._statements.items()}

    def _finished(self, event: Event) -> None:
        data = event.data
        self.statement_seconds.observe(data["seconds"])  # type: ignore[arg-type]
        if not event.success:
            self.failed_statements += 1
        masked: Mapping[str, int] = data["masked"]  # type: ignore[assignment]
        if masked:
            self.count_masked(masked)

    def _reload(self, event: Event) -> None:
        self.reloads["ok" if event.success else "refused"] += 1

    # Reading

    def collect(self) -> Iterator[Metric]:
        """Everything counted, in Prometheus' types."""
        yield counter("sessions", "Sessions that were admitted.", self.sessions, "resource")
        yield counter("sessions_ended", "Sessions that ended.", self.ended, "outcome")
        yield counter(
            "sessions_refused", "Connections that were not admitted.", self.refused, "code"
        )
        yield counter(
            "sessions_pinned",
            "Sessions that keep their connection to the resource, by what made it so.",
            self.pinned,
            "what",
        )
        yield counter(
            "auth_failures", "Credentials that were not accepted.", self.auth_failures, "reason"
        )
        statements = CounterMetricFamily(
            "pangate_statements", "Statements that were decided.", labels=("kind", "verdict")
        )
        for labels, count in self.statements.items():
            statements.add_metric(labels, count)
        yield statements
        yield counter(
            "statements_failed", "Statements that ended with an error.", self.failed_statements
        )
        yield counter("approvals", "Steps of requests for approval.", self.approvals, "step")
        yield histogram("hold_seconds", "How long held statements waited.", self.hold_seconds)
        yield counter("rows", "Rows given to agents.", self.given.rows)
        yield counter("row_bytes", "Bytes of these rows.", self.given.size)
        yield counter("masked", "Card numbers masked in results.", self.masked, "network")
        yield counter("record_failures", "Writes of the record that failed.", self.record_failures)
        yield counter("config_reloads", "Reloads of the configuration.", self.reloads, "result")
        yield histogram(
            "statement_seconds", "From the verdict to the last byte.", self.statement_seconds
        )
        added = HistogramMetricFamily(
            "pangate_added_seconds",
            "From bytes that were read to the bytes that follow from them being sent.",
            labels=("to",),
        )
        for side, found in (("backend", self.to_backend_seconds), ("agent", self.to_agent_seconds)):
            added.add_metric((side,), *found.buckets())
        yield added
        yield histogram(
            "audit_flush_seconds", "To write pending events to the record.", self.flush_seconds
        )
        yield histogram(
            "loop_lag_seconds", "How late the event loop came to a timer.", self.loop_lag_seconds
        )


def counter(
    name: str, text: str, counted: int | Mapping[str, int], label: str = ""
) -> CounterMetricFamily:
    """A counter `pangate_NAME_total`, of one value or by one label."""
    if isinstance(counted, int):
        return CounterMetricFamily(f"pangate_{name}", text, value=counted)
    family = CounterMetricFamily(f"pangate_{name}", text, labels=(label,))
    for value, count in counted.items():
        family.add_metric((value,), count)
    return family


def gauge(
    name: str, text: str, found: float | Mapping[str, float], label: str = ""
) -> GaugeMetricFamily:
    """A gauge `pangate_NAME`, of one value or by one label."""
    if isinstance(found, Mapping):
        family = GaugeMetricFamily(f"pangate_{name}", text, labels=(label,))
        for value, number in found.items():
            family.add_metric((value,), round(number, 3))
        return family
    return GaugeMetricFamily(f"pangate_{name}", text, value=round(found, 3))


def histogram(name: str, text: str, found: Histogram) -> HistogramMetricFamily:
    """A histogram `pangate_NAME` without labels."""
    buckets, total = found.buckets()
    return HistogramMetricFamily(f"pangate_{name}", text, buckets=buckets, sum_value=total)


def _bounded(counted: Mapping[str, int], value: str) -> str:
    return value if value in counted or len(counted) < MOST_VALUES else OTHER
