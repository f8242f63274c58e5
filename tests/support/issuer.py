"""Who signs tokens: what a gateway needs to take them, good ones, and any others."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


Sign = Callable[[bytes], bytes]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

LEEWAY = 5.0


@dataclass(frozen=True)
class Issuer:
    """Who signs good tokens, and how; `kid` names its key if a gateway knows more than one."""

    algorithm: str
    key: bytes | PrivateKey = field(repr=False)
    audience: str = ""
    issuer: str = ""
    kid: str | None = None

    def claims(self, **changes: Any) -> dict[str, Any]:
        """What a good token says, with changes; None leaves a claim out."""
        now = int(time.time())
        good = {"sub": "alice", "iat": now, "exp": now + 3600, "roles": ["admin"]}
        named = {"aud": self.audience, "iss": self.issuer}
        good |= {name: value for name, value in named.items() if value}
        return {name: value for name, value in {**good, **changes}.items() if value is not None}

    def header(self, **changes: Any) -> dict[str, Any]:
        """A good token's header, with changes."""
        named = {} if self.kid is None else {"kid": self.kid}
        return {"alg": self.algorithm, "typ": "JWT", **named, **changes}

    def token(self, **changes: Any) -> str:
        """A good token, or one with other claims."""
        return compact(self.header(), self.claims(**changes), self.sign)

    def token_under(self, **changes: Any) -> str:
        """A good token under a header with changes, rightly signed."""
        return compact(self.header(**changes), self.claims(), self.sign)

    def sign(self, content: bytes, algorithm: str = "") -> bytes:
        """The signature of these bytes, by this or another algorithm that the key can do."""
        if isinstance(self.key, bytes):
            return mac(self.key, algorithm or self.algorithm)(content)
        return jwt.get_algorithm_by_name(algorithm or self.algorithm).sign(content, self.key)

    @property
    def public_pem(self) -> bytes:
        assert not isinstance(self.key, bytes)
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def private_pem(self) -> bytes:
        assert not isinstance(self.key, bytes)
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key as a JWK."""
        assert not isinstance(self.key, bytes)
        to_jwk = jwt.get_algorithm_by_name(self.algorithm).to_jwk
        named = {} if self.kid is None else {"kid": self.kid}
        return {**to_jwk(self.key.public_key(), as_dict=True), **named}

    def settings(self, folder: Path) -> dict[str, str]:
        """The settings of a gateway that takes this issuer's tokens; its key is put into a file there."""
        symmetric = isinstance(self.key, bytes)
        file = folder / f"{self.algorithm}.key"
        file.write_bytes(self.key if isinstance(self.key, bytes) else self.public_pem)
        return {
            "auth.secret_file" if symmetric else "auth.public_key_file": str(file),
            "auth.audience": self.audience,
            "auth.issuer": self.issuer,
            "auth.leeway_seconds": str(LEEWAY),
        }


def hs256(**how: Any) -> Issuer:
    return Issuer("HS256", b"a secret that is long enough for HS256 and no word of it is true", **how)


def rs256(**how: Any) -> Issuer:
    return Issuer("RS256", rsa_key("ours"), **how)


def es256(**how: Any) -> Issuer:
    return Issuer("ES256", ec_key("ours"), **how)


def eddsa(**how: Any) -> Issuer:
    return Issuer("EdDSA", ed25519_key("ours"), **how)


@cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ec_key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def ed25519_key(name: str) -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def mac(secret: bytes, algorithm: str = "HS256") -> Sign:
    return lambda content: hmac.digest(secret, content, f"sha{algorithm[2:]}")


def compact(header: Mapping[str, Any] | bytes, payload: Mapping[str, Any] | bytes | str, sign: Sign) -> str:
    """A token of any header and payload, bytes as they are and the rest as JSON, rightly signed."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    content = f"{b64(head)}.{b64(body)}"
    return f"{content}.{b64(sign(content.encode()))}"


def stranger(issuer: Issuer) -> Issuer:
    """Somebody with a key of the same kind."""
    keys: dict[str, Callable[[], bytes | PrivateKey]] = {
        "HS256": lambda: b"the secret of a stranger, who has read how long it has to be",
        "RS256": lambda: rsa_key("stranger"),
        "ES256": lambda: ec_key("stranger"),
        "EdDSA": lambda: ed25519_key("stranger"),
    }
    return Issuer(issuer.algorithm, keys[issuer.algorithm](), issuer.audience, issuer.issuer)
