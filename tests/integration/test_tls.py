"""https and wss: the same service, a certificate that can be replaced, and clear words about a wrong one."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import Launch, NewPublisher
from tests.support import tls
from tests.support.command import run
from tests.support.gateway import Gateway
from tests.support.raw import Ended
from tests.support.record import Record
from tests.support.tls import Files, TlsPeer
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled


Peers = Callable[..., TlsPeer]
Greeted = Callable[..., Awaitable[TlsPeer]]


@pytest.fixture
def served(tmp_path: Path) -> Files:
    return tls.make(tmp_path)


async def _launch(launch: Launch, files: Files, **settings: object) -> Gateway:
    """A gateway that serves a certificate; its own requests trust it, and nothing else."""
    return await launch(settings={**files.settings, **settings}, trust=tls.trusting(files))


@pytest.fixture
def peers() -> Iterator[Peers]:
    """Make peers that speak TLS: ``peers(gateway, context)``."""
    made: list[TlsPeer] = []

    def make(gateway: Gateway, context: ssl.SSLContext, receive_buffer: int = 0) -> TlsPeer:
        made.append(TlsPeer(gateway.port, context, receive_buffer=receive_buffer))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def greeted(peers: Peers, served: Files) -> Greeted:
    """Open WebSockets over TLS: ``await greeted(gateway, "/ws")``."""

    async def make(gateway: Gateway, path: str, receive_buffer: int = 0) -> TlsPeer:
        peer = peers(gateway, tls.trusting(served), receive_buffer)
        await peer.handshake()
        status, _ = await peer.upgrade(path)
        assert status == 101
        await peer.expect("connected")
        return peer

    return make


async def test_many_clients_of_one_view_get_the_same_over_tls(
    launch: Launch, publisher: NewPublisher, served: Files, greeted: Greeted
) -> None:
    """Nothing goes past what encrypts."""
    gateway = await _launch(launch, served)
    bus = await publisher(gateway.bus_in)
    crowd = [await greeted(gateway, "/ws?channels=a") for _ in range(10)]
    for peer in crowd:
        await peer.expect("subscribed")
    for n in range(1, 6):
        bus.send("a", {"n": n})

    for peer in crowd:
        assert list(range(1, 6)) == [(await peer.expect("event"))["offset"] for _ in range(5)]


async def test_everything_is_served_over_tls(
    launch: Launch, publisher: NewPublisher, served: Files, greeted: Greeted
) -> None:
    """REST, events over wss, and as a stream; and the gateway says https."""
    gateway = await _launch(launch, served)
    bus = await publisher(gateway.bus_in)
    peer = await greeted(gateway, "/ws?channels=a")
    await peer.expect("subscribed")
    bus.send("a", {"n": 1})
    event = await peer.expect("event")
    history = await gateway.get_json("/api/v1/websocket/channels/a/events")
    async with aiohttp.ClientSession() as http:
        url = f"{gateway.url}/events?channels=a&last=1"
        async with http.get(url, ssl=gateway.trust or True) as stream:
            line = await asyncio.wait_for(stream.content.readuntil(b"\n\n"), scaled(DEADLINE_SECONDS))

    assert gateway.url.startswith("https://127.0.0.1:")
    assert event["offset"] == 1
    assert len(history["events"]) == 1
    assert line


async def test_its_own_pages_come_by_https(launch: Launch, served: Files) -> None:
    """The own origin has the scheme that is spoken."""
    gateway = await _launch(launch, served)
    own = f"https://127.0.0.1:{gateway.port}"
    secure = await gateway.request("GET", "/healthz", headers={"Origin": own})
    plain = await gateway.request("GET", "/healthz", headers={"Origin": own.replace("https", "http")})

    assert [secure.status, plain.status] == [200, 403]


async def test_old_versions_of_tls_are_refused(launch: Launch, served: Files, peers: Peers) -> None:
    gateway = await _launch(launch, served)
    old = tls.trusting(served)
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    old.options &= ~ssl.OP_NO_TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    newer = tls.trusting(served)
    newer.maximum_version = ssl.TLSVersion.TLSv1_2

    with pytest.raises((ssl.SSLError, Ended)):
        await peers(gateway, old).handshake()
    assert (await peers(gateway, newer).handshake()).tls.version() == "TLSv1.2"


async def test_a_client_that_speaks_no_tls_is_disconnected(launch: Launch, served: Files) -> None:
    """Plain HTTP, noise, silence: closed, counted, and nothing in the log that alarms."""
    gateway = await _launch(launch, served, **{"clients.handshake_timeout_seconds": 0.5})
    for words in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\xff" * 100, b"\x16\x03\x01", b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(words)
        try:
            answer = await asyncio.wait_for(reader.read(), scaled(DEADLINE_SECONDS))
        except ConnectionResetError:
            answer = b""
        assert b"HTTP" not in answer
        writer.close()

    assert await gateway.metric("neurograph_gateway_connections_refused_total", reason="tls") == 4
    assert (await gateway.request("GET", "/healthz")).status == 200


async def test_tls_and_request_have_one_deadline(launch: Launch, served: Files, peers: Peers) -> None:
    """After the greeting a client has only what is left of it."""
    gateway = await _launch(launch, served, **{"clients.handshake_timeout_seconds": 0.5})
    peer = await peers(gateway, tls.trusting(served)).handshake()
    await peer.send_bytes(b"GET / HTTP/1.1\r\n")

    await peer.read_to_end()
    assert await gateway.metric("neurograph_gateway_connections_refused_total", reason="handshake") == 1


@pytest.mark.long
async def test_a_slow_client_catches_up_over_tls(
    launch: Launch, publisher: NewPublisher, served: Files, greeted: Greeted
) -> None:
    """It stops reading, lags, reads on from the log, and misses nothing."""
    small = {"clients.send_buffer_bytes": 32768, "clients.write_buffer_bytes_max": 32768}
    gateway = await _launch(launch, served, **small, **{"history.events_max": 10_000})
    bus = await publisher(gateway.bus_in)
    peer = await greeted(gateway, "/ws?channels=slow", 8192)
    await peer.expect("subscribed")
    witness = await greeted(gateway, "/ws?channels=slow")
    await witness.expect("subscribed")
    for n in range(1, 3001):
        bus.send("slow", {"n": n, "padding": "x" * 1000})
        while n % 50 == 0 and (await witness.expect("event"))["offset"] < n:
            pass

    async def behind() -> bool:
        found = await gateway.status()
        newest = await gateway.request("GET", "/api/v1/websocket/channels/slow")
        return bool(found["lagging"] == 1 and newest.json["position"]["offset"] == 3000)

    await eventually(behind)
    buffered = max(one["buffered"] for one in (await gateway.status())["clients"])
    record = Record()
    while not record.offsets or record.offsets[-1] < 3000:
        message = await peer.read_message()
        if message["type"] in {"event", "gap"}:
            record.add(message)

    assert record.gaps == []
    assert list(range(1, 3001)) == record.numbers
    assert buffered < 200_000

    async def level() -> bool:
        return bool((await gateway.status())["lagging"] == 0)

    await eventually(level)
    bus.send("slow", {"n": 3001})
    assert (await peer.expect("event"))["offset"] == 3001


async def test_close_codes_arrive_over_tls(launch: Launch, served: Files, greeted: Greeted) -> None:
    """There is no half-closed TLS; the code must arrive all the same, and the socket end."""
    gateway = await _launch(launch, served)
    binary = await greeted(gateway, "/ws")
    await binary.send_frame(2, b"\x00")
    violation = await greeted(gateway, "/ws")
    await violation.send_frame(1, b"x", masked=False)
    drained = await greeted(gateway, "/ws")

    assert (await binary.read_ending()).code == 1003
    assert (await violation.read_ending()).code == 1002
    gateway.kill(15)
    assert (await drained.read_ending()).code == 1012
    assert await gateway.exited() == 0


async def test_a_client_that_closes_is_answered_over_tls(launch: Launch, served: Files, greeted: Greeted) -> None:
    gateway = await _launch(launch, served)
    peer = await greeted(gateway, "/ws")
    await peer.send_close(1000)

    assert (await peer.read_ending()).code == 1000

    async def gone() -> bool:
        return bool((await gateway.status())["connections"] == 0)

    await eventually(gone)


async def test_a_client_that_never_answers_a_close_is_cut_off(launch: Launch, served: Files, greeted: Greeted) -> None:
    gateway = await _launch(launch, served)
    peer = await greeted(gateway, "/ws")
    peer.answers_closes = False
    await peer.send_frame(2, b"\x00")

    assert (await peer.read_ending()).code == 1003


# -- the certificate ------------------------------------------------------------------------------


async def test_a_new_certificate_is_served_without_a_restart(
    launch: Launch, tmp_path: Path, served: Files, greeted: Greeted
) -> None:
    """New connections get it; those that are there stay."""
    gateway = await _launch(launch, served)
    peer = await greeted(gateway, "/ws")
    before = Files(tmp_path / "old.pem", tmp_path / "old.key")
    before.cert.write_bytes(served.cert.read_bytes())
    other = tls.make(tmp_path, "renewed")
    served.take(other)

    async def renewed() -> bool:
        return await tls.served_name(gateway.port, before, other) == "renewed"

    await eventually(renewed)
    await peer.send_json({"type": "ping"})
    assert (await peer.expect("pong"))["type"] == "pong"
    assert await gateway.logged("certificate_reloaded")


async def test_a_broken_new_certificate_changes_nothing(launch: Launch, tmp_path: Path, served: Files) -> None:
    """It is said once, the old one stays, and a good one is taken afterwards."""
    one = ["--workers", "1"]  # each process says it
    gateway = await launch(flags=one, settings=served.settings, trust=tls.trusting(served))
    good = served.cert.read_bytes(), served.key.read_bytes()
    other = tls.make(tmp_path, "other")

    def warned(times: int) -> bool:
        return [r["message"] for r in gateway.records].count("certificate_not_reloaded") == times

    served.cert.write_text("nonsense")
    await eventually(lambda: warned(1))
    served.cert.write_bytes(other.cert.read_bytes())  # and its key has not come yet
    await eventually(lambda: warned(2))
    assert await _name_of(gateway, good[0], tmp_path) == "served"
    served.key.write_bytes(other.key.read_bytes())

    async def taken() -> bool:
        return await tls.served_name(gateway.port, other, _kept(good[0], tmp_path)) == "other"

    await eventually(taken)
    assert warned(2)
    served.cert.unlink()
    await eventually(lambda: warned(3))
    assert await tls.served_name(gateway.port, other) == "other"


def _kept(certificate: bytes, folder: Path) -> Files:
    files = Files(folder / "kept.pem", folder / "kept.key")
    files.cert.write_bytes(certificate)
    return files


async def _name_of(gateway: Gateway, certificate: bytes, folder: Path) -> str:
    return await tls.served_name(gateway.port, _kept(certificate, folder))


def _mismatched(folder: Path) -> Files:
    return Files(tls.make(folder, "one").cert, tls.make(folder, "two").key)


def _encrypted(folder: Path) -> Files:
    return tls.make(folder, password=b"word")


def _swapped(folder: Path) -> Files:
    files = tls.make(folder)
    return Files(files.key, files.cert)


def _missing(folder: Path) -> Files:
    return Files(folder / "nowhere.pem", tls.make(folder).key)


def _garbled(folder: Path) -> Files:
    files = tls.make(folder)
    files.cert.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    return files


WRONG: dict[str, tuple[Callable[[Path], Files], str]] = {
    "mismatched": (_mismatched, "two.key is not the key of"),
    "encrypted": (_encrypted, "is encrypted"),
    "swapped": (_swapped, "has no certificate"),
    "missing": (_missing, "nowhere.pem cannot be read"),
    "garbled": (_garbled, "OpenSSL cannot use"),
}


async def _run(command: str, files: Files) -> tuple[int, str]:
    arguments = ["--port", "0", "--bind", "", "--connect", f"ipc://{files.cert.parent}/bus"]
    for key, value in files.settings.items():
        arguments += ["--set", f"{key}={value}"]
    status, ran = await run(command, *arguments)
    return status, ran.output + ran.errors


@pytest.mark.parametrize(("make", "words"), WRONG.values(), ids=WRONG)
async def test_wrong_files_are_named_with_what_is_wrong(
    tmp_path: Path, make: Callable[[Path], Files], words: str
) -> None:
    """By `check`, and by `serve`, which does not start: without TLS it would be reachable in plain text."""
    files = make(tmp_path)
    checked, told = await _run("check", files)
    status, said = await _run("serve", files)

    assert [checked, status] == [2, 2]
    assert words in told
    assert "tls." in told
    assert words in said
    assert "Traceback" not in said


async def test_an_expired_certificate_is_a_warning(launch: Launch, tmp_path: Path, peers: Peers) -> None:
    """Clients will refuse it; who runs the gateway may know better."""
    files = tls.make(tmp_path, days=-1)
    status, told = await _run("check", files)
    careless = tls.trusting(files)
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE
    gateway = await launch(settings=files.settings, trust=careless)

    assert status == 0
    assert "expired at" in told
    assert "serve       https://" in told
    assert (await gateway.logged("certificate_warning"))[0]["reason"]
    with pytest.raises(ssl.SSLCertVerificationError):
        await peers(gateway, tls.trusting(files)).handshake()
