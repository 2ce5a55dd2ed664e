"""What the API says of itself is what it does: asked with what its description allows and with what it does
not, at a gateway as it is served."""

from __future__ import annotations

import re
import time

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks

from approvals_served import TABLES, api, drop, people, url, waiting
from conftest import EVERYTHING
from pangate.control.openapi import ERRORS
from pangate.trial import Trial

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]

EXAMPLES = 15


@pytest.fixture(scope="module")
def served(postgres):
    with Trial(postgres, effects=EVERYTHING, tables=TABLES) as made:
        postgres.psql("grant create on schema public to payments_service")
        postgres.psql("set role payments_service; create table if not exists payments_old ()")
        yield made


@pytest.fixture(scope="module")
def held(served):
    """A request that waits, one that was denied, and a delegation."""
    token = people(served, "bob", "owners", "night")
    with api(served, token) as client:
        first = drop(served)
        denied = waiting(client)["id"]
        client.post(f"/api/approvals/{denied}/deny", json={"reason": "x"}).raise_for_status()
        first.communicate(timeout=20)
        second = drop(served)
        waits = waiting(client)["id"]
        now = time.time()
        body = {
            "receiver": "https://x#y", "group": "owners", "starts": now, "ends": now + 60,
            "reason": "leave",
        }  # fmt: skip
        made = client.post("/api/delegations", json=body)
        try:
            yield [denied, waits]
        finally:
            second.terminate()
            second.communicate()
        assert made.status_code == 201


@pytest.fixture(scope="module")
def described(served):
    return httpx.get(f"{url(served)}/openapi.json", trust_env=False).raise_for_status().json()


def operations(described):
    schema = schemathesis.openapi.from_dict(described)
    return [one.ok() for one in schema.get_all_operations()]


def statuses(base: str, token: str, operation, mode, known: list[str]) -> set[int]:
    """Ask one operation with made-up values; what it answered."""
    seen: set[int] = set()

    @settings(
        max_examples=EXAMPLES, derandomize=True, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(
        case=operation.as_strategy(generation_mode=mode),
        name=st.sampled_from([*known, "zzzzzzzzzzzz"]),
        use=st.booleans(),
    )
    def ask(case, name, use) -> None:
        if mode is schemathesis.GenerationMode.POSITIVE and use and "id" in case.path_parameters:
            case.path_parameters["id"] = name
        headers = {**(case.headers or {}), "Authorization": f"Bearer {token}"}
        answer = case.call(base_url=base, headers=headers)
        seen.add(answer.status_code)
        # that a body is too long says it as well, which this check does not know
        rejected = [] if answer.status_code == 413 else [checks.negative_data_rejection]
        case.validate_response(answer, checks=[*CHECKS, *rejected])

    ask()
    return seen


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_it_answers_as_it_is_described(served, held, described, mode):
    token = people(served, "bob", "owners", "night")
    found = {
        operation.label: statuses(url(served), token, operation, mode, held)
        for operation in operations(described)
        if operation.label != "GET /api/approvals/watch"  # it does not end
    }
    everything = set().union(*found.values())
    if mode is schemathesis.GenerationMode.POSITIVE:
        # it was no round of refusals
        assert {200, 404, 409} <= everything
        assert 200 in found["GET /api/approvals/{id}"]
    else:
        assert 422 in everything


def test_there_is_nothing_without_a_token_and_nothing_else_than_is_described(served, described):
    with httpx.Client(base_url=url(served), trust_env=False) as client:
        for operation in operations(described):
            path = re.sub(r"{\w+}", "abc", operation.path)
            answer = client.request(operation.method.upper(), path)
            wanted = 404 if "channels" in path else 401
            assert (answer.status_code, set(answer.json())) == (wanted, {"error", "detail"})
            other = client.request("PATCH", path)
            assert (other.status_code, other.json()["error"]) == (405, "method")
            assert operation.method.upper() in other.headers["Allow"]
        for path in ("/api/", "/api/nothing", "/api/approvals/a/b/c"):
            answer = client.get(path)
            assert answer.status_code == 404
        for operation in operations(described):
            assert set(operation.definition.raw["responses"]) <= {*ERRORS, "200", "201", "204"}


def test_parameters_that_there_are_not_are_refused_by_name(served, described):
    token = people(served, "bob", "owners", "night")
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=url(served), trust_env=False, headers=headers) as client:
        for operation in operations(described):
            if "channels" in operation.path:
                continue  # whoever sends these is known by a signature
            path = re.sub(r"{\w+}", "abc", operation.path)
            answer = client.request(operation.method.upper(), f"{path}?nothing=1")
            assert (answer.status_code, answer.json()["error"]) == (422, "misused"), path
            known = "state" if path == "/api/approvals" else "none"
            assert answer.json()["detail"] == f"there is no such parameter; there is {known}"
        assert client.get("/api/approvals?state=all").status_code == 200
