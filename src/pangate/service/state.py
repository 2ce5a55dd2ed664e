"""How the gateway stands: whether it is ready, and what is read off it at the moment that somebody asks."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from pangate import __version__
from pangate.metrics import counter, gauge
from pangate.proxy import Gateway
from pangate.service.monitor import Answer
from pangate.service.publishing import Publishing, ages
from pangate.service.sealing import Sealing

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
"""What every Prometheus reads, and what is like it."""

SCRAPE_SECONDS = 1.0
"""A text of metrics is made no more often than this, however many ask."""


class State(Collector):
    """Answers for one gateway, and collects what it does not count itself."""

    def __init__(
        self,
        gateway: Gateway,
        sealing: Sealing | None = None,
        publishing: Publishing | None = None,
    ) -> None:
        self._gateway = gateway
        self._sealing = sealing
        self._publishing = publishing
        self.draining = False
        self.loaded_at = time.time()
        """When the configuration that is in force was loaded."""
        self._text = b""
        self._text_at = float("-inf")
        self._registry = CollectorRegistry()
        self._registry.register(gateway.gate.metrics)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def not_ready(self) -> list[str]:
        """Why new sessions should go elsewhere; empty when they may come."""
        reasons = []
        if self.draining:
            reasons.append("draining")
        if self._gateway.gate.record_failure:
            reasons.append("the record cannot be written")
        states = self._gateway.gate.authenticator.key_states()
        if states and not any(state.usable for state in states):
            reasons.append("the keys of every issuer are stale")
        return reasons

    # Paths

    def healthz(self) -> Answer:
        """The event loop answers: that is all."""
        return Answer(200, b"ok\n")

    def readyz(self) -> Answer:
        """503 with a reason a line, or 200."""
        reasons = self.not_ready()
        if reasons:
            return Answer(503, "".join(f"{reason}\n" for reason in reasons).encode())
        return Answer(200, b"ready\n")

    def metrics(self) -> Answer:
        """The text that Prometheus reads."""
        now = time.monotonic()
        if now - self._text_at >= SCRAPE_SECONDS:
            self._text, self._text_at = generate_latest(self._registry), now
        return Answer(200, self._text, EXPOSITION)

    # Collector

    def collect(self) -> Iterator[Metric]:
        """What is so now."""
        gate = self._gateway.gate
        recorder, limits = gate.recorder, gate.config.limits
        build = {"version": __version__, "python": platform.python_version()}
        yield _info("build", "What runs.", build)
        yield _info("config", "The configuration in force.", {"digest": gate.config.digest})
        yield gauge("config_loaded_timestamp_seconds", "When it was put in force.", self.loaded_at)
        yield gauge("ready", "1 when /readyz says so.", float(not self.not_ready()))
        yield gauge("draining", "1 when the gateway is stopping.", float(self.draining))
        yield gauge("sessions_open", "Sessions that are open.", gate.open.total())
        yield gauge(
            "connections_open", "Connections from agents, logins too.", self._gateway.connections
        )
        yield gauge("connections_limit", "limits.max_sessions.", limits.max_sessions)
        # what a worker holds, the first process holds for it
        held = gate.desk.waiting if gate.desk and gate.peers is None else 0
        yield gauge("held_statements", "Statements that wait for approval now.", held)
        if gate.desk is not None and gate.desk.outbox.channels:
            outbox = gate.desk.outbox
            yield counter(
                "channel_messages", "Messages that a channel took.", outbox.sent, "channel"
            )
            yield counter(
                "channel_failures", "Attempts to tell it that failed.", outbox.failed, "channel"
            )
        yield gauge(
            "audit_pending_events", "Events that are not in the record yet.", recorder.pending
        )
        yield gauge(
            "audit_lag_seconds", "How long the oldest of them waits.", recorder.waiting_seconds
        )
        yield gauge("audit_sequence", "Sequence of the last event.", recorder.sequence)
        yield counter(
            "recordings_not_synced",
            "Recordings that may not be whole on the disk.",
            gate.recordings.shelf.failed,
        )
        if self._sealing is not None:
            sealed = self._sealing.sealed
            yield gauge(
                "audit_sealed_sequence", "Sequence of the last event that is sealed.", sealed
            )
            yield gauge("audit_sealer_up", "1 while there is a sealer.", self._sealing.running)
        if self._publishing is not None:
            yield from _published(self._publishing)
        pools = self._gateway.pools
        for name, text, found in (
            (
                "pool_connections",
                "Connections to a resource.",
                {n: p.open for n, p in pools.items()},
            ),
            ("pool_waiting", "Those without an owner.", {n: p.waiting for n, p in pools.items()}),
            (
                "pool_sessions_waiting",
                "Sessions that wait for a connection.",
                {n: p.asking for n, p in pools.items()},
            ),
            (
                "pool_taken",
                "Connections that had another owner.",
                {n: p.reused for n, p in pools.items()},
            ),
        ):
            make = counter if name == "pool_taken" else gauge
            yield make(name, text, found, "resource")
        keys = gate.authenticator.key_states()
        fetches = {state.issuer: state.fetches for state in keys}
        failures = {state.issuer: state.failures for state in keys}
        ages = {state.issuer: state.age for state in keys}
        yield counter("key_fetches", "Fetches of an issuer's keys.", fetches, "issuer")
        yield counter("key_fetches_failed", "Those that failed.", failures, "issuer")
        yield gauge("key_age_seconds", "Since the last good fetch.", ages, "issuer")
        expiry = self._gateway.contexts.expires
        if expiry is not None:
            yield gauge(
                "certificate_expiry_timestamp_seconds",
                "When the listener's certificate ends.",
                expiry,
            )


def _published(publishing: Publishing) -> Iterator[Metric]:
    """How it stands with those who keep checkpoints elsewhere."""
    yield gauge("audit_publisher_up", "1 while there is a publisher.", publishing.running)
    status = publishing.status()
    sinks = status.get("sinks", {})
    given = {name: one["sequence"] for name, one in sinks.items()}
    yield gauge("audit_sink_sequence", "Last event that a sink has.", given, "sink")
    well = {name: float(not one["failure"]) for name, one in sinks.items()}
    yield gauge("audit_sink_up", "1 when the last try went well.", well, "sink")
    behind = {name: one["behind"] for name, one in sinks.items()}
    yield gauge("audit_sink_lag_bytes", "Bytes of the record it has not.", behind, "sink")
    yield gauge("audit_sink_lag_seconds", "Since it had everything.", ages(sinks), "sink")
    lost = {name: one["failures"] for name, one in sinks.items()}
    yield counter("audit_sink_failures", "Tries that failed.", lost, "sink")
    anchors = status.get("anchors", {})
    sizes = {name: one["size"] for name, one in anchors.items()}
    yield gauge("audit_anchor_sequence", "Last event that an anchor has seen.", sizes, "anchor")
    up = {name: float(not one["failure"]) for name, one in anchors.items()}
    yield gauge("audit_anchor_up", "1 when the last try went well.", up, "anchor")
    yield gauge("audit_anchor_age_seconds", "Since it had the newest one.", ages(anchors), "anchor")
    failures = {name: one["failures"] for name, one in anchors.items()}
    yield counter("audit_anchor_failures", "Tries that failed.", failures, "anchor")
    other = {name: float(one["contradicted"]) for name, one in anchors.items()}
    yield gauge("audit_anchor_contradicted", "1 when it has seen another ledger.", other, "anchor")


def _info(name: str, text: str, labels: dict[str, str]) -> Metric:
    family = Metric(f"pangate_{name}_info", text, "gauge")
    family.add_sample(f"pangate_{name}_info", labels, 1)
    return family
