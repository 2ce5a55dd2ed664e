"""pangate's own login against servers that lie: what they say of it goes nowhere, nor does the password."""

import struct
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pangate.errors import PangateError, ProtocolError, ResourceUnavailable
from pangate.masking import default_scanner
from pangate.protocols.postgres import PostgresCodec
from pangate.protocols.postgres.login import BackendLogin
from pangate.protocols.postgres.messages import message, startup
from pgwire import Bench, error, split

SECRET = "pw-canary-9f31"
PAN = "4111111111111111"


def login(password: str = SECRET, **more) -> BackendLogin:
    found = BackendLogin("svc", "db", password, **more)
    found.start()
    return found


def ask(kind: int, more: bytes = b"") -> bytes:
    return message(b"R", struct.pack("!i", kind) + more)


def failure(data: bytes, **more) -> str:
    """The error's text, after looking for the secret everywhere that an error may carry it."""
    with pytest.raises(PangateError) as caught:
        login(**more).feed(data)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.args)
    assert SECRET not in shown
    assert PAN not in shown
    return str(caught.value)


@pytest.mark.parametrize("state", [SECRET, PAN, "28P01 ", "28p01", "٢٨P01", ""])
def test_an_sqlstate_that_is_none_is_not_repeated(state):
    assert failure(error(state, "x")).endswith("(SQLSTATE ?)")
    assert failure(error("28P01", SECRET)).endswith("(SQLSTATE 28P01)")


@pytest.mark.parametrize("name", [SECRET, PAN, "", "SCRAM-SHA-1", "OAUTHBEARER"])
def test_names_of_mechanisms_are_not_repeated(name):
    said = failure(ask(10, name.encode() + b"\0\0"))
    assert "no SASL mechanism" in said
    assert "OAUTHBEARER" not in said


@pytest.mark.parametrize("kind", [3, 5, 10])
def test_without_a_password_none_is_made_up(kind):
    with pytest.raises(ResourceUnavailable, match="asks for a password"):
        login("", cleartext=True).feed(ask(kind, b"saltSCRAM-SHA-256\0\0"))
    assert login("").feed(ask(0)) == b""  # trust, or a certificate


def test_a_password_goes_in_clear_only_where_that_is_allowed():
    assert login(cleartext=True).feed(ask(3)) == message(b"p", SECRET.encode() + b"\0")
    assert "in clear" in failure(ask(3))


def test_what_the_server_reports_is_masked_name_and_value():
    codec = PostgresCodec(default_scanner(), tls="none")
    codec.frontend(startup({"user": "a"}) + message(b"p", b"t\0"))
    (greeting,) = codec.ready(
        {f"n {PAN}": f"v {PAN}", "client_encoding": "UTF8"}, b"k" * 8, "last4", Bench().catalog
    )
    assert PAN.encode() not in greeting.data
    assert split(greeting.data)[1] == ("S", b"n ************1111\0v ************1111\0")


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.builds(
                message,
                st.sampled_from([b"R", b"E", b"N", b"S", b"K", b"Z", b"v", b"!"]),
                st.one_of(
                    st.binary(max_size=60),
                    st.builds(
                        lambda kind, tail: struct.pack("!i", kind) + tail,
                        st.sampled_from([0, 2, 3, 5, 7, 9, 10, 11, 12]),
                        st.one_of(
                            st.binary(max_size=60),
                            st.sampled_from([b"SCRAM-SHA-256\0\0", SECRET.encode(), b"r=,s=,i=1"]),
                        ),
                    ),
                ),
            ),
        ),
        max_size=5,
    )
)
def test_whatever_a_server_sends_no_error_holds_the_password(parts):
    shown = ""
    try:
        login(cleartext=True).feed(b"".join(parts))
    except (ProtocolError, ResourceUnavailable) as wrong:
        shown = "".join(traceback.format_exception(wrong)) + repr(wrong.args)
    assert SECRET not in shown
