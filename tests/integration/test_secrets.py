"""No token, key or password comes out of a gateway: not in logs, metrics, answers, nor when it crashes."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import gateway as package
from tests.conftest import Connect, Launch, OpenRaw
from tests.support.command import run_here
from tests.support.gateway import Gateway
from tests.support.issuer import hs256, rs256
from tests.support.raw import TEXT
from tests.support.sse import EventSource
from tests.support.tokens import SECRET, bearer, token
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled
from tests.support.ws import Client


API = "/api/v1/websocket"
PASSWORD = "correct-horse-battery"
PLACES = [
    *("/", "/metrics", "/openapi.json", "/asyncapi.json", "/healthz", "/readyz", "/no/such/place"),
    *(f"{API}/status", f"{API}/channels", f"{API}/rejections", f"{API}/publishers"),
    *(f"{API}/channels/{name}{more}" for name in ("connections", "metrics") for more in ("", "/events", "/presence")),
]
ROOT = Path(package.__file__).parent.parent
PIECE_CHARS_MIN = 16


@pytest.mark.parametrize("format", ["json", "console"])
async def test_no_answer_and_no_log_has_a_secret(launch: Launch, connect: Connect, raw: OpenRaw, format: str) -> None:
    """Right and wrong tokens in every place, in requests that are whole and in those that are not."""
    gateway = await launch(
        settings={"auth.query_token": "true", "logging.level": "debug", "logging.format": format},
        environment={"GATEWAY_AUTH_SECRET": SECRET},
    )
    gateway.token = token("admin", user="the test")
    watcher = await connect(">", to=gateway, headers=bearer(gateway.token))
    good = token("admin", user="alice")
    wrong = [good + "x", token("admin", seconds=-60), rs256().token(), hs256().token(), "0" * 40]
    sessions = await in_every_way(gateway, connect, [good, *wrong])
    for head in heads(good):
        await say(gateway, head)
    peer = await raw(to=gateway)
    for text in texts(good):
        await peer.send_frame(TEXT, text)
    answers = [(await gateway.request("GET", place)).text for place in PLACES]
    await watcher.ping()

    secrets = [SECRET, PASSWORD, gateway.token, good, *wrong, *sessions]
    assert sessions
    assert [] == found(secrets, gateway.lines)
    assert [] == found(secrets, answers)
    assert [] == found(secrets, [json.dumps(one) for one in watcher.everything[1:]])


async def in_every_way(gateway: Gateway, connect: Connect, tokens: Iterable[str]) -> list[str]:
    """Bring tokens in every way; return the secrets of the sessions that came of it."""
    met: list[Client] = []
    for value in tokens:
        ways: list[dict[str, Any]] = [
            {"headers": bearer(value)},
            {"protocols": ["neurograph", f"bearer.{value}"]},
            {"token": value},
        ]
        for how in ways:
            try:
                met.append(await connect("metrics", to=gateway, **how))
            except Exception:  # it was refused, in whichever way
                continue
        client = await connect("metrics", to=gateway)
        await client.send({"type": "auth", "token": value})
        await client.send({"type": "auth", "token": [value]})
        met.append(await connect("metrics", to=gateway, session=client.session))
        for headers, query in ((bearer(value), ""), ({}, f"token={value}")):
            for path in (f"{API}/channels?", f"{API}/status?limit=x&", "/nowhere?", "/events?last=x&"):
                await gateway.request("GET", path + query, headers=headers)
            async with EventSource(gateway.url, f"channels=metrics&{query}", headers=headers):
                pass
        basic = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
        await gateway.request("GET", f"{API}/channels", headers={"Authorization": f"Basic {basic}"})
    return [one.session for one in met]


def heads(value: str) -> list[bytes]:
    """Requests that are wrong right beside a token: errors of a parser like to quote."""
    rest = "Host: 127.0.0.1\r\n\r\n"
    return [
        one.encode("latin-1")
        for one in (
            f"GET /ws?token={value}\x01 HTTP/1.1\r\n{rest}",
            f"GET /ws?token={value} HTTP/9.9\r\n{rest}",
            f"GET  /ws?token={value} HTTP/1.1\r\n{rest}",
            f"GE\x00T /ws?token={value} HTTP/1.1\r\n{rest}",
            f"GET /ws?token={value}{'x' * 9000} HTTP/1.1\r\n{rest}",
            f"GET /ws HTTP/1.1\r\nAuthorization: Bearer {value}\x01\r\n{rest}",
            f"GET /ws HTTP/1.1\r\nAuthorization Bearer {value}\r\n{rest}",
            f"GET /ws HTTP/1.1\r\nAuthorization: Bearer {value}{'x' * 9000}\r\n{rest}",
            f"GET /ws HTTP/1.1\r\nAuth\xff: Bearer {value}\r\n{rest}",
            f"GET /ws HTTP/1.1\r\nContent-Length: {value}\r\n{rest}",
            f"GET /ws HTTP/1.1\r\nSec-WebSocket-Protocol: bearer.{value}\x7f\xff\r\n{rest}",
            f"POST {API}/broadcast?token={value} HTTP/1.1\r\nTransfer-Encoding: {value}\r\n{rest}",
            f"{value}\r\n\r\n",
        )
    ]


def texts(value: str) -> list[bytes]:
    """Messages that are wrong right beside a token."""
    return [
        b'{"type":"auth","token":"%b' % value.encode(),
        b'{"type":"auth","token":"%b","id":[]}' % value.encode(),
        b'{"type":"%b"}' % value.encode(),
        b'{"type":"auth","%b":1}' % value.encode(),
        b'{"type":"auth","token":{"%b":1}}' % value.encode(),
    ]


async def say(gateway: Gateway, head: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(head)
    async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
        await reader.readline()
    writer.close()


async def test_nothing_secret_comes_out_when_it_crashes(launch: Launch, connect: Connect) -> None:
    """Python's own account of a crash, with the secret in memory and a token under way."""
    gateway = await launch(
        settings={"logging.level": "debug"},
        environment={"GATEWAY_AUTH_SECRET": SECRET, "PYTHONFAULTHANDLER": "1"},
        interpreter=True,
    )
    gateway.expected_exit = -signal.SIGABRT
    good = token("admin")
    client = await connect(">", to=gateway, headers=bearer(good))
    gateway.kill(signal.SIGABRT)
    await gateway.exited()
    crash = [line for line in gateway.lines if "Fatal Python error" in line]

    assert crash, gateway.log_tail()
    assert [] == found([SECRET, good, client.session], gateway.lines)


async def test_a_failure_is_logged_without_the_token_that_caused_it(launch: Launch, tmp_path: Path) -> None:
    """A fault of ours may name what it was given: broken from outside, as nothing known breaks it."""
    (tmp_path / "sitecustomize.py").write_text(BREAK)
    gateway = await launch(
        environment={"GATEWAY_AUTH_SECRET": SECRET, "PYTHONPATH": f"{tmp_path}:{ROOT}"}, interpreter=True
    )
    gateway.errors_expected = True
    good = token("admin")
    answer = await gateway.request("GET", f"{API}/status", headers=bearer(good))
    await eventually(lambda: "BrokenError" in "".join(gateway.lines), saying="the log tells of it")

    assert 500 == answer.status
    assert [] == found([good, SECRET], [*gateway.lines, answer.text])


BREAK = """
from gateway.auth.verifier import Verifier

class BrokenError(Exception):
    pass

def broken(self, token):
    raise BrokenError(f"cannot read {token!r}")

Verifier._header = broken
"""


@pytest.mark.parametrize(
    "settings",
    [
        {"auth.secret": SECRET},
        {"auth.secret": PASSWORD},
        {"auth.secret": SECRET, "auth.secret_file": "/no/such/file"},
        {"auth.secret": SECRET, "port": "x"},
        {"auth.secret": "-----BEGIN PUBLIC KEY-----\n" + SECRET},
        {"auth.jwks_url": f"https://alice:{PASSWORD}@127.0.0.1:1/keys.json"},
        {"auth.jwks_url": f"http://alice:{PASSWORD}@127.0.0.1:1/keys.json"},
        {"auth.jwks_url": f"http://alice:{PASSWORD}@127.0.0.1:1/", "auth.insecure_jwks": "true"},
    ],
)
@pytest.mark.parametrize("how", ["flags", "environment", "file"])
def test_commands_show_nothing_secret_whether_it_can_be_used_or_not(
    tmp_path: Path, settings: dict[str, str], how: str
) -> None:
    arguments = ["check"]
    variables: dict[str, str] = {}
    match how:
        case "flags":
            for key, value in settings.items():
                arguments += ["--set", f"{key}={value}"]
        case "environment":
            variables |= {f"GATEWAY_{key.upper().replace('.', '_')}": v for key, v in settings.items()}
        case "file":
            file = tmp_path / "gateway.toml"
            lines = [f"{key} = {json.dumps(value)}\n" for key, value in settings.items()]
            file.write_text("".join(sorted(lines, key=lambda line: "." in line.split("=")[0])))
            arguments += ["--config", str(file)]
    ran = run_here(*arguments, variables=variables)

    assert ran.stdout or ran.stderr
    assert "Traceback" not in ran.stderr
    assert [] == found([SECRET, PASSWORD], [ran.stdout, ran.stderr])


def found(secrets: Iterable[str], texts: Iterable[str]) -> list[str]:
    """The secrets, or long parts of them, that stand somewhere."""
    page = "\n".join(texts)
    pieces = {piece for secret in secrets for piece in (secret, *secret.split(".")) if len(piece) >= PIECE_CHARS_MIN}
    return [piece for piece in pieces if piece in page]
