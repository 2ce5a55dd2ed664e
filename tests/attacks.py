"""Every token that must not pass, made by an issuer that does what it is told, and what the record says about
it. What the agent is told is the same for all of them."""

from __future__ import annotations

import hashlib
import hmac
import json
import time

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from issuer import AUDIENCE, EC, OTHER_RSA, RSA, Issuer, b64, jwk


def hs256_with_public_key(issuer: Issuer) -> str:
    """Algorithm confusion: the issuer's public key, which everybody has, as an HMAC secret."""
    secret = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = (
        b64(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "rsa"}).encode())
        + "."
        + b64(json.dumps(issuer.claims()).encode())
    )
    return f"{signed}.{b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def unsigned(issuer: Issuer, name: str) -> str:
    header = b64(json.dumps({"alg": name, "kid": "rsa"}).encode())
    return f"{header}.{b64(json.dumps(issuer.claims()).encode())}."


def with_payload(issuer: Issuer, change) -> str:
    """A good signature over other claims than it was made for."""
    header, payload, signature = issuer.token().split(".")
    claims = json.loads(jwt.utils.base64url_decode(payload))
    change(claims)
    return f"{header}.{b64(json.dumps(claims).encode())}.{signature}"


def raw(issuer: Issuer, payload: bytes | None = None, header: bytes | None = None) -> str:
    return issuer.raw(
        header or b'{"alg":"RS256","kid":"rsa"}', payload or json.dumps(issuer.claims()).encode()
    )


def broken_signature(issuer: Issuer) -> str:
    token = issuer.token()
    end = "A" if token[-5] != "A" else "B"
    return token[:-5] + end + token[-4:]


NOW = int(time.time())
"""The start of the run, which may take long: what lies ahead of it does so by hours."""
ATTACKS = {
    # name: (token, what the record says)
    "no token": (lambda i: "", "empty"),
    "a plain password": (lambda i: "correct horse", "not a signed token"),
    "two parts": (lambda i: issuer_parts(i, 2), "not a signed token"),
    "four parts": (lambda i: i.token() + ".AAAA", "not a signed token"),
    "five parts, as an encrypted one": (lambda i: i.token() + ".AAAA.AAAA", "not a signed token"),
    "JSON serialisation": (lambda i: json.dumps({"payload": "e30"}), "not a signed token"),
    "space around it": (lambda i: f" {i.token()}", "not a signed token"),
    "newline after it": (lambda i: i.token() + "\n", "not a signed token"),
    "padding": (lambda i: i.token().replace(".", "=.", 1), "not a signed token"),
    "plain base64 alphabet": (lambda i: i.token() + "+/", "not a signed token"),
    "other digits": (lambda i: i.token() + "٣", "not a signed token"),
    "surrogate": (lambda i: i.token() + "\udcff", "not a signed token"),
    "NUL": (lambda i: i.token() + "\0", "not a signed token"),
    "oversized": (lambda i: i.token(junk="x" * 20_000), "limits.token_bytes"),
    "oversized garbage": (lambda i: "A" * 1_000_000, "limits.token_bytes"),
    "none": (lambda i: unsigned(i, "none"), "not a signed token"),
    "none with a signature": (lambda i: unsigned(i, "none") + "AAAA", "algorithm 'none'"),
    "NoNe": (lambda i: unsigned(i, "NoNe") + "AAAA", "algorithm 'NoNe'"),
    "empty algorithm": (lambda i: unsigned(i, "") + "AAAA", "algorithm ''"),
    "HMAC with the public key": (hs256_with_public_key, "algorithm 'HS256'"),
    "HMAC of another size": (lambda i: unsigned(i, "HS512") + "AAAA", "algorithm 'HS512'"),
    "an algorithm that is not pinned": (lambda i: i.token(RSA, "RS512"), "algorithm 'RS512'"),
    "PSS where it is not pinned": (lambda i: i.token(RSA, "PS256"), "algorithm 'PS256'"),
    "algorithm of another key type": (lambda i: i.token(EC, "ES256", "rsa"), "no ES256 key 'rsa'"),
    "RSA signature under an EC key's name": (lambda i: i.token(kid="ec"), "no RS256 key 'ec'"),
    "algorithm is a list": (
        lambda i: raw(i, header=b'{"alg":["RS256"],"kid":"rsa"}'),
        "algorithm (not a text)",
    ),
    "no algorithm": (lambda i: raw(i, header=b'{"kid":"rsa"}'), "algorithm (none)"),
    "another's key under our key's name": (lambda i: i.token(OTHER_RSA), "signature is wrong"),
    "unknown key": (lambda i: i.token(OTHER_RSA, kid="evil"), "no RS256 key 'evil'"),
    "key id that is a path": (
        lambda i: i.token(OTHER_RSA, kid="../../dev/null"),
        "no RS256 key '../../dev/null'",
    ),
    "key id that is not a text": (
        lambda i: raw(i, header=b'{"alg":"RS256","kid":{"a":1}}'),
        "kid is not a name",
    ),
    "endless key id": (
        lambda i: raw(i, header=b'{"alg":"RS256","kid":"%s"}' % (b"k" * 600)),
        "kid is not a name",
    ),
    "brings its own key (jwk)": (
        lambda i: i.token(OTHER_RSA, headers={"jwk": jwk(OTHER_RSA, "rsa")}),
        "signature is wrong",
    ),
    "brings its own key under an unknown name (jwk)": (
        lambda i: i.token(OTHER_RSA, kid="x", headers={"jwk": jwk(OTHER_RSA, "x")}),
        "no RS256 key 'x'",
    ),
    "names its own key set (jku)": (
        lambda i: i.token(OTHER_RSA, kid="x", headers={"jku": f"{i.url}/evil"}),
        "no RS256 key 'x'",
    ),
    "names its own certificate (x5u)": (
        lambda i: i.token(OTHER_RSA, headers={"x5u": f"{i.url}/evil"}),
        "signature is wrong",
    ),
    "brings its own certificate (x5c)": (
        lambda i: i.token(OTHER_RSA, headers={"x5c": ["MIIB"]}),
        "signature is wrong",
    ),
    "crit": (
        lambda i: raw(i, header=b'{"alg":"RS256","kid":"rsa","crit":["exp"],"exp":1}'),
        "header crit",
    ),
    "empty crit": (lambda i: raw(i, header=b'{"alg":"RS256","kid":"rsa","crit":[]}'), "crit"),
    "b64 false": (
        lambda i: raw(i, header=b'{"alg":"RS256","kid":"rsa","b64":false}'),
        "header b64",
    ),
    "compressed": (
        lambda i: raw(i, header=b'{"alg":"RS256","kid":"rsa","zip":"DEF"}'),
        "header zip",
    ),
    "logout token": (
        lambda i: i.token(headers={"typ": "logout+jwt"}),
        "type 'logout+jwt' is not a credential",
    ),
    "DPoP proof": (lambda i: i.token(headers={"typ": "dpop+jwt"}), "type 'dpop+jwt'"),
    "bound to a key": (lambda i: i.token(cnf={"jkt": "abc"}), "cnf"),
    "wrong signature": (broken_signature, "signature is wrong"),
    "no signature": (lambda i: i.token().rpartition(".")[0] + ".", "not a signed token"),
    "one byte of a signature": (lambda i: i.token().rpartition(".")[0] + ".AA", "signature"),
    "changed subject": (
        lambda i: with_payload(i, lambda c: c.update(sub="root")),
        "signature is wrong",
    ),
    "changed expiry": (
        lambda i: with_payload(i, lambda c: c.update(exp=c["exp"] + 9999)),
        "signature is wrong",
    ),
    "expired": (lambda i: i.token(exp=NOW - 60, iat=NOW - 600), "expired"),
    "not valid yet": (lambda i: i.token(nbf=NOW + 36_000), "not valid yet"),
    "issued in the future": (
        lambda i: i.token(iat=NOW + 36_000, exp=NOW + 37_000),
        "not valid yet",
    ),
    "lives too long": (lambda i: i.token(exp=NOW + 86_400 * 30), "lives longer"),
    "never ends": (lambda i: i.token(exp=10**300), "lives longer"),
    "no expiry": (lambda i: i.token(exp=None), "claim exp is missing"),
    "expiry null": (
        lambda i: raw(i, json.dumps({**i.claims(), "exp": None}).encode()),
        "claim exp is missing",
    ),
    "expiry as a text": (lambda i: i.token(exp=str(NOW + 36_000)), "exp is not a number"),
    "expiry true": (lambda i: i.token(exp=True), "expired"),
    "expiry infinite": (
        lambda i: raw(i, json.dumps({**i.claims(), "exp": "E"}).encode().replace(b'"E"', b"1e999")),
        "not usable",
    ),
    "expiry NaN": (
        lambda i: raw(i, json.dumps({**i.claims(), "exp": float("nan")}).encode()),
        "not a JSON object",
    ),
    "issued at as a text": (lambda i: i.token(iat=str(NOW)), "iat is not a number"),
    "no issue time": (lambda i: i.token(iat=None), "claim iat is missing"),
    "no subject": (lambda i: i.token(sub=None), "claim sub is missing"),
    "empty subject": (lambda i: i.token(sub=""), "sub is not a name"),
    "blank subject": (lambda i: i.token(sub="  "), "sub is not a name"),
    "subject with a newline": (lambda i: i.token(sub="agent-1\nadmin"), "sub is not a name"),
    "endless subject": (lambda i: i.token(sub="a" * 600), "longer than 512"),
    "subject that is a number": (
        lambda i: raw(i, json.dumps({**i.claims(), "sub": 7}).encode()),
        "not usable",
    ),
    "no audience": (lambda i: i.token(aud=None), "claim aud is missing"),
    "audience of another service": (lambda i: i.token(aud="billing"), "another audience"),
    "audience in other letters": (lambda i: i.token(aud=AUDIENCE.upper()), "another audience"),
    "audience that holds ours": (lambda i: i.token(aud=f"{AUDIENCE}-test"), "another audience"),
    "empty audiences": (lambda i: i.token(aud=[]), "claim aud is missing"),
    "audience in a table": (lambda i: i.token(aud={AUDIENCE: 1}), "another audience"),
    "no issuer": (lambda i: i.token(iss=None), "claim iss is missing"),
    "unknown issuer": (lambda i: i.token(iss="https://evil.example"), "'https://evil.example'"),
    "issuer with a slash": (lambda i: i.token(iss=i.url + "/"), "is not configured"),
    "issuer that begins with ours": (lambda i: i.token(iss=i.url + ".evil"), "not configured"),
    "issuers in a list": (
        lambda i: raw(i, json.dumps({**i.claims(), "iss": [i.url]}).encode()),
        "claim iss is missing",
    ),
    "subject twice": (
        lambda i: raw(i, json.dumps(i.claims()).encode()[:-1] + b',"sub":"root"}'),
        "unique keys",
    ),
    "algorithm twice": (
        lambda i: raw(i, header=b'{"alg":"none","alg":"RS256","kid":"rsa"}'),
        "unique keys",
    ),
    "key twice, deep inside": (
        lambda i: raw(i, json.dumps(i.claims()).encode()[:-1] + b',"x":{"a":1,"a":2}}'),
        "unique keys",
    ),
    "payload is a list": (lambda i: raw(i, b"[1]"), "payload is not a JSON object"),
    "payload is not JSON": (lambda i: raw(i, b"sub=root"), "payload is not a JSON object"),
    "payload is not UTF-8": (lambda i: raw(i, b'{"sub":"\xff"}'), "payload is not"),
    "payload is nested deeply": (lambda i: raw(i, b"[" * 9000), "payload is not"),
    "number of many digits": (lambda i: raw(i, b'{"exp":' + b"9" * 9000 + b"}"), "payload is not"),
    "header is not JSON": (lambda i: raw(i, header=b"alg"), "header is not a JSON object"),
}


def issuer_parts(issuer: Issuer, count: int) -> str:
    return ".".join(issuer.token().split(".")[:count])
