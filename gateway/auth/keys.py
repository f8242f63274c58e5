"""Keys: what signatures are verified with. The kind of a key says the algorithm, a token never does.

A secret is HS256, RSA (2048 to 8192 bits) RS256, P-256 ES256, Ed25519 EdDSA; there are no others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from gateway.config.errors import ConfigError, Problem


PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey

SECRET_BYTES_MIN = 32  # RFC 7518, section 3.2
RSA_BITS_MIN, RSA_BITS_MAX = 2048, 8192
_FILE_BYTES_MAX = 65_536


@dataclass(frozen=True, slots=True)
class Key:
    """What verifies a signature, and by which algorithm."""

    algorithm: str
    material: bytes | PublicKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """What makes a signature, and by which algorithm."""

    algorithm: str
    material: bytes | PrivateKey = field(repr=False)


class FixedKey:
    """One key from the configuration, whatever key id a token names."""

    def __init__(self, read: Callable[[], Key]) -> None:
        self._read = read
        self._key = read()

    async def find(self, kid: str | None) -> Key:
        """Return the key."""
        return self._key

    def reload(self) -> None:
        """Read it again; what cannot be read leaves the old one.

        Raises:
            ConfigError: The file cannot be used.
        """
        self._key = self._read()

    def start(self) -> None:
        """There is nothing to start."""

    async def close(self) -> None:
        """There is nothing to close."""


def secret(value: str) -> bytes:
    """Return a secret given in the configuration.

    Raises:
        ConfigError: It is too short, or is no secret but some other key.
    """
    return _checked("auth.secret", "the value", value.encode())


def secret_file(path: str) -> bytes:
    """Read a secret from a file, less one newline at its end.

    Raises:
        ConfigError: It cannot be read, is too short, or is no secret but some other key.
    """
    content = _content("auth.secret_file", path)
    end = b"\r\n" if content.endswith(b"\r\n") else b"\n"
    return _checked("auth.secret_file", path, content.removesuffix(end))


def _checked(setting: str, name: str, value: bytes) -> bytes:
    if len(value) < SECRET_BYTES_MIN:
        remedy = "take a random one, as from `openssl rand -base64 48`"
        raise _problem(setting, f"{name} is shorter than {SECRET_BYTES_MIN} bytes", remedy)
    try:
        jwt.get_algorithm_by_name("HS256").prepare_key(value)
    except jwt.InvalidKeyError:
        remedy = "a public key goes into auth.public_key_file"
        raise _problem(setting, f"{name} is a key and no secret", remedy) from None
    return value


def public_key_file(path: str) -> Key:
    """Read a public key in PEM.

    Raises:
        ConfigError: It cannot be read, is no public key, or of a kind that is not supported.
    """
    setting = "auth.public_key_file"
    content = _content(setting, path)
    if b"PRIVATE KEY-----" in content:
        remedy = "give only its public key, as from `openssl pkey -pubout`"
        raise _problem(setting, f"{path} has a private key", remedy)
    if b"BEGIN CERTIFICATE-----" in content:
        remedy = "give its public key, as from `openssl x509 -pubkey -noout`"
        raise _problem(setting, f"{path} is a certificate", remedy)
    try:
        found = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise _problem(setting, f"{path} is no public key in PEM", _KINDS) from None
    algorithm = algorithm_of(found)
    if algorithm is None or not isinstance(found, PublicKey):
        raise _problem(setting, f"{path} has a key of a kind that is not supported", _KINDS)
    return Key(algorithm, found)


def private_key_file(path: str) -> SigningKey:
    """Read a private key in PEM without a password.

    Raises:
        ConfigError: It cannot be read, is no such key, or of a kind that is not supported.
    """
    setting = "--private-key-file"
    try:
        found = load_pem_private_key(_content(setting, path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        reason = f"{path} is no private key in PEM without a password"
        raise _problem(setting, reason, _KINDS) from None
    algorithm = algorithm_of(found.public_key()) if isinstance(found, PrivateKey) else None
    if algorithm is None or not isinstance(found, PrivateKey):
        raise _problem(setting, f"{path} has a key of a kind that is not supported", _KINDS)
    return SigningKey(algorithm, found)


def algorithm_of(key: object) -> str | None:
    """Return the algorithm for which a public key is used, None if it is not used at all."""
    match key:
        case RSAPublicKey() if RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
            return "RS256"
        case EllipticCurvePublicKey(curve=SECP256R1()):
            return "ES256"
        case Ed25519PublicKey():
            return "EdDSA"
    return None


_KINDS = f"RSA of {RSA_BITS_MIN} to {RSA_BITS_MAX} bits, P-256 and Ed25519 will do"
_ALGORITHMS: Mapping[object, str] = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}


def from_jwk(jwk: Mapping[str, object]) -> Key | None:
    """Return the key of a JWK (RFC 7517), or None if it is not one to verify our tokens with."""
    kind = jwk.get("kty")
    algorithm = _ALGORITHMS.get(kind) if isinstance(kind, str) else None
    operations = jwk.get("key_ops", ["verify"])
    if (
        algorithm is None
        or "d" in jwk  # a private key: anybody may sign with it now, and some take long to read
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
        raise _problem(setting, reason, "name a file that can be") from None
    if len(content) > _FILE_BYTES_MAX:
        raise _problem(setting, f"{path} is larger than {_FILE_BYTES_MAX} bytes", "name another")
    return content


def _problem(setting: str, reason: str, remedy: str) -> ConfigError:
    return ConfigError([Problem(setting, reason, remedy)])
