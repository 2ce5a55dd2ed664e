"""What the process asks of the operating system: that nobody looks into its memory, and that the service
manager knows how it stands."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import socket
import sys
import time

_PR_SET_DUMPABLE = 4
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAP_IPC_LOCK = 14


def forbid_dumps() -> None:
    """No core dumps, and no look into our memory for other processes of the same user: it holds
    card numbers and the passwords of the resources."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def leave_signals() -> None:
    """What a terminal or a service manager tells all processes at once is for the gateway, whose last words
    others still have work with; they end when it does."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def spare_collector() -> None:
    """What is there by now stays: the collector of cycles need not look at it again and again, and hold up
    the event loop for that long."""
    gc.collect()
    gc.freeze()


class SeldomCollector:
    """Cycles are looked for once in `seconds`, and not whenever some hundred objects more are there: for a
    process that makes very many and leaves next to no cycles."""

    def __init__(self, seconds: float = 60.0) -> None:
        self._seconds, self._due = seconds, time.monotonic() + seconds
        spare_collector()
        gc.disable()

    def look(self) -> None:
        """Collect when it is time."""
        now = time.monotonic()
        if now >= self._due:
            gc.collect()
            self._due = now + self._seconds


def lock_memory() -> str:
    """Keep all memory of the process out of swap. Returns why that cannot be, empty when it is so.

    All of it, because where Python keeps a secret and its copies is not ours to say. Pages are locked as
    they are used, so that nothing more is resident than without."""
    if sys.platform != "linux":
        return "this system is not Linux"
    if not _may_lock():
        return (
            "the process may not lock its memory; give it LimitMEMLOCK=infinity (systemd), "
            "`ulimit -l unlimited` or the capability IPC_LOCK"
        )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        return os.strerror(ctypes.get_errno())
    return ""


def _may_lock() -> bool:
    # With a limit that is not infinite, the lock could be had now and every later allocation fail.
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    if hard == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
        return True
    return bool(_effective_capabilities() >> _CAP_IPC_LOCK & 1)


def _effective_capabilities() -> int:
    with open("/proc/self/status") as status:  # noqa: PTH123 - a Path would say no more
        for line in status:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0


def notify(state: str) -> None:
    """Tell the service manager, where there is one that wants to know (sd_notify(3)). `state` is lines of
    NAME=value. What cannot be told is not told: nothing depends on it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            sock.sendto(state.encode(), address)
    except OSError:
        return


def notify_reloading() -> None:
    """Tell the service manager that a reload begins; READY=1 ends it."""
    microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify(f"RELOADING=1\nMONOTONIC_USEC={microseconds}")
