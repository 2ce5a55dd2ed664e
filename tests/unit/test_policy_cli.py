"""The commands of `pangate policy`."""

import json

import pytest

from pangate import cli

TOML = """
profile = "pci"
[listen]
allow_plaintext_loopback = true
[[issuers]]
url = "https://issuer.example"
audience = "pangate"
[[resources]]
name = "payments"
host = "db.example"
database = "pay"
user = "gateway"
password = { env = "PANGATE_TEST_PASSWORD" }
[[roles]]
name = "deploy"
match = { team = "deploy" }
resources = ["payments"]
effects = ["read", "write", "bulk_write", "schema"]
[[approvers]]
name = "dba"
match = { groups = "dba" }
[[rules]]
name = "night"
verdict = "deny"
when = { days = ["sat"], from = "22:00", to = "23:00" }
[[rules]]
name = "outside"
verdict = "deny"
source = ["192.0.2.0/24"]
[[rules]]
name = "levels"
verdict = "deny"
condition = "has(principal.level) && principal.level > 3"
[[rules]]
name = "big"
verdict = "hold"
effects = ["write"]
rows_over = 1000
hold = { approvers = ["dba"], quorum = 2 }
[[rules]]
name = "tried"
verdict = "deny"
match = { sub = "ci-8" }
effects = ["schema"]
shadow = true
[audit]
path = "audit.jsonl"
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("PANGATE_TEST_PASSWORD", "x")
    file = tmp_path / "pangate.toml"
    file.write_text(TOML)
    return file


@pytest.fixture
def explain(config, capsys):
    def explain(text, *more, code=0):
        given = ["--config", str(config), "--resource", "payments", *more, text]
        assert cli.main(["policy", "explain", *given]) == code
        shown = capsys.readouterr()
        return shown.err if code else shown.out

    return explain


def test_explain_says_which_rule_decides_and_why_not_the_others(explain):
    at = ("--claim", "team=deploy", "--claim", "sub=ci-7", "--at", "2026-03-02T12:00")
    shown = explain("drop table pay.cards", *at, "--source", "10.0.0.1")
    assert "principal  https://issuer.example#ci-7, roles: deploy" in shown
    assert "needs schema: DROP TABLE" in shown
    assert "statement 1, schema on pay.cards" in shown
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "1 night deny no: it is not now in sat 22:00 to 23:00 UTC" in lines
    assert "2 outside deny no: 10.0.0.1 is in none of 192.0.2.0/24" in lines
    assert "3 levels deny no: not true: has(principal.level) && principal.level > 3" in lines
    assert "4 big hold no: its effects are write" in lines
    assert "5 tried deny no: it is for other claims: {'sub': 'ci-8'}" in lines
    assert "9 pci-schema hold decides" in lines
    assert "10 pci-bulk hold not reached" in lines
    assert "verdict hold, decided by rule:pci-schema" in lines
    assert "approval of 1 of dba, in wait mode" in lines


def test_explain_takes_what_a_decision_rests_on(explain, tmp_path):
    team = ("--claim", "team=deploy")
    night = explain("select 1", *team, "--at", "2026-03-07T23:30+01:00")
    assert "decided by rule:night" in night
    day = (*team, "--at", "2026-03-02T12:00", "--source", "10.0.0.1")
    assert "decided by rule:outside" in explain("select 1", *day, "--source", "192.0.2.9")
    nowhere = explain("select 1", *day[:-2])
    assert "decides: where the agent comes from is not known" in nowhere
    assert "decided by rule:levels" in explain("select 1", *day, "--claim", "level=4")
    failed = explain("select 1", *day, "--claim", 'level="x"')
    assert "decides: its condition cannot be decided" in failed
    assert "verdict    deny, decided by rule:levels" in failed
    change = "delete from pay.notes where id > 3"
    asked = explain(change, *day)
    assert "verdict    hold, decided by rule:big" in asked
    assert "give one with --rows" in asked
    assert "expects 1000 rows, not more than 1000" in explain(change, *day, "--rows", "1000")
    shadow = explain("drop table t", *day, "--claim", "sub=ci-8")
    assert "would decide" in shadow
    assert "shadow     tried would deny" in shadow
    claims = tmp_path / "claims.json"
    claims.write_text(json.dumps({"team": "deploy", "sub": "from-file"}))
    assert "#from-file" in explain("select 1", "--principal", str(claims), "--at", "2026-03-02")


def test_explain_says_when_the_role_decides(explain):
    assert "decided by role:deploy" in explain("vacuum", "--role", "deploy")
    assert "decided by role.none" in explain("select 1")
    assert "no rule matches: the role grants it" in explain(
        "begin", "--role", "deploy", "--at", "2026-03-02T12:00", "--source", "10.0.0.1"
    )


def test_wrong_questions_name_what_is_wrong(explain, tmp_path):
    assert 'no role "x"; there is deploy' in explain("select 1", "--role", "x", code=1)
    assert '"team" is no claim; write NAME=VALUE' in explain("select 1", "--claim", "team", code=1)
    file = tmp_path / "claims.json"
    file.write_text("[]")
    assert "holds no JSON object" in explain("select 1", "--principal", str(file), code=1)
    assert 'no resource "x"' in explain("select 1", "--resource", "x", code=1)


EXPECT = """
config = "pangate.toml"
[[expect]]
claims = { team = "deploy" }
resource = "payments"
source = "10.0.0.1"
at = "2026-03-02T12:00"
sql = ["drop table t", "create table x ()"]
verdict = "hold"
rule = "pci-schema"
[[expect]]
role = "deploy"
resource = "payments"
source = "10.0.0.1"
at = "2026-03-02T12:00"
sql = "select *\\n  from t"
verdict = "allow"
rule = "rule:pci-read"
"""


def test_expectations_that_hold(config, tmp_path, capsys):
    file = tmp_path / "policy.test.toml"
    file.write_text(EXPECT)
    assert cli.main(["policy", "test", str(file)]) == 0
    assert capsys.readouterr().out == "3 verdicts are as expected\n"


def test_expectations_that_do_not(config, tmp_path, capsys):
    file = tmp_path / "policy.test.toml"
    file.write_text(EXPECT.replace('"allow"', '"deny"').replace("pci-schema", "pci-bulk"))
    assert cli.main(["policy", "test", str(file), "--config", str(config)]) == 1
    shown = capsys.readouterr().out
    assert "expect 1: drop table t\n  - hold pci-bulk\n  + hold rule:pci-schema\n" in shown
    assert "expect 2: select * from t\n  - deny rule:pci-read\n  + allow rule:pci-read\n" in shown
    assert "3 of 3 verdicts are not the expected ones" in shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "missing required field"),
        ("expect = []\nconfig = 'pangate.toml'", "expects nothing"),
        ("expect = []", "names no configuration"),
        ("expect = 3", "Expected `array`"),
        ("expect", "is not TOML"),
        (EXPECT + 'verdcit = "x"', "verdcit"),
        (EXPECT.replace('"payments"', '"x"'), 'expect 1: there is no resource "x"'),
        (EXPECT.replace('"2026-03-02T12:00"', '"noon"'), "expect 1: Invalid isoformat"),
    ],
)
def test_files_of_expectations_that_are_none(config, tmp_path, capsys, text, said):
    file = tmp_path / "policy.test.toml"
    file.write_text(text)
    assert cli.main(["policy", "test", str(file)]) == 1
    assert said in capsys.readouterr().err


def test_a_file_that_is_not_there(tmp_path, capsys):
    assert cli.main(["policy", "test", str(tmp_path / "none")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_rows_are_on_one_side_or_the_other(config, tmp_path, capsys):
    def expecting(rows: str, verdict: str) -> str:
        return (
            '[[expect]]\nrole = "deploy"\nresource = "payments"\nsource = "10.0.0.1"\n'
            'at = "2026-03-02T12:00"\nsql = "update t set a = 1 where b = 2"\n'
            f'rows = {rows}\nverdict = "{verdict}"\n'
        )

    file = tmp_path / "policy.test.toml"
    config_line = 'config = "pangate.toml"\n'
    file.write_text(config_line + expecting("[0, 1000]", "allow") + expecting("1001", "hold"))
    assert cli.main(["policy", "test", str(file)]) == 0
    assert capsys.readouterr().out == "3 verdicts are as expected\n"
    file.write_text(config_line + expecting("[1000, 1001]", "allow"))
    assert cli.main(["policy", "test", str(file)]) == 1
    assert "(1001 rows)\n  - allow\n  + hold rule:big" in capsys.readouterr().out


def test_what_the_configuration_names_need_not_be_there(
    explain, config, tmp_path, monkeypatch, capsys
):
    monkeypatch.delenv("PANGATE_TEST_PASSWORD")
    text = TOML.replace(
        "allow_plaintext_loopback = true",
        'certificate = "no.pem"\nkey = "no.key"\nauthentication = ["password", "certificate"]\n'
        'client_ca = "no.pem"\nclient_crl = "no.crl"',
    ).replace('audience = "pangate"', 'audience = "pangate"\nca = "no.pem"')
    text = text.replace('"audit.jsonl"', '"no/such/audit.jsonl"')
    text = text.replace("match = { team", 'issuer = "https://issuer.example"\nmatch = { team')
    text = text.replace("match = { groups", 'issuer = "https://issuer.example"\nmatch = { groups')
    text += """
[[webhooks]]
name = "hook"
url = "https://x.example"
secret = { file = "no.key" }
ca = "no.pem"
[[resources]]
name = "other"
host = "db.example"
database = "x"
user = "y"
password = { command = ["no-such-program"] }
"""
    config.write_text(text)
    assert "pci-schema" in explain("drop table t", "--role", "deploy")
    file = tmp_path / "policy.test.toml"
    file.write_text(EXPECT)
    assert cli.main(["policy", "test", str(file)]) == 0
    capsys.readouterr()
    # what serves needs all of it
    assert cli.main(["check", "--config", str(config)]) == 1
    said = capsys.readouterr().err
    for name in (
        "no.key",
        "no.pem",
        "no.crl",
        "PANGATE_TEST_PASSWORD",
        "no-such-program",
        "no/such",
    ):
        assert name in said
    # and what is wrong with the rules themselves is still said
    config.write_text(text.replace('match = { team = "deploy" }', "match = {}"))
    assert cli.main(["policy", "test", str(file)]) == 1
    assert "roles[deploy].match" in capsys.readouterr().err
