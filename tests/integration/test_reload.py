"""SIGHUP and `gateway reload`: the configuration as a whole, or as a whole not; what changed; what needs a restart."""

from __future__ import annotations

import asyncio
import signal
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from neurograph_publisher import Publisher

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.command import run_here
from tests.support.curve import Ring
from tests.support.gateway import Gateway
from tests.support.issuer import Issuer, rs256
from tests.support.keyserver import KeyServer, has
from tests.support.tokens import SECRET, bearer, token
from tests.support.waiting import eventually


class Configured:
    """A gateway with a file, and the command that makes it read that again."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "gateway.toml"
        self.control = folder / "control"

    def write(self, text: str) -> None:
        self.file.write_text(f'control_file = "{self.control}"\n{text}')

    def reload(self, text: str) -> str:
        """Write a configuration, make the gateway use it, and return what the command prints."""
        self.write(text)
        done = run_here("reload", "--config", self.file)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, text: str) -> str:
        """Write a configuration that the gateway refuses; return what the command prints."""
        self.write(text)
        # The command has a configuration of its own, which is valid.
        done = run_here("reload", "--set", f"control_file={self.control}")
        assert done.returncode == 1
        return done.stderr


Start = Callable[..., Awaitable[Gateway]]


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


@pytest.fixture
def start(configured: Configured, launch: Launch) -> Start:
    """Start a gateway with this text in its file."""

    async def launched(text: str = "", *flags: str, **how: Any) -> Gateway:
        configured.write(text)
        return await launch(flags=["--config", str(configured.file), *flags], **how)

    return launched


async def test_what_changed_and_what_needs_a_restart_is_printed_without_values(
    start: Start, configured: Configured
) -> None:
    gateway = await start("[clients]\nconnections_max = 7\n")
    unchanged = configured.reload("[clients]\nconnections_max = 7\n")
    text = f'host = "::1"\n[clients]\nconnections_max = 8\nsend_buffer_bytes = 1\n[auth]\nsecret = "{SECRET}"\n'

    said = configured.reload(text)

    assert unchanged == "No setting changed. Keys and certificates were read again.\n"
    assert said == (
        "Changed: clients.connections_max\n"
        "Needs a restart, and is as before: host, auth.secret, clients.send_buffer_bytes\n"
    )
    assert SECRET not in "".join(gateway.lines)
    [_, record] = await gateway.logged("reloaded", times=2)
    assert record["changed"] == ["clients.connections_max"]
    assert record["restart"] == ["host", "auth.secret", "clients.send_buffer_bytes"]


async def test_a_wrong_configuration_changes_nothing_and_the_reason_is_printed_and_logged(
    start: Start, configured: Configured
) -> None:
    """Whatever is wrong with it: a value, a file that it names, an endpoint of the bus."""
    gateway = await start("[clients]\nconnections_max = 7\n")
    gateway.errors_expected = True
    rest = "[clients]\nconnections_max = 8\n"

    value = configured.refused(rest + "wildcards_max = -1\n")
    file = configured.refused(rest + '[tls]\ncert_file = "none.pem"\nkey_file = "none.pem"\n')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        endpoint = configured.refused(rest + f'[[bus.sources]]\nendpoint = "{address}"\nmode = "bind"\n')
    no_decoder = configured.refused(rest + '[[bus.sources]]\nendpoint = "tcp://127.0.0.1:2"\ndecoder = "nobody"\n')

    assert "clients.wildcards_max: -1 is below 0" in value
    assert "tls.cert_file" in file
    assert f"bind: {address} is in use" in endpoint
    assert "'nobody' is not a decoder" in no_decoder
    assert len(await gateway.logged("reload_refused", times=4)) == 4
    assert await gateway.metric("neurograph_gateway_limit", setting="clients.connections_max") == 7
    assert len((await gateway.status())["bus"]) == 2


async def test_the_command_without_a_gateway_says_so(tmp_path: Path) -> None:
    unset = run_here("reload")
    nobody = run_here("reload", "--set", f"control_file={tmp_path / 'control'}")

    assert (unset.returncode, nobody.returncode) == (1, 1)
    assert "control_file is not set" in unset.stderr
    assert f"no gateway answers at {tmp_path / 'control'}: No such file or directory" in nobody.stderr


async def test_only_the_gateways_user_may_use_the_control_socket_and_it_goes_with_the_gateway(
    start: Start, configured: Configured
) -> None:
    configured.control.touch()  # left by one that was killed
    gateway = await start()
    mode = configured.control.stat().st_mode
    gateway.kill(signal.SIGTERM)
    await gateway.exited()

    assert stat.S_ISSOCK(mode)
    assert mode & 0o777 == 0o600
    assert not configured.control.exists()


async def test_two_gateways_do_not_share_a_control_socket(start: Start, configured: Configured, launch: Launch) -> None:
    await start()

    with pytest.raises(AssertionError, match=f"another gateway listens at {configured.control}"):
        await launch(settings={"control_file": configured.control}, bind="")


@pytest.mark.parametrize("workers", [1, 2])
async def test_limits_origins_histories_and_levels_take_effect(
    start: Start, configured: Configured, connect: Connect, publisher: NewPublisher, workers: int
) -> None:
    """In every process, for the clients, requests and events that come from now on."""
    gateway = await start("", "--workers", str(workers))
    bus = await publisher(gateway.bus_in)
    bus.send_numbered("robots", range(1, 11))
    await gateway.holds("robots", 10)
    configured.reload(
        """
        allowed_origins = ["https://page.example"]
        [clients]
        subscriptions_max = 1
        connections_max = 2
        [history]
        events_max = 3
        [logging]
        level = "debug"
        """
    )
    bus.send_numbered("robots", range(11, 12))
    await gateway.holds("robots", 11)

    client = await connect(to=gateway, headers={"Origin": "https://page.example"})
    await client.subscribe("robots", last=100)
    kept = [event["data"]["n"] for event in await client.events("robots", 3)]
    refusal = await client.refused({"type": "subscribe", "channels": ["metrics"]})
    await connect(to=gateway)
    with pytest.raises(AssertionError, match="try_later"):
        await connect(to=gateway)

    assert kept == [9, 10, 11]
    assert refusal["code"] == "too_many_subscriptions"
    await eventually(lambda: any(one["level"] == "debug" for one in gateway.records), saying="debug is logged")


@pytest.mark.parametrize("workers", [1, 2])
async def test_permissions_that_are_taken_away_end_subscriptions(
    start: Start, configured: Configured, connect: Connect, workers: int
) -> None:
    """Those of clients that are connected, too, and what a role gets more is allowed at once."""
    auth = f'[auth]\nsecret = "{SECRET}"\n'
    gateway = await start(auth, "--workers", str(workers))
    client = await connect("signals", "metrics", to=gateway, headers=bearer(token("bot")))

    said = configured.reload(auth + '[roles.bot]\nsubscribe = ["robots"]\n')

    assert said == "Changed: roles.bot\n"
    ended = await client.until("unsubscribed")
    assert [one["channel"] for one in ended["denied"]] == ["signals"]
    assert (await client.subscribe("robots"))["channels"] == ["robots"]
    listed = await client.ask({"type": "get_subscriptions"}, "subscriptions")
    assert sorted(listed["channels"]) == ["metrics", "robots"]


@pytest.mark.parametrize("workers", [1, 2])
async def test_secrets_rotate_with_an_overlap(
    start: Start, configured: Configured, connect: Connect, tmp_path: Path, workers: int
) -> None:
    """A secret is added, tokens of both are valid, the old one is removed; clients stay connected."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "1").write_text(SECRET)
    auth = f'[auth]\nsecret_file = "{secrets}"\n'
    gateway = await start(auth, "--workers", str(workers))
    old, new = token("bot"), Issuer("HS256", SECRET[::-1].encode()).token(roles=["bot"])

    async def taken(one: str) -> bool:
        return (await gateway.request("GET", "/api/v1/websocket/channels", headers=bearer(one))).status == 200

    client = await connect(to=gateway, headers=bearer(old))
    before = await taken(old), await taken(new)
    (secrets / "2").write_text(SECRET[::-1])
    configured.reload(auth)
    both = await taken(old), await taken(new)
    (secrets / "1").unlink()
    configured.reload(auth)
    after = await taken(old), await taken(new)

    assert [(True, False), (True, True), (False, True)] == [before, both, after]
    assert await client.ping()


async def test_the_address_of_the_keys_changes(start: Start, configured: Configured) -> None:
    old, new = rs256(kid="old"), rs256(kid="new")
    async with KeyServer(has([old.jwk])) as first, KeyServer(has([new.jwk])) as second:

        def auth(url: str) -> str:
            return f'[auth]\ninsecure_jwks = true\njwks_url = "{url}"\n'

        gateway = await start(auth(first.url))

        async def taken(one: Issuer) -> bool:
            answer = await gateway.request("GET", "/api/v1/websocket/channels", headers=bearer(one.token()))
            return answer.status == 200

        before = await taken(old)
        said = await asyncio.to_thread(configured.reload, auth(second.url))

        assert before
        assert said == "Changed: auth.jwks_url\n"
        await eventually(lambda: taken(new), saying="the new server's keys are used")
        assert not await taken(old)


async def test_endpoints_of_the_bus_come_and_go(
    start: Start, configured: Configured, publisher: NewPublisher, tmp_path: Path, connect: Connect
) -> None:
    """Also one whose source changes."""
    old, new = f"ipc://{tmp_path}/old", f"ipc://{tmp_path}/new"

    def source(endpoint: str, channel: str) -> str:
        return f'[[bus.sources]]\nendpoint = "{endpoint}"\nrename = {{ a = "{channel}" }}\n'

    gateway = await start(source(old, "one"))
    gone, come = await publisher(old, bind=True), await publisher(new, bind=True, wait=False)

    configured.reload(source(new, "one"))
    await come.subscribed()
    await gone.unsubscribed()
    come.send_frames(b"a", b"{}")
    await gateway.holds("one", 1)
    configured.reload(source(new, "two"))
    await come.subscribed_again()
    come.send_frames(b"a", b"{}")
    await gateway.holds("two", 1)

    assert [one["endpoint"] for one in (await gateway.status())["bus"]][2:] == [new]


async def test_the_link_of_a_key_that_was_removed_is_cut(start: Start, configured: Configured, tmp_path: Path) -> None:
    """The others come back by themselves, and what they published meanwhile is replayed."""
    ring = Ring(tmp_path)
    listing = ring.listing("trusted", "core", "thief")
    bus = f'connect = []\n[bus]\ncurve_key_file = "{ring.secret("gateway")}"\ncurve_client_keys_dir = "{listing}"\n'
    gateway = await start(bus, connect=[])
    core = Publisher(connect=gateway.bus_in, curve=ring.curve("core", "gateway"), replay=100)
    thief = Publisher(connect=gateway.bus_in, curve=ring.curve("thief", "gateway"))
    with core, thief:
        for one in (core, thief):
            assert await asyncio.to_thread(one.wait_for_subscriber, 60)
        ring.remove("trusted", "thief")

        configured.reload(bus)

        core.publish("robots", {"n": 1})
        await gateway.holds("robots", 1)
        refused = "neurograph_gateway_bus_handshakes_failed_total"

        async def stays_out() -> bool:
            thief.publish("stolen", {"n": 1})
            return await gateway.metric(refused) > 1

        await eventually(stays_out, saying="the thief is refused again and again")
        answer = await gateway.request("GET", "/api/v1/websocket/channels")
        assert "stolen" not in [one["name"] for one in answer.json["channels"]]
