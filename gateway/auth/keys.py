"""The keys that verify signatures. The type of a key sets the algorithm, never the token.

Secrets are for HS256, RSA keys (2048 to 8192 bits) for RS256, P-256 for ES256, Ed25519 for EdDSA."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from gateway.config.errors import ConfigError, Problem


PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey

SECRET_BYTES_MIN = 32  # RFC 7518, section 3.2
RSA_BITS_MIN, RSA_BITS_MAX = 2048, 8192
SECRETS_MAX = 8
"""Secrets in a folder; each costs time for every token that is not signed with it."""
_FILE_BYTES_MAX = 65_536


@dataclass(frozen=True, slots=True)
class Key:
    algorithm: str
    material: bytes | PublicKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that makes signatures, and its algorithm."""

    algorithm: str
    material: bytes | PrivateKey = field(repr=False)


class KeySource:
    """Where the keys that verify tokens come from."""

    async def find(self, kid: str | None) -> Sequence[Key]:
        """Return the keys, at least one, of which a token with this id, or without one, needs one.
        Raises TokenError: there is no such key, or the keys cannot be fetched."""
        raise NotImplementedError

    def start(self) -> None:
        """Refresh the keys in the background until `close`, if they are not in a file."""

    async def close(self) -> None:
        """Stop refreshing."""


class FixedKeys(KeySource):
    """The keys of the configuration, for tokens of any key id."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = keys

    async def find(self, kid: str | None) -> Sequence[Key]:
        return self._keys


def secret(value: str) -> bytes:
    """Return a secret given in the configuration. Raises ConfigError: it is too short, or a public or private key."""
    return _checked("auth.secret", "the value", value.encode())


def secret_files(path: str) -> list[bytes]:
    """Read the secret in a file, or those in a folder's files, in the order of their names.

    A folder's hidden files are ignored: mounted volumes have some.
    Raises ConfigError: the folder has none or too many, a file cannot be read, or a secret cannot be used."""
    if not os.path.isdir(path):
        return [_secret_file(path)]
    files = sorted(name for name in os.listdir(path) if not name.startswith("."))
    if not 0 < len(files) <= SECRETS_MAX:
        raise _problem("auth.secret_file", f"{path} has {len(files)} files", f"leave 1 to {SECRETS_MAX} secrets there")
    return [_secret_file(os.path.join(path, name)) for name in files]


def _secret_file(path: str) -> bytes:
    """Read a secret from a file, without one newline at its end.
    Raises ConfigError: the file cannot be read, or the secret is too short or a public or private key."""
    content = _content("auth.secret_file", path)
    end = b"\r\n" if content.endswith(b"\r\n") else b"\n"
    return _checked("auth.secret_file", path, content.removesuffix(end))


def _checked(setting: str, name: str, value: bytes) -> bytes:
    if len(value) < SECRET_BYTES_MIN:
        remedy = "use a random one, for example from `openssl rand -base64 48`"
        raise _problem(setting, f"{name} is shorter than {SECRET_BYTES_MIN} bytes", remedy)
    try:
        jwt.get_algorithm_by_name("HS256").prepare_key(value)
    except jwt.InvalidKeyError:
        remedy = "set auth.public_key_file for a public key"
        raise _problem(setting, f"{name} is a public or private key, not a secret", remedy) from None
    return value


def public_key_file(path: str) -> Key:
    """Read a public key in PEM.
    Raises ConfigError: the file cannot be read, holds no public key, or one of an unsupported type."""
    setting = "auth.public_key_file"
    content = _content(setting, path)
    if b"PRIVATE KEY-----" in content:
        remedy = "use its public key only, from `openssl pkey -pubout`"
        raise _problem(setting, f"{path} holds a private key", remedy)
    if b"BEGIN CERTIFICATE-----" in content:
        remedy = "use its public key, from `openssl x509 -pubkey -noout`"
        raise _problem(setting, f"{path} is a certificate", remedy)
    try:
        found = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise _problem(setting, f"{path} is not a public key in PEM", _SUPPORTED) from None
    algorithm = algorithm_of(found)
    if algorithm is None or not isinstance(found, PublicKey):
        raise _problem(setting, f"{path} holds a key of an unsupported type", _SUPPORTED)
    return Key(algorithm, found)


def private_key_file(path: str) -> SigningKey:
    """Read a private key in PEM without a password.
    Raises ConfigError: the file cannot be read, holds no such key, or one of an unsupported type."""
    setting = "--private-key-file"
    try:
        found = load_pem_private_key(_content(setting, path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        reason = f"{path} is not a private key in PEM without a password"
        raise _problem(setting, reason, _SUPPORTED) from None
    algorithm = algorithm_of(found.public_key()) if isinstance(found, PrivateKey) else None
    if algorithm is None or not isinstance(found, PrivateKey):
        raise _problem(setting, f"{path} holds a key of an unsupported type", _SUPPORTED)
    return SigningKey(algorithm, found)


def algorithm_of(key: object) -> str | None:
    """Return the algorithm of a public key, None if its type is not supported."""
    match key:
        case RSAPublicKey() if RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
            return "RS256"
        case EllipticCurvePublicKey(curve=SECP256R1()):
            return "ES256"
        case Ed25519PublicKey():
            return "EdDSA"
    return None


_SUPPORTED = f"supported are RSA of {RSA_BITS_MIN} to {RSA_BITS_MAX} bits, P-256 and Ed25519"
_ALGORITHMS: Mapping[object, str] = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}


def from_jwk(jwk: Mapping[str, object]) -> Key | None:
    """Return the key of a JWK (RFC 7517), None if it cannot verify tokens."""
    kind = jwk.get("kty")
    algorithm = _ALGORITHMS.get(kind) if isinstance(kind, str) else None
    operations = jwk.get("key_ops", ["verify"])
    if (
        algorithm is None
        or "d" in jwk  # a private key that is public now; some take long to load
        or jwk.get("use", "sig") != "sig"
        or jwk.get("alg", algorithm) != algorithm
        or not (isinstance(operations, list) and "verify" in operations)
    ):
        return None
    try:
        found = jwt.PyJWK(dict(jwk), algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return Key(algorithm, found) if algorithm_of(found) == algorithm else None


def _content(setting: str, path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        reason = f"{path} cannot be read ({error.strerror})"
        raise _problem(setting, reason, "check the path and its permissions") from None
    if len(content) > _FILE_BYTES_MAX:
        raise _problem(setting, f"{path} is larger than {_FILE_BYTES_MAX} bytes", "name a key file")
    return content


def _problem(setting: str, reason: str, remedy: str) -> ConfigError:
    return ConfigError([Problem(setting, reason, remedy)])
