"""The real OpenID Connect provider of tests/oidc, started and stopped, and its clients' way to a token."""

from __future__ import annotations

import base64
import json
import re
import secrets
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType

import pytest

from pangate.embedded import free_port

ROOT = Path(__file__).parents[1]
INSTALLED = ROOT / "build" / "oidc"


class Provider:
    """One provider, from `with` to its end. `stop` and `start` keep its URL and give it other keys.

    `clients` maps the id of a client to its team, which its tokens have as a claim. `callback` is where
    people who signed in to the client `console` are sent back to, with `secret` as its secret; `people` maps
    their names to their passwords (as `password`) and claims."""

    def __init__(
        self,
        clients: dict[str, str],
        audience: str = "pangate",
        seconds: int = 600,
        *,
        callback: str = "",
        secret: str = "",
        people: dict[str, dict[str, object]] | None = None,
    ) -> None:
        self._secrets = {name: secrets.token_urlsafe(18) for name in clients}
        self._settings: dict[str, object] = {
            "port": free_port(),
            "audience": audience,
            "seconds": seconds,
            "clients": [
                {"id": name, "team": team, "secret": self._secrets[name]}
                for name, team in clients.items()
            ],
        }
        if callback:
            self._settings["console"] = {"id": "console", "secret": secret, "callback": callback}
            self._settings["people"] = people or {}
        self.url = f"http://127.0.0.1:{self._settings['port']}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Provider:
        if not (INSTALLED / "node_modules").is_dir() or shutil.which("node") is None:
            pytest.fail(
                "the OpenID Connect provider of the tests is not installed; `make test` installs it, "
                "or alone: make build/oidc/installed",
                pytrace=False,
            )
        self._log = Path(tempfile.mkstemp(prefix="pangate-provider-")[1])
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._log.unlink()

    def start(self) -> None:
        """Start it, with new keys."""
        script = INSTALLED / "provider.mjs"
        shutil.copy(ROOT / "tests" / "oidc" / "provider.mjs", script)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["node", str(script), json.dumps(self._settings)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while not re.search(rb"^listening \d+$", self._log.read_bytes(), re.MULTILINE):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                pytest.fail(f"the provider did not start: {self._log.read_text()[-800:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it; its port is closed then."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def token(self, client: str, resource: str = "urn:pangate") -> str:
        """An access token for `client`, by the client credentials grant (RFC 6749, RFC 8707). Of the
        resources, `urn:rsa` is signed with RS256, and `urn:other` is for another audience."""
        login = base64.b64encode(f"{client}:{self._secrets[client]}".encode()).decode()
        request = urllib.request.Request(
            f"{self.url}/token",
            urllib.parse.urlencode(
                {"grant_type": "client_credentials", "resource": resource, "scope": "read"}
            ).encode(),
            {"authorization": f"Basic {login}"},
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            token = json.loads(response.read())["access_token"]
        assert isinstance(token, str)
        return token
