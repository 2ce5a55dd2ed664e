"""The exception tree. Every message names the thing that is wrong and the remedy; none holds a
credential, a token or a card number."""

from __future__ import annotations


class PangateError(Exception):
    """Base of everything that pangate raises on purpose."""


class MaskingError(PangateError, ValueError):
    """A masking rule, kind or key that cannot be used."""


class ConfigError(PangateError):
    """The configuration cannot be used. Holds every problem found in one run.

    `problems` is a tuple of texts, each "key: what is wrong; what to do"."""

    def __init__(self, problems: tuple[str, ...] | list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class LedgerError(PangateError):
    """A key, a note, a checkpoint, a tile or a proof that cannot be read, or that does not hold."""


class ProtocolError(PangateError):
    """The peer sent bytes that its protocol does not allow, or that the codec does not know.

    `side` is "frontend" or "backend"."""

    def __init__(self, message: str, side: str = "frontend") -> None:
        self.side = side
        super().__init__(message)


class Refused(PangateError):
    """Base of the refusals that reach the agent as its protocol's own error.

    `reason` is what the agent may read; `code` is the stable event code of the refusal."""

    code = "refused"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class AuthenticationFailed(Refused):
    """No principal could be made of what the agent presented. The agent reads one and the same
    sentence whatever was wrong; `detail` says it for the record, and `kind` is its class for whoever
    counts: one of a few words of our own."""

    code = "auth.failed"

    def __init__(self, reason: str, detail: str = "", kind: str = "invalid") -> None:
        super().__init__(reason)
        self.detail = detail or reason
        self.kind = kind


class NotAuthorised(Refused):
    """The principal has no grant for this resource or statement."""

    code = "authorisation.denied"


class ResourceUnavailable(Refused):
    """The backend cannot be reached, or it refused pangate's own login."""

    code = "resource.unavailable"


class RecordFailed(Refused):
    """The record could not be written, so nothing is forwarded (law 2). The agent reads one and the
    same sentence unless there is another `reason`; `detail` says what happened for whoever runs the
    gateway."""

    code = "record.failed"

    def __init__(
        self,
        detail: str,
        reason: str = "nothing was executed, because its record could not be written; tell whoever "
        "runs the gateway",
    ) -> None:
        super().__init__(reason)
        self.detail = detail


class StateFailed(Refused):
    """What waits for a person could not be kept or read. The agent reads one and the same sentence;
    `detail` says what happened for whoever runs the gateway."""

    code = "state.failed"

    def __init__(self, detail: str) -> None:
        super().__init__(
            "nothing was executed, because the gateway cannot keep what waits for approval; tell "
            "whoever runs the gateway"
        )
        self.detail = detail


class LimitReached(Refused):
    """A named limit of the configuration was reached."""

    code = "limit.reached"


class CredentialError(PangateError):
    """A backend credential cannot be read. Never holds the credential."""
