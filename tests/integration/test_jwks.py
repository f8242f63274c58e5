"""Keys at a URL: fresh while their server answers, kept while it does not, and nobody waits for it."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from gateway.auth import TokenError, Verifier, jwks, verifier
from gateway.auth.jwks import Jwks
from gateway.config.model import Auth
from tests.support.forged import by_reason
from tests.support.issuer import Issuer, compact, eddsa, es256, rs256, stranger
from tests.support.keyserver import Act, Floods, KeyServer, drips, hangs, has, says, sends
from tests.support.waiting import eventually


FIRST = es256(kid="first")
SECOND = rs256(kid="second")


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    """A server that has one key."""
    async with KeyServer(has([FIRST.jwk])) as running:
        yield running


Make = Callable[..., Verifier]


@pytest.fixture
async def made(clock: Clock) -> AsyncIterator[Make]:
    """Make a verifier with the keys at a server."""
    async with AsyncExitStack() as stack:

        def make(server: KeyServer, **settings: Any) -> Verifier:
            auth = Auth(jwks_url=server.url, insecure_jwks=True, **settings)
            checks = Verifier(auth, Jwks(server.url, refresh_seconds=300, clock=clock))
            stack.push_async_callback(checks.close)
            return checks

        yield make


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a fetch end soon, where a test waits for it to fail."""
    monkeypatch.setattr(jwks, "FETCH_SECONDS_MAX", 0.3)


async def result(checks: Verifier, token: str) -> str:
    """The user of a token that is taken, or why it is not."""
    try:
        return str((await checks.verify(token)).user_id)
    except TokenError as error:
        return error.reason


def unknown(n: int = 0) -> str:
    """A token whose key nobody has; signed by no one, for nobody gets so far as to look."""
    return compact(FIRST.header(kid=f"unknown-{n}"), FIRST.claims(), lambda _: b"signature")


# -- which keys are taken -------------------------------------------------------------------------


@pytest.mark.parametrize("issuer", [FIRST, SECOND, eddsa(kid="third")], ids=lambda one: one.kid)
async def test_a_token_is_verified_with_the_key_that_it_names(made: Make, issuer: Issuer) -> None:
    async with KeyServer(has([FIRST.jwk, SECOND.jwk, eddsa(kid="third").jwk])) as server:
        checks = made(server)

        assert "alice" == await result(checks, issuer.token())
        assert "signature" == await result(checks, stranger(issuer).token_under(kid=issuer.kid))
        assert 1 == server.requests


async def test_a_configured_gateway_fetches_its_keys(server: KeyServer) -> None:
    checks = verifier(Auth(jwks_url=server.url, insecure_jwks=True))
    assert checks is not None

    assert "alice" == await result(checks, FIRST.token())
    await checks.close()


async def test_no_forged_token_is_taken(made: Make) -> None:
    issuer = rs256(kid="ours", audience="gateway", issuer="https://id.example")
    async with KeyServer(has([issuer.jwk])) as server:
        checks = made(server, audience=issuer.audience, issuer=issuer.issuer)

        for reason, tokens in by_reason(issuer).items():
            refused = {name: await result(checks, token) for name, token in tokens.items()}
            assert dict.fromkeys(tokens, reason) == refused
        assert "alice" == await result(checks, issuer.token())


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([FIRST.jwk], "alice"),
        ([es256().jwk], "alice"),
        ([FIRST.jwk, {"kty": "oct", "k": "AAAA"}, {"kty": "RSA", "use": "enc"}, {}], "alice"),
        ([FIRST.jwk, SECOND.jwk], "unknown_key"),
        ([FIRST.jwk, es256().jwk], "unknown_key"),
        ([], "unknown_key"),
    ],
)
async def test_a_token_that_names_no_key_needs_there_to_be_one_only(
    made: Make, keys: list[Mapping[str, Any]], expected: str
) -> None:
    async with KeyServer(has(keys)) as server:
        assert expected == await result(made(server), es256().token())


async def test_a_key_without_id_is_none_for_tokens_that_name_one(made: Make) -> None:
    async with KeyServer(has([es256().jwk, {**es256().jwk, "kid": 5}])) as server:
        assert "unknown_key" == await result(made(server), es256(kid="5").token())


async def test_of_two_keys_of_one_id_the_first_counts(made: Make) -> None:
    async with KeyServer(has([FIRST.jwk, {**SECOND.jwk, "kid": "first"}])) as server:
        checks = made(server)

        assert "alice" == await result(checks, FIRST.token())
        assert "algorithm" == await result(checks, rs256(kid="first").token())


async def test_a_secret_that_everybody_can_read_is_no_key(made: Make) -> None:
    secret = Issuer("HS256", b"this is in a document that anybody may read", kid="secret")
    shown = {"kty": "oct", "kid": "secret", "k": "dGhpcyBpcyBpbiBhIGRvY3VtZW50IHRoYXQ"}
    async with KeyServer(has([FIRST.jwk, shown])) as server:
        assert "unknown_key" == await result(made(server), secret.token())


# -- when they are fetched ------------------------------------------------------------------------


@pytest.mark.long
async def test_ten_thousand_unknown_ids_cause_one_fetch_in_ten_seconds(
    made: Make, server: KeyServer, clock: Clock
) -> None:
    checks = made(server)
    assert "alice" == await result(checks, FIRST.token())
    for seconds, fetches in ((0, 1), (9.9, 1), (0.1, 2), (9.9, 2), (0.1, 3)):
        clock.now += seconds
        tokens = map(unknown, range(10_000))
        reasons = set(await asyncio.gather(*(result(checks, token) for token in tokens)))

        assert fetches == server.requests
        assert reasons <= {"unknown_key", "keys_unavailable"}
    assert "alice" == await result(checks, FIRST.token())


async def test_a_new_key_is_found_and_an_old_one_forgotten(made: Make, server: KeyServer, clock: Clock) -> None:
    checks = made(server)
    assert "alice" == await result(checks, FIRST.token())
    server.act = has([SECOND.jwk])

    assert "unknown_key" == await result(checks, SECOND.token())  # fetched a moment ago
    clock.now += 10

    assert "alice" == await result(checks, SECOND.token())
    assert "unknown_key" == await result(checks, FIRST.token())


async def test_keys_that_were_all_withdrawn_are_good_for_nothing(made: Make, server: KeyServer, clock: Clock) -> None:
    checks = made(server)
    assert "alice" == await result(checks, FIRST.token())
    server.act = has([])
    clock.now += 10

    assert "unknown_key" == await result(checks, unknown())
    assert "unknown_key" == await result(checks, FIRST.token())


async def test_tokens_that_come_at_once_share_a_fetch(made: Make, server: KeyServer) -> None:
    checks = made(server)
    found = await asyncio.gather(*(result(checks, FIRST.token()) for _ in range(100)))

    assert ["alice"] * 100 == found
    assert 1 == server.requests


async def test_keys_are_fetched_before_anybody_asks(made: Make, server: KeyServer) -> None:
    checks = made(server)
    checks.start()

    await eventually(lambda: 1 == server.requests)
    assert "alice" == await result(checks, FIRST.token())
    assert 1 == server.requests


async def test_keys_are_fetched_again_before_they_are_stale_and_until_that_works(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "FETCH_INTERVAL_SECONDS_MIN", 0.01)
    checks = Verifier(Auth(), Jwks(server.url, refresh_seconds=0.05))
    checks.start()
    await eventually(lambda: server.requests >= 3)
    assert "alice" == await result(checks, FIRST.token())
    for act in (sends(b""), has([SECOND.jwk]), sends(b"")):
        server.act, server.requests = act, 0
        await eventually(lambda: server.requests >= 3)

    assert "alice" == await result(checks, SECOND.token())
    assert "keys_unavailable" == await result(checks, FIRST.token())
    await checks.close()


async def test_what_is_closed_fetches_no_more(made: Make, server: KeyServer) -> None:
    server.act = hangs
    checks = made(server)
    checks.start()
    await eventually(lambda: 1 == server.requests)
    waiting = asyncio.ensure_future(result(checks, unknown()))
    await checks.close()

    assert "keys_unavailable" == await waiting


# -- while their server misbehaves ----------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\n"
BIG = b'{"keys": [' + b" " * 1_100_000 + b"]}"

BAD: dict[str, tuple[Act, str]] = {
    "hangs": (hangs, "no complete answer within"),
    "drips its headers": (drips(OK + b"X: y\r\n" * 1_000), "no complete answer within"),
    "drips its keys": (drips(OK + b"\r\n" + b" " * 10_000), "no complete answer within"),
    "promises more": (drips(OK + b'Content-Length: 99\r\n\r\n{"keys":[]}'), "no complete answer within"),
    "hangs up": (sends(b""), "no answer (ServerDisconnectedError)"),
    "speaks another language": (sends(b"220 mail.example ESMTP\r\n"), "no answer ("),
    "breaks off": (sends(OK + b"Content-Length: 99\r\n\r\n{"), "no answer (ClientPayloadError)"),
    "breaks its chunks": (sends(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "no answer ("),
    "has endless headers": (Floods(OK + b"X: y"), "no answer ("),
    "answers 500": (says(b"{}", "500 Internal Server Error"), "status 500"),
    "answers 404": (says(b'{"keys":[]}', "404 Not Found"), "status 404"),
    "answers 204": (sends(b"HTTP/1.1 204 No Content\r\n\r\n"), "status 204"),
    "answers 304": (sends(b"HTTP/1.1 304 Not Modified\r\n\r\n"), "status 304"),
    "has a page": (says("<html>Sign in</html>"), "the answer is not JSON"),
    "has nothing": (says(b""), "the answer is not JSON"),
    "has noise": (says(b"\xff\x00" * 1_000), "the answer is not JSON"),
    "nests": (says(b"[" * 500_000), "the answer is not JSON"),
    "compresses": (
        says(gzip.compress(b" " * 10_000_000), headers={"Content-Encoding": "gzip"}),
        "the answer is not JSON",
    ),
    "has more than it may": (says(BIG), "the answer has more than 1048576 bytes"),
    "has no end": (Floods(OK + b"\r\n"), "the answer has more than 1048576 bytes"),
    "has 101 keys": (has([SECOND.jwk] * 101), "the answer has more than 100 keys"),
    **{
        f"has {body}": (says(body), "the answer is not a JWK set")
        for body in ("[]", "null", "5", '"keys"', "{}", '{"keys": {}}', '{"keys": null}')
    },
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", BAD)
async def test_a_server_that_misbehaves_leaves_the_known_keys_as_they_are(
    name: str, made: Make, server: KeyServer, clock: Clock
) -> None:
    act, reason = BAD[name]
    checks = made(server)
    assert "alice" == await result(checks, FIRST.token())
    server.act = act
    clock.now += 1_000

    with capture_logs() as logs:
        new = asyncio.ensure_future(result(checks, SECOND.token()))
        await eventually(lambda: 2 == server.requests)
        assert "alice" == await result(checks, FIRST.token())  # while the fetch is under way
        assert "keys_unavailable" == await new

    assert "alice" == await result(checks, FIRST.token())
    assert "keys_unavailable" == await result(checks, unknown())  # at once, for it was just tried
    assert 2 == server.requests
    [line] = logs
    assert line["reason"].startswith(reason)
    assert "127.0.0.1" not in str(line)


async def test_an_answer_without_end_is_not_taken_in(made: Make, server: KeyServer) -> None:
    flood = Floods(OK + b"\r\n")
    server.act = flood

    assert "keys_unavailable" == await result(made(server), FIRST.token())
    assert flood.sent < 16 * 2**20  # what the buffers of two kernels' sockets may hold, and more


ODD: list[Any] = [
    *(None, 5, "key", [], {}, [FIRST.jwk]),
    {"kid": "first"},
    {**FIRST.jwk, "kty": None},
    {**FIRST.jwk, "x": 5},
    {**SECOND.jwk, "n": "A" * 900_000},
    {**SECOND.jwk, "kid": ["second"]},
    {**SECOND.jwk, "kid": {}},
]


async def test_keys_that_make_no_sense_are_left_out_and_the_others_taken(made: Make, server: KeyServer) -> None:
    server.act = says(json.dumps({"keys": [*ODD, FIRST.jwk]}))

    assert "alice" == await result(made(server), FIRST.token())


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_no_redirect_is_followed(made: Make, server: KeyServer, status: str) -> None:
    async with KeyServer(has([SECOND.jwk])) as elsewhere:
        for to in (elsewhere.url, server.url.replace("http:", "https:"), "file:///etc/passwd"):
            server.act = says(b"", status, {"Location": to})
            assert "keys_unavailable" == await result(made(server), SECOND.token())
        assert 0 == elsewhere.requests


async def test_nobody_waits_for_a_server_that_hangs_but_a_few_and_they_not_long(
    made: Make, server: KeyServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = made(server)
    assert "alice" == await result(checks, FIRST.token())
    server.act = hangs
    clock.now += 10
    monkeypatch.setattr(jwks, "FETCH_SECONDS_MAX", 2.0)

    tokens = map(unknown, range(3_000))
    tasks = [asyncio.ensure_future(result(checks, token)) for token in tokens]
    await eventually(lambda: 2 == server.requests and 2_000 <= sum(map(asyncio.Task.done, tasks)))
    assert 1_000 == sum(not task.done() for task in tasks)
    assert "alice" == await result(checks, FIRST.token())

    assert {"keys_unavailable"} == set(await asyncio.gather(*tasks))
    assert "keys_unavailable" == await result(checks, unknown())
    assert 2 == server.requests


@pytest.mark.usefixtures("impatient")
async def test_a_client_that_gives_up_waiting_cancels_no_fetch_of_others(made: Make, server: KeyServer) -> None:
    let = asyncio.Event()

    async def act(writer: asyncio.StreamWriter) -> None:
        await let.wait()
        await has([FIRST.jwk])(writer)

    server.act = act
    checks = made(server)
    gone, stays = (asyncio.ensure_future(result(checks, FIRST.token())) for _ in range(2))
    await eventually(lambda: 1 == server.requests)
    gone.cancel()
    let.set()

    assert "alice" == await stays


async def test_known_keys_are_kept_for_a_day_without_their_server(made: Make, server: KeyServer, clock: Clock) -> None:
    checks = made(server)
    assert "alice" == await result(checks, FIRST.token())
    server.act = sends(b"")
    clock.now += 86_400
    assert "keys_unavailable" == await result(checks, unknown())
    assert "alice" == await result(checks, FIRST.token())

    clock.now += 1

    assert "keys_unavailable" == await result(checks, FIRST.token())
    server.act = has([FIRST.jwk])
    clock.now += 10
    assert "alice" == await result(checks, FIRST.token())


@pytest.mark.usefixtures("impatient")
async def test_a_server_that_is_not_there_keeps_no_gateway_from_starting(
    made: Make, server: KeyServer, clock: Clock
) -> None:
    good, server.act = server.act, hangs
    checks = made(server)
    checks.start()
    with pytest.raises(TokenError) as refused:
        await checks.verify(FIRST.token())
    assert refused.value.temporary
    assert "the token is not valid" == str(refused.value)

    server.act = good
    clock.now += 10
    assert "alice" == await result(checks, FIRST.token())


async def test_a_certificate_of_an_unknown_authority_is_refused(made: Make, tmp_path: Path) -> None:
    async with KeyServer(has([FIRST.jwk]), tls=_tls(tmp_path)) as server:
        with capture_logs() as logs:
            assert "keys_unavailable" == await result(made(server), FIRST.token())

        assert "no answer (ClientConnectorCertificateError)" == logs[0]["reason"]
        assert 0 == server.requests


async def test_the_log_says_once_that_keys_are_gone_and_once_that_they_are_back(
    made: Make, server: KeyServer, clock: Clock
) -> None:
    checks = made(server)
    good = server.act
    with capture_logs() as logs:
        for act in (good, sends(b""), sends(b""), says(b"", "500 Oh"), good, good):
            server.act = act
            await result(checks, unknown())
            clock.now += 10

    assert [
        ("info", None),
        ("warning", "no answer (ServerDisconnectedError)"),
        ("warning", "status 500"),
        ("info", None),
    ] == [(line["log_level"], line.get("reason")) for line in logs]


def _tls(folder: Path) -> ssl.SSLContext:
    """A server's TLS with a certificate that it made itself."""
    key = stranger(FIRST)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    private = key.key
    assert not isinstance(private, bytes)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(private, hashes.SHA256())
    )
    (folder / "cert").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key").write_bytes(key.private_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    return context
