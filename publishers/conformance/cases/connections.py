"""Cases about connections: CURVE, closing a publisher, and ports of other programs."""

import json
import time
from pathlib import Path
from typing import Any

from zmq.auth import create_certificates, load_certificate

from publishers.conformance.cases.support import restarted, seen
from publishers.conformance.processes import Setting, until
from tests.support.addresses import free_tcp


FOREIGN_ANSWERS = [
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
    b"hello there, this is not zeromq at all\r\n" * 3,
    b"",
]
"""What programs that do not speak ZeroMQ send before they close a connection."""


def keys_of(setting: Setting) -> Path:
    folder = setting.scratch / "keys"
    folder.mkdir()
    for name in ("gateway", "core", "stranger"):
        create_certificates(folder, name)  # as `gateway keys` makes them
    for name in ("gateway", "core"):
        (folder / f"known-{name}").mkdir()
        (folder / f"known-{name}/{name}.key").write_bytes((folder / f"{name}.key").read_bytes())
    return folder


def curve_of(folder: Path, own: str, gateways: str) -> dict[str, Any]:
    public, secret = load_certificate(folder / f"{own}.key_secret")
    gateway, _ = load_certificate(folder / "gateway.key")
    assert secret is not None
    return {
        "key_file": str(folder / f"{own}.key_secret"),
        "gateways_file": str(folder / gateways),
        "public": public.decode(),
        "secret": secret.decode(),
        "gateway": gateway.decode(),
    }


def curve_connect(setting: Setting) -> None:
    """CURVE, connecting: events and replay are encrypted; an unknown key is refused."""
    keys = keys_of(setting)
    endpoint = free_tcp()
    gateway = setting.gateway(
        "connect = []",
        f'bind = "{endpoint}"',
        "[bus]",
        f'curve_key_file = "{keys}/gateway.key_secret"',
        f'curve_client_keys_dir = "{keys}/known-core"',
    )
    driver = setting.driver(connect=endpoint, replay=1000, curve=curve_of(keys, "core", "gateway.key"))
    assert driver.ask("wait", seconds=20), "no subscriber over CURVE"
    driver.opened["endpoint"] = endpoint
    restarted(setting, gateway, driver)
    stranger = setting.driver(connect=endpoint, curve=curve_of(keys, "stranger", "gateway.key"))
    assert stranger.ask("wait", seconds=2) is False, "the gateway accepted a publisher with an unknown key"


def curve_bind(setting: Setting) -> None:
    """CURVE, binding: events and replay are encrypted; an unknown gateway is refused."""
    keys = keys_of(setting)
    driver = setting.driver(bind="tcp://127.0.0.1:*", replay=1000, curve=curve_of(keys, "core", "known-gateway"))
    settings = (f'connect = ["{driver.opened["endpoint"]}"]', 'bind = ""', "[bus]")
    server = f'curve_server_key_file = "{keys}/core.key"'
    setting.gateway(*settings, server, f'curve_key_file = "{keys}/stranger.key_secret"')
    assert driver.ask("wait", seconds=2) is False, "the publisher accepted a gateway with an unknown key"
    gateway = setting.gateway(*settings, server, f'curve_key_file = "{keys}/gateway.key_secret"')
    assert driver.ask("wait", seconds=20), "no subscriber over CURVE"
    restarted(setting, gateway, driver)


def curve_mismatch(setting: Setting) -> None:
    """A gateway with CURVE refuses a publisher without; the publisher connects once a gateway without CURVE runs."""
    keys = keys_of(setting)
    endpoint = free_tcp()
    strict = setting.gateway(
        "connect = []",
        f'bind = "{endpoint}"',
        "[bus]",
        f'curve_key_file = "{keys}/gateway.key_secret"',
        f'curve_client_keys_dir = "{keys}/known-core"',
    )
    driver = setting.driver(connect=endpoint)
    assert driver.ask("wait", seconds=2) is False
    assert until(lambda: strict.get("status")["bus"][0]["refused"], "the gateway refuses")
    strict.kill()
    gateway = setting.gateway("connect = []", f'bind = "{endpoint}"')
    assert driver.ask("wait", seconds=30), "the publisher did not connect to the gateway without CURVE within 30 s"
    driver.ask("publish", topic="m", data=1)
    gateway.events("m", 1)


def shutdown(setting: Setting) -> None:
    """Closing sends queued messages, ends in time even if a subscriber does not read, and the process exits with 0."""
    subscriber, driver = seen(setting, linger_seconds=30, heartbeat_seconds=3600)
    driver.ask("burst", topic="s", count=3000, bytes=1000)
    driver.ask("close")
    assert driver.end() == 0
    for n in range(3000):
        assert json.loads(subscriber.event()[1])["n"] == n
    assert subscriber.heartbeat()["interval"] == 0, "no farewell"

    alone = setting.driver(connect=free_tcp(), linger_seconds=0.5, replay=10)
    alone.ask("burst", topic="s", count=10, bytes=100)
    assert alone.end() == 0, "the end of its input, without `close`"

    stalled = setting.driver(bind="tcp://127.0.0.1:*", linger_seconds=0.5)
    deaf = setting.subscriber(connect=stalled.opened["endpoint"], queue_max=1, buffer_bytes=4096)
    deaf.await_publisher(stalled)
    stalled.ask("burst", topic="s", count=1000, bytes=10_000)
    stalled.ask("close", within=30)
    reason = stalled.refusal("publish", topic="s", data=1)
    assert "closed" in reason, reason
    assert stalled.end() == 0


def foreign_port(setting: Setting) -> None:
    """Connected to a port of another program, a publisher drops and counts messages, and closes in time; its process does not crash."""
    for answer in FOREIGN_ANSWERS * 2:
        port = setting.foreign_port(answer)
        driver = setting.driver(connect=port.endpoint, heartbeat_seconds=0.05)
        port.await_visits(2)
        driver.ask("burst", topic="a", count=20, bytes=100)
        port.await_visits(1)
        driver.ask("close")
        assert driver.end() == 0, (
            f"the process exited with {driver.process.returncode} after the answer {answer[:20]!r}"
        )


def foreign_answer_while_closing(setting: Setting) -> None:
    """A program that does not speak ZeroMQ answers just when the publisher closes, 100 times: the publisher's process does not crash."""
    driver = setting.driver()
    for n in range(100):
        # libzmq without a ZAP domain reads each as a subscription: a short and a long identity, as ZMTP 1 sends them.
        port = setting.foreign_port((b"\1\0" * 50, FOREIGN_ANSWERS[1])[n % 2], waits=True)
        driver.ask("open", connect=port.endpoint, heartbeat_seconds=0.01)
        driver.ask("burst", topic="a", count=20, bytes=100)
        port.await_visits(1)
        driver.begin("close")
        time.sleep(n % 20 / 10_000)
        port.answer_newest()
        driver.finish("close")
    assert driver.end() == 0, f"the process exited with {driver.process.returncode}, not 0"
