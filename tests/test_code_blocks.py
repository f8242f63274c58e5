"""Every code block of the documents is run where its reader would run it, or says here why not.

With TEST_BIN, the commands and the Python of that folder run the blocks: so `make release-check` tests what it has
installed. Commands run in an empty folder, in zsh if it is there.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from neurograph_publisher import Curve, Publisher

from gateway.config import load
from gateway.core.fanout.filters import parse
from tests.support.addresses import free_port
from tests.support.blocks import ROOT, Block, blocks
from tests.support.browser import CHROMIUM, page
from tests.support.gateway import Gateway
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled
from tests.support.ws import connect


BIN = Path(os.environ.get("TEST_BIN", Path(sys.executable).parent))
"""Where the commands and the Python that run the blocks are."""
ZSH = shutil.which("zsh")
SHELL = [ZSH, "-f", "-c"] if ZSH else ["/bin/sh", "-c"]
"""The stricter shell: zsh fails where a pattern matches no file."""


@dataclass
class Place:
    """A running gateway with some events, and an empty folder."""

    gateway: Gateway
    folder: Path
    replaced: dict[str, str] = field(default_factory=dict)
    """What stands in the documents, and what it is here."""

    def here(self, text: str) -> str:
        for there, here in self.replaced.items():
            text = text.replace(there, here)
        return text

    @property
    def environment(self) -> dict[str, str]:
        host, port = self.gateway.url.removeprefix("http://").split(":")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "PYTHON", "VIRTUAL_ENV"))}
        return inherited | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "GATEWAY_URL": self.gateway.url,
            "GATEWAY_BUS": self.gateway.bus_in,
            "GATEWAY_HOST": host,
            "GATEWAY_PORT": port,
            "GATEWAY_BIND": self.gateway.bus_in,
            "GATEWAY_CONNECT": self.gateway.bus_out,
        }


Run = Callable[[Block, Place], Any]


# -- how blocks are run ------------------------------------------------------------------------------


_END_SECONDS = 1.0
"""How long a command may take to end by itself, before it is interrupted."""


def _interrupt(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)


def output(
    command: list[str], place: Place, *, until: str, given: str = "", variables: dict[str, str] | None = None
) -> str:
    """Run a command until it ends, or its output has `until`; then interrupt it. It must not fail."""
    process = subprocess.Popen(
        command,
        cwd=place.folder,
        env={**place.environment, **(variables or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    killer = threading.Timer(scaled(DEADLINE_SECONDS), os.killpg, (process.pid, signal.SIGKILL))
    killer.start()
    said, is_stopped = "", False
    try:
        process.stdin.write(given)
        process.stdin.close()
        for line in process.stdout:
            said += line
            if until and not is_stopped and re.search(until, said):
                is_stopped = True
                threading.Timer(_END_SECONDS, _interrupt, (process,)).start()
        status = process.wait()
    finally:
        killer.cancel()
        process.stdout.close()
    assert re.search(until, said), f"{command}: {said}"
    assert is_stopped or status == 0 or until == DOCTOR, f"{command}: exit status {status}: {said}"
    assert "Traceback" not in said
    return said


def shell(*expected: str, variables: dict[str, str] | None = None) -> Run:
    """Run each line with each shell; its output must have what is expected of it, at which it is interrupted."""

    def run(block: Block, place: Place) -> None:
        lines = block.text.splitlines()
        assert len(expected) == len(lines), "one expectation for each line"
        for line, until in zip(lines, expected, strict=True):
            assert "#" not in line, "an interactive zsh takes a comment for arguments"
            output([*SHELL, place.here(line)], place, until=until, variables=variables)

    return run


def script(expected: str) -> Run:
    """Run a Python script, until its output has what is expected."""

    def run(block: Block, place: Place) -> None:
        output([str(BIN / "python"), "-I", "-u", "-c", place.here(block.text)], place, until=expected)

    return run


def notebook(block: Block, place: Place) -> None:
    """Type the lines into the prompt that knows `await`."""
    given = place.here(block.text) + "\n\n"
    assert "'x': 1.5" in output(
        [str(BIN / "python"), "-I", "-u", "-m", "asyncio"], place, until="'x': 1.5", given=given
    )


async def console(block: Block, place: Place) -> None:
    """Type the lines into the console of the gateway's own page."""
    async with page(place.gateway.url) as opened:
        await opened.evaluate(place.here(block.text))

        async def is_printed() -> bool:
            await opened.evaluate("0")
            return any('"x":1.5' in text for text in opened.printed)

        await eventually(is_printed)


def toml(block: Block, place: Place) -> None:
    """Load it as a configuration, and make what is Python beside it."""
    settings, publisher, code = block.text.partition("\nPublisher(")
    (place.folder / "block.toml").write_text(settings)
    load(place.folder / "block.toml", {}, {})
    if publisher:
        keys(next(one for one in FOUND if run_of(one) is keys), place)
        call = f"Publisher({code}".replace(":5555", f":{free_port()}").replace('"keys/', f'"{place.folder}/keys/')
        with eval(call, {"Publisher": Publisher, "Curve": Curve}) as made:  # what the document says
            assert made.published == 0


def keys(block: Block, place: Place) -> None:
    """Make the keys that other blocks use."""
    if (place.folder / "keys").exists():
        return
    for line in block.text.splitlines():
        subprocess.run(
            ["/bin/sh", "-c", line], cwd=place.folder, env=place.environment, check=True, capture_output=True
        )
    gateways = place.folder / "keys/gateways"
    gateways.mkdir()
    shutil.copy(place.folder / "keys/gateway.key", gateways)


async def messages(block: Block, place: Place) -> None:
    """Send each message to the gateway, which understands it; a token is not supported without authentication."""
    client = await connect(place.gateway.url)
    for line in block.text.splitlines():
        await client.send(json.loads(line))
    await client.send({"type": "ping", "id": "last"})
    await client.until("pong", id="last")
    assert [] == [one for one in client.everything if one["type"] == "error" and one["code"] != "unsupported"]
    await client.close()


def filters(block: Block, place: Place) -> None:
    for line in block.text.splitlines():
        parse(line)


def parsed(block: Block, place: Place) -> None:
    """Read each message that is whole as JSON; what is left out is an ellipsis."""
    whole = re.sub(r"^[<>] ", "", block.text, flags=re.MULTILINE)
    for text in re.split(r"\n(?=\{)", whole.strip()):
        json.loads(re.sub(r", …(?=\})", "", text).replace(": …", ": 0").replace("[…]", "[]").replace("{…}", "{}"))


def example(path: str) -> Run:
    """Find its calls in an example that is run elsewhere, with other arguments perhaps."""

    def run(block: Block, place: Place) -> None:
        text = (ROOT / path).read_text()
        calls = {*re.findall(r"\b[\w.]+(?=\()", block.text)}
        assert set() == {one for one in calls if one.rpartition(".")[2] not in text}

    return run


# -- which block is run how --------------------------------------------------------------------------

DOCTOR = r"\d+ problems"
NEEDS_INDEX = "it downloads dependencies: make release-check does the same"

RUNS: dict[str, list[tuple[str, Run | str]]] = {
    "README.md": [
        ("make run", "it serves at fixed ports; tests/test_first_run.py runs it at others"),
        ("import zmq", script("")),
        ("ws = new WebSocket", console),
        ("from neurograph_client import Client", notebook),
        ("%load_ext", "clients/python/notebooks/tests/test_tutorials.py runs it in a kernel"),
        ("curl", shell('"event_type"', '"events"', "recipients", r"events_received_total")),
        ("gateway tail", shell('"x": ?1.5', "", "CHANNEL", DOCTOR)),
    ],
    "clients/conformance/README.md": [
        (".venv/bin/python", "clients/python/tests/test_conformance.py plays all cases"),
        ('{"name"', "an abridged case; clients/conformance/cases.json has them whole"),
    ],
    "clients/dashboard/README.md": [
        ("<script", "clients/dashboard/test/dashboard.test.mjs puts both elements into a page")
    ],
    "clients/python/README.md": [
        ("import asyncio", "clients/python/tests/test_readme.py runs it with the wheel"),
        ("from neurograph_client import connect", "clients/python/tests/test_readme.py runs it with the wheel"),
    ],
    "clients/typescript/README.md": [
        ("import { Client }", "clients/typescript/test/package.test.mjs compiles it with the package"),
        ("for await", "clients/typescript/test/package.test.mjs compiles it with the package"),
        ("client.on", "clients/typescript/test/package.test.mjs compiles it with the package"),
        ("import { useEffect", "clients/typescript/test/react.test.mjs runs it with React"),
        ("const client = new Client", "clients/typescript/test/react.test.mjs runs the hook that it uses"),
        ("declare module", "clients/typescript/test/package.test.mjs compiles it with the package"),
        ("import { EventStream }", "clients/typescript/test/package.test.mjs compiles it with the package"),
    ],
    "docs/architecture.md": [("bus -> parent", "a drawing")],
    "docs/cluster.md": [
        ("[cluster]", toml),
        ("appendonly", "tests/support/redis.py starts real servers so"),
        ("sentinel monitor", "tests/support/redis.py starts real Sentinels so"),
        ("gateway doctor", shell(DOCTOR)),
        ("ACL SETUSER", "tests/unit/cluster/test_engine.py gives it to a real Redis"),
    ],
    "docs/decoders.md": [("[[bus.sources]]", toml), ("# my_decoder.py", "tests/test_decoders.py installs and runs it")],
    "docs/bus.md": [
        ("gateway serve --connect", "tests/integration/test_names.py gives the name its addresses"),
        ("Publisher(bind", "tests/integration/test_names.py has such publishers"),
        ("Publisher(connect", "publishers/python/tests/test_names.py gives the name its addresses"),
        ("gateway proxy", "tests/integration/test_proxy.py runs it at other addresses"),
        ("publishers  ", "a drawing"),
    ],
    "docs/deploy.md": [
        ("openssl rand", "it needs a Docker daemon; tests/unit/config/test_deployments.py checks the settings"),
        ("install -d", "it changes the system; tests/integration/real_systemd.py runs it with a systemd of its own"),
        ("python3 -m venv /opt", "it changes the system; tests/integration/test_systemd.py verifies the unit"),
    ],
    "docs/install.md": [
        ("python3 -m venv", NEEDS_INDEX),
        ("sha256sum", NEEDS_INDEX),
        ("pip install --target", NEEDS_INDEX),
    ],
    "docs/notebook.md": [
        ("pip install", NEEDS_INDEX),
        ("%load_ext", "clients/python/notebooks/tests/test_tutorials.py runs it in a kernel"),
    ],
    "docs/operate.md": [
        ("gateway upgrade", "tests/integration/test_upgrade.py runs it against gateways of its own"),
        ("[Service]", "tests/integration/test_systemd.py gives it to a real systemd"),
        ("gateway reload", "tests/integration/test_reload.py runs it against gateways of its own"),
        ("gateway check", shell("serve ", "listening", variables={"GATEWAY_PORT": "0", "GATEWAY_BIND": ""})),
    ],
    "docs/protocol.md": [
        ('{"incarnation"', parsed),
        ("request   identity", "a layout of bytes; publishers/conformance/vectors has them"),
        ('["$personal"', "frames, not JSON; tests/integration/test_outlet.py sends them"),
        ("< {", parsed),
        ('{"type": "subscribe"', messages),
        ('> {"type": "publish"', parsed),
        ("data.level", filters),
        ('{"type": "subscribed"', parsed),
        ('{"type":"event"', parsed),
        ("86a474", "bytes; tests/unit/core/protocol/test_msgpack.py compares them"),
        ("const { EventStream }", console),
    ],
    "docs/proxies.md": [("trusted_proxies", toml)],
    "docs/record.md": [
        ("gateway record", shell(r"\d+ events", "CHANNEL", r"published \d+ events", r"\d+ events")),
        ("gateway bench", shell("deliveries/s")),
    ],
    "docs/security.md": [
        ("gateway check", shell("allow ", r"^eyJ")),
        ("[roles.viewer]", toml),
        ("gateway keys", keys),
        ("bind =", toml),
        ("connect =", toml),
    ],
    "docs/size.md": [("memory =", "a formula")],
    "docs/troubleshoot.md": [("gateway doctor", shell(DOCTOR, DOCTOR, DOCTOR))],
    "publishers/README.md": [("import zmq", script(""))],
    "publishers/c/README.md": [("apt-get", "it changes the system"), ("#include", example("publishers/c/example.c"))],
    "publishers/go/README.md": [
        ("go mod edit", "make publishers follows it from an empty folder"),
        ("p, err", example("publishers/go/example/main.go")),
    ],
    "publishers/java/README.md": [
        ("mvn", "make publishers follows it from an empty folder"),
        ("try (", example("publishers/java/src/test/java/org/neurograph/publisher/Example.java")),
    ],
    "publishers/node/README.md": [
        ("npm install", "make publishers follows it from an empty folder"),
        ("import {", example("publishers/node/example.js")),
    ],
    "publishers/python/README.md": [
        ("pip install", NEEDS_INDEX),
        ("from neurograph_publisher import Publisher", script("")),
        ("from neurograph_publisher import Inbox", "publishers/python/tests/test_readme.py runs it"),
        ("import json", "publishers/python/tests/test_readme.py runs it"),
        ("import logging", "publishers/python/tests/test_readme.py runs it"),
        ("neurograph-system-metrics", "it never ends; publishers/python/tests/test_system_metrics.py runs it"),
    ],
    "publishers/rust/README.md": [
        ("neurograph-publisher =", "make publishers follows it from an empty folder"),
        ("let publisher", example("publishers/rust/examples/publish.rs")),
        ("[target", "make publishers builds with these settings"),
    ],
}
"""By document and first words, in the order of the document: a way to run a block, or the reason why it is not run here."""

FOUND = [*blocks()]


def run_of(block: Block) -> Run | str:
    """How a block is run, or why not; empty if RUNS does not say."""
    found = [run for first, run in RUNS.get(block.document, []) if block.text.startswith(first)]
    return found[0] if found else ""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("empty")
    with Gateway(settings={"allowed_origins": "*"}) as gateway:
        address = gateway.url.removeprefix("http://")
        (folder / "gateway.toml").write_text("")
        (folder / "secret").write_text("a secret for tests, of more than 32 bytes")
        (folder / "secret").chmod(0o600)
        replaced = {
            "127.0.0.1:8000": address,
            "localhost:8000": address,
            "tcp://127.0.0.1:5556": gateway.bus_in,
            "/run/secrets/gateway": str(folder / "secret"),
            "tcp://10.0.0.7:5555": gateway.bus_in,
        }
        with Publisher(connect=gateway.bus_in) as publisher:
            assert publisher.wait_for_subscriber(scaled(DEADLINE_SECONDS))
            publisher.publish("robots.r2", {"x": 1.5})
            publisher.metrics(cpu_percent=12.5, memory_percent=50.0, host="here")
        yield Place(gateway, folder, replaced)


@pytest.mark.parametrize("document", sorted({block.document for block in FOUND}))
def test_every_block_is_run_or_has_a_reason(document: str) -> None:
    for block in FOUND:
        if block.document == document:
            assert run_of(block), f"{block}: say in RUNS how a test runs this block, or why none does"


def test_every_entry_has_its_block() -> None:
    used = {
        (block.document, first)
        for block in FOUND
        for first, _ in RUNS.get(block.document, [])
        if block.text.startswith(first)
    }

    assert set() == {(document, first) for document, runs in RUNS.items() for first, _ in runs} - used


@pytest.mark.parametrize("block", [block for block in FOUND if not isinstance(run_of(block), str)], ids=str)
async def test_a_block_does_what_it_says(block: Block, place: Place) -> None:
    run = run_of(block)
    assert not isinstance(run, str)
    if run is console and not CHROMIUM:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    if inspect.iscoroutinefunction(run):
        await run(block, place)
    else:
        run(block, place)
