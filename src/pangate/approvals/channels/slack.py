"""Slack, and what speaks like it: a message with buttons for each request, changed as it goes on, and what
people press.

Nothing that an agent wrote is read as markup: it stands in elements that show a text as it is."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

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
from pangate.config.channels import PersonSettings, SlackSettings
from pangate.model import Principal
from pangate.store import Choice, Notice

JSON_TYPE = "application/json; charset=utf-8"
VERSION = "v0"

MOST_TEXT = 2900
"""Slack takes 3000 characters in one text."""

MOST_HEADER = 150
MOST_NAME = 200
MOST_ERROR = 64
MOST_LINES, MOST_SHOWN_DECISIONS = 12, 10

CHOICES: dict[str, Choice] = {"approve": "approve", "deny": "deny"}

DONE = {
    "approved": "Approved",
    "denied": "Denied",
    "expired": "Expired",
    "withdrawn": "Withdrawn",
    "executed": "Approved, and running",
}


class Slack:
    """See `pangate.approvals.channels.Channel`. A place is JSON: `ts` and `channel` of a message that the
    bot posted, or `url`, where the message of a button that was pressed can be replaced for a while."""

    replies = True

    def __init__(self, settings: SlackSettings, read: ReadSecret, issuer: str) -> None:
        self._settings = settings
        key = f"slack[{settings.name}]"

        def kept(name: str) -> KeptSecret | None:
            found = getattr(settings, name)
            return None if found is None else KeptSecret(found, f"{key}.{name}", read)

        self._token, self._webhook = kept("token"), kept("webhook")
        self._signing = kept("signing_secret")
        self._poster = Poster(settings.networks, settings.ca, settings.timeout_seconds)
        self._people = {one.user: _person(one, issuer) for one in settings.people}

    @property
    def rules(self) -> ChannelRules:
        """Its settings."""
        return self._settings

    # --- out ----------------------------------------------------------------------------------------

    async def tell(self, notice: Notice, place: str) -> str:
        """Post the request's message, or change it."""
        body = json.loads(notice.body)
        data = body["data"]
        message = shown(data["request"], data["decisions"], buttons=self._signing is not None)
        where = _place(place)
        if self._token is None:
            return await self._by_webhook(message, where)
        if "ts" in where:
            at = {"channel": where["channel"], "ts": where["ts"]}
            await self._call("chat.update", {**at, **message})
            return ""
        made = await self._call("chat.postMessage", {"channel": self._settings.channel, **message})
        channel, ts = made.get("channel"), made.get("ts")
        if not (isinstance(channel, str) and isinstance(ts, str)) or len(channel + ts) > MOST_NAME:
            raise ChannelFailed("it does not say which message it made")
        return json.dumps({"channel": channel, "ts": ts})

    async def _by_webhook(self, message: Mapping[str, Any], where: Mapping[str, str]) -> str:
        url = await self._webhook_url()
        if "url" in where and _origin(where["url"]) == _origin(url):
            try:
                replaced = {**message, "replace_original": True}
                await self._post(where["url"], replaced, {})
            except ChannelFailed:
                pass  # it is too late for that: another message says it
            else:
                return ""
        await self._post(url, message, {})
        return ""

    async def _webhook_url(self) -> str:
        if self._webhook is None:
            raise ChannelFailed("it has neither a token nor a webhook")
        return await self._webhook.reveal()

    async def _call(self, method: str, content: Mapping[str, Any]) -> dict[str, Any]:
        if self._token is None:
            raise ChannelFailed("it has no token")
        headers = {"Authorization": f"Bearer {await self._token.reveal()}"}
        url = f"{self._settings.api.rstrip('/')}/{method}"
        answer = await self._post(url, content, headers)
        found = _object(answer)
        if found is None or not isinstance(found.get("ok"), bool):
            raise ChannelFailed(f"{method} answers with what is not Slack's")
        if not found["ok"]:
            raise ChannelFailed(f"{method} is refused: {_word(found.get('error'))}")
        return found

    async def _post(
        self, url: str, content: Mapping[str, Any], headers: Mapping[str, str]
    ) -> bytes:
        """What it answers. Raises ChannelFailed also for an answer that is nobody's who took it."""
        body = json.dumps(content).encode()
        try:
            answer = await self._poster.post(url, body, {"Content-Type": JSON_TYPE, **headers})
        except PostFailed as wrong:
            raise ChannelFailed(str(wrong)) from None
        if answer.status != 200:
            raise ChannelFailed(f"it answers {answer.status}", answer.retry_after)
        if answer.body.strip() != b"ok" and _object(answer.body) is None:
            raise ChannelFailed("it answers with what is not Slack's")
        return answer.body

    # --- in -----------------------------------------------------------------------------------------

    async def hear(self, message: Message, now: float) -> Said:
        """A button that was pressed."""
        if self._signing is None:
            raise DecisionRefused("unknown", "this channel takes no decisions")
        sent = message.headers.get("x-slack-request-timestamp", "")
        given = message.headers.get("x-slack-signature", "")
        if not (sent.isascii() and sent.isdigit() and len(sent) <= 12):
            raise NotBelieved("the header X-Slack-Request-Timestamp is not there")
        if abs(now - int(sent)) > TOLERANCE_SECONDS:
            raise NotBelieved("X-Slack-Request-Timestamp is not now")
        wanted = sign(await self._signing.reveal(), sent, message.body)
        if not hmac.compare_digest(wanted.encode(), given.encode("utf-8", "replace")):
            raise NotBelieved("X-Slack-Signature is not right")
        return self._pressed(_payload(message.body), given, int(sent) + TOLERANCE_SECONDS)

    def _pressed(self, payload: Mapping[str, Any], message: str, until: float) -> Said:
        user, team = _id(payload.get("user")), _id(payload.get("team"))
        if self._settings.team is not None and team != self._settings.team:
            raise NotBelieved("it is of another workspace")
        actions = payload.get("actions")
        action = actions[0] if isinstance(actions, list) and len(actions) == 1 else None
        if payload.get("type") != "block_actions" or not isinstance(action, dict) or not user:
            raise DecisionRefused("misused", "only the buttons of a message mean something here")
        choice, request = CHOICES.get(str(action.get("action_id"))), action.get("value")
        if choice is None or not isinstance(request, str):
            raise DecisionRefused("misused", "this button means nothing")
        url = payload.get("response_url")
        url = url if isinstance(url, str) and len(url) <= 1000 else ""
        return Said(
            person=self._people.get(user),
            user=user,
            request=request,
            choice=choice,
            reason=_reason(payload.get("state")),
            message=message,
            until=until,
            place=json.dumps({"url": url}) if url and self._token is None else "",
            reply={"url": url, "user": user, "channel": _id(payload.get("channel"))},
        )

    async def reply(self, said: Said, outcome: str) -> None:
        """Tell who pressed a button, and nobody else, why that changed nothing."""
        text = f"Nothing was decided: {_literal(outcome)}"
        if self._token is not None and said.reply["channel"]:
            content = {"channel": said.reply["channel"], "user": said.reply["user"], "text": text}
            await self._call("chat.postEphemeral", {**content, "parse": "none"})
            return
        url = said.reply["url"]
        # only where our own messages go: the payload is Slack's, but nothing here takes orders where to post
        if self._webhook is not None and _origin(url) == _origin(await self._webhook_url()):
            content = {"response_type": "ephemeral", "text": text}
            await self._post(url, {**content, "replace_original": False}, {})


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The header X-Slack-Signature."""
    signed = f"{VERSION}:{timestamp}:".encode() + body
    return f"{VERSION}={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


def _person(settings: PersonSettings, issuer: str) -> Principal:
    claims = {**settings.claims, "sub": settings.subject}
    return Principal(settings.subject, settings.issuer or issuer, float("inf"), claims=claims)


def _payload(body: bytes) -> dict[str, Any]:
    try:
        form = parse_qs(body.decode(), strict_parsing=True, max_num_fields=10)
        found = json.loads(form["payload"][0])
    except (ValueError, KeyError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DecisionRefused("misused", "there is no payload of an interaction in it")
    return found


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _id(found: object) -> str:
    name = found.get("id") if isinstance(found, dict) else None
    return name if isinstance(name, str) and len(name) <= MOST_NAME else ""


def _reason(state: object) -> str:
    """What stands in the message's field."""
    found = state
    for key in ("values", "reason", "reason", "value"):
        found = found.get(key) if isinstance(found, dict) else None
    return found.encode("utf-8", "replace").decode()[:10_000] if isinstance(found, str) else ""


def _place(place: str) -> dict[str, str]:
    try:
        found = json.loads(place) if place else {}
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "", "", None
    return parts.scheme, parts.hostname or "", port


def _word(found: object) -> str:
    """Slack's own word for what is wrong, and nothing that is no word."""
    if isinstance(found, str) and found.isascii() and found.replace("_", "").isalnum():
        return found[:MOST_ERROR]
    return "it does not say why"


# --- the message --------------------------------------------------------------------------------------


def shown(
    request: Mapping[str, Any], decisions: Sequence[Mapping[str, Any]], *, buttons: bool
) -> dict[str, Any]:
    """A request as a message, in Slack's Block Kit."""
    pending = request["state"] == "pending"
    needs = f"{request['quorum']} of {' or '.join(request['approvers'])}"
    title = (
        f"Waits for approval by {needs}"
        if pending
        else f"{DONE[request['state']]}: {request['outcome'] or request['id']}"
    )
    ends = datetime.fromtimestamp(request["expires"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    facts = [
        f"Request {request['id']}: {request['principal']} on {request['resource']}, role "
        f"{request['role']}, from {request['origin']}",
        f"Rule {request['rule']} {request['reason']}".rstrip(),
        *request["words"][:MOST_LINES],
    ]
    if request["estimate"] is not None:
        facts.append(f"The planner expects {request['estimate']} rows.")
    if request["in_transaction"]:
        facts.append("Its transaction is open: its locks are held while this waits.")
    if pending:
        facts.append(f"It ends at {ends}.")
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": _plain(title, MOST_HEADER)},
        {"type": "section", "text": _plain("\n".join(map(_line, facts)), MOST_TEXT)},
        _code(_statement(request)),
    ]
    if decisions:
        said = [_line(_decision(one)) for one in decisions[-MOST_SHOWN_DECISIONS:]]
        blocks.append({"type": "section", "text": _plain("\n".join(said), MOST_TEXT)})
    if pending and buttons:
        blocks += _buttons(request)
    # what a notification of a phone shows
    return {"text": _literal(_cut(title, MOST_TEXT)), "blocks": blocks, "parse": "none"}


def _buttons(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    label = "Reason" if request["reason_required"] else "Reason (may be left out)"
    field = {"type": "plain_text_input", "action_id": "reason", "max_length": 1000}
    buttons = [
        {
            "type": "button",
            "action_id": name,
            "value": request["id"],
            "style": style,
            "text": _plain(text, MOST_HEADER),
        }
        for name, text, style in (("approve", "Approve", "primary"), ("deny", "Deny", "danger"))
    ]
    return [
        {
            "type": "input",
            "block_id": "reason",
            "optional": not request["reason_required"],
            "label": _plain(label, MOST_HEADER),
            "element": field,
        },
        {"type": "actions", "block_id": "decide", "elements": buttons},
    ]


def _statement(request: Mapping[str, Any]) -> str:
    text = _printable(request["statement"])
    values = [
        f"${number} = {'NULL' if value is None else _line(value)}"
        for number, value in enumerate(request["parameters"], 1)
    ]
    whole = "\n".join([text, *values])
    left = request["characters_left_out"] + max(0, len(whole) - MOST_TEXT)
    if left or request["parameters_left_out"]:
        more = f"\n... there is more: pangate approvals show {request['id']}"
        return _cut(whole, MOST_TEXT - len(more)) + more
    return whole


def _decision(one: Mapping[str, Any]) -> str:
    place = f" in the place of {one['authority']}" if one["authority"] != one["person"] else ""
    reason = f": {one['reason']}" if one["reason"] else ""
    return f"{one['choice'].replace('_', ' ')} by {one['person']}{place}{reason}"


def _plain(text: str, most: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": _cut(text, most) or " ", "emoji": False}


def _code(text: str) -> dict[str, Any]:
    element = {"type": "text", "text": text or " "}
    inner = {"type": "rich_text_preformatted", "elements": [element]}
    return {"type": "rich_text", "elements": [inner]}


def _literal(text: str) -> str:
    """A text where Slack would read markup, without any."""
    return _line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _line(text: str) -> str:
    return " ".join(_printable(text).split())


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char in "\n\t" else "�" for char in text)


def _cut(text: str, most: int) -> str:
    # not within a number: a part of a long one could be read as a card number
    return text if len(text) <= most else text[: most - 1].rstrip("0123456789 -.") + "…"
