"""One HTTP POST to an address that the configuration names, and to nothing that it could be bent to: the
name is looked up once, every address that it has must be a public one or in a named network, and the
connection goes to that very address. No redirects, no proxies, TLS verified for the name, all of it within
a time and a size."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from pangate.errors import PangateError

MAX_ANSWER_BYTES = 65_536
MOST_ADDRESSES = 4
"""Addresses of one name that are tried."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


class PostFailed(PangateError):
    """There is no answer. The text says why, and repeats nothing of what the other side sent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `body` is cut at MAX_ANSWER_BYTES."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def retry_after(self) -> float | None:
        """In how many seconds to come again, when it says so in seconds."""
        said = self.headers.get("retry-after", "")
        return float(said) if said.isascii() and said.isdigit() and len(said) < 7 else None


class Poster:
    """Posts with one set of rules. `networks` may be sent to although they are not public; `ca` is a PEM
    file, None for the CAs of the system."""

    def __init__(self, networks: Sequence[str], ca: Path | None, seconds: float) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self._ca = ca
        self._seconds = seconds
        self._clients: dict[str, httpx.AsyncClient] = {}

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Raises PostFailed."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._post(httpx.URL(url), body, headers)
        except TimeoutError:
            raise PostFailed(f"there is no answer within {self._seconds:g} s") from None
        except ssl.SSLError as wrong:
            raise PostFailed(f"TLS: {wrong.reason or type(wrong).__name__}") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as wrong:
            raise PostFailed(_why(wrong)) from None

    async def _post(self, url: httpx.URL, body: bytes, headers: Mapping[str, str]) -> Answer:
        if url.scheme not in ("https", "http"):
            raise PostFailed("the URL is neither https nor http")
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = await self._addresses(url.host, port)
        if url.scheme == "http" and not all(address.is_loopback for address in addresses):
            raise PostFailed(f"http to {url.host} can be read and changed on the way; use https")
        client = await self._client(url.scheme)
        for place, address in enumerate(addresses):
            request = client.build_request(
                "POST",
                url.copy_with(host=str(address)),
                content=body,
                headers={
                    "User-Agent": "pangate",
                    "Accept-Encoding": "identity",
                    **headers,
                    "Host": url.netloc.decode(),
                },
                # the certificate has to be of the name, though the connection goes to an address
                extensions={"sni_hostname": url.host},
            )
            try:
                return await _answer(client, request)
            except httpx.ConnectError:
                if place == len(addresses) - 1:
                    raise
        raise PostFailed(f"{url.host} has no address")

    async def _client(self, scheme: str) -> httpx.AsyncClient:
        """It keeps no connection, so there is none that an earlier address was good for."""
        if scheme not in self._clients:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            if scheme == "https":
                # the CAs of a system take too long to read for the sessions of this loop
                tls = await asyncio.to_thread(_context, self._ca)
            self._clients[scheme] = httpx.AsyncClient(
                verify=tls,
                timeout=self._seconds,
                follow_redirects=False,
                trust_env=False,
                limits=httpx.Limits(max_keepalive_connections=0),
            )
        return self._clients[scheme]

    async def _addresses(self, host: str, port: int) -> list[Address]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise PostFailed(f"{host} has no address") from None
        addresses = list(dict.fromkeys(ipaddress.ip_address(one[4][0]) for one in found))
        for address in addresses:
            if not allowed(address, self._networks):
                raise PostFailed(
                    f"{host} has the address {address}, which is not public; if it is meant, name "
                    "its network in networks"
                )
        return addresses[:MOST_ADDRESSES]


_NOWHERE = [
    ipaddress.ip_network(text)
    for text in (
        "192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "::ffff:0:0:0/96", "fec0::/10", "3fff::/20",
        "5f00::/16",
    )
]  # fmt: skip
"""Not of the public internet, or a way to an address that may not be; some Pythons take them for global."""


def allowed(address: Address, networks: Sequence[Network]) -> bool:
    """Whether an address may be sent to. What another address is written in counts as that."""
    inner = _inner(address)
    if any(address in network or inner in network for network in networks):
        return True
    return all(
        one.is_global and not one.is_multicast and not any(one in network for network in _NOWHERE)
        for one in (address, inner)
    )


def _context(ca: Path | None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(ca) if ca else None)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def _inner(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 0xFFFF):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo[1] if address.teredo else None
    return address.ipv4_mapped or address.sixtofour or teredo or address


async def _answer(client: httpx.AsyncClient, request: httpx.Request) -> Answer:
    answer = await client.send(request, stream=True)
    try:
        body = bytearray()
        async for chunk in answer.aiter_raw():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                break
        return Answer(answer.status_code, answer.headers, bytes(body[:MAX_ANSWER_BYTES]))
    finally:
        await answer.aclose()
        client.cookies.clear()


def _why(wrong: Exception) -> str:
    if isinstance(wrong, httpx.ConnectError):
        cause = wrong.__cause__ or wrong.__context__
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return f"its certificate is not good: {cause.verify_message}"
            if isinstance(cause, ssl.SSLError):
                return f"TLS: {cause.reason or type(cause).__name__}"
            cause = cause.__cause__ or cause.__context__
        return "it cannot be connected to"
    if isinstance(wrong, httpx.TimeoutException):
        return "there is no answer in time"
    if isinstance(wrong, httpx.ProtocolError):
        return "what it answers is not HTTP"
    return type(wrong).__name__
