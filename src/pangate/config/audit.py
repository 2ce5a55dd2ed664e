"""What becomes of the record beside its file: where its checkpoints are kept, and who gets its events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from pangate.config.base import Port, Seconds, SecretSettings, Settings, Text, is_loopback

AnchorKind = Literal["file", "witness", "rfc3161", "syslog", "webhook"]
Transport = Literal["udp", "tcp", "tls"]

PlaceName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]

SYSLOG_PORT = 6514

ANCHOR_SECONDS, STAMP_SECONDS = 60.0, 3600.0


class AnchorSettings(Settings, frozen=True, kw_only=True):
    """Where checkpoints of the sealed record are kept out of reach of whoever has the record."""

    name: Annotated[
        PlaceName,
        Meta(description="Name in the log and in metrics: letters, digits, `.`, `_`, `-`."),
    ]
    kind: Annotated[
        AnchorKind,
        Meta(
            description='"file" (on other storage), "witness" (C2SP tlog-witness, which cosigns), "rfc3161" '
            '(a time authority, which stamps), "syslog" (a message in a log of others), "webhook" (an HTTPS '
            "POST)."
        ),
    ]
    seconds: Annotated[
        Seconds | None,
        Meta(
            description="How often a new checkpoint is put there, in seconds; left out: 3600 for "
            '"rfc3161", 60 for the others.'
        ),
    ] = None
    path: Annotated[
        Path | None,
        Meta(
            description='For "file", the file; for "rfc3161", the directory that stamps are kept in, left '
            "out: `anchors/` in the ledger."
        ),
    ] = None
    url: Annotated[
        Text | None,
        Meta(
            description='For "witness", "rfc3161" and "webhook": its address, https for a webhook.'
        ),
    ] = None
    witness_key: Annotated[
        Path | None, Meta(description='For "witness": the file with its public key.')
    ] = None
    authority: Annotated[
        Path | None,
        Meta(
            description='For "rfc3161": PEM file with the certificates that the authority\'s own has to '
            "lead to."
        ),
    ] = None
    token: Annotated[
        SecretSettings | None,
        Meta(description='For "webhook": where the bearer token is that it is sent with.'),
    ] = None
    host: Annotated[Text | None, Meta(description='For "syslog": the receiver.')] = None
    port: Annotated[Port, Meta(description="Its port.")] = SYSLOG_PORT
    transport: Annotated[
        Transport,
        Meta(description='For "syslog": "tls" (RFC 5425), "tcp" (octet counting) or "udp".'),
    ] = "tls"
    ca: Annotated[
        Path | None,
        Meta(
            description="PEM file with the CA of its TLS certificate; left out: the system's CAs."
        ),
    ] = None
    certificate: Annotated[
        Path | None,
        Meta(
            description='For "syslog" with "tls": PEM file with the certificate that the receiver is '
            "shown. Needs `key`."
        ),
    ] = None
    key: Annotated[
        Path | None,
        Meta(description="PEM file with the unencrypted private key of `certificate`, mode 0600."),
    ] = None

    @property
    def interval(self) -> float:
        """`seconds`, or what is right for the kind."""
        if self.seconds is not None:
            return self.seconds
        return STAMP_SECONDS if self.kind == "rfc3161" else ANCHOR_SECONDS


class SinkSettings(Settings, frozen=True, kw_only=True):
    """Who gets every event of the record, masked as it is, beside its file. No sink is waited for; one that
    was away gets what came since."""

    name: Annotated[
        PlaceName,
        Meta(description="Name in the log and in metrics: letters, digits, `.`, `_`, `-`."),
    ]
    kind: Annotated[
        Literal["file", "syslog"],
        Meta(description='"file" (JSON lines, as in the record) or "syslog" (RFC 5424).'),
    ]
    path: Annotated[Path | None, Meta(description='For "file": the file.')] = None
    host: Annotated[Text | None, Meta(description='For "syslog": the receiver.')] = None
    port: Annotated[Port, Meta(description="Its port.")] = SYSLOG_PORT
    transport: Annotated[
        Transport,
        Meta(
            description='"tls" (RFC 5425), "tcp" (octet counting) or "udp", by which events may be lost.'
        ),
    ] = "tls"
    ca: Annotated[
        Path | None,
        Meta(
            description="PEM file with the CA of its TLS certificate; left out: the system's CAs."
        ),
    ] = None
    certificate: Annotated[
        Path | None,
        Meta(
            description='With "tls": PEM file with the certificate that the receiver is shown. Needs `key`.'
        ),
    ] = None
    key: Annotated[
        Path | None,
        Meta(description="PEM file with the unencrypted private key of `certificate`, mode 0600."),
    ] = None
    max_bytes: Annotated[
        Annotated[int, Meta(ge=1024, le=1 << 26)] | None,
        Meta(
            description="Longest event that the receiver takes, in bytes; of a longer one it gets the head, "
            'its length and its digest. Left out: 8192 for "udp", 65536 otherwise.'
        ),
    ] = None

    @property
    def bytes_at_most(self) -> int:
        """`max_bytes`, or what is right for the transport."""
        if self.max_bytes is not None:
            return self.max_bytes
        return 8192 if self.transport == "udp" else 65_536


def sink_problems(sink: SinkSettings) -> Iterator[tuple[str, str]]:
    """(key, what is wrong with it) for all that the types cannot say."""
    if sink.kind == "file":
        yield from _keys(sink, sink.kind, ("path",), ())
        return
    allowed = ("port", "transport", "ca", "certificate", "key", "max_bytes")
    yield from _keys(sink, sink.kind, ("host",), allowed)
    yield from tls_problems(sink.transport, sink.ca, sink.certificate, sink.key)


REQUIRED_DAYS = 366
"""Twelve months, whichever these are (PCI DSS 10.5.1)."""


class RetentionSettings(Settings, frozen=True, kw_only=True):
    """How long the record is kept. `pangate audit retain` takes away what is older, and nothing does it by
    itself; all that is kept is at hand."""

    keep_days: Annotated[
        int,
        Meta(
            ge=1,
            le=36_600,
            description="Days that events, recordings and long texts are kept. Fewer than 366 need a "
            "`justification`.",
        ),
    ] = REQUIRED_DAYS
    justification: Annotated[
        str,
        Meta(
            max_length=2000,
            description="Why less than twelve months are kept (PCI DSS 4.0.1, requirement 10.5.1).",
        ),
    ] = ""


def retention_problems(retention: RetentionSettings) -> Iterator[tuple[str, str]]:
    """(key, what is wrong with it) for all that the types cannot say."""
    if retention.keep_days < REQUIRED_DAYS and not retention.justification.strip():
        yield (
            "justification",
            f"missing: keep_days = {retention.keep_days} is less than the twelve months "
            f"({REQUIRED_DAYS} days) of PCI DSS 10.5.1; raise it, or write here why",
        )


_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "file": (("path",), ()),
    "witness": (("url", "witness_key"), ("ca",)),
    "rfc3161": (("url", "authority"), ("path", "ca")),
    "webhook": (("url",), ("token", "ca")),
    "syslog": (("host",), ("port", "transport", "ca", "certificate", "key")),
}
"""What an anchor of each kind needs, and what it may have."""


def anchor_problems(anchor: AnchorSettings) -> Iterator[tuple[str, str]]:
    """(key, what is wrong with it) for all that the types cannot say."""
    needed, allowed = _KEYS[anchor.kind]
    yield from _keys(anchor, anchor.kind, needed, allowed)
    if anchor.url is not None and anchor.kind != "file":
        yield from _url(anchor.url, https=anchor.kind == "webhook")
    if anchor.kind == "syslog":
        yield from tls_problems(anchor.transport, anchor.ca, anchor.certificate, anchor.key)


def tls_problems(
    transport: Transport, ca: Path | None, certificate: Path | None, key: Path | None
) -> Iterator[tuple[str, str]]:
    """What is wrong with the files of a receiver's TLS."""
    for name, found in (("ca", ca), ("certificate", certificate), ("key", key)):
        if found is not None and transport != "tls":
            yield name, f'has no effect with transport = "{transport}"; take one away'
    if (certificate is None) != (key is None):
        missing = "certificate" if certificate is None else "key"
        yield missing, "missing: certificate and key are given together"


def _keys(
    settings: Settings, kind: str, needed: tuple[str, ...], allowed: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    for name in needed:
        if getattr(settings, name) is None:
            yield name, f'missing: kind = "{kind}" needs it'
    common = {"name", "kind", "seconds"}
    for name in type(settings).__struct_fields__:
        default = getattr(type(settings)(**_least(settings)), name)
        if name not in {*needed, *allowed, *common} and getattr(settings, name) != default:
            yield name, f'has no effect with kind = "{kind}"; take one away'


def _least(settings: Settings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in ("name", "kind")}


def _url(url: str, *, https: bool) -> Iterator[tuple[str, str]]:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in ("https", "http") or not host or not url.isascii() or " " in url:
        yield "url", "is no URL with a host; write https://host/path"
    elif parts.username is not None or parts.password is not None:
        yield "url", "holds a user name or password; take it out"
    elif https and parts.scheme == "http" and not is_loopback(host):
        yield "url", f"http to {host} can be read and forged on the way; use https"
