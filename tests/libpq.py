"""The libpq that psycopg brings, by ctypes: what an application sets to hand it a bearer token itself."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

OAUTH_SINCE = 180000
"""The first version of libpq that speaks OAUTHBEARER."""

_OAUTH_BEARER_TOKEN = 1  # PGauthData, src/interfaces/libpq/libpq-fe.h


class _Request(ctypes.Structure):
    """PGoauthBearerRequest, as far as a hook that has its token at hand needs it."""

    _fields_ = (
        ("openid_configuration", ctypes.c_char_p),
        ("scope", ctypes.c_char_p),
        ("flow", ctypes.c_void_p),
        ("cleanup", ctypes.c_void_p),
        ("token", ctypes.c_char_p),
        ("user", ctypes.c_void_p),
    )


_Hook = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def _library() -> ctypes.CDLL:
    """The very library that psycopg has loaded."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    paths = {line.split(maxsplit=5)[5] for line in lines if "/libpq" in line}
    (path,) = [path for path in paths if "libpq-oauth" not in path]
    return ctypes.CDLL(path)


def speaks_oauth() -> bool:
    """Whether it does."""
    return psycopg.pq.version() >= OAUTH_SINCE


@contextlib.contextmanager
def bearer_tokens(make: Callable[[str, str], str]) -> Iterator[None]:
    """Inside, libpq asks `make(openid_configuration, scope)` for the token of each connection."""

    def hook(kind: int, connection: int, data: int) -> int:
        if kind != _OAUTH_BEARER_TOKEN:
            return 0
        request = ctypes.cast(data, ctypes.POINTER(_Request)).contents
        where, scope = request.openid_configuration or b"", request.scope or b""
        token = make(where.decode(), scope.decode()).encode()
        kept.append(token)
        request.token = token
        return 1

    kept: list[bytes] = []
    library = _library()
    library.PQsetAuthDataHook.argtypes = [ctypes.c_void_p]
    library.PQsetAuthDataHook.restype = None
    callback = _Hook(hook)
    library.PQsetAuthDataHook(ctypes.cast(callback, ctypes.c_void_p))
    try:
        yield
    finally:
        library.PQsetAuthDataHook(None)
