"""idle_sessions.py [SESSIONS] [--keep]: what an idle session costs the gateway in memory.

Agents log in through the gateway to a real PostgreSQL and fall silent, with TLS on both sides and without.
Beside it, in the same run, a relay that opens the same sockets and TLS connections and does nothing else
(`bare`): what it needs is the sockets' own, the rest is ours. Figures are resident memory from /proc, in
KiB for each session, taken when the sessions have logged in, when each has run one small statement, and when
each has read a result of 1 MB. `--keep` writes them to benchmarks/record/."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import uvloop
from record import keep

from pangate.embedded import Authority, EmbeddedPostgres, unwinding_signals
from pangate.protocols.postgres.messages import message, query, ssl_request, startup
from pangate.proxy import sockets
from pangate.trial import Trial

READY = b"Z\0\0\0\5I"
PAGE = os.sysconf("SC_PAGE_SIZE")
AT_ONCE = 20
"""Logins under way at the same time: a server forks a process for each."""

SMALL = "select 1"
LARGE = "select repeat('x', 1000) from generate_series(1, 1000)"


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


class Agent:
    """A session: its streams."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def connect(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        self.reader, self.writer = await asyncio.open_connection(
            host, port, ssl=context, server_hostname="localhost" if context else None
        )

    async def log_in(self, token: str) -> None:
        login = startup({"user": "agent", "database": "payments"})
        self.writer.write(login + message(b"p", token.encode() + b"\0"))
        await self._until_ready()

    async def run(self, sql: str) -> None:
        self.writer.write(query(sql))
        await self._until_ready()

    async def _until_ready(self) -> None:
        tail = b""
        while not tail.endswith(READY):
            data = await self.reader.read(1 << 16)
            if not data:
                raise RuntimeError(f"the session was ended: {tail!r}")
            tail = (tail + data)[-200:]


async def each(agents: list[Agent], what) -> None:
    """`what` of every agent, AT_ONCE at the same time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(agent: Agent) -> None:
        async with gate:
            await what(agent)

    await asyncio.gather(*map(one, agents))


def client_context(ca: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(["postgresql"])
    return context


async def through_the_gateway(trial: Trial, count: int, tls: bool) -> dict[str, float]:
    token = trial.token(seconds=7200)
    context = client_context(trial.ca) if tls else None
    agents = [Agent() for _ in range(count)]

    async def begin(agent: Agent) -> None:
        await agent.connect(trial.host, trial.port, context)
        await agent.log_in(token)

    # what is loaded at the first session belongs to the process
    first = [Agent() for _ in range(AT_ONCE)]
    await each(first, begin)
    await each(first, lambda agent: agent.run(LARGE))
    before = memory(trial.pid)
    await each(agents, begin)
    await asyncio.sleep(1)
    found = {"logged_in": memory(trial.pid)}
    await each(agents, lambda agent: agent.run(SMALL))
    await asyncio.sleep(1)
    found["after_a_statement"] = memory(trial.pid)
    await each(agents, lambda agent: agent.run(LARGE))
    await asyncio.sleep(1)
    found["after_1_mb"] = memory(trial.pid)
    for agent in first + agents:
        agent.writer.transport.abort()
    return {name: round((after - before) / count / 1024, 1) for name, after in found.items()}


# --- the sockets alone -----------------------------------------------------------------------------


class Nothing(asyncio.Protocol):
    """A connection on which nothing is said."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


async def relay(
    certificate: str, key: str, ca: str, host: str, port: int, count: int, tls: bool
) -> None:
    """Take `count` connections and open one to the server for each; prints its memory before and after."""
    loop = asyncio.get_running_loop()
    listener = sockets.listen("127.0.0.1", 0)
    agents = backends = None
    if tls:
        agents = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        agents.load_cert_chain(certificate, key)
        agents.set_alpn_protocols(["postgresql"])
        backends = ssl.create_default_context(cafile=ca)
    print(listener.getsockname()[1], flush=True)
    kept = []
    before = 0
    for number in range(count + AT_ONCE):
        if number == AT_ONCE:
            before = memory(os.getpid())
        sock, _ = await loop.sock_accept(listener)
        sock.setblocking(False)
        kept.append(await _opened(sock, agents))
        sock = await sockets.connect_tcp(host, port)
        if backends:
            await loop.sock_sendall(sock, ssl_request())
            if await loop.sock_recv(sock, 1) != b"S":
                raise RuntimeError("the server does not speak TLS")
        kept.append(await _opened(sock, backends, host))
    await asyncio.sleep(1)
    print((memory(os.getpid()) - before) / count / 1024, flush=True)


async def _opened(
    sock: socket.socket, context: ssl.SSLContext | None, hostname: str | None = None
) -> object:
    if context is not None:
        return await sockets.secure(Nothing(), sock, context, 5.0, hostname)
    return await asyncio.get_running_loop().connect_accepted_socket(Nothing, sock)


async def bare(postgres: EmbeddedPostgres, directory: Path, count: int, tls: bool) -> float:
    authority = Authority(directory)
    certificate, key = authority.issue("relay")
    program = (
        "import asyncio, uvloop, idle_sessions as i;"
        f"uvloop.run(i.relay({str(certificate)!r}, {str(key)!r}, {str(postgres.authority.ca)!r},"
        f"{postgres.host!r}, {postgres.port}, {count}, {tls}))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent,
        text=True,
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        context = client_context(authority.ca) if tls else None
        agents = [Agent() for _ in range(count + AT_ONCE)]
        for agent in agents:
            await agent.connect("127.0.0.1", port, context)
        found = float(await asyncio.to_thread(process.stdout.readline))
        for agent in agents:
            agent.writer.transport.abort()
    return round(found, 1)


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("sessions", type=int, nargs="?", default=2000)
    words.add_argument("--keep", action="store_true")
    options = words.parse_args()
    count = options.sessions
    settings = {
        "max_connections": str(count + 60), "shared_buffers": "16MB", "authentication_timeout": "600s",
    }  # fmt: skip
    out = []
    with unwinding_signals(), EmbeddedPostgres(settings, plaintext=True) as postgres:
        for tls in (False, True):
            name = "TLS on both sides" if tls else "no TLS"
            with Trial(
                postgres,
                limits=f"max_sessions = {count + 60}",
                resource=f"pool = {{ max_connections = {count + 60} }}",
                listen="" if tls else "allow_plaintext_loopback = true",
                tls="verify-full" if tls else "disable",
            ) as trial:
                figures = uvloop.run(through_the_gateway(trial, count, tls))
                sockets_own = uvloop.run(bare(postgres, trial.directory, count, tls))
            row = {"name": name, "sessions": count, "sockets_own_kib": sockets_own}
            row |= {f"{name}_kib": value for name, value in figures.items()}
            row["beyond_the_sockets_kib"] = round(figures["after_a_statement"] - sockets_own, 1)
            print(json.dumps(row), flush=True)
            out.append({"group": "idle", **row})
    if options.keep:
        keep("idle", {"benchmarks": out})
    return 0


if __name__ == "__main__":
    sys.exit(main())
