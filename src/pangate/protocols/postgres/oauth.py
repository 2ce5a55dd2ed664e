"""OAUTHBEARER (RFC 7628) from the server's side, as PostgreSQL 18 has it in AuthenticationSASL.

Bytes in, bytes out. A client that has no token yet asks with an empty one and is told where tokens come
from; so is one whose token failed. Either has to answer with one byte before it gets its error."""

from __future__ import annotations

import json
import re

from pangate.errors import AuthenticationFailed, ProtocolError, Refused
from pangate.protocols import Ways
from pangate.protocols.postgres import messages
from pangate.protocols.postgres.messages import message

MECHANISM = b"OAUTHBEARER"
SEPARATOR = b"\x01"

NO_TOKEN = "the client asked which issuer to go to for a token (OAuth discovery)"  # noqa: S105

_PAIR = re.compile(rb"([A-Za-z]+)=([\x20-\x7e\t\r\n]*)\Z")
_SCHEME = re.compile(rb"bearer +", re.IGNORECASE)


class OAuthBearer:
    """One exchange: `request()`, then `answer(body)` for each message of the client until it gives a
    token. `reject(error)` when the token was not good: the next `answer` raises `error` then."""

    MORE = 512
    """Bytes that may stand around the token in its message."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        self._started = False
        self._error: Refused | None = None

    def request(self) -> bytes:
        """AuthenticationSASL with the one mechanism."""
        return message(b"R", (10).to_bytes(4, "big") + MECHANISM + b"\0\0")

    def answer(self, body: bytes) -> tuple[bytes, str | None]:
        """What to send for the client's message `body`, and the token when it holds one.

        Raises ProtocolError for what the mechanism does not allow, and the error of a discovery or
        of a rejected token when the client has taken note of it."""
        if self._error is not None:
            if body != SEPARATOR:
                raise _malformed("the client did not acknowledge the error")
            raise self._error
        if not self._started:
            self._started = True
            initial = _initial_response(body)
            if initial is None:
                return message(b"R", (11).to_bytes(4, "big")), None
            body = initial
        value = _auth_value(body)
        if not value:
            return self.reject(
                AuthenticationFailed("get a token and connect again", NO_TOKEN)
            ), None
        # Another scheme than Bearer goes on as it is: it is no token, and is recorded as such.
        scheme = _SCHEME.match(value)
        return b"", value[scheme.end() if scheme else 0 :].decode("ascii")

    def reject(self, error: Refused) -> bytes:
        """AuthenticationSASLContinue with the error of the mechanism. It says nothing of what was wrong:
        `invalid_token` is the one status after which clients read the error that follows."""
        self._error = error
        said = {"status": "invalid_token"}
        if self._ways.discovery:
            said["openid-configuration"] = self._ways.discovery
        if self._ways.scope:
            said["scope"] = self._ways.scope
        return message(b"R", (11).to_bytes(4, "big") + json.dumps(said).encode())

    @staticmethod
    def refusal(error: AuthenticationFailed) -> bytes:
        """ErrorResponse, with the SQLSTATE that PostgreSQL has for this mechanism."""
        # Whoever checks tokens speaks of the password, as which most agents send theirs.
        reason = error.reason.replace("the password must be", "the bearer token must be")
        return messages.error("28000", reason, severity="FATAL")


def _initial_response(body: bytes) -> bytes | None:
    """The response in SASLInitialResponse; None when the client waits to be asked for it."""
    end = body.find(b"\0")
    if end < 0 or len(body) < end + 5:
        raise _malformed("the message is too short")
    if body[:end] != MECHANISM:
        raise ProtocolError("the client chose a SASL mechanism that was not offered")
    length = int.from_bytes(body[end + 1 : end + 5], "big", signed=True)
    response = body[end + 5 :]
    if length == -1 and not response:
        return None
    if length != len(response):
        raise _malformed("its length is wrong")
    return response


def _auth_value(response: bytes) -> bytes:
    """The value of `auth` in a client's response (RFC 7628, section 3.1); empty for a discovery."""
    header, separator, rest = response.partition(SEPARATOR)
    flag, comma, identity = header.partition(b",")
    if flag.startswith(b"p="):
        raise _malformed("channel binding is not offered with it")
    if flag not in (b"n", b"y") or not comma or not separator:
        raise _malformed("the GS2 header is wrong")
    if identity.startswith(b"a="):
        raise Refused("OAUTHBEARER with an authorization identity is not supported; leave it out")
    if identity != b",":
        raise _malformed("the GS2 header is wrong")
    pairs = rest.split(SEPARATOR)
    if len(pairs) < 2 or pairs[-2:] != [b"", b""]:
        raise _malformed("the list of pairs does not end where it should")
    found: list[bytes] = []
    for pair in pairs[:-2]:
        parsed = _PAIR.match(pair)
        if parsed is None:
            raise _malformed("a pair is wrong")
        if parsed[1] == b"auth":
            found.append(parsed[2])
    if len(found) != 1:
        raise _malformed("there is not one auth value")
    return found[0]


def _malformed(what: str) -> ProtocolError:
    return ProtocolError(f"malformed OAUTHBEARER message: {what}")
