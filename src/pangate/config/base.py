"""What all tables of the file are made of."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

Text = Annotated[str, Meta(min_length=1)]
Name = Annotated[str, Meta(min_length=1, max_length=63)]
Count = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=1, le=65535)]
AnyPort = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the tables of the file."""


class SecretSettings(Settings, frozen=True, kw_only=True):
    """Where a secret is read, each time that it is needed. Exactly one of the keys is given."""

    file: Annotated[
        Path | None,
        Meta(
            description="File that holds the secret alone (one newline at its end is dropped), "
            "mode 0600, or owned by root with mode 0640 or less."
        ),
    ] = None
    env: Annotated[
        Text | None,
        Meta(description="Environment variable that holds the secret."),
    ] = None
    command: Annotated[
        tuple[str, ...] | None,
        Meta(description="Program and arguments, run without a shell, that print the secret."),
    ] = None


def is_loopback(host: str) -> bool:
    """Whether `host` is `localhost` or a loopback address. Other names are not looked up."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
