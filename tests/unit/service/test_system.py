"""What is asked of the operating system. In processes of their own: it cannot be taken back."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from pangate.service import system

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these are Linux's own calls")


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


STATUS = """
import re
status = open("/proc/self/status").read()
locked = int(re.search(r"VmLck:\\s+(\\d+)", status)[1])
resident = int(re.search(r"VmRSS:\\s+(\\d+)", status)[1])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be sure to be allowed")
def test_memory_is_locked_as_it_is_used():
    said = run(
        f"""
from pangate.service import system
why = system.lock_memory()
kept = bytearray(20 << 20)
import threading
threading.Thread(target=lambda: None).start()
{STATUS}
print(repr(why), locked > 20 << 10, resident < 200 << 10)
"""
    )
    assert said == "'' True True"


def test_without_the_right_to_it_nothing_is_locked_and_the_reason_is_told():
    drop = "os.setgroups([]); os.setgid(65534); os.setuid(65534)" if os.geteuid() == 0 else ""
    said = run(
        f"""
import os, re, resource, sys
from pangate.service import system
hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
if hard == resource.RLIM_INFINITY:
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 30, 1 << 30))
{drop}
why = system.lock_memory()
kept = bytearray(20 << 20)
{STATUS}
print(locked, why)
"""
    )
    # A limit above what is used now would let the lock be had, and a later allocation fail.
    assert said.startswith("0 the process may not lock its memory; give it LimitMEMLOCK=infinity")


def test_no_core_and_no_look_into_the_memory():
    said = run(
        """
import ctypes, resource
from pangate.service import system
system.forbid_dumps()
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""
    )
    assert said == "(0, 0) 0"


@pytest.mark.parametrize("abstract", [False, True])
def test_notify(tmp_path, monkeypatch, abstract):
    name = f"@pangate-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        system.notify("READY=1\nSTATUS=x")
        assert manager.recv(100) == b"READY=1\nSTATUS=x"
        system.notify_reloading()
        first, second = manager.recv(100).decode().split("\n")
        assert first == "RELOADING=1"
        assert int(second.removeprefix("MONOTONIC_USEC=")) > 0


@pytest.mark.parametrize("address", ["", "relative", "/nonexistent/notify", "/" + "x" * 300])
def test_nobody_to_notify(monkeypatch, address):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    system.notify("READY=1")


SELDOM = """
import gc, weakref
from pangate.service import system


class Thing:
    pass


def cycle():
    made = Thing()
    made.own = made
    return weakref.ref(made)


kept = [cycle() for _ in range(10_000)]
assert not all(one() for one in kept), "the collector runs by itself"
seldom, at_once = system.SeldomCollector(seconds=3600.0), system.SeldomCollector(seconds=0.0)
made = [cycle() for _ in range(10_000)]
seldom.look()
assert all(one() for one in made)
at_once.look()
assert not any(one() for one in made)
"""


def test_cycles_are_looked_for_once_in_a_while():
    subprocess.run([sys.executable, "-c", SELDOM], check=True)
