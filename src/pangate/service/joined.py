"""The metrics of several processes as those of one gateway."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

log = logging.getLogger("pangate")

MOST = frozenset({
    "pangate_audit_lag_seconds", "pangate_key_age_seconds", "pangate_build_info", "pangate_config_info",
    "pangate_config_loaded_timestamp_seconds", "process_start_time_seconds", "pangate_draining",
})  # fmt: skip
"""Of these the largest value is the gateway's."""

LEAST = frozenset({
    "pangate_ready", "pangate_certificate_expiry_timestamp_seconds", "process_max_fds",
})  # fmt: skip
"""Of these the smallest. All others are added up."""

EACH = frozenset({
    "pangate_audit_sequence", "pangate_audit_sealed_sequence", "pangate_audit_sealer_up",
    "pangate_audit_publisher_up", "pangate_audit_anchor_sequence", "pangate_audit_anchor_up",
    "pangate_audit_anchor_age_seconds", "pangate_audit_anchor_contradicted",
    "pangate_audit_sink_sequence", "pangate_audit_sink_up", "pangate_audit_sink_lag_bytes",
    "pangate_audit_sink_lag_seconds",
})  # fmt: skip
"""Of these each process has its own: the label `worker` says which, 0 for the first process."""


def joined(texts: Mapping[int, str]) -> Iterable[Metric]:
    """The metrics of all processes, whose texts for Prometheus are `texts`, by their number."""
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for number, text in texts.items():
        for family in text_string_to_metric_families(text):
            if family.name not in families:
                families[family.name] = Metric(family.name, family.documentation, family.type)
            found = values.setdefault(family.name, {})
            for sample in family.samples:
                labels = dict(sample.labels)
                if family.name in EACH:
                    labels["worker"] = str(number)
                place = sample.name, tuple(labels.items())
                found[place] = _one(sample.name, found.get(place), sample.value)
    for name, family in families.items():
        for (sample_name, sample_labels), value in values[name].items():
            family.add_sample(sample_name, dict(sample_labels), round(value, 6))
        yield family


def _one(name: str, before: float | None, value: float) -> float:
    if before is None:
        return value
    if name in MOST:
        return max(before, value)
    if name in LEAST:
        return min(before, value)
    return before + value
