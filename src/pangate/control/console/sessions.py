"""Who is signed in. Sessions are in this process alone, so that a restart ends them all; a browser has a
random name of its session in a cookie, and of that name only the digest is kept here."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.responses import Response

from pangate.config.console import ConsoleSettings
from pangate.model import Principal

MOST_SESSIONS = 1000
MOST_PENDING = 1000
MOST_STREAMS = 4
"""Live lists that one session may have open at a time."""

SIGN_IN_SECONDS = 600.0
"""How long somebody may take at the issuer."""


@dataclass(eq=False)
class Session:
    """Somebody who is signed in. `id` is its name in the record and no secret; `form` has to be in every form
    that is sent."""

    id: str
    person: Principal
    roles: frozenset[str]
    origin: str
    began: float
    seen: float
    form: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    streams: int = 0
    ended: bool = False
    listed: frozenset[str] = frozenset()
    """Requests that an open list showed last."""

    def has(self, *roles: str) -> bool:
        """Whether the person has one of these roles."""
        return not self.roles.isdisjoint(roles)


@dataclass(frozen=True, slots=True)
class Pending:
    """A sign-in that is under way at the issuer. `to` is where it leads, `strong` whether it has to be a new
    one and not one from before."""

    state: str
    nonce: str
    verifier: str
    to: str
    began: float
    strong: bool = False
    began_at: float = 0.0
    """The same by the clock of tokens."""


class Sessions:
    """All of them, and the sign-ins that are under way. Bounded: the oldest goes first."""

    def __init__(
        self, settings: ConsoleSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._pending: OrderedDict[bytes, Pending] = OrderedDict()

    # --- sessions -----------------------------------------------------------------------------------

    def begin(self, person: Principal, roles: frozenset[str], origin: str) -> tuple[str, Session]:
        """A new session and the name that its browser gets."""
        name, now = secrets.token_urlsafe(32), self._clock()
        # letters only: digits in a row could read as a card number, and be masked in the record
        told = "".join(secrets.choice(string.ascii_lowercase) for _ in range(16))
        made = Session(told, person, roles, origin, now, now)
        self._sessions[_digest(name)] = made
        while len(self._sessions) > MOST_SESSIONS:
            _, oldest = self._sessions.popitem(last=False)
            oldest.ended = True
        return name, made

    def find(self, name: str | None, *, by_hand: bool = True) -> Session | None:
        """The session of a browser, if it has not ended. Only what a person asks for `by_hand` keeps it from
        being idle; what a page fetches by itself does not."""
        if not name:
            return None
        key = _digest(name)
        found = self._sessions.get(key)
        if found is None:
            return None
        if self.over(found):
            del self._sessions[key]
            return None
        if by_hand:
            found.seen = self._clock()
        return found

    def over(self, session: Session) -> bool:
        """Whether it has ended."""
        now, settings = self._clock(), self._settings
        if (
            now - session.seen >= settings.idle_seconds
            or now - session.began >= settings.max_seconds
        ):
            session.ended = True
        return session.ended

    def end(self, session: Session) -> None:
        """End it; what is open of it notices."""
        session.ended = True
        self._sessions = OrderedDict(
            (key, one) for key, one in self._sessions.items() if one is not session
        )

    def all(self) -> list[Session]:
        """Those that have not ended, the newest first."""
        return [one for one in reversed(self._sessions.values()) if not self.over(one)]

    def idle(self, session: Session) -> float:
        """Seconds since somebody did something in it."""
        return self._clock() - session.seen

    def left(self, session: Session) -> float:
        """Seconds until it ends whatever is done in it."""
        return session.began + self._settings.max_seconds - self._clock()

    def age(self, session: Session) -> float:
        """Seconds since it began."""
        return self._clock() - session.began

    # --- sign-ins -----------------------------------------------------------------------------------

    def ask(self, to: str, *, strong: bool = False) -> tuple[str, Pending]:
        """Begin a sign-in. Returns the name that the browser gets, so that nobody can be made to end a
        sign-in that another browser has begun."""
        name, now = secrets.token_urlsafe(32), self._clock()
        made = Pending(
            secrets.token_urlsafe(32),
            secrets.token_urlsafe(32),
            secrets.token_urlsafe(48),
            to,
            now,
            strong,
            time.time(),
        )
        self._pending[_digest(name)] = made
        while len(self._pending) > MOST_PENDING:
            self._pending.popitem(last=False)
        return name, made

    def asked(self, name: str | None, state: str) -> Pending | None:
        """The sign-in that this browser began, once; None when it is another's, or too old."""
        found = self._pending.pop(_digest(name), None) if name else None
        if found is None or self._clock() - found.began > SIGN_IN_SECONDS:
            return None
        return found if same(found.state, state) else None


class Cookies:
    """The cookies of the console. By TLS their names have the prefix `__Host-`, which a browser takes from
    this very host over TLS only."""

    def __init__(self, *, secure: bool) -> None:
        prefix = "__Host-" if secure else ""
        self._secure = secure
        self.session = f"{prefix}pangate"
        self.sign_in = f"{prefix}pangate-sign-in"

    def give(self, answer: Response, name: str, value: str, seconds: float | None = None) -> None:
        """Set one. Without `seconds` it goes with the browser's end."""
        answer.set_cookie(
            name,
            value,
            max_age=None if seconds is None else int(seconds),
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="lax",  # the way back from the issuer, and links in messages, come from other sites
        )

    def take(self, answer: Response, name: str) -> None:
        """Have the browser forget one."""
        answer.delete_cookie(name, path="/", secure=self._secure, httponly=True, samesite="lax")


def same(one: str, other: str) -> bool:
    """Whether two texts are the same, in a time that does not tell how far they are."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "replace")).digest()
