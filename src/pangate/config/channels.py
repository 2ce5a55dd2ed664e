"""The tables of the channels that tell of held statements and bring decisions back."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from pangate.config.base import Name, Seconds, SecretSettings, Settings, Text

Told = Literal["requested", "noted", "decided", "broken_glass", "expired", "withdrawn", "executed"]
ChannelName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,63}$")]

SIGN_IN_CLAIMS = ("acr", "amr")
"""Claims that only a sign-in can prove."""


class PersonSettings(Settings, frozen=True, kw_only=True):
    """Whose decisions they are that come by a channel. To every rule of approvals it is the person of that
    name with these claims, as with a token."""

    user: Annotated[Text, Meta(description="The channel's own id of the person: `U012AB3CD`.")]
    subject: Annotated[
        Text,
        Meta(
            description="The person as their own token names them: `sub`, or the issuer's "
            "`subject_claim`. With another name they would be two people."
        ),
    ]
    issuer: Annotated[
        str | None,
        Meta(description="`url` of the person's issuer; may be left out if there is only one."),
    ] = None
    claims: Annotated[
        dict[str, Any],
        Meta(
            description="Claims of the person, which put them into groups of `approvers`; not `acr` and "
            "`amr`, which only a sign-in proves."
        ),
    ] = {}


class CallbackSettings(Settings, frozen=True, kw_only=True):
    """How a system of your own decides: by a signed POST to `/api/channels/NAME` of the control plane, as one
    configured identity. It is bound by every rule that people are bound by."""

    secret: Annotated[
        SecretSettings,
        Meta(
            description="Key that it signs with (`whsec_...`), as in `password` of a resource; not the one "
            "of `webhooks.secret`."
        ),
    ]
    subject: Annotated[
        Text,
        Meta(
            description="Whose decisions they are, as their own token names them: `sub`, or the "
            "issuer's `subject_claim`."
        ),
    ]
    issuer: Annotated[
        str | None,
        Meta(description="`url` of their issuer; may be left out if there is only one."),
    ] = None
    claims: Annotated[
        dict[str, Any],
        Meta(
            description="Claims that put it into groups of `approvers`; not `acr` and `amr`, which only "
            "a sign-in proves."
        ),
    ] = {}


class WebhookSettings(Settings, frozen=True, kw_only=True):
    """An address that is told of held statements by signed POSTs (Standard Webhooks)."""

    name: Annotated[ChannelName, Meta(description="Name of the channel, as records show it.")]
    url: Annotated[Text, Meta(description="Where to: an https URL without a password or query.")]
    secret: Annotated[
        SecretSettings,
        Meta(
            description="Key that messages are signed with: `whsec_` and 24 to 64 bytes in base64; "
            "several with a space between them while it is being changed."
        ),
    ]
    approvers: Annotated[
        tuple[Name, ...],
        Meta(description="Groups whose requests are told; left out: all requests."),
    ] = ()
    events: Annotated[tuple[Told, ...], Meta(description="What is told; left out: all of it.")] = ()
    networks: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks that are not public and may be sent to all the same, such as "
            '"10.1.0.0/16"; http is for a loopback address that is named here.'
        ),
    ] = ()
    ca: Annotated[
        Path | None,
        Meta(description="PEM file with the CA of the server; left out: those of the system."),
    ] = None
    timeout_seconds: Annotated[
        float, Meta(gt=0, le=60, description="How long one attempt may take, in seconds.")
    ] = 10.0
    give_up_seconds: Annotated[
        Seconds, Meta(description="How long a message is tried again, in seconds.")
    ] = 259_200.0
    callback: Annotated[
        CallbackSettings | None,
        Meta(description="How it decides; left out: it is only told."),
    ] = None


class SlackSettings(Settings, frozen=True, kw_only=True):
    """A Slack channel, or one of something that speaks like it, that gets a message with buttons. Slack sends
    what people press to `/api/channels/NAME` of the control plane."""

    name: Annotated[ChannelName, Meta(description="Name of the channel, as records show it.")]
    token: Annotated[
        SecretSettings | None,
        Meta(
            description="Token of the bot (`xoxb-...`, scope `chat:write`): messages are posted with it, and "
            "changed once they are decided. Either this or `webhook`."
        ),
    ] = None
    channel: Annotated[
        Text | None, Meta(description="Id of the channel to post to; with `token`.")
    ] = None
    webhook: Annotated[
        SecretSettings | None,
        Meta(
            description="URL of an incoming webhook, which is a secret itself. Its messages change only when "
            "somebody pressed a button in the last half hour; otherwise another one follows."
        ),
    ] = None
    signing_secret: Annotated[
        SecretSettings | None,
        Meta(
            description="Signing secret of the app; left out: messages have no buttons, and nobody "
            "decides by this channel."
        ),
    ] = None
    people: Annotated[
        tuple[PersonSettings, ...],
        Meta(description="Who is who; users who are not here decide nothing."),
    ] = ()
    team: Annotated[
        Text | None,
        Meta(description="Id of the workspace (`T...`) that users have to be of; left out: any."),
    ] = None
    api: Annotated[Text, Meta(description="Where the API of Slack is.")] = "https://slack.com/api"
    approvers: Annotated[
        tuple[Name, ...],
        Meta(description="Groups whose requests are told; left out: all requests."),
    ] = ()
    events: Annotated[tuple[Told, ...], Meta(description="What is told; left out: all of it.")] = ()
    networks: Annotated[
        tuple[str, ...],
        Meta(description="Networks that are not public and may be sent to, as in `webhooks`."),
    ] = ()
    ca: Annotated[
        Path | None,
        Meta(description="PEM file with the CA of the server; left out: those of the system."),
    ] = None
    timeout_seconds: Annotated[
        float, Meta(gt=0, le=60, description="How long one attempt may take, in seconds.")
    ] = 10.0
    give_up_seconds: Annotated[
        Seconds, Meta(description="How long a message is tried again, in seconds.")
    ] = 259_200.0


def loopback_named(networks: tuple[str, ...]) -> bool:
    """Whether a loopback network is among those that may be sent to."""
    try:
        return any(ipaddress.ip_network(network).is_loopback for network in networks)
    except ValueError:
        return False


def channel_problems(made: WebhookSettings | SlackSettings) -> Iterator[tuple[str, str]]:
    """What is wrong within a channel, as (key, problem with its remedy)."""
    for network in made.networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as wrong:
            yield "networks", f"{wrong}; write an address, or a network such as 10.1.0.0/16"
    if isinstance(made, WebhookSettings):
        if made.callback is not None:
            yield from _claims("callback.claims", made.callback.claims)
            if made.callback.secret == made.secret:
                yield (
                    "callback.secret",
                    "is the one that messages are signed with, so whoever is told could be taken for "
                    "whoever decides; use another",
                )
        return
    if (made.token is None) == (made.webhook is None):
        yield "token", "give either token and channel, or webhook"
    if (made.token is None) != (made.channel is None):
        yield "channel", "channel and token are given together"
    if made.people and made.signing_secret is None:
        yield "signing_secret", "missing: without it nobody can tell that a button was pressed"
    users = [one.user for one in made.people]
    if len(set(users)) != len(users):
        yield "people", "names a user twice; drop one"
    for one in made.people:
        yield from _claims("people", one.claims)


def _claims(key: str, claims: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in SIGN_IN_CLAIMS:
        if name in claims:
            yield key, f"has {name}, which only a sign-in proves; take it out"
