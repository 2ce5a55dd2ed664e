"""The console as people have it: a real browser, a real OpenID Connect provider, and an agent's psql that
waits at a real PostgreSQL."""

from __future__ import annotations

import datetime
import json
import os
import re
import time
from contextlib import contextmanager

import pytest

from browser import AXE, chromium
from conftest import CARDS, PANS
from console_trial import PASSWORD, console_trial
from pangate.embedded import EmbeddedPostgres
from pangate.trial import until

pytestmark = pytest.mark.integration

TABLES = """
drop table if exists payments_old, vault;
grant create on schema public to payments_service;
set role payments_service;
create table payments_old (id int, pan text);
insert into payments_old select n, '4111111111111111' from generate_series(1, 500) n;
create table vault ();
"""

PICTURES = os.environ.get("PANGATE_TEST_PICTURES", "")
"""A directory for pictures of pages, for who wants to look at them."""


def picture(page, name: str) -> None:
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)


PAGES = (
    "",
    "/approvals",
    "/delegations",
    "/sessions",
    "/record",
    "/counts?span=week&by=principal",
    "/policy",
    "/ledger",
    "/people",
)


@pytest.fixture(scope="module")
def served():
    with EmbeddedPostgres() as server, console_trial(server) as made:
        server.psql(CARDS.replace("{pans}", "','".join(PANS)))
        yield made


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(autouse=True)
def tables(served):
    served.postgres.psql(TABLES)


class Visitor:
    """Somebody with a browser of their own. `said` is what its console said, `asked` where it asked."""

    def __init__(self, context, url: str) -> None:
        self.page = context.new_page()
        self.url = url
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda one: self.said.append(f"{one.type}: {one.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", lambda one: self.asked.append(one.url))

    def go(self, path: str = "") -> None:
        self.page.goto(f"{self.url}/console{path}")

    def sign_in(self, who: str, path: str = "") -> None:
        self.go(path)
        self.page.get_by_role("link", name="Sign in").click()
        self.at_the_issuer(who)

    def at_the_issuer(self, who: str) -> None:
        self.page.get_by_label("Name").fill(who)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button").click()
        self.page.wait_for_url(f"{self.url}/console**")
        # what its own pages said from here on
        self.said.clear()

    def shown(self, text: str) -> None:
        self.page.get_by_text(text).first.wait_for()


@contextmanager
def visiting(browser, served, **settings):
    context = browser.new_context(ignore_https_errors=True, **settings)
    context.set_default_timeout(30_000)
    try:
        yield Visitor(context, served.url)
    finally:
        context.close()


def ended(process) -> tuple[str, str]:
    return process.communicate(timeout=30)


def exists(served, table: str) -> bool:
    return bool(served.postgres.psql(f"select to_regclass('{table}')", "postgres", "-At").strip())


def test_from_the_sign_in_to_the_dropped_table(served, browser):
    with visiting(browser, served) as bob:
        bob.sign_in("bob", "/approvals")
        page = bob.page
        assert page.url == f"{served.url}/console/approvals"
        page.get_by_text("This list is live.").wait_for()
        page.get_by_text("Nothing waits that concerns you.").wait_for()
        process = served.held("drop table payments_old")
        # it comes by itself, and who does not look hears of it
        page.get_by_role("link", name=re.compile("ci-job-42.*payments")).first.wait_for()
        assert page.title().startswith("Approvals (1)")
        assert page.locator("#live-heard").inner_text() == "1 request waits"
        page.get_by_role("link", name=re.compile("ci-job-42")).first.click()
        bob.shown("DROP TABLE on payments_old.")
        bob.shown("0 of 1 have approved")
        # the browser itself asks for the reason that is required
        page.get_by_role("button", name="Approve").click()
        assert process.poll() is None
        assert exists(served, "payments_old")
        page.get_by_label("Reason (required)").fill("release 42 <b>x</b>")
        page.get_by_role("button", name="Approve").click()
        bob.shown("release 42 <b>x</b>")
        assert ended(process)[0] == "DROP TABLE\n"
        assert not exists(served, "payments_old")
        bob.go("/approvals")
        page.locator("td .badge", has_text="ran").first.wait_for()
        assert bob.said == []
        served_by = {re.match(r"https?://[^/]+", url)[0] for url in bob.asked}
        assert served_by == {served.url, served._people}
    codes = [event["code"] for event in served.events()]
    for code in ("console.signed_in", "approval.viewed", "approval.decided", "approval.executed"):
        assert code in codes
    decided = next(event for event in served.events() if event["code"] == "approval.decided")
    assert decided["principal"] == f"{served._people}#bob"
    assert served.log.read_text().count("Traceback") == 0


def test_nobody_approves_what_their_own_agent_asks(served, browser):
    with visiting(browser, served) as ada:
        process = served.held("drop table payments_old", owner="ada")
        ada.sign_in("ada", "/approvals")
        ada.page.get_by_role("link", name=re.compile("ci-job-42")).first.click()
        ada.page.get_by_label("Reason").fill("it is mine")
        ada.page.get_by_role("button", name="Approve").click()
        ada.shown("You own the agent that asks")
        assert process.poll() is None
        ada.page.get_by_role("link", name="Back to the request").click()
        ada.page.get_by_label("Reason").fill("it is mine")
        ada.page.get_by_role("button", name="Deny").click()
        ada.shown("You own the agent that asks")
        assert process.poll() is None
    with visiting(browser, served) as bob:
        bob.sign_in("bob", "/approvals")
        bob.page.get_by_role("link", name=re.compile("ci-job-42")).first.click()
        bob.page.get_by_label("Reason").fill("not before the backup")
        bob.page.get_by_role("button", name="Deny").click()
        bob.shown("denied by")
    assert "not before the backup" in ended(process)[1]
    assert exists(served, "payments_old")


def test_somebody_decides_in_the_place_of_who_is_on_leave(served, browser):
    with visiting(browser, served) as bob, visiting(browser, served) as fay:
        bob.sign_in("bob", "/delegations")
        page = bob.page
        page.get_by_text("There is none.").wait_for()
        # the browser itself asks for what is missing
        page.get_by_role("button", name="Delegate").click()
        assert page.url == f"{served.url}/console/delegations"
        page.get_by_label("To whom").fill("fay")
        page.get_by_label("To (UTC)").fill("2020-01-01T00:00")
        page.get_by_label("Reason").fill("on leave")
        page.get_by_role("button", name="Delegate").click()
        bob.shown("Nothing was done: a delegation has to end after it begins")
        assert page.get_by_label("To whom").input_value() == "fay"
        tomorrow = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
        page.get_by_label("To (UTC)").fill(f"{tomorrow:%Y-%m-%dT%H:%M}")
        page.get_by_role("button", name="Delegate").click()
        row = page.get_by_role("region", name="Delegations").get_by_role("row").nth(1)
        assert "bob (you)" in row.inner_text()
        assert f"{tomorrow:%Y-%m-%d %H:%M}" in row.inner_text()
        assert "holds" in row.inner_text()
        picture(page, "delegations")
        process = served.held("drop table payments_old")
        fay.sign_in("fay", "/approvals")
        fay.page.get_by_role("link", name=re.compile("ci-job-42")).first.click()
        fay.page.get_by_label("Reason").fill("for bob")
        fay.page.get_by_role("button", name="Approve").click()
        fay.shown("for bob")
        assert ended(process)[0] == "DROP TABLE\n"
        page.get_by_role("button", name="End the delegation to fay for owners").click()
        page.get_by_text("There is none.").wait_for()
        assert fay.said == []
    codes = [event["code"] for event in served.events()]
    assert codes.count("approval.delegated") == codes.count("approval.delegation_revoked") == 1
    decided = [event for event in served.events() if event["code"] == "approval.decided"][-1]
    assert decided["principal"].endswith("#fay")
    assert decided["data"]["delegated_by"].endswith("#bob")


def test_a_stronger_sign_in(served, browser):
    with visiting(browser, served) as bob:
        process = served.held("truncate vault")
        bob.sign_in("bob", "/approvals")
        bob.page.get_by_role("link", name=re.compile("ci-job-42")).first.click()
        bob.shown("sign in again with acr strong")
        where = bob.page.url
        bob.page.get_by_role("link", name="Sign in again").click()
        bob.at_the_issuer("bob")
        assert bob.page.url == where
        bob.page.get_by_role("button", name="Approve").click()
        bob.shown("approved by 1 of 1")
        assert ended(process)[0] == "TRUNCATE TABLE\n"


def test_forms_from_elsewhere(served, browser):
    process = served.held("drop table payments_old")
    try:
        with visiting(browser, served) as bob:
            bob.sign_in("bob", "/approvals")
            bob.page.get_by_role("link", name=re.compile("ci-job-42")).first.click()
            path = bob.page.url
            # the same browser, with the cookie of the session, without the token or with another
            for form in ({}, {"form": "x"}):
                answer = bob.page.request.post(f"{path}/approve", form={**form, "reason": "x"})
                assert answer.status == 403
                assert "This form is not from here" in answer.text()
            # a page of another site sends a form: the cookie does not come along
            bob.page.goto("about:blank")
            bob.page.set_content(
                f'<form method="post" action="{path}/approve"><input name="reason" value="x">'
                "<button>Win</button></form>"
            )
            bob.page.get_by_role("button").click()
            bob.shown("You are not signed in any more")
            cookies = bob.page.context.cookies(served.url)
            (own,) = [one for one in cookies if one["name"] == "__Host-pangate"]
            assert (own["httpOnly"], own["secure"], own["sameSite"], own["path"]) == (
                True, True, "Lax", "/",
            )  # fmt: skip
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def test_evidence(served, browser):
    mark = "select id, t, j from cards order by id"
    done = served.psql(served.token(), mark, "select 1 / 0")
    assert "************1111" in done.stdout
    with visiting(browser, served) as ann:
        ann.sign_in("ann")
        page = ann.page
        assert page.get_by_role("navigation").get_by_role("link").all_inner_texts() == [
            "Overview", "Approvals", "Delegations", "Sessions", "Record", "Counts", "Policy", "Ledger",
        ]  # fmt: skip
        ann.go(f"/record?text={mark.replace(' ', '+')}&code=statement.allowed")
        page.locator("summary").first.click()
        page.get_by_role("link", name=re.compile("^Session [a-z]")).first.click()
        ann.shown("Verified:")
        table = page.get_by_role("region", name="Result of statement 1")
        assert table.get_by_role("columnheader").all_inner_texts() == ["id", "t", "j"]
        cells = [row.split("\t") for row in table.locator("tbody").inner_text().splitlines()]
        assert cells[0][:2] == ["1", "************1111"]
        assert len(cells) == len(PANS)
        ann.shown("division by zero")
        ann.go("/sessions")
        page.locator("tbody tr").first.wait_for()
        ann.go("/ledger")
        ann.shown("Checkpoint")
        until(lambda: "Signed by" in (ann.go("/ledger") or page.content()), "a checkpoint")
        ann.go("/counts")
        ways = page.get_by_role("navigation", name="Card numbers masked, by")
        assert ways.get_by_role("link").all_inner_texts() == [
            "By network", "By resource", "By role", "By principal",
        ]  # fmt: skip
        for way, name in (
            ("network", "visa"), ("resource", "payments"), ("role", "reader"), ("principal", "ci-job-42"),
        ):  # fmt: skip
            ways.get_by_role("link", name=f"By {way}").click()
            assert page.locator("svg rect.series-0").count()
            page.get_by_text("As a table").first.click()
            page.get_by_role("columnheader", name=name).first.wait_for()
        picture(page, "counts")
        for pan in PANS:
            assert pan not in page.content()
        assert ann.said == []
    viewed = [e["data"]["page"] for e in served.events() if e["code"] == "console.viewed"]
    assert {"record", "session", "sessions", "ledger", "counts"} <= set(viewed)


def test_several_workers_are_one_gateway(served, browser):
    """Their sessions, recordings, counts and ledgers, and what waits in one of them."""
    with console_trial(served.postgres, "[process]\nworkers = 2\n") as two, \
            visiting(browser, two) as head:  # fmt: skip
        head.sign_in("max", "/sessions")
        page, began = head.page, time.monotonic()
        found: set[str] = set()
        while len(found) < 2 and time.monotonic() - began < 60:
            assert two.psql(two.token(), "select id, t, j from cards order by id").returncode == 0
            head.go("/sessions")
            rows = page.get_by_role("region", name="Sessions").get_by_role("row").all_inner_texts()
            found = set(re.findall(r"worker-\d", " ".join(rows)))
        assert found == {"worker-1", "worker-2"}
        assert "ended" in rows[-1]
        picture(page, "workers-sessions")
        for worker in sorted(found):
            head.go("/sessions")
            row = page.get_by_role("row", name=re.compile(f"ended {worker}")).first
            row.get_by_role("link").click()
            head.shown("Verified:")
            head.shown("************1111")
        head.go("/counts")
        page.get_by_role("figure").first.get_by_text(re.compile(r"\(\d+ in all\)")).wait_for()
        masked = int(re.search(r"masked, by network \((\d+) in all", page.inner_text("main"))[1])
        assert masked >= 2 * len(PANS)
        # what waits in a worker: its rows are counted there, and a decision reaches it
        process = two.held("delete from payments_old")
        head.go("/approvals")
        page.get_by_role("link", name=re.compile("ci-job-42")).first.click()
        page.get_by_role("button", name="Count").click()
        head.shown("500")
        head.go("")
        head.shown("1 sessions open now")
        page.go_back()
        page.get_by_label("Reason (required)").first.fill("empty it")
        page.get_by_role("button", name="Approve").click()
        head.shown("empty it")
        assert ended(process)[0] == "DELETE 500\n"
        head.go("/record?code=approval.counted")
        head.shown("first/")

        def sealed() -> bool:
            head.go("/ledger")
            return page.get_by_role("region", name="All records").get_by_text("never").count() == 0

        until(sealed, "a checkpoint of each")
        headings = page.get_by_role("heading", level=2).all_inner_texts()
        assert headings == [
            "All records", "Checkpoint of the first process", "Checkpoint of worker-1",
            "Checkpoint of worker-2",
        ]  # fmt: skip
        check(head, "ledger of workers")
        picture(page, "workers-ledger")
        assert two.log.read_text().count("Traceback") == 0


def test_roles(served, browser):
    with visiting(browser, served) as vic:
        vic.sign_in("vic")
        links = vic.page.get_by_role("navigation").get_by_role("link").all_inner_texts()
        assert links == ["Overview", "Counts", "Policy", "Ledger"]
        vic.go("/record")
        vic.shown("Not for your role")
        vic.go("/policy")
        vic.page.get_by_label("Statement").fill("drop table cards")
        vic.page.get_by_label("Claims of").fill(
            json.dumps({"team": "payments", "iss": served.issuer.url})
        )
        vic.page.get_by_role("button", name="Explain").click()
        vic.shown("by rule:ddl")
        vic.page.get_by_role("button", name="Sign out").click()
        vic.shown("You are signed out.")
        vic.go()
        vic.page.get_by_role("link", name="Sign in").wait_for()
    with visiting(browser, served) as eve:
        eve.sign_in("eve")
        eve.shown("No role for you here")


def test_an_admin_ends_a_session(served, browser):
    with visiting(browser, served) as vic, visiting(browser, served) as head:
        vic.sign_in("vic")
        head.sign_in("max", "/people")
        of_vic = head.page.get_by_role("button", name=re.compile("End the session of vic"))
        before = of_vic.count()
        with head.page.expect_navigation():
            of_vic.first.click()
        assert of_vic.count() == before - 1
        vic.go()
        vic.page.get_by_role("link", name="Sign in").wait_for()
        assert not vic.page.get_by_role("button", name="Sign out").count()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_it_can_be_read_by_everybody(served, browser, scheme, width):
    """axe-core finds nothing, nothing is wider than the screen, and the policy for content is kept."""
    process = served.held(
        "delete from payments_old; -- card 4111111111111111, \u202e<b>why</b>"
        if width == 390
        else "drop table payments_old"
    )
    try:
        with visiting(
            browser, served, viewport={"width": width, "height": 844}, color_scheme=scheme,
            is_mobile=width == 390,
        ) as head:  # fmt: skip
            head.go()
            check(head, "sign-in")
            head.sign_in("max")
            head.go("/delegations")
            head.page.get_by_label("To whom").fill("a-person-with-a-name-of-some-length")
            head.page.get_by_label("Reason").fill("away")
            head.page.get_by_role("button", name="Delegate").click()
            head.shown("holds")
            for path in PAGES:
                head.go(path)
                check(head, path)
                picture(head.page, f"{scheme}{path.partition('?')[0].replace('/', '-')}")
            head.go("/approvals")
            head.page.locator(".requests a").first.click()
            head.page.locator("details summary").first.click()
            check(head, "request")
            head.go("/sessions")
            head.page.locator("tbody a").first.click()
            check(head, "session")
            head.go("/record?code=approval.")
            head.page.locator("summary").first.click()
            check(head, "event")
            head.go("/nothing/such")
            assert [one for one in head.said if "404" not in one] == []
    finally:
        process.kill()
        process.communicate()


def check(visitor: Visitor, what: str) -> None:
    page = visitor.page
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"{what} is {wide} too wide"
    # by the protocol, not as a script of the page, whose policy has no place for it
    page.evaluate(AXE.read_text() + "; undefined")
    found = page.evaluate("axe.run().then(found => found.violations)")
    said = [(one["id"], [node["target"] for node in one["nodes"]]) for one in found]
    assert said == [], what


def test_by_keyboard_alone(served, browser):
    process = served.held("drop table payments_old")
    with visiting(browser, served) as bob:
        bob.sign_in("bob", "/approvals")
        page = bob.page
        page.locator(".requests a").first.wait_for()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to content"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id").startswith("to-")
        # the list is loaded again below it, and the focus stays
        other = served.held("truncate vault")
        page.locator(".requests a").nth(1).wait_for()
        assert page.evaluate("document.activeElement.id").startswith("to-")
        page.keyboard.press("Enter")
        page.locator("#reason").wait_for()
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "reason":
                break
        page.keyboard.type("by keyboard")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        bob.shown("by keyboard")
        assert bob.said == []
    done = ended(process)[0]
    other.kill()
    other.communicate()
    assert done == "DROP TABLE\n"


def test_without_script_the_list_loads_itself_again(served, browser):
    with visiting(browser, served, java_script_enabled=False) as bob:
        bob.sign_in("bob", "/approvals")
        assert 'http-equiv="refresh"' in bob.page.content()
        bob.shown("This list is as it was when the page was loaded.")


def test_the_gateway_stops_while_somebody_watches(served, browser):
    with visiting(browser, served) as bob:
        bob.sign_in("bob", "/approvals")
        bob.shown("This list is live.")
        began = time.monotonic()
        assert served.stop_gateway() == 0
        assert time.monotonic() - began < 10
        bob.shown("This list may be old")
        served.start_gateway()
        bob.shown("You are not signed in any more")
    assert "Traceback" not in served.log.read_text(), served.log.read_text()
