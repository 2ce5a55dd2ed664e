"""From the text of the file to settings, with every problem that is in it found in one run."""

from __future__ import annotations

import difflib
import math
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Annotated, Any

import msgspec

from pangate import policy
from pangate.config import (
    ALGORITHMS,
    CERTIFICATE_ISSUER,
    OPTIONAL,
    PROFILE,
    TABLES,
    AuditSettings,
    Config,
    IssuerSettings,
    ListenSettings,
    MonitorSettings,
    PoolSettings,
    ResourceSettings,
    RoleSettings,
    description_of,
    doc_of,
    is_loopback,
    items_of,
    private_file_problem,
    settings_of,
    toml_key,
    url_problem,
)
from pangate.config.approvals import ControlSettings, StateSettings
from pangate.config.audit import (
    AnchorSettings,
    RetentionSettings,
    SinkSettings,
    anchor_problems,
    retention_problems,
    sink_problems,
)
from pangate.config.base import SecretSettings, Settings
from pangate.config.channels import (
    SlackSettings,
    WebhookSettings,
    channel_problems,
    loopback_named,
)
from pangate.config.console import ConsoleSettings, console_problems
from pangate.config.profiles import Profile, profile_rules
from pangate.config.rules import (
    ApproverSettings,
    RuleSettings,
    WhenSettings,
    rule_problems,
    when_problems,
)
from pangate.errors import ConfigError, MaskingError
from pangate.protocols import open_knowledge

MAX_FILE_BYTES = 1 << 20
"""A configuration file that is larger than this is refused unread."""


_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}
"""What TOML's users call the types that msgspec names."""


def read(path: Path, *, files: bool = True) -> Config:
    """The configuration in the file at `path`. Raises ConfigError. Without `files`, nothing is looked at that
    it names beside itself."""
    check = _Check(path.parent, files=files)
    config = check.document(_document(path), path)
    if config is None:
        raise ConfigError(tuple(dict.fromkeys(check.problems)))
    return config


def _document(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError([f"{path}: there is no such file; name one with --config"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError([f"{path}: is larger than {MAX_FILE_BYTES} bytes; split what it holds"])
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(
            [f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8"]
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: is not TOML: {error}"]) from None
    except RecursionError:
        raise ConfigError([f"{path}: is nested too deeply; flatten it"]) from None


class _Check:
    """One run over one document; gathers problems instead of stopping at the first."""

    def __init__(self, base: Path, *, files: bool) -> None:
        self.base = base
        self.files = files
        self.problems: list[str] = []

    def problem(self, key: str, text: str) -> None:
        self.problems.append(f"{key}: {text}")

    # From TOML to the types

    def document(self, document: dict[str, Any], path: Path) -> Config | None:
        known = [key for key, _, _ in TABLES]
        for key in document:
            if key not in known and key != "profile":
                self.problem(key, f"unknown table; {_suggest(key, known)}")
        values: dict[str, Any] = {}
        for key, kind, array in TABLES:
            raw = document.get(key)
            if not array:
                values[key] = self.table(kind, {} if raw is None else raw, key)
            elif raw is None and (
                key in OPTIONAL or (key == "issuers" and _ways(document) == ["certificate"])
            ):
                values[key] = ()
            elif raw is None:
                values[key] = ()
                self.problem(key, f"missing; write at least one [[{key}]]. {doc_of(kind)}")
            elif not isinstance(raw, list) or not raw:
                values[key] = ()
                self.problem(key, f"must be an array of tables; write each as [[{key}]]")
            else:
                values[key] = tuple(
                    self.table(kind, item, _item_key(key, index, item))
                    for index, item in enumerate(raw)
                )
        self.relations(document, values)
        self.workers(values)
        values["profile"] = self.profile(document)
        values["rules"] = self.rulebook(values)
        if self.problems:
            return None
        return Config(path=path, **values)

    def profile(self, document: dict[str, Any]) -> Profile:
        kind = Annotated[Profile, msgspec.Meta(description=PROFILE)]
        profile: Profile = self.value(kind, document.get("profile", ""), "profile") or ""
        if profile and not document.get("approvers"):
            self.problem(
                "profile",
                f'"{profile}" holds what is dangerous until somebody approves it, and nobody may: '
                "write at least one [[approvers]]",
            )
        return profile

    def rulebook(self, values: dict[str, Any]) -> tuple[RuleSettings, ...]:
        """The rules of the file, then those of the profile. Says which can never decide."""
        own = [rule for rule in values["rules"] if rule is not None]
        for index, rule in enumerate(own):
            before = next((one for one in own[:index] if policy.covers(one, rule)), None)
            if before is not None:
                self.problem(
                    f"rules[{rule.name}]",
                    f'never decides, because "{before.name}" stands before it and matches all that '
                    "it does; put the one that says more in front",
                )
        groups = [group.name for group in values["approvers"] if group is not None]
        added = profile_rules(values["profile"], groups) if groups else ()
        for rule in added:
            if any(rule.name == one.name for one in own):
                self.problem(f"rules[{rule.name}].name", "is a name of the profile; rename it")
        return (*own, *added)

    def table(self, kind: type[Settings], raw: object, key: str) -> Any:
        """`raw` as a `kind`, or None after having said what is wrong."""
        if not isinstance(raw, dict):
            self.problem(key, f"must be a table. {doc_of(kind)}")
            return None
        before = len(self.problems)
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        for name in raw:
            if name not in fields:
                self.problem(f"{key}.{name}", f"unknown key; {_suggest(name, list(fields))}")
        values: dict[str, Any] = {}
        whole = True
        for name, field in fields.items():
            if name in raw:
                found = len(self.problems)
                value = self.value(field.type, raw[name], f"{key}.{name}")
                if len(self.problems) == found:
                    values[field.name] = value
                    continue
            elif not field.required:
                continue
            else:
                self.problem(f"{key}.{name}", f"missing. {description_of(field.type)}")
            if settings_of(field.type) is not None:
                # No rule looks into a table inside: that has its own. So the others can be told.
                values[field.name] = None
            elif field.required:
                whole = False
        if whole:
            # An optional key with a problem stands at its default here, so that the rules can say
            # what else is wrong; what they say of that very key is a consequence, and dropped.
            found = len(self.problems)
            known = {problem.partition(": ")[0] for problem in self.problems[before:]}
            made = kind(**values)
            self.rules(made, key)
            self.problems[found:] = [
                problem
                for problem in self.problems[found:]
                if not any(_within(key, problem.partition(": ")[0]) for key in known)
            ]
            if len(self.problems) == before:
                return made
        return None

    def value(self, annotation: Any, raw: object, key: str) -> Any:
        nested = settings_of(annotation)
        if nested is not None and isinstance(raw, dict):
            return self.table(nested, raw, key)
        description = description_of(annotation)
        items = items_of(annotation)
        if items is not None:
            return self.items(items, raw, key, description)
        if nested is not None:
            # The value may be a password that somebody wrote in place: it is not repeated.
            self.problem(key, f"must be a table. {description}")
            return None
        if isinstance(raw, float) and not math.isfinite(raw):
            self.problem(key, f"must be a finite number. {description}")
            return None
        try:
            return msgspec.convert(raw, annotation, dec_hook=self.path)
        except msgspec.ValidationError as error:
            reason, _, where = str(error).partition(" - at `$")
            reason = re.sub(r"`([^`]*)`", _plain, reason)
            self.problem(
                key + where.rstrip("`"), f"{reason[:1].lower()}{reason[1:]}. {description}"
            )
            return None

    def items(self, kind: type[Settings], raw: object, key: str, description: str) -> Any:
        """An array of tables inside a table. Each has a name, which no other has."""
        if not isinstance(raw, list):
            self.problem(key, f"must be an array of tables; write each as [[{key}]]. {description}")
            return None
        self.unique({key: raw}, key, "name")
        return tuple(
            self.table(kind, item, _item_key(key, index, item)) for index, item in enumerate(raw)
        )

    def path(self, kind: type, raw: object) -> Path:
        if kind is not Path or not isinstance(raw, str) or not raw or "\0" in raw:
            raise ValueError("expected a path")
        return Path(os.path.normpath(self.base / raw))

    # What the types cannot say

    def rules(self, made: Settings, key: str) -> None:
        """The rules inside one table."""
        rules: dict[type[Settings], Callable[[Any, str], None]] = {
            ListenSettings: self.listen,
            IssuerSettings: self.issuer,
            SecretSettings: self.secret,
            ResourceSettings: self.resource,
            RoleSettings: self.role,
            ApproverSettings: self.approver,
            RuleSettings: self.rule,
            WhenSettings: self.when,
            AuditSettings: self.audit,
            AnchorSettings: self.anchor,
            SinkSettings: self.sink,
            RetentionSettings: self.retention,
            MonitorSettings: self.monitor,
            StateSettings: self.state,
            ControlSettings: self.control,
            ConsoleSettings: self.console,
            WebhookSettings: self.webhook,
            SlackSettings: self.slack,
        }
        rule = rules.get(type(made))
        if rule is not None:
            rule(made, key)

    def listen(self, listen: ListenSettings, key: str) -> None:
        self.host(listen.host, f"{key}.host")
        loopback = is_loopback(listen.host)
        if listen.allow_plaintext_loopback and not loopback:
            self.problem(
                f"{key}.allow_plaintext_loopback",
                f"{listen.host} is not a loopback address, and tokens never cross a network "
                'without TLS; set host = "127.0.0.1", or give certificate and key',
            )
        if listen.certificate is None and listen.key is None:
            if not listen.allow_plaintext_loopback:
                self.problem(
                    f"{key}.certificate",
                    "missing: agents send their tokens inside TLS; give certificate and key, or "
                    "for a trial on loopback set allow_plaintext_loopback = true",
                )
        elif listen.certificate is None or listen.key is None:
            missing = "certificate" if listen.certificate is None else "key"
            self.problem(f"{key}.{missing}", "missing: certificate and key are given together")
        else:
            self.certificate_and_key(listen.certificate, listen.key, key)
        self.ways(listen, key)

    def ways(self, listen: ListenSettings, key: str) -> None:
        ways = listen.authentication
        if not ways:
            self.problem(f"{key}.authentication", 'is empty; name at least one, such as "password"')
        if len(set(ways)) != len(ways):
            self.problem(f"{key}.authentication", "names a way twice; drop one")
        if "certificate" in ways:
            if listen.client_ca is None:
                self.problem(
                    f"{key}.client_ca", "missing: it says whose client certificates are believed"
                )
            if listen.certificate is None:
                self.problem(
                    f"{key}.certificate", "missing: client certificates are shown inside TLS only"
                )
        for name, way in (
            ("client_ca", "certificate"),
            ("client_crl", "certificate"),
            ("oauth_issuer", "oauth"),
            ("oauth_scope", "oauth"),
        ):
            if getattr(listen, name) and way not in ways:
                self.problem(
                    f"{key}.{name}",
                    f'has no effect unless authentication has "{way}"; add it there',
                )
        if listen.client_ca is not None:
            self.certificates(listen.client_ca, f"{key}.client_ca")
        if listen.client_crl is not None:
            self.revocations(listen.client_crl, f"{key}.client_crl")
        if not re.fullmatch(r"(?:[!#-\[\]-~]+(?: |$))*", listen.oauth_scope):
            self.problem(f"{key}.oauth_scope", "is no list of scopes with one space between them")

    def revocations(self, file: Path, key: str) -> None:
        from cryptography import x509

        if not self.files:
            return
        try:
            x509.load_pem_x509_crl(file.read_bytes())
        except FileNotFoundError:
            self.problem(key, f"there is no file {file}; create it or correct the path")
        except OSError as error:
            self.problem(key, f"cannot read {file}: {error.strerror}")
        except ValueError:
            self.problem(key, f"{file} holds no revocation list in PEM form")

    def certificate_and_key(self, certificate: Path, key_file: Path, key: str) -> None:
        from cryptography.hazmat.primitives import serialization

        if not self.files:
            return
        chain = self.certificates(certificate, f"{key}.certificate")
        wrong = private_file_problem(key_file)
        if wrong is not None:
            self.problem(f"{key}.key", wrong)
            return
        try:
            private = serialization.load_pem_private_key(key_file.read_bytes(), None)
        except TypeError:
            self.problem(f"{key}.key", f"{key_file} is encrypted; give an unencrypted key")
            return
        except Exception:  # noqa: BLE001 - the library has no common base for unreadable keys
            self.problem(f"{key}.key", f"{key_file} holds no private key in PEM form")
            return
        form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        if chain and chain[0].public_key().public_bytes(*form) != private.public_key().public_bytes(
            *form
        ):
            self.problem(
                f"{key}.key",
                f"{key_file} does not belong to the first certificate in {certificate}; "
                "put the gateway's own certificate first, or give its key",
            )

    def certificates(self, file: Path, key: str) -> list[Any]:
        from cryptography import x509

        if not self.files:
            return []
        try:
            return x509.load_pem_x509_certificates(file.read_bytes())
        except FileNotFoundError:
            self.problem(key, f"there is no file {file}; create it or correct the path")
        except OSError as error:
            self.problem(key, f"cannot read {file}: {error.strerror}")
        except ValueError:
            self.problem(key, f"{file} holds no certificate in PEM form")
        return []

    def issuer(self, issuer: IssuerSettings, key: str) -> None:
        self.url(issuer.url, issuer.allow_http_loopback, f"{key}.url")
        if issuer.jwks_url is not None:
            self.url(issuer.jwks_url, issuer.allow_http_loopback, f"{key}.jwks_url")
        if not issuer.audiences or not all(issuer.audiences):
            self.problem(
                f"{key}.audience",
                "is empty: without it a token meant for another service would be accepted. "
                "Name what your issuer puts in `aud` for this gateway",
            )
        if not issuer.algorithms:
            self.problem(f"{key}.algorithms", 'is empty; name at least one, such as "RS256"')
        for algorithm in issuer.algorithms:
            if algorithm.lower() == "none":
                self.problem(f"{key}.algorithms", '"none" means unsigned tokens; leave it out')
            elif algorithm.upper().startswith("HS"):
                self.problem(
                    f"{key}.algorithms",
                    f'"{algorithm}" is signed with a shared secret, so whoever can check a token '
                    "can make one; use an asymmetric one such as RS256 or ES256",
                )
            elif algorithm not in ALGORITHMS:
                self.problem(
                    f"{key}.algorithms",
                    f'"{algorithm}" is not known; {_suggest(algorithm, sorted(ALGORITHMS))}',
                )
        if issuer.ca is not None:
            self.certificates(issuer.ca, f"{key}.ca")
        if issuer.stale_seconds < issuer.refresh_seconds:
            self.problem(
                f"{key}.stale_seconds",
                f"{issuer.stale_seconds:g} is less than refresh_seconds "
                f"({issuer.refresh_seconds:g}); make it at least as long",
            )

    def url(self, url: str, allow_http_loopback: bool, key: str) -> None:
        wrong = url_problem(url, allow_http_loopback)
        if wrong is not None:
            self.problem(key, wrong)

    def host(self, host: str, key: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._:%\-]+", host):
            self.problem(key, "is neither a host name nor an IP address; write the host alone")

    def secret(self, secret: SecretSettings, key: str) -> None:
        given = [name for name in secret.__struct_fields__ if getattr(secret, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none"
            choices = ", ".join(secret.__struct_fields__)
            self.problem(key, f"needs exactly one of {choices}, and has {found}")
            return
        if secret.file is not None:
            wrong = private_file_problem(secret.file) if self.files else None
            if wrong is not None:
                self.problem(f"{key}.file", wrong)
        if secret.env is not None and self.files and not os.environ.get(secret.env):
            self.problem(f"{key}.env", f"the environment has no {secret.env}; set it")
        if secret.command is not None:
            self.command(secret.command, f"{key}.command")

    def command(self, command: Sequence[str], key: str) -> None:
        if not command or not command[0]:
            self.problem(key, "is empty; name the program and its arguments")
        elif self.files and shutil.which(command[0]) is None:
            self.problem(key, f"there is no program {command[0]}; install it or give its full path")

    def pool(self, pool: PoolSettings, key: str) -> None:
        if pool.ready > (pool.max_connections if pool.idle_seconds else 0):
            self.problem(
                f"{key}.ready",
                "is more than max_connections"
                if pool.idle_seconds
                else "has no effect with idle_seconds = 0; take one away",
            )
        if pool.mode == "transaction" and not pool.idle_seconds:
            self.problem(
                f"{key}.idle_seconds",
                'must be more than 0 with mode = "transaction": otherwise each transaction would log in anew',
            )

    def resource(self, resource: ResourceSettings, key: str) -> None:
        for name in ("name", "database", "user"):
            if not getattr(resource, name).isprintable():
                self.problem(f"{key}.{name}", "has control characters; take them out")
        if not resource.unix:
            self.host(resource.host, f"{key}.host")
        if resource.unix and resource.tls != "disable":
            self.problem(
                f"{key}.tls", 'a unix socket has no TLS; set tls = "disable" for this resource'
            )
        if resource.tls == "disable" and not resource.on_this_machine:
            self.problem(
                f"{key}.tls",
                f'"disable" would send the password and card numbers to {resource.host} in clear; '
                'it is for loopback addresses and unix sockets only. Use "verify-full"',
            )
        pool: PoolSettings | None = resource.pool
        if pool is not None:  # it is wrong in itself otherwise
            self.pool(pool, f"{key}.pool")
        if resource.ca is not None:
            self.certificates(resource.ca, f"{key}.ca")
            if resource.tls == "disable":
                self.problem(f"{key}.ca", 'has no effect with tls = "disable"; take one away')
        if resource.certificate is None and resource.key is None:
            if resource.password is None:
                self.problem(
                    f"{key}.password",
                    "missing: the gateway logs in with a password, or with certificate and key",
                )
        elif resource.certificate is None or resource.key is None:
            missing = "certificate" if resource.certificate is None else "key"
            self.problem(f"{key}.{missing}", "missing: certificate and key are given together")
        else:
            self.certificate_and_key(resource.certificate, resource.key, key)
            if resource.tls == "disable":
                self.problem(
                    f"{key}.certificate", 'has no effect with tls = "disable"; take one away'
                )
        if resource.application_name is not None:
            self.template(
                resource.application_name,
                ("application", "principal", "role"),
                f"{key}.application_name",
            )
        try:
            open_knowledge(resource.protocol, resource.columns)
        except MaskingError as wrong:
            self.problem(key, str(wrong))

    def template(self, text: str, names: Sequence[str], key: str) -> None:
        """A text in which `{name}` stands for something."""
        try:
            fields = [field for _, field, *_ in Formatter().parse(text) if field is not None]
            wrong = any(field not in names for field in fields)
            text.format(**dict.fromkeys(names, ""))
        except (KeyError, IndexError, ValueError, AttributeError):
            wrong = True
        if wrong:
            known = ", ".join(f"{{{name}}}" for name in names)
            self.problem(key, f"is no text with {known}; a brace of its own is written twice")

    def role(self, role: RoleSettings, key: str) -> None:
        if not role.name.isprintable():
            self.problem(f"{key}.name", "has control characters; take them out")
        if not role.resources:
            self.problem(f"{key}.resources", "is empty; name what the role grants, or drop it")
        if not role.match:
            self.problem(
                f"{key}.match",
                "is empty and would match every token; name a claim, for example "
                'match = { sub = "agent-1" }',
            )
        self.match(role.match, f"{key}.match")
        if "bulk_write" in role.effects and "write" not in role.effects:
            self.problem(f"{key}.effects", '"bulk_write" is of no use without "write"; add it')
        for name in role.functions:
            if not name or not name.isprintable() or "*" in name[:-1] or "(" in name:
                self.problem(
                    f"{key}.functions",
                    f'"{name}" is no name of a function; write it as statements do, without '
                    "brackets, with * at its end at the most",
                )
        if role.mask in ("first6_last4", "first8_last4") and not role.justification.strip():
            self.problem(
                f"{key}.justification",
                f'missing: mask = "{role.mask}" shows more than the last four digits, for which '
                "PCI DSS 3.4.1 wants a documented need; write it here",
            )

    def match(self, match: Mapping[str, Any], key: str) -> None:
        for claim, wanted in match.items():
            where = f"{key}.{toml_key(claim)}"
            if isinstance(wanted, dict):
                if not wanted:
                    self.problem(where, "is empty; name what the claim must hold")
                self.match(wanted, where)
                continue
            options = wanted if isinstance(wanted, list) else [wanted]
            if not options:
                self.problem(where, "is an empty list, which nothing matches; name a value")
            if not all(isinstance(option, (str, bool, int)) for option in options):
                self.problem(
                    where, "must be a text, a whole number, true, false, or a list of these"
                )

    def approver(self, approver: ApproverSettings, key: str) -> None:
        if not approver.name.isprintable():
            self.problem(f"{key}.name", "has control characters; take them out")
        if not approver.match:
            self.problem(
                f"{key}.match",
                "is empty and would make everybody an approver; name a claim, for example "
                'match = { groups = "dba" }',
            )
        self.match(approver.match, f"{key}.match")

    def rule(self, rule: RuleSettings, key: str) -> None:
        for name, wrong in rule_problems(rule):
            self.problem(f"{key}.{name}", wrong)
        self.match(rule.match, f"{key}.match")
        if rule.condition is not None:
            try:
                policy.Condition(rule.condition)
            except ValueError as wrong:
                self.problem(f"{key}.condition", str(wrong))

    def when(self, when: WhenSettings, key: str) -> None:
        for name, wrong in when_problems(when):
            self.problem(f"{key}.{name}", wrong)

    def audit(self, audit: AuditSettings, key: str) -> None:
        self.own_file(audit.path, f"{key}.path")
        if audit.key_command is not None:
            if audit.key is not None:
                self.problem(f"{key}.key", "has no effect with key_command; take one away")
            self.command(audit.key_command, f"{key}.key_command")
            for name in audit.key_environment:
                if self.files and name not in os.environ:
                    self.problem(f"{key}.key_environment", f"the environment has no {name}; set it")
        elif audit.key_environment:
            self.problem(f"{key}.key_environment", "has no effect without key_command")
        if audit.anchors and not audit.seal_seconds:
            self.problem(
                f"{key}.seal_seconds",
                "is 0, so there are no checkpoints for the anchors; set it, for example to 1",
            )

    def anchor(self, anchor: AnchorSettings, key: str) -> None:
        for name, wrong in anchor_problems(anchor):
            self.problem(f"{key}.{name}", wrong)
        if anchor.kind == "file" and anchor.path is not None:
            self.own_file(anchor.path, f"{key}.path")
        if anchor.witness_key is not None and not anchor.witness_key.is_file():
            self.problem(
                f"{key}.witness_key", f"there is no file {anchor.witness_key}; create it first"
            )
        if anchor.host is not None:
            self.host(anchor.host, f"{key}.host")
        if anchor.authority is not None:
            self.certificates(anchor.authority, f"{key}.authority")
        self.tls_files(anchor.ca, anchor.certificate, anchor.key, key)

    def retention(self, retention: RetentionSettings, key: str) -> None:
        for name, wrong in retention_problems(retention):
            self.problem(f"{key}.{name}", wrong)

    def sink(self, sink: SinkSettings, key: str) -> None:
        for name, wrong in sink_problems(sink):
            self.problem(f"{key}.{name}", wrong)
        if sink.kind == "file" and sink.path is not None:
            self.own_file(sink.path, f"{key}.path")
        if sink.host is not None:
            self.host(sink.host, f"{key}.host")
        self.tls_files(sink.ca, sink.certificate, sink.key, key)

    def tls_files(
        self, ca: Path | None, certificate: Path | None, key_file: Path | None, key: str
    ) -> None:
        """The files of a TLS client."""
        if ca is not None:
            self.certificates(ca, f"{key}.ca")
        if certificate is not None and key_file is not None:
            self.certificate_and_key(certificate, key_file, key)

    def own_file(self, path: Path, key: str) -> None:
        """A file that the gateway makes."""
        if not self.files:
            return
        if path.is_dir():
            self.problem(key, f"{path} is a directory; name a file in it")
        elif not path.parent.is_dir():
            self.problem(key, f"there is no directory {path.parent}; create it first")
        elif not os.access(path.parent, os.W_OK | os.X_OK):
            self.problem(
                key, f"uid {os.geteuid()} may not write in {path.parent}; change its owner"
            )

    def workers(self, values: dict[str, Any]) -> None:
        """Each worker has its part of what is bounded for all: of that there has to be one."""
        process, limits = values["process"], values["limits"]
        if process is None or process.workers == 1:
            return
        audit = values["audit"]
        if audit is not None and not any(
            "{origin}" in word for word in audit.key_command or ["{origin}"]
        ):
            self.problem(
                "audit.key_command",
                "has no {origin} in it, so it would print one key for the ledgers of all workers; have it "
                "choose the key by that",
            )
        least = process.workers
        if limits is not None and limits.max_sessions < least:
            self.problem(
                "limits.max_sessions", f"is less than process.workers; it must be at least {least}"
            )
        for resource in values["resources"]:
            pool: PoolSettings | None = None if resource is None else resource.pool
            if pool is None:  # it is wrong in itself
                continue
            part = pool.max_connections // least
            if not part:
                self.problem(
                    f"resources[{resource.name}].pool.max_connections",
                    f"is less than process.workers; it must be at least {least}",
                )
            elif part < pool.ready <= pool.max_connections:
                self.problem(
                    f"resources[{resource.name}].pool.ready",
                    f"is more than a worker's part of max_connections, which is {part}; each has its own",
                )

    def state(self, state: StateSettings, key: str) -> None:
        if state.path is not None:
            self.own_file(state.path, f"{key}.path")

    def control(self, control: ControlSettings, key: str) -> None:
        self.host(control.host, f"{key}.host")
        if control.certificate is not None and control.key is not None:
            self.certificate_and_key(control.certificate, control.key, key)
        elif control.certificate is not None or control.key is not None:
            missing = "certificate" if control.certificate is None else "key"
            self.problem(f"{key}.{missing}", "missing: certificate and key are given together")
        elif not is_loopback(control.host):
            self.problem(
                f"{key}.certificate",
                f"missing: {control.host} is not a loopback address, and tokens never cross a network "
                "without TLS; give certificate and key",
            )

        if control.console is not None and control.port is None:
            self.problem(f"{key}.port", "missing: the console needs it; name the port of its url")

    def console(self, console: ConsoleSettings, key: str) -> None:
        for name, wrong in console_problems(console, url_problem(console.url, True)):
            self.problem(f"{key}.{name}", wrong)
        for role, wanted in console.matches():
            self.match(wanted, f"{key}.{role}")
        if console.secret_file is not None:
            unsafe = private_file_problem(console.secret_file) if self.files else None
            if unsafe is not None:
                self.problem(f"{key}.secret_file", unsafe)

    def webhook(self, webhook: WebhookSettings, key: str) -> None:
        self.url(webhook.url, loopback_named(webhook.networks), f"{key}.url")
        self.channel(webhook, key)

    def slack(self, slack: SlackSettings, key: str) -> None:
        self.url(slack.api, loopback_named(slack.networks), f"{key}.api")
        self.channel(slack, key)

    def channel(self, made: WebhookSettings | SlackSettings, key: str) -> None:
        for name, wrong in channel_problems(made):
            self.problem(f"{key}.{name}", wrong)
        if made.ca is not None:
            self.certificates(made.ca, f"{key}.ca")
        claims = (
            ([(f"{key}.callback.claims", made.callback.claims)] if made.callback else [])
            if isinstance(made, WebhookSettings)
            else [
                (f"{key}.people[{index}].claims", one.claims)
                for index, one in enumerate(made.people)
            ]
        )
        for where, one in claims:
            self.plain_claims(one, where)

    def plain_claims(self, claims: Mapping[str, Any], key: str) -> None:
        """Claims as a token could have them."""
        for name, value in claims.items():
            found = value if isinstance(value, list) else [value]
            if isinstance(value, dict):
                self.plain_claims(value, f"{key}.{toml_key(name)}")
            elif not all(isinstance(one, (str, bool, int)) for one in found):
                self.problem(
                    f"{key}.{toml_key(name)}",
                    "must be a text, a whole number, true, false, or a list of these",
                )

    def monitor(self, monitor: MonitorSettings, key: str) -> None:
        self.host(monitor.host, f"{key}.host")
        if not is_loopback(monitor.host) and not monitor.allow_network:
            self.problem(
                f"{key}.host",
                f"{monitor.host} is not a loopback address, and whoever reaches it may read; use "
                '"127.0.0.1", or set allow_network = true where the network keeps others away',
            )

    # Between tables. Names are taken from the raw document, so that an item with a problem of its
    # own does not make every reference to it a problem too.

    def relations(self, document: dict[str, Any], values: dict[str, Any]) -> None:
        resources = self.unique(document, "resources", "name")
        issuers = self.unique(document, "issuers", "url")
        self.discovery(document, issuers)
        self.sign_in(document, issuers)
        if "certificate" in _ways(document):
            issuers = [*issuers, CERTIFICATE_ISSUER]
        known = {
            "resources": resources,
            "issuers": issuers,
            "roles": self.unique(document, "roles", "name"),
            "approvers": self.unique(document, "approvers", "name"),
        }
        self.unique(document, "rules", "name")
        approvals = document.get("approvals")
        if isinstance(approvals, dict):
            glass = approvals.get("break_glass")
            self.named(glass, known["approvers"], "approvers", "approvals.break_glass")
        self.channels(document, known["approvers"], issuers)
        for table in ("roles", "approvers", "rules"):
            for key, raw in _items(document, table):
                for names in ("resources", "roles"):
                    self.named(raw.get(names), known[names], names, f"{key}.{names}")
                self.issued(raw, table, issuers, key)
                hold = raw.get("hold")
                if isinstance(hold, dict):
                    groups = known["approvers"]
                    self.named(hold.get("approvers"), groups, "approvers", f"{key}.hold.approvers")

    def channels(self, document: dict[str, Any], groups: list[str], issuers: list[str]) -> None:
        """What channels refer to, and what refers to them."""
        names = self.unique(document, "webhooks", "name")
        for index, name in enumerate(self.unique(document, "slack", "name")):
            if name in names:
                self.problem(f"slack[{index}].name", f'"{name}" is a webhook already; rename one')
        control = document.get("control")
        listens = isinstance(control, dict) and control.get("port") is not None
        for table in ("webhooks", "slack"):
            for key, raw in _items(document, table):
                self.named(raw.get("approvers"), groups, "approvers", f"{key}.approvers")
                people = raw.get("people") if table == "slack" else None
                deciders = [
                    (f"{key}.people[{index}]", one)
                    for index, one in enumerate(people if isinstance(people, list) else [])
                    if isinstance(one, dict)
                ]
                callback = raw.get("callback") if table == "webhooks" else None
                if isinstance(callback, dict):
                    deciders.append((f"{key}.callback", callback))
                for where, one in deciders:
                    self.issued(one, table, issuers, where)
                if deciders and not listens:
                    self.problem(
                        deciders[0][0],
                        "has no effect without control.port, where decisions arrive; set it",
                    )

    def named(self, raw: object, known: list[str], table: str, key: str) -> None:
        """What a list of names in one table refers to in another."""
        for name in raw if isinstance(raw, list) else ():
            if isinstance(name, str) and name not in known:
                what = "group of [[approvers]]" if table == "approvers" else table.rstrip("s")
                self.problem(key, f'there is no {what} "{name}"; {_suggest(name, known)}')

    def issued(self, raw: dict[str, Any], table: str, issuers: list[str], key: str) -> None:
        """Whose claims an item believes."""
        issuer = raw.get("issuer")
        # A rule that denies or holds may go for the claims of all of them.
        needed = table != "rules" or (bool(raw.get("match")) and raw.get("verdict") == "allow")
        if issuer is None and len(issuers) > 1 and needed:
            self.problem(
                f"{key}.issuer",
                f"missing: with several issuers {_ITEM[table]} says whose claims it believes; name "
                "one of " + ", ".join(issuers),
            )
        elif isinstance(issuer, str) and issuer not in issuers:
            self.problem(
                f"{key}.issuer", f'there is no issuer "{issuer}"; {_suggest(issuer, issuers)}'
            )

    def discovery(self, document: dict[str, Any], issuers: list[str]) -> None:
        listen = document.get("listen")
        named = listen.get("oauth_issuer") if isinstance(listen, dict) else None
        if named is None and "oauth" in _ways(document) and len(issuers) > 1:
            self.problem(
                "listen.oauth_issuer",
                "missing: with several issuers it says which one OAuth clients are sent to; name one "
                "of " + ", ".join(issuers),
            )
        elif isinstance(named, str) and named not in issuers:
            self.problem(
                "listen.oauth_issuer", f'there is no issuer "{named}"; {_suggest(named, issuers)}'
            )

    def sign_in(self, document: dict[str, Any], issuers: list[str]) -> None:
        control = document.get("control")
        console = control.get("console") if isinstance(control, dict) else None
        if isinstance(console, dict):
            self.issued(console, "console", issuers, "control.console")
            if not issuers:
                self.problem(
                    "control.console.issuer",
                    "there is no issuer that people could sign in at; write one in [[issuers]]",
                )
            self.for_the_console_alone(document, console, issuers)

    def for_the_console_alone(
        self, document: dict[str, Any], console: dict[str, Any], issuers: list[str]
    ) -> None:
        """An identity token names the console as its audience, and must be good for nothing else."""
        client, url = console.get("client_id"), console.get("issuer", *issuers[:1])
        for key, raw in _items(document, "issuers"):
            audience = raw.get("audience")
            audiences = audience if isinstance(audience, list) else [audience]
            if isinstance(client, str) and raw.get("url") == url and client in audiences:
                self.problem(
                    "control.console.client_id",
                    f'"{client}" is an audience of tokens too ({key}.audience), so the identity token of '
                    "whoever signs in to the console would be taken for an agent's; register a client of "
                    "its own for the console",
                )

    def unique(self, document: dict[str, Any], table: str, field: str) -> list[str]:
        items = document.get(table)
        names: list[str] = []
        for index, item in enumerate(items if isinstance(items, list) else []):
            name = item.get(field) if isinstance(item, dict) else None
            if not isinstance(name, str):
                continue
            if name in names:
                self.problem(
                    f"{table}[{index}].{field}", f'"{name}" is there twice; rename or drop one'
                )
            else:
                names.append(name)
        return names


def _ways(document: dict[str, Any]) -> list[object]:
    """`listen.authentication` as it stands in the raw document."""
    listen = document.get("listen")
    ways = listen.get("authentication") if isinstance(listen, dict) else None
    return ways if isinstance(ways, list) else []


_ITEM = {
    "console": "the console",
    "roles": "a role",
    "approvers": "a group",
    "rules": "a rule that allows",
    "webhooks": "a webhook that decides",
    "slack": "a person",
}


def _items(document: dict[str, Any], table: str) -> list[tuple[str, dict[str, Any]]]:
    """The items of an array in the raw document that are tables, each with its key."""
    raw = document.get(table)
    return [
        (_item_key(table, index, item), item)
        for index, item in enumerate(raw if isinstance(raw, list) else [])
        if isinstance(item, dict)
    ]


def _item_key(table: str, index: int, item: object) -> str:
    """`resources[payments]` where the item has a name, `resources[0]` otherwise."""
    name = item.get("name") if isinstance(item, dict) else None
    if isinstance(name, str) and re.fullmatch(r"[\w.\-]+", name):
        return f"{table}[{name}]"
    return f"{table}[{index}]"


def _within(key: str, other: str) -> bool:
    return key == other or key.startswith(f"{other}.")


def _plain(kinds: re.Match[str]) -> str:
    """`int | null` as "a whole number"."""
    names = [name for name in kinds[1].split(" | ") if name != "null"]
    return " or ".join(_WORDS.get(name, name) for name in names)


def _suggest(wrong: str, known: list[str]) -> str:
    close = difflib.get_close_matches(wrong, known, n=1)
    if close:
        return f'did you mean "{close[0]}"?'
    return "there is " + (", ".join(known) if known else "none")
