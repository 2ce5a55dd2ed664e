"""Posting to an address that the configuration names, and to none that it could be bent to."""

import asyncio
import ipaddress
import ssl

import pytest

from hookserver import answer, receiver
from pangate.approvals.post import MAX_ANSWER_BYTES, Poster, PostFailed, allowed
from pki import SERVER, Pki, dns

LOOPBACK = ("127.0.0.0/8",)


def poster(networks=LOOPBACK, ca=None, seconds: float = 5) -> Poster:
    return Poster(networks, ca, seconds)


async def failed(work) -> str:
    with pytest.raises(PostFailed) as caught:
        await work
    return str(caught.value)


@pytest.fixture
def names(monkeypatch):
    """What names are looked up as, and how often they were."""
    known: dict[str, list[str]] = {}
    asked: list[str] = []

    async def getaddrinfo(self, host, port, **more):
        asked.append(host)
        if host not in known:
            return [(2, 1, 6, "", (host, port))]
        return [(2, 1, 6, "", (one, port)) for one in known[host]]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return known, asked


async def test_a_post_arrives_as_it_was_given():
    async with receiver(lambda got: answer(202, b"fine")) as there:
        found = await poster().post(there.url(), b"{}", {"webhook-id": "a"})
        assert (found.status, found.body) == (202, b"fine")
        (got,) = there.received
        assert (got.path, got.body, got.headers["webhook-id"]) == ("/hook", b"{}", "a")
        assert got.headers["host"] == f"127.0.0.1:{there.port}"


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
     "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fd00::1", "ff02::1", "::ffff:10.0.0.1",
     "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1"],
)  # fmt: skip
def test_what_is_not_public_is_not_sent_to(address):
    made = ipaddress.ip_address(address)
    assert not allowed(made, [])
    assert not allowed(made, [ipaddress.ip_network("203.0.113.0/24")])


def test_what_is_public_or_named_is():
    for address in ("8.8.8.8", "2606:4700::1111"):
        assert allowed(ipaddress.ip_address(address), [])
    private = [ipaddress.ip_network("10.1.0.0/16")]
    assert allowed(ipaddress.ip_address("10.1.2.3"), private)
    assert allowed(ipaddress.ip_address("::ffff:10.1.2.3"), private)
    assert not allowed(ipaddress.ip_address("10.2.0.1"), private)


async def test_a_private_address_is_refused_before_anything_is_sent(names):
    known, _ = names
    async with receiver() as there:
        known["hooks.example"] = ["127.0.0.1"]
        for host in ("127.0.0.1", "hooks.example"):
            said = await failed(poster(()).post(there.url(host=host), b"", {}))
            assert said.startswith(f"{host} has the address 127.0.0.1, which is not public")
        # one bad address among good ones is enough
        known["hooks.example"] = ["8.8.8.8", "127.0.0.1"]
        assert "not public" in await failed(
            poster(()).post(there.url(host="hooks.example"), b"", {})
        )
        assert there.tried == 0


async def test_the_address_that_was_looked_at_is_the_one_that_is_used(names, tmp_path):
    known, asked = names
    pki = Pki(tmp_path)
    certificate, key = pki.issue("server", "x", dns("hooks.example"), usage=SERVER)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    async with receiver(tls=tls) as there:
        known["hooks.example"] = ["127.0.0.1"]
        known["other.example"] = ["127.0.0.1"]
        found = await poster(ca=pki.ca).post(there.url(host="hooks.example"), b"x", {})
        assert found.status == 200
        assert asked == ["hooks.example"]  # and not once more, when it could be another
        assert there.received[0].headers["host"] == f"hooks.example:{there.port}"
        # the name has to be the certificate's, and the CA one that is believed
        assert "certificate" in await failed(
            poster(ca=pki.ca).post(there.url(host="other.example"), b"", {})
        )
        assert "certificate" in await failed(
            poster().post(there.url(host="hooks.example"), b"", {})
        )
        assert len(there.received) == 1


async def test_http_is_for_loopback(names):
    known, _ = names
    known["hooks.example"] = ["8.8.8.8"]
    assert "use https" in await failed(poster().post("http://hooks.example/x", b"", {}))
    assert "neither https nor http" in await failed(poster().post("ftp://hooks.example/x", b"", {}))


async def test_a_redirect_is_not_followed():
    async with receiver() as other:
        moved = answer(307, b"", f"location: {other.url('/stolen')}\r\n")
        async with receiver(lambda got: moved) as there:
            assert (await poster().post(there.url(), b"secret", {})).status == 307
        assert other.received == []


async def test_an_answer_has_a_size_and_a_time():
    async with receiver(lambda got: answer(200, b"x" * 10_000_000)) as there:
        assert len((await poster().post(there.url(), b"", {})).body) == MAX_ANSWER_BYTES
    async with receiver(lambda got: None) as there:
        assert "within 0.2 s" in await failed(poster(seconds=0.2).post(there.url(), b"", {}))
    async with receiver(lambda got: b"SSH-2.0-x\r\n\r\n") as there:
        assert await failed(poster().post(there.url(), b"", {})) == "what it answers is not HTTP"
    gone = there.url()
    assert await failed(poster().post(gone, b"", {})) == "it cannot be connected to"


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch):
    async with receiver() as proxy, receiver() as there:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
        await poster().post(there.url(), b"", {})
        assert (len(there.received), proxy.tried) == (1, 0)
