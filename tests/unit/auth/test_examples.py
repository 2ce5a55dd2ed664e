"""The examples of docs/identity.md: each is read out of the page, loads, and gives its role to an agent of
the shape it is for, and to no other."""

import re
import tomllib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pangate import config, policy
from pangate.auth.x509 import CertificateAuthenticator
from pangate.errors import NotAuthorised
from pangate.model import Certificate
from pki import Pki, dns, uri

PAGE = (Path(__file__).parents[3] / "docs" / "identity.md").read_text()
EXAMPLES = dict(re.findall(r"```toml\n# example: (\w+)\n(.*?)```", PAGE, re.DOTALL))
REST = {
    "listen": "[listen]\nallow_plaintext_loopback = true\n",
    "issuers": '[[issuers]]\nurl = "https://issuer.example.com"\naudience = "pangate"\n',
    "resources": '[[resources]]\nname = "payments"\nhost = "db"\ndatabase = "d"\nuser = "u"\n'
    'password = { env = "PANGATE_TEST_PASSWORD" }\n',
    "roles": '[[roles]]\nname = "r"\nmatch = { a = "b" }\nresources = ["payments"]\n',
    "audit": '[audit]\npath = "audit.jsonl"\n',
}

# Claims as the issuers' own documentation shows them, shortened.
GITHUB = {
    "iss": "https://token.actions.githubusercontent.com",
    "sub": "repo:acme/billing:environment:production",
    "aud": "pangate",
    "ref": "refs/heads/main",
    "repository": "acme/billing",
    "repository_id": "1296269",
    "repository_owner": "acme",
    "environment": "production",
    "event_name": "workflow_dispatch",
    "job_workflow_ref": "acme/ci/.github/workflows/report.yml@refs/heads/main",
    "runner_environment": "github-hosted",
}
GITLAB = {
    "iss": "https://gitlab.example.com",
    "sub": "project_path:acme/billing:ref_type:branch:ref:main",
    "aud": "pangate",
    "project_id": "22",
    "project_path": "acme/billing",
    "ref": "main",
    "ref_type": "branch",
    "ref_protected": "true",
    "environment": "production",
    "environment_protected": "true",
    "groups_direct": ["acme"],
}
KUBERNETES = {
    "iss": "https://kubernetes.default.svc.cluster.local",
    "sub": "system:serviceaccount:billing:report",
    "aud": ["pangate"],
    "kubernetes.io": {
        "namespace": "billing",
        "node": {"name": "node-1", "uid": "58456cb0-dd00-45ed-b797-5578fdceaced"},
        "pod": {"name": "report-7c5d", "uid": "778a530c-b3f4-47c0-9cd5-ab018fb64f33"},
        "serviceaccount": {"name": "report", "uid": "a087d5a0-e1dd-43ec-93ac-f13d89cd13af"},
        "warnafter": 1700081020,
    },
}
SPIFFE = {
    "iss": "https://oidc-discovery.acme.example",
    "sub": "spiffe://acme.example/ns/billing/sa/report",
    "aud": ["pangate"],
}


@pytest.fixture
def load(tmp_path, tls_files, monkeypatch):
    def load(name: str) -> config.Config:
        text = EXAMPLES[name]
        for file, source in (
            ("gateway.pem", 0),
            ("gateway.key", 1),
            ("cluster-ca.pem", 0),
            ("agents-ca.pem", 0),
        ):
            path = tmp_path / file
            path.touch(0o600)
            path.write_bytes(tls_files[source].read_bytes())
        tables = tomllib.loads(text)
        text += "".join(lines for table, lines in REST.items() if table not in tables)
        (tmp_path / "pangate.toml").write_text(text)
        return config.load(tmp_path / "pangate.toml")

    monkeypatch.setenv("PANGATE_TEST_PASSWORD", "x")
    return load


def changed(claims: dict, **changes: object) -> dict:
    return {**claims, **changes}


def pod(**changes: object) -> dict:
    return changed(KUBERNETES, **{"kubernetes.io": changed(KUBERNETES["kubernetes.io"], **changes)})


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "github",
            GITHUB,
            [
                changed(GITHUB, repository_id="1296270"),
                changed(GITHUB, repository_id=1296269),
                changed(GITHUB, environment="staging"),
                changed(GITHUB, job_workflow_ref="acme/ci/.github/workflows/x.yml@refs/heads/main"),
                {key: value for key, value in GITHUB.items() if key != "environment"},
            ],
        ),
        (
            "gitlab",
            GITLAB,
            [
                changed(GITLAB, project_id="2"),
                changed(GITLAB, ref_protected="false"),
                changed(GITLAB, ref_protected=True),
                changed(GITLAB, environment="review/x"),
            ],
        ),
        (
            "kubernetes",
            KUBERNETES,
            [
                pod(namespace="default"),
                pod(serviceaccount={"name": "default"}),
                pod(serviceaccount="report"),
                {key: value for key, value in KUBERNETES.items() if key != "kubernetes.io"},
                {**SPIFFE, "kubernetes.io/namespace": "billing"},
            ],
        ),
        (
            "spiffe",
            SPIFFE,
            [
                changed(SPIFFE, sub="spiffe://acme.example/ns/billing/sa/report/x"),
                changed(SPIFFE, sub="spiffe://other.example/ns/billing/sa/report"),
            ],
        ),
        ("oauth", {"iss": "https://issuer.example.com", "team": "billing"}, [{"team": "x"}]),
    ],
)
def test_an_example_matches_what_it_is_for(load, name, good, bad):
    settings = load(name)
    issuer = settings.issuers[0].url
    assert issuer == good["iss"]
    assert policy.roles_for(settings, good, issuer) == ("billing-report",)
    for claims in bad:
        assert policy.roles_for(settings, claims, issuer) == ()


def test_several_issuers_keep_apart(load, tmp_path):
    """All tokens' examples in one file: another issuer's claims give nothing."""
    names = ("github", "gitlab", "kubernetes", "spiffe")
    text = "".join(EXAMPLES[name].replace("billing-report", name) for name in names)
    load("github")
    kept = "".join(REST[table] for table in ("listen", "resources", "audit"))
    (tmp_path / "pangate.toml").write_text(text + kept)
    settings = config.load(tmp_path / "pangate.toml")
    everything = {**GITHUB, **GITLAB, **KUBERNETES, **SPIFFE}
    for claims, name in zip((GITHUB, GITLAB, KUBERNETES, SPIFFE), names, strict=True):
        issuer = str(claims["iss"])
        assert policy.roles_for(settings, claims, issuer) == (name,)
        assert name not in policy.roles_for(settings, everything, "https://evil.example")


async def test_the_example_of_certificates(load, tmp_path):
    settings = load("x509")
    pki = Pki(tmp_path)
    workload = pki.certificate("x", uri("spiffe://acme.example/ns/billing/sa/report"))[0]
    authenticator = CertificateAuthenticator(settings)
    found = await authenticator.authenticate(Certificate(workload.public_bytes(Encoding.DER)), "o")
    assert found.roles == ("billing-report",)
    assert policy.authorise(found, "payments", settings).role == "billing-report"
    other = pki.certificate("x", uri("spiffe://acme.example/other"))[0]
    found = await authenticator.authenticate(Certificate(other.public_bytes(Encoding.DER)), "o")
    with pytest.raises(NotAuthorised):
        policy.authorise(found, "payments", settings)
    batch = {
        "subject": {"organizational_unit": ["batch"]},
        "san": {"dns": ["batch-7.acme.example"]},
    }
    assert policy.roles_for(settings, batch, "x509") == ("legacy-batch",)
    assert x509.DNSName("batch-7.acme.example") == dns("batch-7.acme.example")


def test_the_example_of_a_vault(load, tmp_path, monkeypatch):
    program = tmp_path / "bao"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    password = load("vault").resources[0].password
    assert password.command[:3] == ("bao", "kv", "get")


def test_every_example_is_tested():
    assert set(EXAMPLES) == {"github", "gitlab", "kubernetes", "spiffe", "oauth", "x509", "vault"}
    assert PAGE.count("```toml") == len(EXAMPLES)
