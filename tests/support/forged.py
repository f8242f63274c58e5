"""Tokens that nobody must take, made from an issuer whose good tokens are taken.

issuer = rs256(audience="gateway")
settings = issuer.settings(tmp_path)  # what makes a gateway trust it
issuer.token(roles=["developer"])     # a good token
forged(issuer)                        # name -> forgery, almost 200 of them
by_reason(issuer)                     # the same by the reason for which each is refused
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from functools import partial
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.auth.claims import Reason
from tests.support.issuer import LEEWAY, Issuer, b64, compact, ec_key, ed25519_key, mac, rsa_key, stranger


Tokens = dict[str, str]


def forged(issuer: Issuer) -> Tokens:
    """Every forgery, by name. Some are no text for an HTTP header: see `is_printable`."""
    return {name: token for tokens in by_reason(issuer).values() for name, token in tokens.items()}


def is_printable(token: str) -> bool:
    """Whether a header, a subprotocol or a URL can carry these characters as they are."""
    return bool(token) and token.isascii() and token.isprintable() and " " not in token


def by_reason(issuer: Issuer) -> dict[Reason, Tokens]:
    """Every forgery, by the reason for which it is refused and by name."""
    expired, early = _times(issuer)
    return {
        "algorithm": _algorithms(issuer) | _confusions(issuer),
        "signature": _signatures(issuer) | _embedded_keys(issuer),
        "malformed": _forms(issuer) | _documents(issuer) | _headers(issuer),
        "expired": expired,
        "not_yet_valid": early,
        "audience": _audiences(issuer),
        "issuer": _issuers(issuer),
        "claim": _claims(issuer),
        "unknown_key": _unknown_keys(issuer),
    }


def _algorithms(issuer: Issuer) -> Tokens:
    """The header asks for another algorithm than the key's."""
    claims = issuer.claims()
    names = ["none", "None", "NONE", "nOnE", "", issuer.algorithm.lower(), f"{issuer.algorithm} "]
    tokens = {
        f"alg {name!r}, unsigned, with a signature that is there": compact(
            issuer.header(alg=name), claims, lambda _: b"\0"
        )
        for name in names
    }
    tokens |= {
        f"alg {name!r}, signed as ever": compact(issuer.header(alg=name), claims, issuer.sign)
        for name in [*names, None, True, 0, [issuer.algorithm], {"alg": issuer.algorithm}, "dir"]
    }
    without = {name: value for name, value in issuer.header().items() if name != "alg"}
    tokens["no alg"] = compact(without, claims, issuer.sign)
    others = {
        "HS256": ["HS384", "HS512"],
        "RS256": ["RS384", "RS512", "PS256", "PS384", "PS512"],
        "ES256": [],
        "EdDSA": [],
    }
    tokens |= {
        f"{name} with the right key": compact(issuer.header(alg=name), claims, partial(issuer.sign, algorithm=name))
        for name in others[issuer.algorithm]
    }
    return tokens


def _confusions(issuer: Issuer) -> Tokens:
    """The public key, which everybody has, as the secret of an HMAC; or the other way about."""
    claims = issuer.claims()
    if isinstance(issuer.key, bytes):
        strangers = [
            Issuer("RS256", rsa_key("stranger")),
            Issuer("ES256", ec_key("stranger")),
            Issuer("EdDSA", ed25519_key("stranger")),
        ]
        return {
            f"{one.algorithm} with a key of one's own where a secret is wanted": compact(
                issuer.header(alg=one.algorithm), claims, one.sign
            )
            for one in strangers
        }
    public = issuer.key.public_key()
    pem = issuer.public_pem
    body = b"".join(pem.splitlines()[1:-1])
    forms = {
        "its PEM": pem,
        "its PEM without the last newline": pem.rstrip(b"\n"),
        "its PEM with CRLF": pem.replace(b"\n", b"\r\n"),
        "its PEM in one line": pem.replace(b"\n", b""),
        "its PEM's base64": body,
        "its DER": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "its JWK": json.dumps(issuer.jwk).encode(),
        "nothing": b"",
    }
    if isinstance(public, rsa.RSAPublicKey):
        forms["its PKCS1 PEM"] = public.public_bytes(Encoding.PEM, PublicFormat.PKCS1)
    return {
        f"{name} with {form} as the secret": compact(issuer.header(alg=name), claims, mac(secret, name))
        for name in ("HS256", "HS512")
        for form, secret in forms.items()
    }


def _signatures(issuer: Issuer) -> Tokens:
    """Right in everything but the signature."""
    good = issuer.token()
    content, signature = good.rsplit(".", 1)
    head, body = content.split(".")
    raw = _decoded(signature)
    other = issuer.token(sub="mallory").rsplit(".", 1)[1]
    flipped = bytes([raw[0] ^ 1, *raw[1:]])
    tokens = {
        "the signature of another payload": f"{content}.{other}",
        "a signature cut short": f"{content}.{b64(raw[:-1])}",
        "half a signature": f"{content}.{b64(raw[: len(raw) // 2])}",
        "a signature of one byte": f"{content}.{b64(raw[:1])}",
        "a signature with more behind it": f"{content}.{b64(raw + raw[:1])}",
        "a signature of which one bit is wrong": f"{content}.{b64(flipped)}",
        "a signature of zeros": f"{content}.{b64(bytes(len(raw)))}",
        "a signature in hexadecimal": f"{content}.{b64(raw.hex().encode())}",
        "another payload under the signature": f"{head}.{b64(json.dumps(issuer.claims(sub='root')).encode())}.{signature}",
        "another header over the signature": f"{b64(json.dumps(issuer.header(typ='jwt')).encode())}.{body}.{signature}",
        "signed without the header": f"{content}.{b64(issuer.sign(body.encode()))}",
        "signed as it is decoded": f"{content}.{b64(issuer.sign(_decoded(head) + b'.' + _decoded(body)))}",
        "signed with a key of one's own": compact(issuer.header(), issuer.claims(), stranger(issuer).sign),
    }
    if isinstance(issuer.key, bytes):
        secrets = {
            "another secret": b"another secret that is long enough for HS256, as anyone may take",
            "the secret and a newline": issuer.key + b"\n",
            "the secret less its last byte": issuer.key[:-1],
            "the secret in base64": base64.b64encode(issuer.key),
            "the secret's digest": hashlib.sha256(issuer.key).digest(),
            "an empty secret": b"",
            "the word secret": b"secret",
        }
        tokens |= {
            f"signed with {name}": compact(issuer.header(), issuer.claims(), mac(secret))
            for name, secret in secrets.items()
        }
    if issuer.algorithm == "ES256":
        r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
        tokens["an ES256 signature in DER"] = f"{content}.{b64(encode_dss_signature(r, s))}"
    return tokens


def _embedded_keys(issuer: Issuer) -> Tokens:
    """The header brings the key, or says where it is to be found; and ids that mean a file or a query."""
    own = stranger(issuer)
    jwk = {"kty": "oct", "k": b64(own.key)} if isinstance(own.key, bytes) else own.jwk
    url = "http://127.0.0.1:1/keys.json"
    certificate = b64(b"0\x82\x01\x0a a certificate, or nearly")
    headers: dict[str, dict[str, Any]] = {
        "jwk": {"jwk": jwk},
        "jku": {"jku": url},
        "x5u": {"x5u": url},
        "x5c": {"x5c": [certificate]},
        "x5t": {"x5t": b64(bytes(20))},
        "all of them": {"jwk": jwk, "jku": url, "x5u": url, "x5c": [certificate]},
        "jwk of no sense": {"jwk": "none"},
    }
    tokens = {
        f"its own key by {name}": compact(issuer.header(**more), issuer.claims(), own.sign)
        for name, more in headers.items()
    }
    if issuer.kid is None:
        tokens |= {
            f"kid {name}": compact(issuer.header(kid=kid), issuer.claims(), own.sign) for name, kid in KEY_IDS.items()
        }
        empty = mac(b"") if isinstance(issuer.key, bytes) else own.sign
        tokens |= {
            f"kid {name}, signed with what is in it": compact(issuer.header(kid=KEY_IDS[name]), issuer.claims(), empty)
            for name in ("of an empty file", "that climbs")
        }
    return tokens


KEY_IDS = {
    "unknown": "no-such-key",
    "empty": "",
    "of an empty file": "/dev/null",
    "that climbs": "../../../../../../dev/null",
    "that climbs in hexadecimal": "..%2f..%2fdev%2fnull",
    "with NUL": "key\0.pem",
    "with line ends": "a\r\nX-Admin: yes",
    "with control characters": "\x1b[2J\x07",
    "like SQL": "x' UNION SELECT 'secret' --",
    "like a command": "$(id)|id;`id`",
    "like a URL": "http://127.0.0.1:1/key",
    "like a template": "{{7*7}}${7*7}%s%n",
    "that is no ASCII": "schlüssel-鍵",
    "of 5,000 characters": "k" * 5_000,
}


def _unknown_keys(issuer: Issuer) -> Tokens:
    """Rightly signed, but for a key that nobody knows; only where keys have ids."""
    if issuer.kid is None:
        return {}
    return {
        f"kid {name}": compact(issuer.header(kid=kid), issuer.claims(), issuer.sign) for name, kid in KEY_IDS.items()
    }


def _forms(issuer: Issuer) -> Tokens:
    """Not the form of a token: three parts of base64url, written in the one way there is."""
    good = issuer.token()
    head, body, signature = good.split(".")
    unsigned = compact(issuer.header(alg="none"), issuer.claims(), lambda _: b"")
    encrypted = b64(json.dumps({"alg": "dir", "enc": "A128GCM"}).encode())
    return {
        "nothing": "",
        "a dot": ".",
        "two dots": "..",
        "four dots": "....",
        "no text of ours": "Bearer",
        "one part": head,
        "two parts": f"{head}.{body}",
        "four parts": f"{good}.{signature}",
        "five parts, as encrypted ones": f"{head}.{body}.{signature}.{body}.{signature}",
        "encrypted to nobody": ".".join([encrypted, "", *(b64(bytes(n)) for n in (12, 16, 16))]),
        "an empty signature": f"{head}.{body}.",
        "alg none and an empty signature": unsigned,
        "alg none and no third part": unsigned.rstrip("."),
        "an empty header": f".{body}.{signature}",
        "an empty payload part": f"{head}..{signature}",
        "padding": ".".join(part + "=" * (-len(part) % 4 or 4) for part in good.split(".")),
        "padding behind the signature": good + "=",
        "base64 that is not for URLs": f"{head}.{body}.+/{signature[2:]}",
        "a last character that says more than it may": f"{head}.{body}.{_other_last(signature)}",
        "a signature of an impossible length": f"{head}.{body}.{'A' * (len(signature) // 4 * 4 + 1)}",
        "a space before it": f" {good}",
        "a space behind it": f"{good} ",
        "a newline behind it": f"{good}\n",
        "a newline within": f"{head}.\n{body}.{signature}",
        "a tab within": f"{head}\t.{body}.{signature}",
        "NUL behind it": f"{good}\0",
        "NUL and more behind it": f"{good}\0.admin",
        "NUL within": f"{head}.{body}\0.{signature}",
        "a full stop that is no ASCII": f"{head}\u3002{body}\u3002{signature}",
        "letters that are no ASCII": f"{head}.{body}.é{signature[1:]}",
        "digits that are no ASCII": f"{head}.{body}.\u0663{signature[1:]}",
        "half a character": f"{head}.{body}.\ud800{signature[1:]}",
        "a byte order mark": f"\ufeff{good}",
        "its scheme before it": f"Bearer {good}",
        "two of them": f"{good},{good}",
        "quotes": f'"{good}"',
        "as JSON": json.dumps({"header": head, "payload": body, "signature": signature}),
        "more than 8,192 characters": issuer.token(more="x" * 8_000),
    }


def _headers(issuer: Issuer) -> Tokens:
    """Rightly signed under a header that is none, or asks for what nobody offers."""
    claims = issuer.claims()
    own = json.dumps(issuer.header())
    made: dict[str, dict[str, Any] | bytes] = {
        "crit": issuer.header(crit=["exp"]),
        "crit of what is there": issuer.header(crit=["b64"], b64=True),
        "crit that is empty": issuer.header(crit=[]),
        "crit that is no list": issuer.header(crit="exp"),
        "b64 false": issuer.header(b64=False),
        "b64 false, as crit has it": issuer.header(b64=False, crit=["b64"]),
        "kid that is a number": issuer.header(kid=5),
        "kid that is a list": issuer.header(kid=["a"]),
        "a header of two alg": f'{{"alg":"none",{own[1:]}'.encode(),
        "a header that is a list": b"[]",
        "a header that is a text": b'"alg"',
        "a header that is null": b"null",
        "a header that is no JSON": own.encode()[:-1],
        "a header with NaN": f'{own[:-1]},"x":NaN}}'.encode(),
        "a header in UTF-16": own.encode("utf-16"),
        "a header in Latin-1": f'{own[:-1]},"x":"é"}}'.encode("latin-1"),
        "a header that is deep": f'{own[:-1]},"x":{"[" * 2_500}{"]" * 2_500}}}'.encode(),
        "a header of 101 levels": f'{own[:-1]},"x":{"[" * 100}{"]" * 100}}}'.encode(),
        "a header of a long number": f'{own[:-1]},"x":{"9" * 5_000}}}'.encode(),
    }
    tokens = {name: compact(header, claims, issuer.sign) for name, header in made.items()}
    detached = b64(json.dumps(issuer.header(b64=False, crit=["b64"])).encode())
    payload = json.dumps(claims)
    signature = b64(issuer.sign(f"{detached}.{payload}".encode()))
    tokens["a payload beside the token"] = f"{detached}..{signature}"
    tokens["a payload as it is"] = f"{detached}.{payload}.{signature}"
    return tokens


def _documents(issuer: Issuer) -> Tokens:
    """Rightly signed, but of something that is no set of claims."""
    own = json.dumps(issuer.claims())
    late = int(time.time()) + 3600
    endless = json.dumps(issuer.claims(exp=12345)).replace("12345", "1e400")
    made = {
        "a payload whose exp is more than a number can be": endless.encode(),
        "an empty payload": b" ",
        "a payload of {": b"{",
        "a payload that is a list": f"[{own}]".encode(),
        "a payload that is a text": json.dumps(own).encode(),
        "a payload that is a number": b"1",
        "a payload that is null": b"null",
        "a payload with more behind it": f"{own}{own}".encode(),
        "a payload of two exp": f'{{"exp":1,{own[1:]}'.encode(),
        "a payload of two exp, the better one first": f'{own[:-1]},"exp":{late}}}'.encode(),
        "a payload of two sub": f'{own[:-1]},"sub":"root"}}'.encode(),
        "a payload with NaN": f'{own[:-1]},"x":NaN}}'.encode(),
        "a payload with Infinity": f'{own[:-1]},"exp":Infinity}}'.encode(),
        "a payload in UTF-16": own.encode("utf-16"),
        "a payload in UTF-32": own.encode("utf-32"),
        "a payload with a byte order mark": b"\xef\xbb\xbf" + own.encode(),
        "a payload in Latin-1": f'{own[:-1]},"x":"é"}}'.encode("latin-1"),
        "a payload with NUL behind it": own.encode() + b"\0",
        "a payload that is deep": f'{own[:-1]},"x":{"[" * 2_500}{"]" * 2_500}}}'.encode(),
        "a payload of 101 levels": f'{own[:-1]},"x":{"[" * 100}{"]" * 100}}}'.encode(),
        "a payload of a long number": f'{own[:-1]},"x":{"9" * 5_000}}}'.encode(),
    }
    tokens = {name: compact(issuer.header(), payload, issuer.sign) for name, payload in made.items()}
    nested = compact(issuer.header(cty="JWT"), issuer.token().encode(), issuer.sign)
    return {**tokens, "a token in a token": nested}


def _times(issuer: Issuer) -> tuple[Tokens, Tokens]:
    now = int(time.time())
    expired = {
        "a second ago and the leeway": now - int(LEEWAY) - 1,
        "a day ago": now - 86_400,
        "in 1970": 0,
        "before 1970": -(2**40),
        "long before everything": -1e300,
        "true": True,
    }
    early: dict[str, dict[str, Any]] = {
        "nbf in a minute and the leeway": {"nbf": now + int(LEEWAY) + 60},
        "nbf in a year": {"nbf": now + 31_536_000},
        "nbf that never comes": {"nbf": 1e300},
        "iat in an hour": {"iat": now + 3600},
    }
    return (
        {f"expired {name}": issuer.token(exp=exp) for name, exp in expired.items()},
        {name: issuer.token(**claims) for name, claims in early.items()},
    )


def _audiences(issuer: Issuer) -> Tokens:
    if not issuer.audience:
        return {
            "an audience where none is wanted": issuer.token(aud="somebody"),
            "a list of audiences where none is wanted": issuer.token(aud=["somebody"]),
        }
    right = issuer.audience
    wrong = {
        "another audience": f"not-{right}",
        "an audience with more behind it": f"{right}.example",
        "an audience with a slash": f"{right}/",
        "an audience in capitals": right.upper(),
        "a list of other audiences": ["one", "two"],
        "an audience in a list in a list": [[right]],
        "an audience among numbers": [right, 5],
        "an audience as a key": {right: True},
        "an audience that is empty": "",
        "an audience that is true": True,
        "no audience": None,
    }
    return {name: issuer.token(aud=value) for name, value in wrong.items()}


def _issuers(issuer: Issuer) -> Tokens:
    if not issuer.issuer:
        return {}
    wrong = {
        "another issuer": f"not-{issuer.issuer}",
        "an issuer with a slash": f"{issuer.issuer}/",
        "an issuer in a list": [issuer.issuer],
        "an issuer that is empty": "",
        "no issuer": None,
    }
    return {name: issuer.token(iss=value) for name, value in wrong.items()}


def _claims(issuer: Issuer) -> Tokens:
    """Rightly signed, but with claims that are not what they should be."""
    late = int(time.time()) + 3600
    wrong: dict[str, dict[str, Any]] = {
        "no exp": {"exp": None},
        "exp that is a text": {"exp": str(late)},
        "nbf that is a text": {"nbf": "0"},
        "iat that is a text": {"iat": "0"},
        "nbf that is false": {"nbf": False},
        "sub that is a number": {"sub": 5},
        "sub that is a list": {"sub": ["alice"]},
        "sub that is empty": {"sub": ""},
        "sub of 129 characters": {"sub": "a" * 129},
        "sub with a line end": {"sub": "alice\nadmin"},
        "sub with control characters": {"sub": "\x1b[31malice"},
        "sub that turns the writing": {"sub": "\u202eecila"},
        "sub with half a character": {"sub": "\ud800"},
        "jti that is a number": {"jti": 5},
        "role that is a list": {"role": ["admin"]},
        "role that is a number": {"role": 1},
        "roles that is a text": {"roles": "admin"},
        "roles with a number": {"roles": ["admin", 1]},
        "roles with a list": {"roles": [["admin"]]},
        "roles as keys": {"roles": {"admin": True}},
        "a role of 129 characters": {"roles": ["r" * 129]},
        "65 roles": {"roles": [f"r{n}" for n in range(65)]},
        "permissions that are a text": {"permissions": "admin"},
        "permissions that are a list": {"permissions": ["subscribe"]},
        "permissions of another name": {"permissions": {"root": True}},
        "permissions that are no list": {"permissions": {"subscribe": ">"}},
        "permissions for no pattern": {"permissions": {"subscribe": ["a..b"]}},
        "permissions for what is the gateway's own": {"permissions": {"subscribe": ["$everyone"]}},
        "permissions to publish the gateway's own": {"permissions": {"publish": ["$connections"]}},
        "admin that is a text": {"permissions": {"admin": "false"}},
        "admin that is a number": {"permissions": {"admin": 1}},
        "65 permissions": {"permissions": {"publish": [f"c{n}" for n in range(65)]}},
    }
    return {name: issuer.token(**claims) for name, claims in wrong.items()}


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _other_last(part: str) -> str:
    """The same bytes, written in another way: the last character has bits that nothing stands for."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = letters[letters.index(part[-1]) ^ 1]
    assert _decoded(part[:-1] + other) == _decoded(part)
    return part[:-1] + other
