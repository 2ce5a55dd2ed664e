"""What a secret looks like wherever it may turn up: as itself and in the encodings that logs, errors, drivers
and protocols put things into."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


def forms(secret: bytes) -> set[bytes]:
    """`secret` and its encodings."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode(), secret.hex(" ").encode()}
    for offset in range(3):
        # inside a longer text, its base64 depends on where it begins; the edges depend on the rest
        encoded = base64.b64encode(b"\0" * offset + secret)
        middle = encoded[(0, 2, 3)[offset] :].rstrip(b"=")[:-1]
        found |= {middle, middle.translate(bytes.maketrans(b"+/", b"-_"))}
    found.add("".join(f"\\x{byte:02x}" for byte in secret).encode())
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        return found
    found |= {
        json.dumps(text)[1:-1].encode(),
        json.dumps(text, ensure_ascii=False)[1:-1].encode(),
        ascii(text)[1:-1].encode(),
        repr(text)[1:-1].encode(),
        repr(secret)[2:-1].encode(),
        urllib.parse.quote(text).encode(),
        urllib.parse.quote_plus(text).encode(),
        text.replace("'", "''").encode(),
        text.encode("utf-16-le"),
        text.encode("utf-16-be"),
        text.encode("latin-1", "replace"),
        text.encode("ascii", "backslashreplace"),
    }
    return found


def password_forms(password: str, user: str) -> set[bytes]:
    """Those of a password, and of what is as good as one: its md5 (pg_authid) for `user`."""
    digest = hashlib.md5((password + user).encode()).hexdigest()
    return forms(password.encode()) | {digest.encode()}


def key_forms(file: Path) -> set[bytes]:
    """Those of a private key: each line of its file, its number, and what encodes that."""
    data = file.read_bytes()
    lines = {line for line in data.splitlines() if len(line) > 20 and b"-----" not in line}
    key = serialization.load_pem_private_key(data, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    number = key.private_numbers().private_value
    raw = number.to_bytes(32, "big")
    return lines | forms(raw) | {str(number).encode(), f"{number:x}".encode()}


def found_in(places: Mapping[str, bytes], canaries: Mapping[str, set[bytes]]) -> list[str]:
    """Which canary is in which place."""
    return [
        f"{name} in {place}"
        for place, data in places.items()
        for name, shapes in canaries.items()
        if any(shape in data for shape in shapes)
    ]


class Processes:
    """Gathers what the command lines and environments of all processes hold, again and again from
    `with` to its end, but for the processes in `but`. `sightings` is how many it has looked at."""

    def __init__(self, but: set[int]) -> None:
        self._but = but
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._seen: dict[bytes, None] = {}
        self.sightings = 0

    def __enter__(self) -> Processes:
        self._thread.start()
        return self

    def __exit__(self, *wrong: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def seen(self) -> bytes:
        """All of it."""
        return b"\n".join(self._seen)

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            for path in Path("/proc").glob("[0-9]*"):
                if int(path.name) in self._but:
                    continue
                for name in ("cmdline", "environ"):
                    try:
                        self._seen[(path / name).read_bytes()] = None
                    except OSError:
                        continue  # it has ended, or is another user's
                    self.sightings += 1
