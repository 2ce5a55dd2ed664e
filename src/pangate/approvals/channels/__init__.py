"""Channels: ways by which people and their systems hear of held statements, and may decide them. The
contract, and the way to those that the configuration asks for; one kind a file.

A channel decides nothing. It says that this person, by a message that cannot be forged or used twice,
wants that; the desk treats it as anybody's decision. Nor can it hold anything up: what it is told is kept
until it could be told (outbox.py), and nobody waits for that."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pangate.errors import CredentialError, PangateError
from pangate.model import Principal
from pangate.store import Choice, Notice

if TYPE_CHECKING:
    from pangate.config import Config
    from pangate.config.base import SecretSettings

TOLERANCE_SECONDS = 300.0
"""How far the time of a signed message may be from ours, to either side."""


class ChannelFailed(PangateError):
    """A channel could not be told. `after` is in how many seconds it wants to be asked again, None when
    it does not say."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        self.after = after
        super().__init__(reason)


class NotBelieved(PangateError):
    """A message that nobody proved to have sent. The text is for the record alone."""


class ChannelRules(Protocol):
    """What the configuration says of every channel."""

    @property
    def name(self) -> str: ...
    @property
    def approvers(self) -> Sequence[str]: ...
    @property
    def events(self) -> Sequence[str]: ...
    @property
    def timeout_seconds(self) -> float: ...
    @property
    def give_up_seconds(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Message:
    """What came for a channel. Names of `headers` are in small letters."""

    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What somebody wants, proved. `person` is None when the channel does not know who `user` is.

    `message` is the same for copies of the message, which is refused from its second time on; nothing is
    taken of it after `until`. `place` is what the channel wants to be given with the request's next
    notice, `reply` what it needs to answer the person."""

    person: Principal | None
    user: str
    request: str
    choice: Choice
    reason: str
    message: str
    until: float
    place: str = ""
    reply: Mapping[str, str] = field(default_factory=dict)


class Channel(Protocol):
    """One channel. For one event loop."""

    @property
    def rules(self) -> ChannelRules:
        """Its settings."""

    @property
    def replies(self) -> bool:
        """Whether it answers people itself, and not in the response to their message."""

    async def tell(self, notice: Notice, place: str) -> str:
        """Tell it, once more maybe. `place` is what the request's last notice returned, empty for
        the first. Raises ChannelFailed."""

    async def hear(self, message: Message, now: float) -> Said:
        """What a message says. Raises NotBelieved, and DecisionRefused for one that is believed and makes
        no sense."""

    async def reply(self, said: Said, outcome: str) -> None:
        """Tell a person why not. Raises ChannelFailed."""


class Revealing(Protocol):
    """A secret that was read."""

    def reveal(self) -> str: ...


ReadSecret = Callable[["SecretSettings", str], Awaitable[Revealing]]
"""Reads a secret; the text is its key in the configuration. Raises CredentialError."""


KEPT_SECONDS = 60.0
"""How long a secret is used before it is read again: whoever sends nonsense must not make a vault work."""


class KeptSecret:
    """A secret of a channel, read when it is needed, and not for every message."""

    def __init__(self, settings: SecretSettings, key: str, read: ReadSecret) -> None:
        self._settings, self._key, self._read = settings, key, read
        self._found: Revealing | None = None
        self._at = float("-inf")

    async def reveal(self) -> str:
        """The secret. Raises ChannelFailed."""
        now = time.monotonic()
        if self._found is None or now - self._at >= KEPT_SECONDS:
            try:
                self._found = await self._read(self._settings, self._key)
            except CredentialError as wrong:
                raise ChannelFailed(str(wrong)) from None
            self._at = now
        return self._found.reveal()


def open_channels(config: Config, read: ReadSecret) -> list[Channel]:
    """The channels of `config`. They open nothing before they are told something."""
    from pangate.approvals.channels.slack import Slack
    from pangate.approvals.channels.webhook import Webhook

    issuers = [issuer.url for issuer in config.issuers]
    issuer = issuers[0] if issuers else ""
    return [
        *(Webhook(settings, read, issuer) for settings in config.webhooks),
        *(Slack(settings, read, issuer) for settings in config.slack),
    ]
