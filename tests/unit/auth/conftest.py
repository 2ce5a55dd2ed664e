from collections.abc import Iterator
from pathlib import Path

import pytest

from issuer import AUDIENCE, Issuer
from pangate.config import (
    AuditSettings,
    Config,
    IssuerSettings,
    LimitSettings,
    ListenSettings,
    ResourceSettings,
    RoleSettings,
    SecretSettings,
)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    running = Issuer()
    yield running
    running.stop()


def settings(issuer: Issuer, **changes: object) -> IssuerSettings:
    values: dict[str, object] = {
        "url": issuer.url,
        "audience": AUDIENCE,
        "allow_http_loopback": True,
        **changes,
    }
    return IssuerSettings(**values)  # type: ignore[arg-type]


@pytest.fixture
def make_config():
    def make(
        issuers: tuple[Issuer, ...] | Issuer, limits: LimitSettings | None = None, **changes: object
    ) -> Config:
        if isinstance(issuers, Issuer):
            issuers = (issuers,)
        return Config(
            path=Path("pangate.toml"),
            listen=ListenSettings(allow_plaintext_loopback=True),
            limits=limits or LimitSettings(),
            issuers=tuple(settings(issuer, **changes) for issuer in issuers),
            resources=(
                ResourceSettings(
                    name="payments",
                    host="127.0.0.1",
                    database="payments",
                    user="gateway",
                    password=SecretSettings(env="PASSWORD"),
                    tls="disable",
                ),
            ),
            roles=tuple(
                RoleSettings(
                    name=f"reporting-{number}",
                    issuer=issuer.url,
                    match={"team": "reporting"},
                    resources=("payments",),
                )
                for number, issuer in enumerate(issuers)
            ),
            audit=AuditSettings(path=Path("audit.jsonl")),
        )

    return make
