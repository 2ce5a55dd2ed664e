"""The metrics of several processes as those of one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from pangate.config import Config
from pangate.metrics import Metrics, counter, gauge
from pangate.service.joined import joined


class Found:
    def __init__(self, *families):
        self._families = families

    def collect(self):
        return self._families


def text(*families) -> str:
    registry = CollectorRegistry()
    registry.register(Found(*families))
    return generate_latest(registry).decode()


def values(texts: dict[int, str]) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in joined(texts)
        for sample in family.samples
    }


def test_counts_are_added_and_a_state_is_the_worst_or_the_latest():
    one = text(
        counter("sessions", "", {"a": 1, "b": 2}, "resource"), gauge("sessions_open", "", 3),
        gauge("ready", "", 1), gauge("audit_lag_seconds", "", 0.25), gauge("audit_sequence", "", 7),
        gauge("certificate_expiry_timestamp_seconds", "", 50),
    )  # fmt: skip
    two = text(
        counter("sessions", "", {"b": 5}, "resource"), gauge("sessions_open", "", 4),
        gauge("ready", "", 0), gauge("audit_lag_seconds", "", 0.5), gauge("audit_sequence", "", 9),
        gauge("certificate_expiry_timestamp_seconds", "", 40),
    )  # fmt: skip
    assert values({0: one, 2: two}) == {
        ("pangate_sessions_total", "a"): 1,
        ("pangate_sessions_total", "b"): 7,
        ("pangate_sessions_open",): 7,
        ("pangate_ready",): 0,
        ("pangate_audit_lag_seconds",): 0.5,
        ("pangate_audit_sequence", "0"): 7,
        ("pangate_audit_sequence", "2"): 9,
        ("pangate_certificate_expiry_timestamp_seconds",): 40,
    }


def test_histograms_of_real_metrics_are_added_and_read_again():
    counts = Metrics(), Metrics()
    for number, made in enumerate(counts, 1):
        for _ in range(number):
            made.flush_seconds.observe(0.002 * number)
    texts = {number: text(*made.collect()) for number, made in enumerate(counts)}
    found = values(texts)
    assert found["pangate_audit_flush_seconds_count",] == 3
    assert found["pangate_audit_flush_seconds_bucket", "0.0025"] == 1
    assert found["pangate_audit_flush_seconds_bucket", "+Inf"] == 3
    assert found["pangate_audit_flush_seconds_sum",] == 0.01
    # what comes out is what Prometheus reads, and can be joined once more
    again = text(*joined(texts))
    assert values({0: again}) == found
    assert Config.__name__ not in again
