"""Webhooks as the Standard Webhooks specification has them: signed POSTs out, and for a system of one's own
that decides, signed POSTs in."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Sequence

from pangate.approvals import DecisionRefused
from pangate.approvals.channels import (
    TOLERANCE_SECONDS,
    ChannelFailed,
    ChannelRules,
    KeptSecret,
    Message,
    NotBelieved,
    ReadSecret,
    Said,
)
from pangate.approvals.post import Poster, PostFailed
from pangate.config.channels import WebhookSettings
from pangate.model import Principal
from pangate.store import Choice, Notice

KEY_BYTES = (24, 64)
MOST_SIGNATURES = 10
MOST_REASON = 10_000
MOST_ID = 200

CHOICES: dict[object, Choice] = {"approve": "approve", "deny": "deny"}


class Webhook:
    """See `pangate.approvals.channels.Channel`."""

    replies = False

    def __init__(self, settings: WebhookSettings, read: ReadSecret, issuer: str) -> None:
        self._settings = settings
        key = f"webhooks[{settings.name}]"
        self._secret = KeptSecret(settings.secret, f"{key}.secret", read)
        self._poster = Poster(settings.networks, settings.ca, settings.timeout_seconds)
        self._heard: KeptSecret | None = None
        self._person: Principal | None = None
        if (callback := settings.callback) is not None:
            self._heard = KeptSecret(callback.secret, f"{key}.callback.secret", read)
            self._person = Principal(
                callback.subject,
                callback.issuer or issuer,
                float("inf"),
                claims={**callback.claims, "sub": callback.subject},
            )

    @property
    def rules(self) -> ChannelRules:
        """Its settings."""
        return self._settings

    async def tell(self, notice: Notice, place: str) -> str:
        """One POST. What is answered beside the status is of no interest."""
        now = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": notice.id,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(
                keys_of(await self._secret.reveal()), notice.id, now, notice.body
            ),
        }
        try:
            answer = await self._poster.post(self._settings.url, notice.body, headers)
        except PostFailed as wrong:
            raise ChannelFailed(str(wrong)) from None
        if not 200 <= answer.status < 300:
            raise ChannelFailed(f"it answers {answer.status}", answer.retry_after)
        return ""

    async def hear(self, message: Message, now: float) -> Said:
        """`{"request": id, "choice": "approve" or "deny", "reason": text}`, signed."""
        if self._heard is None or self._person is None:
            raise DecisionRefused("unknown", "this channel takes no decisions")
        name = message.headers.get("webhook-id", "")
        sent = message.headers.get("webhook-timestamp", "")
        if not name or len(name) > MOST_ID or not (sent.isascii() and sent.isdigit()):
            raise NotBelieved("the headers webhook-id and webhook-timestamp are not there")
        if len(sent) > 12 or abs(now - int(sent)) > TOLERANCE_SECONDS:
            raise NotBelieved("webhook-timestamp is not now")
        keys = keys_of(await self._heard.reveal())
        given = message.headers.get("webhook-signature", "").split(" ")[:MOST_SIGNATURES]
        if not verify(keys, name, int(sent), message.body, given):
            raise NotBelieved("webhook-signature is not right")
        request, choice, reason = _wanted(message.body)
        return Said(
            person=self._person,
            user=self._person.subject,
            request=request,
            choice=choice,
            reason=reason,
            message=name,
            until=int(sent) + TOLERANCE_SECONDS,
        )

    async def reply(self, said: Said, outcome: str) -> None:
        """The response does."""


def _wanted(body: bytes) -> tuple[str, Choice, str]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DecisionRefused("misused", "the body is not a JSON object")
    request, reason = found.get("request"), found.get("reason", "")
    choice = CHOICES.get(found.get("choice")) if isinstance(found.get("choice"), str) else None
    if not isinstance(request, str) or choice is None:
        raise DecisionRefused("misused", "send request, and as choice approve or deny")
    if not isinstance(reason, str) or len(reason) > MOST_REASON:
        raise DecisionRefused("misused", f"reason is a text of {MOST_REASON} characters at most")
    try:
        (request + reason).encode()
    except UnicodeEncodeError:
        raise DecisionRefused("misused", "a text in it has no UTF-8") from None
    return request, choice, reason


def keys_of(secret: str) -> list[bytes]:
    """The keys of a secret as it is configured. Raises ChannelFailed, without them."""
    keys = []
    for text in secret.split():
        try:
            key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not KEY_BYTES[0] <= len(key) <= KEY_BYTES[1]:
            raise ChannelFailed(
                "a key of it is not whsec_ and 24 to 64 bytes in base64; make one with: "
                'echo "whsec_$(openssl rand -base64 32)"'
            )
        keys.append(key)
    return keys


def sign(keys: Sequence[bytes], name: str, seconds: int, body: bytes) -> str:
    """The header webhook-signature: one signature for each key."""
    signed = f"{name}.{seconds}.".encode() + body
    made = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys)
    return " ".join(f"v1,{one}" for one in made)


def verify(
    keys: Sequence[bytes], name: str, seconds: int, body: bytes, given: Sequence[str]
) -> bool:
    """Whether one of the signatures was made with one of the keys."""
    right = False
    for wanted in sign(keys, name, seconds, body).split(" "):
        for one in given:
            right |= hmac.compare_digest(wanted.encode(), one.encode("utf-8", "replace"))
    return right
