"""Rules that a newcomer can start from. They stand behind the file's own, which so come first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pangate.config.rules import HoldSettings, RuleSettings
from pangate.model import Action, Effect

Profile = Literal["", "pci"]

_PCI: tuple[tuple[str, Action, tuple[Effect, ...], str], ...] = (
    (
        "pci-server",
        "deny",
        ("file", "admin"),
        "the server's files, its network and the server itself are not reached through the gateway",
    ),
    ("pci-code", "hold", ("code",), "it runs code that the statement does not show"),
    ("pci-privilege", "hold", ("privilege",), "it changes who may do what"),
    ("pci-schema", "hold", ("schema",), "it changes what the database is made of"),
    (
        "pci-bulk",
        "hold",
        ("bulk_write",),
        "it changes or removes rows with no condition that could spare one",
    ),
    ("pci-read", "allow", ("read",), "what comes back is masked"),
    ("pci-write", "allow", ("write",), "the role grants it, and a condition bounds it"),
)


def profile_rules(profile: Profile, approvers: Sequence[str]) -> tuple[RuleSettings, ...]:
    """The rules of a profile. What it holds, any member of the groups `approvers` may decide."""
    if not profile:
        return ()
    hold = HoldSettings(approvers=tuple(approvers), reason_required=True)
    return tuple(
        RuleSettings(
            name=name,
            verdict=verdict,
            effects=effects,
            reason=reason,
            hold=hold if verdict == "hold" else None,
        )
        for name, verdict, effects, reason in _PCI
    )
