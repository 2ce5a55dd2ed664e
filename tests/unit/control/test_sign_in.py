"""Signing in: what is sent to the issuer, what it has to answer, and who is signed in then."""

from __future__ import annotations

import time
import urllib.parse

import pytest

from console_office import Office, People
from pangate.control.console.provider import challenge


async def begun(office: Office, path: str = "/console/sign-in"):
    """A browser that was sent to the issuer, and what it was sent with."""
    browser = office.browser()
    answer = await browser.get(path)
    assert answer.status_code == 303, answer.text
    where = urllib.parse.urlsplit(answer.headers["location"])
    return browser, dict(urllib.parse.parse_qsl(where.query)), where


async def back(office: Office, at: People, path: str = "/console/sign-in", **claims: object):
    browser, asked, _ = await begun(office, path)
    at.claims = {"nonce": asked["nonce"], "groups": ["owners"], **claims}
    answer = await browser.get(f"/console/callback?code=c&state={asked['state']}")
    return browser, answer


async def test_the_whole_way(office, at):
    path = "/console/sign-in?to=/console/approvals/abc&acr=strong&again=1"
    browser, asked, where = await begun(office, path)
    assert where._replace(query="").geturl() == f"{at.url}/authorize"
    assert asked["response_type"] == "code"
    assert asked["redirect_uri"] == "https://gateway.example/console/callback"
    assert asked["code_challenge_method"] == "S256"
    assert (asked["acr_values"], asked["prompt"], asked["scope"]) == ("strong", "login", "openid")
    at.claims = {
        "nonce": asked["nonce"], "groups": ["owners", "audit"], "auth_time": int(time.time()),
        "azp": "console",
    }  # fmt: skip
    answer = await browser.get(f"/console/callback?code=c&state={asked['state']}&iss={at.url}")
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"] == "/console/approvals/abc"
    (sent,) = at.asked
    assert challenge(sent["code_verifier"]) == asked["code_challenge"]
    assert (sent["grant_type"], sent["code"]) == ("authorization_code", "c")
    assert sent["client"] == "console:the%20secret%26"
    cookies = {one.partition("=")[0]: one for one in answer.headers.get_list("set-cookie")}
    given = cookies["__Host-pangate"]
    for word in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"):
        assert word in given
    assert "Domain" not in given
    assert "Max-Age=0" in cookies["__Host-pangate-sign-in"]
    text = (await browser.get("/console")).text
    assert "(approver, auditor)" in text
    (event,) = office.events("console.signed_in")
    assert event["data"]["roles"] == ["approver", "auditor"]
    assert "nonce" not in event["data"]["claims"]
    assert event["principal"] == f"{at.url}#ada"


@pytest.mark.parametrize(
    ("claims", "detail"),
    [
        ({"nonce": "other"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"aud": "pangate"}, "another audience"),
        ({"aud": ["console", "other"]}, "azp"),
        ({"azp": "other"}, "azp"),
        ({"seconds": -600}, "expired"),
        ({"iss": "https://evil.example"}, "not configured"),
        ({"sub": ""}, "not a name"),
    ],
)
async def test_identity_tokens_that_are_not_for_this(office, at, claims, detail):
    browser, answer = await back(office, at, **claims)
    assert answer.status_code == 403
    assert "You are not signed in" in answer.text
    assert "__Host-pangate=" not in str(answer.headers.get_list("set-cookie"))
    (event,) = office.events("auth.failed")
    assert detail in event["data"]["detail"]
    assert office.events("console.signed_in") == []
    assert "Sign in</a>" in (await browser.get("/console")).text


async def test_an_old_sign_in_where_a_new_one_was_asked_for(office, at):
    _, answer = await back(
        office, at, "/console/sign-in?again=1", auth_time=int(time.time()) - 4000
    )
    assert answer.status_code == 403
    _, answer = await back(office, at, auth_time=int(time.time()) - 4000)
    assert answer.status_code == 303


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ((400, {"error": "invalid_grant"}), 403),
        ((500, {"error": "server_error"}), 403),
        ((200, {}), 403),
        ((200, {"id_token": "a.b.c"}), 403),
        ((200, {"id_token": 7}), 403),
    ],
)
async def test_answers_of_a_token_endpoint(office, at, answer, status):
    at.answer = answer
    _, got = await back(office, at)
    assert got.status_code == status
    assert office.events("auth.failed")


async def test_mixed_up_issuers(office, at):
    browser, asked, _ = await begun(office)
    answer = await browser.get(
        f"/console/callback?code=c&state={asked['state']}&iss=https://evil.example"
    )
    assert answer.status_code == 403
    assert at.asked == []  # the code went nowhere
    at.extra = {"authorization_response_iss_parameter_supported": True}
    office.web.provider._found = {}
    browser, asked, _ = await begun(office)
    answer = await browser.get(f"/console/callback?code=c&state={asked['state']}")
    assert answer.status_code == 403
    assert at.asked == []


async def test_what_the_issuer_refuses(office, at):
    browser, asked, _ = await begun(office)
    answer = await browser.get(f"/console/callback?error=access_denied&state={asked['state']}")
    assert answer.status_code == 403
    assert "access_denied" in office.events("auth.failed")[0]["data"]["detail"]


async def test_a_sign_in_is_of_one_browser_and_ends_once(office, at):
    _, asked, _ = await begun(office)
    stranger = office.browser()
    answer = await stranger.get(f"/console/callback?code=c&state={asked['state']}")
    assert answer.status_code == 403
    other, _, _ = await begun(office)
    assert (await other.get(f"/console/callback?code=c&state={asked['state']}")).status_code == 403
    assert at.asked == []
    browser, answer = await back(office, at)
    again = await browser.get(str(answer.request.url))
    assert again.status_code == 403
    assert len(at.asked) == 1


async def test_who_has_no_role_is_refused(office, at):
    browser, answer = await back(office, at, groups=["others"])
    assert answer.status_code == 403
    assert "no role in the console" in answer.text
    (event,) = office.events("console.refused")
    assert event["principal"] == f"{at.url}#ada"
    assert "Sign in</a>" in (await browser.get("/console")).text


@pytest.mark.parametrize(
    "to",
    ["https://evil.example", "//evil.example", "/console//evil", "/consoles", "/api", "\\\\x", "/console/\n"],
)  # fmt: skip
async def test_it_leads_to_pages_of_the_console_alone(office, at, to):
    _, answer = await back(office, at, f"/console/sign-in?{urllib.parse.urlencode({'to': to})}")
    assert answer.headers["location"] == "/console"


async def test_signing_in_again_takes_the_place_of_the_session(office, at):
    browser, answer = await back(office, at)
    (before,) = office.web.sessions.all()
    answer = await browser.get("/console/sign-in?again=1")
    asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(answer.headers["location"]).query))
    at.claims |= {"nonce": asked["nonce"]}
    await browser.get(f"/console/callback?code=c&state={asked['state']}")
    (after,) = office.web.sessions.all()
    assert before.ended
    assert after.id != before.id
    assert after.form != before.form


async def test_sign_ins_of_an_address_are_limited(office):
    limit = office.web.settings.sign_ins_per_minute
    browser = office.browser()
    found = [(await browser.get("/console/sign-in")).status_code for _ in range(limit + 2)]
    assert found == [303] * limit + [429] * 2
    assert len(office.events("auth.failed")) == 2


async def test_answers_that_nobody_asked_for_are_limited(office):
    limit = office.web.settings.sign_ins_per_minute
    browser = office.browser()
    path = "/console/callback?code=c&state=s"
    found = [(await browser.get(path)).status_code for _ in range(limit + 1)]
    assert found == [403] * limit + [429]


async def test_pending_sign_ins_are_bounded(office):
    from pangate.control.console.sessions import MOST_PENDING, MOST_SESSIONS

    first, pending = office.web.sessions.ask("/console")
    for _ in range(MOST_PENDING):
        office.web.sessions.ask("/console")
    assert office.web.sessions.asked(first, pending.state) is None
    _, session = office.web.sessions.begin(office.person("a"), frozenset(), "o")
    for _ in range(MOST_SESSIONS):
        office.web.sessions.begin(office.person("b"), frozenset(), "o")
    assert session.ended
    assert len(office.web.sessions.all()) == MOST_SESSIONS


@pytest.mark.parametrize(
    "extra",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://evil.example/token"},
        {"authorization_endpoint": 7},
    ],
)
async def test_discovery_that_is_not_trusted(office, at, extra):
    at.extra = extra
    answer = await office.browser().get("/console/sign-in")
    assert answer.status_code == 403
    assert "cannot be reached" in answer.text
