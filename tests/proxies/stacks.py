"""HTTP clients of several languages and the forms of HAProxy's health check, each against a gateway itself."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import sys
from pathlib import Path

import aiohttp

from tests.proxies.servers import HAProxy
from tests.support.addresses import free_port
from tests.support.gateway import Gateway
from tests.support.waiting import eventually


PROGRAMS = Path(__file__).parent / "programs"
PATHS = {"health": "/healthz", "ready": "/readyz", "metrics": "/metrics", "GET": "/api/v1/websocket/channels"}
"""What is fetched by what name; beside it there are `POST`, `SSE` and `WebSocket`."""
_BROADCAST = json.dumps({"channel": "stack", "event": {"event_type": "note", "data": {}}})
_PATH_ARGUMENTS = [argument for pair in PATHS.items() for argument in pair]
_LANGUAGES = {
    "Java 17": ("java", str(PROGRAMS / "Stack.java")),
    "Go": ("go", "run", str(PROGRAMS / "stack.go")),
    "Node": ("node", "--experimental-websocket", "--no-warnings", str(PROGRAMS / "stack.mjs")),
}
_CURL = {"curl --http1.0": "--http1.0", "curl --http1.1": "--http1.1", "curl --http2": "--http2"}
_UPGRADE = (
    *("-H", "Connection: Upgrade", "-H", "Upgrade: websocket"),
    *("-H", "Sec-WebSocket-Version: 13", "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
)
_EXPECTED = {"health": "200", "ready": "200", "metrics": "200", "GET": "200", "POST": "200", "SSE": "200"}
_WEBSOCKET = {"curl --http1.0": "400", "curl --http2": "-"}
"""Where it is not 101: HTTP/1.0 has no upgrade, and curl's own is not to a WebSocket."""

HEALTH_CHECKS = {
    "option httpchk GET /readyz": "UP",
    "option httpchk GET /healthz HTTP/1.0": "UP",
    "option httpchk HEAD /readyz": "UP",
    "option httpchk GET /readyz HTTP/1.1\\r\\nHost:\\ any.example": "UP",
    "option httpchk|http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host any.example": "UP",
    "option httpchk|http-check send meth GET uri /readyz|http-check expect status 200": "UP",
    'option httpchk|http-check send meth GET uri /readyz|http-check expect rstring "\\"ready\\":true"': "UP",
    "option httpchk /readyz": "UP",
    "option httpchk": "DOWN",
}
"""Lines of a backend, and the state that they give the server. The last asks `OPTIONS /`, which says nothing."""


async def check(folder: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Return two tables: the clients by what they ask for, and the results of health checks."""
    async with Gateway() as gateway:
        wanted = {name: command for name, command in _LANGUAGES.items() if shutil.which(command[0])}
        found = dict(zip(wanted, await asyncio.gather(*[_run(one, gateway) for one in wanted.values()]), strict=True))
        if shutil.which("curl"):
            for name, version in _CURL.items():
                found[name] = await _curl(gateway, version, is_upgraded=_WEBSOCKET.get(name) != "-")
        found["Python (aiohttp)"] = await _aiohttp(gateway)
        for name, got in found.items():
            for what, expected in (_EXPECTED | {"WebSocket": _WEBSOCKET.get(name, "101")}).items():
                if got.get(what) != expected:
                    got[what] = f"FAILS: {got.get(what)}, expected {expected}"
        tables = {"clients": _transposed(found)}
        if HAProxy.is_installed():
            tables["health checks"] = {"server is": await _health(folder, gateway)}
        return tables


def missing() -> list[str]:
    """Return the packages of what is not installed."""
    programs = {"java": "default-jdk-headless", "go": "golang-go", "node": "nodejs", "curl": "curl"}
    return [package for program, package in programs.items() if not shutil.which(program)]


def _transposed(found: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    return {what: {name: found[name][what] for name in found} for what in [*_EXPECTED, "WebSocket"]}


async def _run(command: tuple[str, ...], gateway: Gateway) -> dict[str, str]:
    output = await _output(*command, gateway.url, _BROADCAST, *_PATH_ARGUMENTS)
    return dict(line.split(" ", 1) for line in output.splitlines() if " " in line)


async def _output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return output.decode(errors="replace")  # a WebSocket's frames are no text


async def _curl(gateway: Gateway, version: str, *, is_upgraded: bool) -> dict[str, str]:
    async def ask(path: str, *arguments: str) -> str:
        return await _output("curl", "-s", version, "-w", "\n%{http_code}", *arguments, gateway.url + path)

    found = {what: (await ask(path)).rpartition("\n")[2] for what, path in PATHS.items()}
    post = await ask("/api/v1/websocket/broadcast", "-H", "Content-Type: application/json", "-d", _BROADCAST)
    found["POST"] = post.rpartition("\n")[2]
    # What never ends is read for a second.
    body, _, status = (await ask("/events?channels=stack", "-N", "--max-time", "1")).rpartition("\n")
    found["SSE"] = status if body.startswith("event: connected\n") else body[:40]
    if is_upgraded:
        found["WebSocket"] = (await ask("/ws", "-N", "--max-time", "1", *_UPGRADE)).rpartition("\n")[2]
    else:
        found["WebSocket"] = "-"
    return found


async def _aiohttp(gateway: Gateway) -> dict[str, str]:
    found = {what: str((await gateway.request("GET", path)).status) for what, path in PATHS.items()}
    found["POST"] = str(
        (await gateway.request("POST", "/api/v1/websocket/broadcast", body=json.loads(_BROADCAST))).status
    )
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{gateway.url}/events?channels=stack") as answer:
            line = await answer.content.readline()
            found["SSE"] = str(answer.status) if line == b"event: connected\n" else repr(line)
        async with http.ws_connect(f"{gateway.url}/ws") as opened:
            found["WebSocket"] = "101" if (await opened.receive_json())["type"] == "connected" else "no message"
    return found


async def _health(folder: Path, gateway: Gateway) -> dict[str, str]:
    """Return the state of a server by the check that HAProxy makes of it."""
    address = gateway.url.removeprefix("http://")
    statistics = folder / "statistics"
    backends = "".join(
        f"backend b{number}\n    {lines.replace('|', chr(10) + '    ')}\n    server gateway {address} check inter 200ms fall 1\n"
        for number, lines in enumerate(HEALTH_CHECKS)
    )
    configuration = folder / "health.cfg"
    configuration.write_text(
        f"global\n    stats socket {statistics}\ndefaults\n    mode http\n    timeout connect 5s\n    timeout client 5s\n"
        f"    timeout server 5s\nfrontend unused\n    bind 127.0.0.1:{free_port()}\n{backends}"
    )
    process = await asyncio.create_subprocess_exec(HAProxy.path(), "-f", str(configuration), stderr=sys.stderr)
    try:

        def states() -> dict[str, str]:
            rows = [line.split(",") for line in _ask(statistics).splitlines() if ",gateway," in line]
            checked = {row[0]: row[17] for row in rows if row[36].startswith("L7")}
            return checked if len(checked) == len(HEALTH_CHECKS) else {}

        found = await eventually(states, saying="HAProxy has checked each server")
    finally:
        process.kill()
        await process.wait()
    results = {}
    for number, (lines, expected) in enumerate(HEALTH_CHECKS.items()):
        state = found[f"b{number}"]
        shown = "`, `".join(lines.split("|"))
        results[f"`{shown}`"] = state if state == expected else f"FAILS: {state}, expected {expected}"
    return results


def _ask(statistics: Path) -> str:
    """Return HAProxy's table of servers; empty while it starts."""
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.connect(str(statistics))
        except OSError:
            return ""
        asking.sendall(b"show stat\n")
        return b"".join(iter(lambda: asking.recv(65536), b"")).decode()
