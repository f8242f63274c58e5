"""What a gateway reads in a good token."""

import json
import time
from typing import Any

import pytest

from gateway.auth import Verifier, verifier
from gateway.config.model import Auth
from gateway.core.sessions.permissions import Claims, Grants
from tests.support.issuer import Issuer, compact


SECRET = "0123456789abcdef0123456789abcdef"
ISSUER = Issuer("HS256", SECRET.encode())
LATER = int(time.time()) + 3600


async def claims(**changes: Any) -> Claims:
    return await made().verify(ISSUER.token(exp=LATER, **changes))


def made(**settings: Any) -> Verifier:
    found = verifier(Auth(secret=SECRET, **settings))
    assert found is not None
    return found


@pytest.mark.parametrize("user", ["alice", "a b", "auth0|5f", "鍵", "a" * 128])
async def test_the_subject_is_the_user(user: str) -> None:
    assert user == (await claims(sub=user)).user_id


async def test_a_token_may_be_of_nobody() -> None:
    assert (await claims(sub=None)).user_id is None


async def test_roles_come_from_both_claims_each_once_in_their_order() -> None:
    assert ("c", "a", "b") == (await claims(role="c", roles=["a", "c", "b"])).roles
    assert ("c",) == (await claims(role="c", roles=None)).roles
    assert () == (await claims(roles=None)).roles
    assert 64 == len((await claims(roles=[f"r{n}" for n in range(64)])).roles)


async def test_permissions_are_grants() -> None:
    permissions = {
        "subscribe": ["logs.*", ">"],
        "publish": ["a", "$everyone", "$personal"],
        "presence": ["b.>"],
        "admin": True,
    }
    grants = (await claims(permissions=permissions)).grants

    assert grants == Grants(
        subscribe=("logs.*", ">"), publish=("a", "$everyone", "$personal"), presence=("b.>",), admin=True
    )
    assert Grants() == (await claims()).grants == (await claims(permissions={})).grants


async def test_other_claims_are_ignored() -> None:
    assert "alice" == (await claims(scope="x", email={"a": [1e300]}, admin=True)).user_id
    assert Grants() == (await claims(admin=True)).grants


async def test_a_token_holds_until_it_expires_and_the_leeway_is_over() -> None:
    found = await made(leeway_seconds=2.5).verify(ISSUER.token(exp=LATER))

    assert (LATER * 10 + 25) * 10**8 == found.expires_ns


async def test_an_expired_token_is_taken_within_the_leeway_and_expires_at_its_end() -> None:
    now = int(time.time())
    found = await made(leeway_seconds=60).verify(ISSUER.token(exp=now - 5, nbf=now + 5))

    assert (now + 55) * 10**9 == found.expires_ns


@pytest.mark.parametrize("exp", [LATER + 0.75, float(LATER)], ids=["a fraction", "none"])
async def test_times_may_have_fractions(exp: float) -> None:
    found = await made(leeway_seconds=0).verify(ISSUER.token(exp=exp, iat=0.5, nbf=-1.5))

    assert LATER * 10**9 == found.expires_ns


@pytest.mark.parametrize("exp", [9_999_999_999, 2**80, 1e300, 10**300])
async def test_a_token_for_ever_expires_when_64_bits_of_nanoseconds_end(exp: float) -> None:
    found = await made().verify(ISSUER.token(exp=exp))

    assert 9_223_372_036 * 10**9 == found.expires_ns < 2**63


async def test_one_of_several_audiences_is_enough() -> None:
    token = ISSUER.token(aud=["other", "gateway"])

    assert "alice" == (await made(audience="gateway").verify(token)).user_id


async def test_an_issuer_is_asked_for_only_if_configured() -> None:
    token = ISSUER.token(iss="anybody")

    assert "alice" == (await made().verify(token)).user_id
    assert "alice" == (await made(issuer="anybody").verify(token)).user_id


async def test_a_token_may_have_8192_characters() -> None:
    length = len(ISSUER.token(more=""))
    more = (8_192 - length) * 3 // 4
    token = next(t for n in range(8) if len(t := ISSUER.token(more="x" * (more - n))) <= 8_192)

    assert len(token) > 8_185
    assert "alice" == (await made().verify(token)).user_id


async def test_a_payload_may_be_written_in_any_json() -> None:
    pretty = json.dumps(ISSUER.claims(sub="é"), indent=2, ensure_ascii=False).encode()

    assert "é" == (await made().verify(compact(ISSUER.header(), pretty, ISSUER.sign))).user_id
