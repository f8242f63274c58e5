"""`gateway token`: what it prints, where, and what it refuses to make."""

import asyncio
import time
from pathlib import Path

import jwt
import pytest
from click.testing import CliRunner, Result

from gateway.auth import verifier
from gateway.cli import main
from gateway.config import load
from gateway.core.sessions.permissions import Claims, Grants
from tests.support.issuer import Issuer, eddsa, es256, hs256, rs256, stranger


def invoke(settings: dict[str, str], *arguments: str) -> Result:
    assigned = [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]
    return CliRunner().invoke(main, ["token", *assigned, *arguments])


def read(settings: dict[str, str], token: str) -> Claims:
    """What a gateway of these settings reads in a token."""
    checks = verifier(load(None, {}, dict(settings)).auth)
    assert checks is not None
    return asyncio.run(checks.verify(token))


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """Those of a gateway with a secret."""
    return hs256(audience="gateway", issuer="me").settings(tmp_path)


def test_it_prints_a_token_that_the_gateway_takes_and_nothing_else(settings: dict[str, str]) -> None:
    before = int(time.time())
    result = invoke(settings, "--role", "developer", "--role", "bot", "--user", "alice")

    assert 0 == result.exit_code
    claims = read(settings, result.stdout.removesuffix("\n"))
    assert ("alice", ("developer", "bot")) == (claims.user_id, claims.roles)
    assert before + 3600 <= claims.expires_ns / 10**9 - 5 <= time.time() + 3600


def test_hints_go_to_standard_error_and_have_nothing_of_the_token(settings: dict[str, str]) -> None:
    result = invoke(settings, "--role", "developer", "--role", "king", "--user", "alice")

    assert "For alice as developer, king, until 20" in result.stderr
    assert "`Authorization: Bearer …`" in result.stderr
    assert "there is no role 'king' in the configuration" in result.stderr
    assert "'developer'" not in result.stderr
    assert not any(part in result.stderr for part in result.stdout.strip().split("."))


def test_it_grants_channels_for_as_long_as_wanted(settings: dict[str, str]) -> None:
    grants = ("--subscribe", "a.*", "--subscribe", "b", "--publish", "$everyone")
    claims = read(settings, invoke(settings, *grants, "--seconds", "60").stdout.strip())

    assert Grants(subscribe=("a.*", "b"), publish=("$everyone",)) == claims.grants
    assert (None, ()) == (claims.user_id, claims.roles)
    assert claims.expires_ns / 10**9 - 5 <= time.time() + 60


@pytest.mark.parametrize("issuer", [rs256(), es256(), eddsa()], ids=lambda one: one.algorithm)
def test_it_signs_with_a_private_key_where_the_gateway_has_the_public_one(issuer: Issuer, tmp_path: Path) -> None:
    settings = issuer.settings(tmp_path)
    private = tmp_path / "private.pem"
    private.write_bytes(issuer.private_pem)
    result = invoke(settings, "--private-key-file", str(private), "--role", "admin")

    assert ("admin",) == read(settings, result.stdout.strip()).roles


def test_it_says_when_a_token_could_not_be_tried(tmp_path: Path) -> None:
    private = tmp_path / "private.pem"
    private.write_bytes(es256().private_pem)
    result = invoke({"auth.jwks_url": "https://[::1]:1/"}, "--private-key-file", str(private))

    assert "ES256" == jwt.get_unverified_header(result.stdout.strip())["alg"]
    assert "not verified, because the gateway's keys are at a URL" in result.stderr


def refused(settings: dict[str, str], *arguments: str) -> str:
    result = invoke(settings, *arguments)
    assert (2, "") == (result.exit_code, result.stdout)
    assert "Traceback" not in result.stderr
    return result.stderr


def test_without_authentication_there_are_no_tokens() -> None:
    assert "auth: is not configured, so no token is needed; set auth" in refused({})


@pytest.mark.parametrize("other", [stranger(es256()), rs256()], ids=["kin", "of another kind"])
def test_the_key_has_to_be_that_of_the_gateway(other: Issuer, tmp_path: Path) -> None:
    private = tmp_path / "private.pem"
    private.write_bytes(other.private_pem)

    said = refused(es256().settings(tmp_path), "--private-key-file", str(private))
    assert "the gateway would refuse this token (" in said
    assert "sign with the private key of auth.public_key_file" in said


def test_a_private_key_goes_with_public_ones_only(settings: dict[str, str], tmp_path: Path) -> None:
    assert "is not needed with a secret" in refused(settings, "--private-key-file", "x")
    assert "is needed to sign a token" in refused(rs256().settings(tmp_path))


def test_a_private_key_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    settings = rs256().settings(tmp_path)
    public = settings["auth.public_key_file"]

    assert "not a private key in PEM" in refused(settings, "--private-key-file", public)
    assert "cannot be read (No such" in refused(settings, "--private-key-file", f"{public}.not")


def test_what_the_gateway_would_refuse_is_not_made(settings: dict[str, str]) -> None:
    assert "would refuse this token (claim)" in refused(settings, "--user", "a" * 129)
    assert "'a..b' is not a channel pattern" in refused(settings, "--subscribe", "a..b")
    assert "'$everyone' is not a channel pattern" in refused(settings, "--subscribe", "$everyone")
    assert "'$x' is not a channel pattern" in refused(settings, "--publish", "$x")
    assert "--seconds" in refused(settings, "--seconds", "0")
