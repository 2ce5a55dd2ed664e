"""What is counted of which event, and that nothing an agent says makes a label."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pangate.metrics import MOST_VALUES, OTHER, Histogram, Metrics, gauge
from pangate.model import Event


def event(code: str, success: bool = True, **data: object) -> Event:
    return Event(code, 0.0, "s", "p", "o", "payments", success, data)


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    registry = CollectorRegistry()
    registry.register(metrics)
    text = generate_latest(registry).decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_event_is_counted_where_it_belongs():
    metrics = Metrics()
    for one in (
        event("session.start"),
        event("session.end"),
        event("session.end", False),
        event("session.refused", False),
        event("limit.reached", False),
        event("auth.failed", False, kind="expired"),
        event("auth.failed", False),
        event("statement.allowed", kind="query", verdict="allow"),
        event("statement.allowed", kind="query", verdict="allow"),
        event("statement.denied", False, kind="bind", verdict="deny"),
        event("statement.finished", seconds=0.003, masked={"visa": 2, "amex": 1}),
        event("statement.finished", False, seconds=9.0, masked={}),
        event("config.reloaded"),
        event("config.refused", False),
        event("session.cancel"),
        event("session.pinned", detail="SET"),
        event("session.pinned", detail="SET"),
    ):
        metrics.count(one)
    metrics.given.rows += 4
    metrics.given.size += 42
    found = samples(metrics)
    wanted = {
        ("pangate_sessions_total", "payments"): 1,
        ("pangate_sessions_ended_total", "ok"): 1,
        ("pangate_sessions_ended_total", "error"): 1,
        ("pangate_sessions_refused_total", "session.refused"): 1,
        ("pangate_sessions_refused_total", "limit.reached"): 1,
        ("pangate_sessions_refused_total", "auth.failed"): 2,
        ("pangate_auth_failures_total", "expired"): 1,
        ("pangate_auth_failures_total", OTHER): 1,
        ("pangate_statements_total", "query", "allow"): 2,
        ("pangate_statements_total", "bind", "deny"): 1,
        ("pangate_statements_failed_total",): 1,
        ("pangate_masked_total", "visa"): 2,
        ("pangate_masked_total", "amex"): 1,
        ("pangate_sessions_pinned_total", "SET"): 2,
        ("pangate_rows_total",): 4,
        ("pangate_row_bytes_total",): 42,
        ("pangate_config_reloads_total", "ok"): 1,
        ("pangate_config_reloads_total", "refused"): 1,
        ("pangate_statement_seconds_count",): 2,
        ("pangate_statement_seconds_sum",): 9.003,
        ("pangate_statement_seconds_bucket", "0.005"): 1,
        ("pangate_statement_seconds_bucket", "0.0025"): 0,
        ("pangate_statement_seconds_bucket", "+Inf"): 2,
    }
    assert {key: found.get(key) for key in wanted} == wanted


def test_labels_are_bounded_whatever_comes():
    metrics = Metrics()
    for number in range(1000):
        metrics.count(event(f"some.code.{number}", False))
        metrics.count(event("auth.failed", False, kind=f"kind-{number}"))
        metrics.count(event("statement.finished", seconds=0.0, masked={f"network-{number}": 1}))
    for counted in (metrics.refused, metrics.auth_failures, metrics.masked):
        assert len(counted) <= MOST_VALUES + 1
        assert counted[OTHER] > 900
    assert metrics.masked.total() == 1000


def test_a_bound_belongs_to_its_bucket():
    histogram = Histogram((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 2.1, 1e9):
        histogram.observe(value)
    buckets, total = histogram.buckets()
    assert buckets == [("1.0", 2), ("2.0", 4), ("+Inf", 6)]
    assert total == 0.0 + 1.0 + 1.5 + 2.0 + 2.1 + 1e9


def test_no_float_has_the_digits_of_a_card_number():
    counted = Histogram((0.001, 1.0))
    counted.observe(0.5555555555554444)
    assert counted.buckets()[1] == 0.555556
    assert gauge("x", "X.", 4.111111111111111).samples[0].value == 4.111
    assert gauge("x", "X.", {"a": 4.111111111111111}, "b").samples[0].value == 4.111
