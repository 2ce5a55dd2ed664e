"""The pages of the console: who gets to them, what they show, and what of that is in the record."""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import time
from pathlib import Path

import pytest
from starlette.requests import ClientDisconnect, Request

import pangate.control.console
from console_office import FORM, URL, console_office
from pangate.approvals import Counted
from pangate.control.console import PAGES
from pangate.control.console.approvals import live
from pangate.control.console.sessions import MOST_STREAMS
from pangate.control.console.web import ANYBODY, HEADERS, Visit

PAN = "4111111111111111"
TEMPLATES = Path(pangate.control.console.__file__).parent / "templates"

ROLES = {"viewer": "staff", "approver": "owners", "auditor": "audit", "admin": "admins"}


def signed_in(office, role: str, name: str = "ada"):
    return office.signed_in(name, ROLES[role], roles=(role,))


@pytest.mark.parametrize("page", [one for one in PAGES if one.roles], ids=lambda one: one.path)
@pytest.mark.parametrize("role", ANYBODY)
async def test_who_gets_to_a_page(office, page, role):
    ticket = await office.held()
    browser, _ = signed_in(office, role)
    path = page.path.replace("{id}", ticket.request.id).replace("{choice}", "deny")
    if path.endswith("/live"):
        return  # has no end; tested with a browser
    ask = browser.send_form if page.method == "POST" else browser.get
    answer = await ask(path)
    if role in page.roles:
        # a session is not found by the name of a request, and neither is a person; an empty form says nothing
        assert answer.status_code in (200, 303, 404, 422), answer.text
        assert office.events("console.refused") == []
    else:
        assert answer.status_code == 403
        assert "Not for your role" in answer.text
        (refused,) = office.events("console.refused")
        assert refused["success"] is False
        assert refused["data"]["page"] == page.path
        assert ticket.request.state == "pending"


@pytest.mark.parametrize("page", [one for one in PAGES if one.roles], ids=lambda one: one.path)
async def test_who_is_not_signed_in_gets_to_none(office, page):
    ticket = await office.held()
    path = page.path.replace("{id}", ticket.request.id).replace("{choice}", "approve")
    browser = office.browser()
    browser.cookies.set(office.web.cookies.session, "guessed", domain="gateway.example")
    answer = await browser.request(page.method, path)
    assert ticket.request.id not in answer.text.replace(path, "").replace(
        path.replace("/", "%2F"), ""
    )
    if page.method == "POST" or not page.by_hand:
        assert answer.status_code == 401
    else:
        assert "Sign in</a>" in answer.text
    assert office.events("console.") == []


async def test_every_answer_has_the_headers(office):
    browser, _ = signed_in(office, "admin")
    for path in ("/console", "/console/nothing", "/console/people", "/console/sessions/x",
                 "/console/static/console.css", "/console/static/web.py", "/console/callback"):  # fmt: skip
        answer = await browser.get(path)
        if answer.status_code == 404 and answer.text == "Not Found":
            continue  # no path of the console
        for name, value in HEADERS.items():
            if name != "Cache-Control":
                assert answer.headers[name] == value, path
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_pages_hold_no_script_and_no_style():
    for path in TEMPLATES.glob("*.html"):
        text = path.read_text()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text), path
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text)), path
        assert not re.search(r"(src|href|action)=\"(https?:)?//", text), path
        assert "|safe" not in text, path
        # each form that changes something has the token of its session
        forms = re.findall(r"<form[^>]*method=\"post\".*?</form>", text, re.DOTALL)
        assert all('name="form"' in form for form in forms), path


async def test_only_under_its_own_name(office):
    browser = office.browser("https://evil.example")
    answer = await browser.get("/console")
    assert answer.status_code == 421
    assert "https://gateway.example" in answer.text


# --- forms -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "headers"),
    [
        (None, {}),
        ("", {}),
        ("wrong", {}),
        ("other", {}),
        ("right", {"Origin": "https://evil.example"}),
        ("right", {"Origin": "null"}),
        ("right", {"Sec-Fetch-Site": "cross-site"}),
    ],
)
async def test_a_form_from_elsewhere_changes_nothing(office, form, headers):
    ticket = await office.held()
    browser, session = signed_in(office, "approver")
    _, other = signed_in(office, "approver", "eve")
    token = {"right": session.form, "other": other.form}.get(form, form)
    data = {"reason": "x"} if token is None else {"reason": "x", "form": token}
    path = f"/console/approvals/{ticket.request.id}/approve"
    answer = await browser.post(path, data=data, headers=headers)
    assert answer.status_code == 403
    assert ticket.request.state == "pending"
    assert office.events("approval.decided") == []
    (refused,) = office.events("console.refused")
    assert refused["principal"].endswith("#ada")


async def test_forms_within_bounds(office):
    browser, _ = signed_in(office, "viewer")
    path = "/console/policy"
    assert (await browser.send_form(path, text="x" * 200_000)).status_code == 413
    assert (await browser.post(path, content=b"\xff=1")).status_code == 400
    many = "&".join(f"a{n}=1" for n in range(60))
    assert (await browser.post(path, content=many)).status_code == 400
    limit = office.web.settings.actions_per_minute
    statuses = [
        (await browser.send_form(path, text="select 1")).status_code for _ in range(limit + 1)
    ]
    assert statuses == [200] * limit + [429]
    # somebody else is not concerned
    other, _ = signed_in(office, "viewer", "bob")
    assert (await other.send_form(path, text="select 1")).status_code == 200


# --- requests ----------------------------------------------------------------------------------


async def test_approving(office):
    ticket = await office.held(
        "select * from a; drop table a", reason_required=True, parameters=("x", None)
    )
    browser, session = signed_in(office, "approver")
    path = f"/console/approvals/{ticket.request.id}"
    shown = await browser.get(path)
    assert shown.status_code == 200
    assert FORM.findall(shown.text).count(session.form) == len(FORM.findall(shown.text)) > 1
    for text in (
        "DROP TABLE on a.",
        "10.0.0.1:5",
        "team",
        "payments",
        "left, until",
        "<em>NULL</em>",
    ):
        assert text in shown.text
    answer = await browser.send_form(f"{path}/approve", reason="  ")
    assert (answer.status_code, ticket.request.state) == (422, "pending")
    assert "needs a reason" in answer.text
    answer = await browser.send_form(f"{path}/approve", {"Origin": URL}, reason="planned")
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    assert ticket.request.state == "approved"
    again = await browser.send_form(f"{path}/deny", reason="no")
    assert (again.status_code, ticket.request.state) == (409, "approved")
    codes = [event["code"] for event in office.events("approval.")]
    assert codes == ["approval.requested", "approval.viewed", "approval.refused",
                     "approval.decided", "approval.refused"]  # fmt: skip
    decided = office.events("approval.decided")[0]
    assert decided["origin"] == "192.0.2.7:9"
    assert decided["data"]["reason"] == "planned"
    later = await office.held("select * from a; drop table a")
    text = (await browser.get(f"/console/approvals/{later.request.id}")).text
    assert "ada: approve (planned)" in text


async def test_counting_rows(office):
    ticket = await office.held("delete from a where b = 1")
    browser, _ = signed_in(office, "approver")
    path = f"/console/approvals/{ticket.request.id}"
    assert "Count the rows" not in (await browser.get(path)).text  # nobody waits with it
    answer = await browser.send_form(f"{path}/count")
    assert answer.status_code == 200
    assert "it cannot be: no session waits" in answer.text

    async def seventeen() -> Counted:
        return Counted(17, 1000)

    ticket.count = seventeen
    assert "Count the rows" in (await browser.get(path)).text
    answer = await browser.send_form(f"{path}/count")
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    assert "17 rows, at" in (await browser.get(path)).text
    assert ticket.request.state == "pending"
    (counted,) = office.events("approval.counted")
    assert counted["principal"].endswith("#ada")
    reader, _ = signed_in(office, "auditor", "bob")
    assert (await reader.send_form(f"{path}/count")).status_code == 403


async def test_nobody_approves_their_own(office):
    mine = await office.held(principal=office.person("ada", "owners"))
    owned = await office.held("drop table b", principal=office.person("job", owner="ada"))
    browser, _ = signed_in(office, "approver")
    assert (
        "This is your own request"
        in (await browser.get(f"/console/approvals/{mine.request.id}")).text
    )
    for ticket in (mine, owned):
        path = f"/console/approvals/{ticket.request.id}"
        for choice in ("approve", "deny", "break-glass"):
            answer = await browser.send_form(f"{path}/{choice}", reason="mine")
            assert answer.status_code == 403
            assert "Not your own" in answer.text
        assert ticket.request.state == "pending"
    assert (await browser.send_form(f"{path}/withdraw", reason="oh")).status_code == 303
    assert owned.request.state == "withdrawn"


async def test_what_does_not_concern_somebody_is_not_there(office):
    ticket = await office.held(approvers=("night",))
    browser, _ = signed_in(office, "approver")
    path = f"/console/approvals/{ticket.request.id}"
    assert (await browser.get(path)).status_code == 404
    assert (await browser.send_form(f"{path}/approve", reason="x")).status_code == 404
    for path in ("/console/approvals", "/console/approvals/list"):
        assert ticket.request.id not in (await browser.get(path)).text
    auditor, _ = signed_in(office, "auditor")
    text = (await auditor.get(f"/console/approvals/{ticket.request.id}")).text
    assert "Your role here is to read" in text
    assert ticket.request.id in (await auditor.get("/console/approvals")).text


async def test_somebody_who_stands_in(office):
    ticket = await office.held()
    ada = office.person("ada", "owners")
    now = time.time()
    receiver = office.person("dora").name
    await office.web.desk.delegate(ada, receiver, "owners", now, now + 600, "leave")
    browser, _ = office.signed_in("dora", "staff", roles=("approver",))
    assert ticket.request.id in (await browser.get("/console/approvals/list")).text
    path = f"/console/approvals/{ticket.request.id}"
    assert (await browser.send_form(f"{path}/approve")).status_code == 303
    assert "dora for ada" in (await browser.get(path)).text


async def test_a_stronger_sign_in_is_asked_for(office):
    ticket = await office.held(acr=("strong",))
    browser, _ = signed_in(office, "approver")
    path = f"/console/approvals/{ticket.request.id}"
    text = (await browser.get(path)).text
    assert f"/console/sign-in?to={path.replace('/', '%2F')}&amp;acr=strong&amp;again=1" in text
    assert "Approve</button>" not in text
    assert (await browser.send_form(f"{path}/approve", reason="x")).status_code == 403
    strong, _ = office.signed_in("ada", "owners", roles=("approver",), acr="strong")
    assert (await strong.send_form(f"{path}/approve", reason="x")).status_code == 303
    assert ticket.request.state == "approved"


async def test_the_glass_and_its_review(office):
    ticket = await office.held()
    night, _ = office.signed_in("zoe", "night", roles=("approver",))
    path = f"/console/approvals/{ticket.request.id}"
    assert "Break the glass" in (await night.get(path)).text
    assert (await night.send_form(f"{path}/break-glass", reason="down")).status_code == 303
    assert ticket.request.state == "approved"
    assert (
        await night.send_form(f"{path}/review", finding="justified", reason="x")
    ).status_code == 403
    browser, _ = signed_in(office, "approver")
    assert "Reviews due" in (await browser.get("/console/approvals")).text
    done = await browser.send_form(f"{path}/review", finding="not justified", reason="it was up")
    assert done.status_code == 303
    assert "Reviews due" not in (await browser.get("/console/approvals")).text
    assert office.events("approval.reviewed")[0]["data"]["finding"] == "not justified"


NASTY = f"drop table a; -- <script>alert(1)</script> {PAN} \u202e\u200b \x07"


async def test_nothing_of_an_agent_is_markup_or_a_card_number(office):
    agent = office.person("<b>job</b>", team=f"<i>{PAN}</i>", note="\u2066x")
    ticket = await office.held(
        NASTY, principal=agent, parameters=(f"<u>{PAN}", '"><script src=//x>'),
        origin="<10.0.0.1>",
    )  # fmt: skip
    admin, _ = office.signed_in("max", "owners", "admins", roles=("approver", "admin"))
    path = f"/console/approvals/{ticket.request.id}"
    for where in ("/console", "/console/approvals", "/console/approvals/list", path,
                  "/console/record", "/console/sessions"):  # fmt: skip
        text = (await admin.get(where)).text
        assert not re.search(r"<script(?! src=\"/console/static/live.js)|<[bui]>", text), where
        assert "4111111" not in text, where
        assert not set(text) & {"\u202e", "\u200b", "\u2066", "\x07"}, where
    text = (await admin.get(path)).text
    assert "************1111" in text
    assert "\u27e8U+202E\u27e9" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in re.sub(r"</?span[^>]*>", "", text)
    # and so what people write
    answer = await admin.send_form(f"{path}/deny", reason=f"<script>{PAN}</script>")
    assert answer.status_code == 303
    text = (await admin.get(path)).text
    assert "&lt;script&gt;************1111" in text
    answer = await admin.send_form(
        "/console/policy", text=f"select '{PAN}'", claims="{}", resource="payments"
    )
    assert PAN not in answer.text
    assert PAN not in office.gate.config.audit.path.read_text()


# --- delegations -------------------------------------------------------------------------------


def at_utc(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%dT%H:%M}"


async def test_a_delegation_from_its_form_to_its_end(office):
    ada, session = signed_in(office, "approver")
    dora, _ = office.signed_in("dora", roles=("approver",))
    now = time.time()
    fields = {"receiver": "dora", "group": "owners", "starts": "", "ends": at_utc(now + 86400),
              "reason": "on leave <b>"}  # fmt: skip
    answer = await ada.send_form("/console/delegations", **fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/delegations")
    (given,) = office.events("approval.delegated")
    assert (given["data"]["receiver"], given["data"]["group"]) == (
        f"{office.issuer}#dora",
        "owners",
    )
    assert given["principal"] == f"{office.issuer}#ada"
    assert given["origin"] == session.origin
    page = (await ada.get("/console/delegations")).text
    assert "ada (you)" in page
    assert "on leave &lt;b&gt;" in page
    assert ">holds</span>" in page
    # who has it sees it, cannot end it, and decides by it
    page = (await dora.get("/console/delegations")).text
    assert "on leave" in page
    assert "/end" not in page
    assert "You are in no group that decides" in page
    name = given["data"]["delegation"]
    answer = await dora.send_form(f"/console/delegations/{name}/end")
    assert answer.status_code == 404
    refused = office.events("approval.refused")[-1]
    assert (refused["data"]["choice"], refused["data"]["delegation"]) == ("revoke", name)
    ticket = await office.held()
    assert (
        await dora.send_form(f"/console/approvals/{ticket.request.id}/approve")
    ).status_code == 303
    assert office.events("approval.decided")[-1]["data"]["delegated_by"] == f"{office.issuer}#ada"
    # nobody else sees it but those who audit
    eve, _ = office.signed_in("eve", "night", roles=("approver",))
    assert "on leave" not in (await eve.get("/console/delegations")).text
    auditor, _ = signed_in(office, "auditor", "ann")
    page = (await auditor.get("/console/delegations")).text
    assert "on leave" in page
    assert 'method="post" action="/console/delegations' not in page
    # the end
    assert (await ada.send_form(f"/console/delegations/{name}/end")).status_code == 303
    assert office.events("approval.delegation_revoked")[-1]["data"] == {"delegation": name}
    assert "There is none." in (await ada.get("/console/delegations")).text
    other = await office.held("drop table other")
    assert (await dora.get(f"/console/approvals/{other.request.id}")).status_code == 404
    assert (await ada.send_form(f"/console/delegations/{name}/end")).status_code == 404
    viewed = [one["data"] for one in office.events("console.viewed")]
    assert {"page": "delegations"} in viewed


async def test_a_delegation_that_begins_later(office):
    ada, _ = signed_in(office, "approver")
    now = time.time()
    fields = {"receiver": "https://other.example#dora", "group": "owners", "reason": "x",
              "starts": at_utc(now + 7200), "ends": at_utc(now + 86400)}  # fmt: skip
    assert (await ada.send_form("/console/delegations", **fields)).status_code == 303
    page = (await ada.get("/console/delegations")).text
    assert re.search(r">begins later</span> in (1 h 5\d min|2 h)<", page)
    (given,) = office.events("approval.delegated")
    assert given["data"]["receiver"] == "https://other.example#dora"
    assert given["data"]["starts"] == pytest.approx(now + 7200, abs=61)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"receiver": "ada"}, "name another person"),
        ({"receiver": ""}, "name another person"),
        ({"group": "night"}, "you are not in the group"),
        ({"group": PAN}, "you are not in the group"),
        ({"ends": "2020-01-01T00:00"}, "has to end after it begins"),
        ({"ends": "tomorrow"}, "To is a day and a time"),
        ({"ends": "2026-11-30T08:00+05:00"}, "To is a day and a time"),
        ({"ends": ""}, "To is a day and a time"),
        ({"starts": "0001-01-01T00:00"}, "From is a day and a time"),
        ({"ends": "2999-01-01T00:00"}, "seconds at the most"),
        ({"reason": " "}, "needs a reason"),
    ],
)
async def test_what_cannot_be_delegated(office, change, said):
    ada, _ = signed_in(office, "approver")
    fields = {"receiver": "dora", "group": "owners", "starts": "", "reason": "kept as it was",
              "ends": at_utc(time.time() + 3600), **change}  # fmt: skip
    answer = await ada.send_form("/console/delegations", **fields)
    assert answer.status_code == 422
    assert said in answer.text
    assert PAN not in answer.text
    if "reason" not in change:
        assert 'value="kept as it was"' in answer.text
    assert "There is none." in answer.text
    assert office.events("approval.delegated") == []
    # whatever the desk had to refuse is in the record
    if "day and a time" not in said:
        (refused,) = office.events("approval.refused")
        assert (refused["success"], refused["data"]["choice"]) == (False, "delegate")


async def test_a_delegation_by_a_form_from_elsewhere(office):
    ada, session = signed_in(office, "approver")
    fields = {
        "receiver": "dora",
        "group": "owners",
        "ends": at_utc(time.time() + 3600),
        "reason": "x",
    }
    for form, headers in (({}, {}), ({"form": "x"}, {}),
                          ({"form": session.form}, {"Origin": "https://evil.example"})):  # fmt: skip
        answer = await ada.post("/console/delegations", data={**form, **fields}, headers=headers)
        assert answer.status_code == 403
    assert office.events("approval.") == []


# --- evidence ----------------------------------------------------------------------------------


async def test_reading_is_recorded_before_it_is_shown(office):
    browser, session = signed_in(office, "auditor")
    for path, page in (("/console/sessions", "sessions"), ("/console/record?text=x", "record"),
                       ("/console/counts", "counts"), ("/console/ledger", "ledger")):  # fmt: skip
        assert (await browser.get(path)).status_code == 200
        last = office.events("console.viewed")[-1]
        assert (last["data"]["page"], last["session"]) == (page, session.id)
        assert last["principal"].endswith("#ada")
    office.gate.config.audit.path.unlink()  # nothing can be written any more
    ticket_free = await browser.get("/console/record?text=log.start")
    assert ticket_free.status_code == 503
    assert "log.start" not in ticket_free.text


async def test_who_has_seen_a_checkpoint(office):
    directory = office.gate.config.audit.ledger
    browser, _ = signed_in(office, "viewer")
    assert "Nobody else has seen a checkpoint" in (await browser.get("/console/ledger")).text
    said = {"size": 7, "failure": "", "failures": 0, "contradicted": False, "put_at": 1}
    anchors = {
        "share": said,
        "<w>": {**said, "failure": "away"},
        "w2": {**said, "contradicted": True},
    }
    (directory / "published.json").write_text(json.dumps({"anchors": anchors}))
    (directory / "anchors").mkdir()
    (directory / "anchors" / "other+0a.checkpoint").write_text("nonsense")
    text = (await browser.get("/console/ledger")).text
    for words in ("share", "&lt;w&gt;", "away", "another ledger than this", "cannot be read"):
        assert words in text
    (directory / "published.json").write_text("[1]")
    assert "cannot be read" in (await browser.get("/console/ledger")).text


async def test_the_records_of_workers_are_shown_too(office):
    browser, _ = signed_in(office, "auditor")
    directory = office.gate.config.audit.ledger / "worker-1"
    directory.mkdir()
    events = [
        {"code": "log.start", "session": "-", "data": {}},
        {"code": "session.start", "session": "abc", "data": {"mask": "last4"}},
        {"code": "statement.allowed", "session": "abc",
         "data": {"number": 1, "text": "select of_a_worker", "verdict": "allow", "kind": "query"}},
        {"code": "statement.finished", "session": "abc", "statement": 3,
         "data": {"number": 1, "rows": 1, "masked": {"visa": 41}}},
    ]  # fmt: skip
    when = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    lines = [
        {"v": 2, "sequence": number, "time": when, "principal": "i#job", "origin": "10.0.0.9:1",
         "resource": "payments", "role": "reader", "success": True, **one}
        for number, one in enumerate(events, 1)
    ]  # fmt: skip
    text = "".join(json.dumps(one, sort_keys=True, separators=(",", ":")) + "\n" for one in lines)
    (directory / "audit.jsonl").write_text(text)
    office.gate.open_elsewhere = lambda: 17
    office.gate.wrong_elsewhere = lambda: ["worker 1: the record cannot be written"]
    found = (await browser.get("/console/record?text=of_a_worker")).text
    assert "1 event" in found
    assert "worker-1/3" in found
    assert "41 masked" in found
    assert "abc" in (await browser.get("/console/sessions")).text
    assert "select of_a_worker" in re.sub(
        "<[^>]+>", "", (await browser.get("/console/sessions/abc")).text
    )
    assert ">41</td>" in (await browser.get("/console/counts")).text
    overview = (await browser.get("/console")).text
    assert "<strong>17</strong> sessions open now" in overview
    assert "Worker 1: the record cannot be written." in overview
    count = len(office.events()) + 4
    assert f"<strong>{count}</strong> events recorded" in overview
    ledger = (await browser.get("/console/ledger")).text
    assert 'href="#worker-1"' in ledger
    assert '<td class="number">4</td>' in ledger
    (directory / "audit.jsonl").write_text("nonsense\n")
    assert (await browser.get("/console/ledger")).status_code == 200
    assert "This cannot be searched for" in (await browser.get("/console/record")).text
    assert (await browser.get("/console/sessions")).status_code == 503


async def test_counts_by_a_choice(office):
    auditor, _ = signed_in(office, "auditor")
    file = office.gate.config.audit.ledger / "worker-1" / "audit.jsonl"
    file.parent.mkdir()
    when = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    lines = [
        {"v": 2, "sequence": number, "time": when, "principal": who, "origin": "10.0.0.9:1",
         "code": code, "statement": 2 * ((number - 1) // 2) + 1, "session": "abc", "resource": resource,
         "role": role, "success": True,
         "data": {"number": 1, "verdict": "allow"} if code == "statement.allowed" else
                 {"number": 1, "masked": masked}}
        for number, (code, who, resource, role, masked) in enumerate([
            (code, *one)
            for one in (
                ("i#job", "payments", "reader", {"visa": 3, "amex": 4}),
                ("i#ada", "ledger", "writer", {"visa": 5}),
                ("j#ada", "ledger", "writer", {"jcb": 6}),
            )
            for code in ("statement.allowed", "statement.finished")
        ], 1)
    ]  # fmt: skip
    text = "".join(json.dumps(one, sort_keys=True, separators=(",", ":")) + "\n" for one in lines)
    file.write_text(text)

    async def shown(browser, **asked):
        answer = await browser.get("/console/counts", params=asked)
        first = answer.text.partition("</figure>")[0]
        names = re.findall(r'<th scope="col" class="number">([^<]+)</th>', first)
        sums = [0] * len(names)
        for row in re.findall(r"<tr><th scope=\"row\">.*?</tr>", first):
            for place, cell in enumerate(re.findall(r'class="number">(\d+)<', row)):
                sums[place] += int(cell)
        return dict(zip(names, sums, strict=True))

    for span in ("day", "month"):
        assert await shown(auditor, span=span) == {"visa": 8, "jcb": 6, "amex": 4}
    assert await shown(auditor, by="resource") == {"ledger": 11, "payments": 7}
    assert await shown(auditor, by="role") == {"writer": 11, "reader": 7}
    # two issuers have an ada, and they are not taken for one
    assert await shown(auditor, by="principal") == {"job": 7, "j#ada": 6, "i#ada": 5}
    assert office.events("console.viewed")[-1]["data"] == {
        "page": "counts", "span": "day", "by": "principal",
    }  # fmt: skip
    page = (await auditor.get("/console/counts?span=week&by=role")).text
    assert 'href="/console/counts?span=month&amp;by=role"' in page
    assert 'href="/console/counts?span=week&amp;by=network"' in page
    assert re.search(r'by=role" aria-current="true">By role', page)
    assert await shown(auditor, by="session") == {"visa": 8, "jcb": 6, "amex": 4}
    # who did what is for those who read the record
    viewer, _ = signed_in(office, "viewer")
    assert "By principal" not in (await viewer.get("/console/counts")).text
    assert "job" not in await shown(viewer, by="principal")


async def test_searching(office):
    browser, _ = signed_in(office, "auditor")
    await office.held("drop table needle")
    await office.held("drop table haystack")
    text = (await browser.get("/console/record?text=table+NEEDLE&code=approval.")).text
    assert "1 event" in text
    assert "haystack" not in text
    answer = await browser.get(f"/console/record?text={PAN}&code=statement.")
    assert (
        answer.headers["location"]
        == "/console/record?text=%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A%2A1111&code=statement."
    )
    assert "Nothing found" in (await browser.get("/console/record?failures=1&code=approval.")).text
    assert "Nothing found" in (await browser.get("/console/record?after=2999-01-01")).text
    assert (await browser.get("/console/record?after=nonsense&at=x")).status_code == 200


async def test_a_session_that_is_not_there(office):
    browser, _ = signed_in(office, "auditor")
    for name in ("nothing", "..%2f..%2fetc", "A1"):
        answer = await browser.get(f"/console/sessions/{name}")
        assert answer.status_code == 404


async def test_policy(office):
    browser, _ = signed_in(office, "viewer")
    fields = {"text": "drop table a", "claims": '{"team": "payments"}', "resource": "payments"}
    text = (await browser.send_form("/console/policy", **fields)).text
    assert "by role:reader" in text
    assert "needs schema" in text
    for change, wrong in (
        ({"claims": "[1]"}, "no JSON object"), ({"text": " "}, "write the statement"),
        ({"rows": "many"}, "a whole number"), ({"resource": "odd"}, "there is no resource"),
    ):  # fmt: skip
        answer = await browser.send_form("/console/policy", **{**fields, **change})
        assert wrong in answer.text
    assert office.events("console.viewed")[0]["data"]["text"] == "drop table a"


# --- sessions of people ------------------------------------------------------------------------


async def test_an_admin_ends_a_session(office):
    admin, own = signed_in(office, "admin", "max")
    browser, session = signed_in(office, "viewer")
    text = (await admin.get("/console/people")).text
    assert "max (you)" in text
    assert session.form not in text
    assert (await admin.send_form(f"/console/people/{session.id}/end")).status_code == 303
    assert "Sign in</a>" in (await browser.get("/console")).text
    ended = office.events("console.signed_out")[-1]
    assert ended["data"]["of"].endswith("#ada")
    assert (await admin.send_form(f"/console/people/{session.id}/end")).status_code == 404
    assert not own.ended


async def test_signing_out(office):
    browser, _ = signed_in(office, "viewer")
    answer = await browser.send_form("/console/sign-out")
    assert "You are signed out" in answer.text
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert "Sign in</a>" in (await browser.get("/console")).text
    assert office.events("console.signed_out")


async def test_sessions_end_by_themselves(office):
    now = [1000.0]
    office.web.sessions._clock = lambda: now[0]
    browser, session = signed_in(office, "approver")
    now[0] += 800
    assert "Overview" in (await browser.get("/console")).text
    # a page that loads its list by itself keeps nobody signed in
    for _ in range(4):
        now[0] += 220
        await browser.get("/console/approvals/list")
    now[0] += 21
    assert (await browser.get("/console/approvals/list")).status_code == 401
    assert session.ended
    browser, session = signed_in(office, "approver")
    for _ in range(40):
        now[0] += 719
        await browser.get("/console/approvals")
    now[0] += 50
    assert "Sign in</a>" in (await browser.get("/console/approvals")).text


async def test_an_issuer_that_is_believed_no_more_ends_its_sessions(office):
    browser, session = signed_in(office, "viewer")
    office.gate.authenticator.tokens._keys.clear()
    assert "Sign in</a>" in (await browser.get("/console")).text
    assert session.ended


async def test_live_lists_are_bounded_for_a_person_in_all_their_sessions(office):
    browser, first = signed_in(office, "approver")
    _, second = signed_in(office, "approver")
    _, other = signed_in(office, "approver", "bob")
    most = office.gate.config.control.max_watches
    first.streams, second.streams, other.streams = 3, most - 3, 4
    assert (await browser.get("/console/approvals/live")).status_code == 429
    second.streams, first.streams = 0, 4
    assert (await browser.get("/console/approvals/live")).status_code == 429, "of one session"


async def test_live_lists_that_are_asked_for_at_once_are_counted(office):
    """Each from when it is granted: of what is sent first nobody may have taken anything yet."""
    _, session = signed_in(office, "approver")
    visit = Visit(Request({"type": "http"}), session, "192.0.2.7:9")
    answers = [await live(office.web, visit) for _ in range(MOST_STREAMS + 3)]
    granted = [one for one in answers if one.status_code == 200]
    assert len(granted) == session.streams == MOST_STREAMS

    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def broken(message: object) -> None:
        raise OSError

    for one in granted:
        with contextlib.suppress(ClientDisconnect):
            await one({"type": "http", "asgi": {"spec_version": "2.4"}}, gone, broken)
    assert session.streams == 0


async def test_without_tls_on_loopback(tmp_path, at, monkeypatch):
    monkeypatch.setenv("PANGATE_TEST_PASSWORD", "x")
    async with console_office(tmp_path, at.url) as office:
        assert office.web.cookies.session == "__Host-pangate"
    from pangate.control.console.sessions import Cookies

    assert Cookies(secure=False).session == "pangate"
