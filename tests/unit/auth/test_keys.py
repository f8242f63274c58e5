"""Which secrets and keys a gateway takes, what it says of others, and what it never shows."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.auth import TokenError, Verifier, verifier
from gateway.auth.keys import from_jwk
from gateway.config import ConfigError
from gateway.config.model import Auth
from tests.support.issuer import Issuer, eddsa, es256, rs256, rsa_key


SECRET = b"0123456789abcdef0123456789abcdef"


def made(**settings: Any) -> Verifier:
    found = verifier(Auth(**settings))
    assert found is not None
    return found


def problem(**settings: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        verifier(Auth(**settings))
    return str(refused.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "key"


def taken(checks: Verifier, issuer: Issuer) -> bool:
    try:
        asyncio.run(checks.verify(issuer.token()))
    except TokenError:
        return False
    return True


def test_without_secret_or_key_nobody_is_authenticated() -> None:
    assert verifier(Auth()) is None


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_secret_file_may_end_with_a_newline(file: Path, end: bytes) -> None:
    file.write_bytes(SECRET + end)

    assert taken(made(secret_file=str(file)), Issuer("HS256", SECRET))


def test_only_one_newline_is_taken_off_a_secret(file: Path) -> None:
    file.write_bytes(SECRET + b"\n\n")
    checks = made(secret_file=str(file))

    assert taken(checks, Issuer("HS256", SECRET + b"\n"))
    assert not taken(checks, Issuer("HS256", SECRET))


def test_a_secret_in_the_configuration_is_taken_in_utf_8() -> None:
    secret = "schlüssel, der lang genug für HS256 ist"

    assert taken(made(secret=secret), Issuer("HS256", secret.encode()))


@pytest.mark.parametrize("length", [0, 1, 31])
def test_a_short_secret_is_refused_and_not_shown(file: Path, length: int) -> None:
    file.write_bytes(b"z" * length + b"\n")
    said = problem(secret_file=str(file))

    assert f"auth.secret_file: {file} is shorter than 32 bytes; use a random one" in said
    assert "auth.secret: the value is shorter" in problem(secret="z" * 31)
    assert "zz" not in said.replace(str(file), "") + problem(secret="z" * 31)


def test_a_key_is_no_secret(file: Path) -> None:
    file.write_bytes(rs256().public_pem)

    assert "is a public or private key, not a secret; set" in problem(secret_file=str(file))


@pytest.mark.parametrize("setting", ["secret_file", "public_key_file"])
def test_a_file_that_cannot_be_read_is_named_with_the_reason(file: Path, setting: str) -> None:
    assert f"auth.{setting}: {file} cannot be read (No such file" in problem(**{setting: str(file)})
    if setting == "public_key_file":
        assert "cannot be read (Is a directory)" in problem(**{setting: str(file.parent)})
    assert "is larger than 65536 bytes" in problem(**{setting: "/dev/zero"})


@pytest.mark.parametrize("issuer", [rs256(), es256(), eddsa()], ids=lambda one: one.algorithm)
def test_a_public_key_says_by_its_kind_how_tokens_are_signed(file: Path, issuer: Issuer) -> None:
    file.write_bytes(issuer.public_pem)

    assert taken(made(public_key_file=str(file)), issuer)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=1024),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
        ed448.Ed448PrivateKey.generate(),
        dsa.generate_private_key(1024),
    ],
    ids=["RSA of 1024 bits", "P-384", "secp256k1", "Ed448", "DSA"],
)
def test_keys_of_other_kinds_are_refused(
    file: Path, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed448.Ed448PrivateKey | dsa.DSAPrivateKey
) -> None:
    file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    said = problem(public_key_file=str(file))
    assert "of an unsupported type; supported are RSA of 2048 to 8192 bits, P-256 and Ed25519" in said


def test_a_private_key_is_refused_where_a_public_one_belongs(file: Path) -> None:
    file.write_bytes(rs256().public_pem + rs256().private_pem)

    assert "holds a private key; use its public key only" in problem(public_key_file=str(file))


@pytest.mark.parametrize(
    "content", [b"", SECRET, b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", b"\xff" * 100]
)
def test_what_is_no_key_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)

    assert "is not a public key in PEM" in problem(public_key_file=str(file))


def test_tokens_signed_with_any_secret_in_a_folder_are_taken(tmp_path: Path) -> None:
    """Its hidden files are left out: a mounted volume has links there."""
    old, new, stranger = (Issuer("HS256", one) for one in (SECRET, SECRET[::-1], SECRET.upper()))
    (tmp_path / "1").write_bytes(SECRET + b"\n")
    (tmp_path / "2").write_bytes(SECRET[::-1])
    (tmp_path / "..data").write_bytes(SECRET.upper())
    checks = made(secret_file=str(tmp_path))

    assert [True, True, False] == [taken(checks, one) for one in (old, new, stranger)]


def test_a_folder_without_secrets_or_with_one_too_many_is_refused(tmp_path: Path) -> None:
    assert f"{tmp_path} has 0 files" in problem(secret_file=str(tmp_path))
    for number in range(9):
        (tmp_path / str(number)).write_bytes(SECRET)
    assert f"{tmp_path} has 9 files; leave 1 to 8" in problem(secret_file=str(tmp_path))


def test_nothing_shows_a_secret(file: Path) -> None:
    file.write_bytes(SECRET)
    for checks in (made(secret_file=str(file)), made(secret=SECRET.decode())):
        parts = [checks, checks._keys, *vars(checks).values(), *vars(checks._keys).values()]
        assert not any(SECRET.decode() in f"{one!r} {one!s}" for one in parts)


JWK = {**rs256().jwk, "kid": "a"}


@pytest.mark.parametrize(
    "more", [{}, {"use": "sig"}, {"alg": "RS256"}, {"key_ops": ["verify"]}, {"x5c": ["?"]}, {"kid": 5}]
)
def test_a_jwk_for_signatures_is_taken(more: dict[str, Any]) -> None:
    key = from_jwk({**JWK, **more})

    assert key is not None
    assert "RS256" == key.algorithm


@pytest.mark.parametrize(
    "jwk",
    [
        {},
        {"kty": "oct", "k": "AAAA"},
        {"kty": "oct", "k": "AAAA", "alg": "HS256"},
        {**JWK, "use": "enc"},
        {**JWK, "use": None},
        {**JWK, "use": ["sig"]},
        {**JWK, "key_ops": ["encrypt"]},
        {**JWK, "key_ops": "verify"},
        {**JWK, "alg": "RS512"},
        {**JWK, "alg": "PS256"},
        {**JWK, "alg": "HS256"},
        {**JWK, "alg": "none"},
        {**JWK, "alg": ["RS256"]},
        {**JWK, "kty": "EC"},
        {**JWK, "kty": ["RSA"]},
        {**JWK, "kty": "oct", "k": "AAAA"},
        {**JWK, "n": 5},
        {**JWK, "n": ""},
        {**JWK, "n": "!"},
        {**JWK, "n": "A" * 500_000},
        {**JWK, "n": "_" * 500_000},
        {**JWK, "e": "AQ"},
        {**JWK, "e": None},
        {**JWK, "d": "AQAB"},
        {**es256().jwk, "crv": "P-384"},
        {**es256().jwk, "x": "AAAA"},
        {**es256().jwk, "y": es256().jwk["x"]},
        {**es256().jwk, "crv": None},
        {**eddsa().jwk, "crv": "X25519"},
        {**eddsa().jwk, "crv": "Ed448"},
        {**eddsa().jwk, "x": "AAAA"},
        {**eddsa().jwk, "x": {}},
    ],
    ids=itertools.count(),  # the keys are new with each run
)
def test_a_jwk_of_no_use_is_left_out(jwk: dict[str, Any]) -> None:
    assert from_jwk(jwk) is None


def test_a_jwk_of_a_weak_key_is_left_out() -> None:
    assert from_jwk(Issuer("RS256", rsa_key("weak", 1024)).jwk) is None
