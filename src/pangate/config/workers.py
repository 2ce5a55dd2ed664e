"""The configuration of a gateway as each of its workers has it (process.workers)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from pangate.config import Config, ResourceSettings
from pangate.config.audit import AnchorSettings, SinkSettings


def place_of(config: Config, number: int) -> Path:
    """The directory of a worker's record."""
    return config.audit.ledger / f"worker-{number}"


def of_worker(config: Config, number: int) -> Config:
    """The configuration as one worker has it: a record and a ledger of its own, its part of what is bounded
    for all, no listener for anybody but agents. Its digest is that of the whole."""
    audit, limits, workers = config.audit, config.limits, config.process.workers
    key = None if audit.key is None else audit.key.with_name(f"{audit.key.name}.worker-{number}")
    made = msgspec.structs.replace(
        config,
        audit=msgspec.structs.replace(
            audit,
            path=place_of(config, number) / audit.path.name,
            key=key,
            anchors=tuple(_own_path(anchor, number) for anchor in audit.anchors),
            sinks=tuple(_own_path(sink, number) for sink in audit.sinks),
            origin=f"{audit.origin or f'pangate/{os.uname().nodename}'}/worker-{number}",
        ),
        limits=msgspec.structs.replace(limits, max_sessions=limits.max_sessions // workers),
        resources=tuple(_part(resource, workers) for resource in config.resources),
        monitor=msgspec.structs.replace(config.monitor, port=None),
        control=msgspec.structs.replace(config.control, port=None),
    )
    vars(made)["digest"] = config.digest
    return made


def _own_path(settings: AnchorSettings | SinkSettings, number: int) -> Any:
    """What an anchor or a sink has of one ledger is not written over by another, and not mixed with it."""
    if settings.path is None:
        return settings
    return msgspec.structs.replace(
        settings, path=settings.path.with_name(f"{settings.path.name}.worker-{number}")
    )


def _part(resource: ResourceSettings, workers: int) -> ResourceSettings:
    most = resource.pool.max_connections // workers
    pool = msgspec.structs.replace(resource.pool, max_connections=most)
    return msgspec.structs.replace(resource, pool=pool)
