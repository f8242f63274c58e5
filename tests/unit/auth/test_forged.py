"""No forged token is accepted, whatever algorithm signs the good ones, and the answer does not say why."""

import asyncio
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth import TokenError, Verifier, verifier
from gateway.config import load
from gateway.core.sessions.permissions import Claims
from tests.support.forged import by_reason, forged, is_printable
from tests.support.issuer import Issuer, eddsa, es256, hs256, rs256


NAMED = {"audience": "gateway", "issuer": "https://id.example"}
ISSUERS = {
    "HS256": hs256(),
    "RS256": rs256(),
    "HS256 for an audience": hs256(**NAMED),
    "RS256 for an audience": rs256(**NAMED),
    "ES256 for an audience": es256(**NAMED),
    "EdDSA for an audience": eddsa(**NAMED),
}


def verifier_of(issuer: Issuer, folder: Path) -> Verifier:
    made = verifier(load(None, {}, dict(issuer.settings(folder))).auth)
    assert made is not None
    return made


async def refusal(checks: Verifier, token: str) -> TokenError:
    with pytest.raises(TokenError) as refused:
        await checks.verify(token)
    return refused.value


@pytest.fixture(params=ISSUERS)
def issuer(request: pytest.FixtureRequest) -> Issuer:
    return ISSUERS[request.param]


async def test_each_forgery_is_refused_for_what_is_wrong_with_it(issuer: Issuer, tmp_path: Path) -> None:
    checks = verifier_of(issuer, tmp_path)

    for reason, tokens in by_reason(issuer).items():
        refused = {what: await refusal(checks, token) for what, token in tokens.items()}
        assert dict.fromkeys(tokens, reason) == {what: e.reason for what, e in refused.items()}


async def test_all_forgeries_get_the_same_answer(issuer: Issuer, tmp_path: Path) -> None:
    checks = verifier_of(issuer, tmp_path)
    refused = [await refusal(checks, token) for token in forged(issuer).values()]

    assert {"the token is not valid"} == {str(one) for one in refused}
    assert {("the token is not valid",)} == {one.args for one in refused}
    assert not any(one.temporary for one in refused)


async def test_the_good_token_beside_them_is_taken(issuer: Issuer, tmp_path: Path) -> None:
    claims = await verifier_of(issuer, tmp_path).verify(issuer.token())

    assert ("alice", ("admin",)) == (claims.user_id, claims.roles)


async def test_a_token_of_100_levels_is_taken(tmp_path: Path) -> None:
    issuer = hs256()
    deep: object = '["a bracket in a text is no level'
    for _ in range(99):
        deep = [deep]

    assert "alice" == (await verifier_of(issuer, tmp_path).verify(issuer.token(x=deep))).user_id


def test_there_are_enough_forgeries_for_every_entry(issuer: Issuer) -> None:
    tokens = forged(issuer)

    assert len(tokens) >= 150
    assert issuer.token() not in tokens.values()
    assert sum(map(is_printable, tokens.values())) >= 100


async def test_keys_that_a_token_brings_change_nothing(issuer: Issuer, tmp_path: Path) -> None:
    """Some identity providers send these; who follows them is lost, who refuses them is too strict."""
    checks = verifier_of(issuer, tmp_path)
    more = {"jku": "http://127.0.0.1:1/", "jwk": {"kty": "oct", "k": "AAAA"}, "kid": "../key"}

    assert "alice" == (await checks.verify(issuer.token_under(**more))).user_id


async def test_nothing_of_a_token_is_in_what_is_raised(tmp_path: Path) -> None:
    issuer = hs256()
    checks = verifier_of(issuer, tmp_path)
    for token in (issuer.token(exp=1, sub="needle"), issuer.token_under(crit=["needle"])):
        error = await refusal(checks, token)
        assert "needle" not in repr(error)
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None


CHECKS = {one.algorithm: one for one in (hs256(), rs256(), es256(), eddsa())}


@pytest.fixture(scope="module")
def all_verifiers(tmp_path_factory: pytest.TempPathFactory) -> list[Verifier]:
    return [verifier_of(one, tmp_path_factory.mktemp(name)) for name, one in CHECKS.items()]


def outcome(checks: Verifier, token: str) -> Claims | TokenError:
    """What comes of any token; other exceptions than a refusal, and warnings, come out."""

    async def verify() -> Claims | TokenError:
        try:
            return await checks.verify(token)
        except TokenError as error:
            return error

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return asyncio.run(verify())


part = st.text("ABCxyz019-_", max_size=12)


@given(
    st.text()
    | st.binary().map(lambda content: content.decode("latin-1"))
    | st.builds("{}.{}.{}".format, part, part, part)
)
def test_no_text_is_taken_and_none_does_more_than_be_refused(all_verifiers: list[Verifier], token: str) -> None:
    for checks in all_verifiers:
        assert isinstance(outcome(checks, token), TokenError)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
claims_of_ours = st.sampled_from(["exp", "nbf", "iat", "aud", "iss", "sub", "jti", "role", "roles", "permissions"])


@given(payload=st.dictionaries(claims_of_ours, values))
def test_any_signed_claims_are_read_or_refused(all_verifiers: list[Verifier], payload: dict[str, object]) -> None:
    found = outcome(all_verifiers[0], CHECKS["HS256"].token(**payload))

    assert isinstance(found, Claims | TokenError)


@given(header=st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "typ", "cty"]), values))
def test_any_header_is_read_or_refused(all_verifiers: list[Verifier], header: dict[str, object]) -> None:
    for issuer, checks in zip(CHECKS.values(), all_verifiers, strict=True):
        assert isinstance(outcome(checks, issuer.token_under(**header)), Claims | TokenError)


@given(at=st.integers(0, 1_000), other=st.characters())
def test_a_good_token_with_one_other_character_is_refused(all_verifiers: list[Verifier], at: int, other: str) -> None:
    for issuer, checks in zip(CHECKS.values(), all_verifiers, strict=True):
        good = issuer.token()
        place = at % len(good)
        changed = good[:place] + ("~" if other == good[place] else other) + good[place + 1 :]
        assert isinstance(outcome(checks, changed), TokenError)
