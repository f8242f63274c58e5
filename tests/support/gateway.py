"""A real gateway process, ready when /readyz says so, judged by how it ends."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import resource
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import aiohttp
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.support.addresses import ipc
from tests.support.forkserver import Process, search_path, start
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled


WORKERS = os.environ.get("TEST_WORKERS", "")
"""With how many workers the tests' gateways run, unless they say it themselves."""

_URL = re.compile(r"https?://[^\s\"]+")

Json = Any  # what a JSON document holds is for each test to say


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read whole."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Json:
        return json.loads(self.text)


def allow_many_files() -> None:
    """Raise this process's limit of open files to the hard limit; the gateways it starts inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without settings of the gateway, and with the package to be found."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    return {**inherited, "PYTHONPATH": search_path("gateway"), "PYTHONUNBUFFERED": "1", **extra}


class Gateway:
    """One gateway process. Use it as a context manager, sync or async.

    It binds ``bus_in``, to which publishers connect, and connects to ``bus_out``, where a publisher may
    bind, unless `connect` and `bind` say otherwise. Everything that it logs is kept in ``lines``.
    """

    def __init__(
        self,
        *,
        connect: Sequence[str] | None = None,
        bind: str | None = None,
        port: int = 0,
        settings: Mapping[str, object] | None = None,
        flags: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        trust: ssl.SSLContext | None = None,
        interpreter: bool = False,
    ) -> None:
        self.interpreter = interpreter
        """Whether it is started as `python -m gateway`, and not forked, which is much faster."""
        self.trust = trust
        """What https connections to it are made with."""
        self.folder = Path(tempfile.mkdtemp(prefix="ng-"))
        self.bus_in = ipc(self.folder, "in") if bind is None else bind
        self.bus_out = ipc(self.folder, "out")
        endpoints = [self.bus_out] if connect is None else connect
        self.arguments = ["serve", "--port", str(port)]
        for endpoint in endpoints:
            self.arguments += ["--connect", endpoint]
        if not endpoints:
            self.arguments += ["--set", "connect="]  # else it would connect to the default
        self.arguments += ["--bind", self.bus_in]
        for key, value in {"bus.discovery_seconds": 0, "figures_seconds": 0, **(settings or {})}.items():
            self.arguments += ["--set", f"{key}={value}"]
        if WORKERS:
            self.arguments += ["--workers", WORKERS]
        self.arguments += flags
        self.environment = dict(environment or {})
        self.lines: list[str] = []
        self.token = ""
        """What requests are made with, where that is needed."""
        self.url = ""
        self.expected_exit: int | None = 0
        self.errors_expected = False

    # -- start and end ---------------------------------------------------------------------------------

    def start(self) -> Gateway:
        """Start it, and wait until it is ready."""
        self.lines.clear()
        self.url = ""
        self._ending = False
        errors, written = os.pipe()
        try:
            self.process = self._start_process(written)
        except BaseException:
            os.close(errors)
            raise
        finally:
            os.close(written)
        self._stderr = os.fdopen(errors, encoding="utf-8", errors="replace")
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        with self._changed:
            self._changed.wait_for(lambda: self.url or self.process.poll() is not None, scaled(DEADLINE_SECONDS))
        if not self.url:
            self.process.kill()
            self._wait_exit()
            raise AssertionError(f"the gateway does not listen:\n{self.log_tail()}")
        self._wait_ready()
        return self

    def stop(self) -> None:
        """End it with SIGTERM, and check that it ended well: in time, exit status, nothing untoward logged."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            if not self._ending:  # a second signal would cut the drain short
                self.process.send_signal(signal.SIGTERM)
        code = self._wait_exit()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.expected_exit is not None:
            assert self.expected_exit == code, f"exit status {code}:\n{self.log_tail()}"
        if not self.errors_expected:
            alarms = "\n".join(self.alarms()[:3]).replace("\\n", "\n")
            assert not alarms, f"the gateway logged what a healthy one never does:\n{alarms}"

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal: SIGKILL, SIGTERM, SIGSTOP, SIGCONT."""
        if number == signal.SIGKILL:
            self.expected_exit = None
        self._ending |= number in {signal.SIGTERM, signal.SIGINT}
        self.process.send_signal(number)

    async def exited(self) -> int:
        """Wait until it has ended; its exit status."""
        return await asyncio.to_thread(self._wait_exit)

    async def restart(self) -> None:
        """Start it anew after it has ended, on the same bus endpoints; the HTTP port may be another."""
        await asyncio.to_thread(self.start)

    def __enter__(self) -> Gateway:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Gateway:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)

    # -- what it says -----------------------------------------------------------------------------

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1].strip("/"))

    @property
    def records(self) -> list[dict[str, Any]]:
        """The log lines so far that are JSON objects."""
        return [found for line in list(self.lines) if (found := _record(line)) is not None]

    async def logged(self, message: str, *, times: int = 1) -> list[dict[str, Any]]:
        """Wait until its log has a message at least so many times, and return these records.

        A thread writes the log: an answer may be here before what is logged of it.
        """

        def found() -> list[dict[str, Any]]:
            return [record for record in self.records if record.get("message") == message]

        await eventually(lambda: len(found()) >= times, saying=lambda: f"{message}\n{self.log_tail()}")
        return found()

    def alarms(self) -> list[str]:
        """Log lines that a healthy gateway never writes."""
        return [
            line
            for line in list(self.lines)
            if "Traceback" in line
            or (_record(line) or {}).get("level") in {"error", "critical"}
            or "never awaited" in line
        ]

    def log_tail(self, count: int = 40) -> str:
        return "\n".join(self.lines[-count:])

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one HTTP request: `body` goes as JSON, `raw` as it is."""
        limit = aiohttp.ClientTimeout(total=scaled(DEADLINE_SECONDS))
        async with aiohttp.ClientSession(timeout=limit) as http:
            data = json.dumps(body).encode() if body is not None else raw
            kind = {"Content-Type": "application/json"} if body is not None else {}
            async with http.request(
                method,
                self.url + path,
                headers={**kind, **self._authorization, **(headers or {})},
                data=None if data is None else io.BytesIO(data),
                ssl=self.trust or True,
            ) as answer:
                return Answer(answer.status, dict(answer.headers), await answer.text())

    @property
    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    async def get_json(self, path: str, *, status: int = 200) -> Json:
        """GET a JSON document, which must come with this status."""
        answer = await self.request("GET", path)
        assert status == answer.status, f"{path}: {answer.status} {answer.text[:500]}"
        return answer.json

    async def status(self, query: str = "") -> Json:
        return await self.get_json("/api/v1/websocket/status" + query)

    async def rejections(self) -> Json:
        return await self.get_json("/api/v1/websocket/rejections")

    async def broadcast(self, body: object, query: str = "", *, status: int = 200) -> Json:
        answer = await self.request("POST", "/api/v1/websocket/broadcast" + query, body=body)
        assert status == answer.status, f"broadcast: {answer.status} {answer.text[:500]}"
        return answer.json

    async def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        """All samples of this name on /metrics, labels and value; the page must parse."""
        answer = await self.request("GET", "/metrics")
        assert answer.status == 200
        return [
            (dict(sample.labels), sample.value)
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
            if sample.name == name
        ]

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that carry these labels; 0 if there are none."""
        wanted = labels.items()
        return sum(value for have, value in await self.samples(name) if wanted <= have.items())

    async def holds(self, channel: str, offset: int, *, epoch: str | None = None) -> None:
        """Wait until a channel has come so far, in the source of its newest entry, or in another one."""

        async def there() -> bool:
            answer = await self.request("GET", f"/api/v1/websocket/channels/{channel}")
            if answer.status != 200:
                return False
            position = answer.json["position"]
            offsets = {position["epoch"]: position["offset"], **position.get("others", {})}
            return bool(offsets.get(position["epoch"] if epoch is None else epoch, -1) >= offset)

        await eventually(there, saying=f"{channel} stands at {offset}")

    async def has_heard(self, incarnation: int) -> bool:
        """Whether it has had a heartbeat of a publisher."""
        answer = await self.get_json("/api/v1/websocket/publishers")
        return f"{incarnation:016x}" in [one["incarnation"] for one in answer["publishers"]]

    def rss(self) -> int:
        """Its resident memory in bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    # -- inside -----------------------------------------------------------------------------------

    def _start_process(self, stderr: int) -> Process | subprocess.Popen[bytes]:
        with open(os.devnull, "r+b") as nothing:
            environment = _environment(self.environment)
            if not self.interpreter:
                null = nothing.fileno()
                return start(self.arguments, stdin=null, stdout=null, stderr=stderr, environment=environment)
            command = [sys.executable, "-m", "gateway", *self.arguments]
            return subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=stderr, env=environment)

    def _read(self) -> None:
        with self._stderr as stderr:
            for line in stderr:
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    if not self.url and "listening" in line:
                        found = _URL.search(line)
                        self.url = found[0].rstrip("/") if found else ""
                    self._changed.notify_all()
        self.process.wait()
        with self._changed:
            self._changed.notify_all()

    def _wait_ready(self) -> None:
        ends = time.monotonic() + scaled(DEADLINE_SECONDS)
        while time.monotonic() < ends:
            try:
                with urlopen(self.url + "/readyz", timeout=scaled(DEADLINE_SECONDS), context=self.trust) as answer:
                    if answer.status == 200:
                        return
            except URLError:
                pass
            time.sleep(0.02)
        self.process.kill()
        raise AssertionError(f"the gateway does not become ready:\n{self.log_tail()}")

    def _wait_exit(self) -> int:
        try:
            code = self.process.wait(scaled(DEADLINE_SECONDS))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the gateway does not end:\n{self.log_tail()}") from None
        self._reader.join(scaled(DEADLINE_SECONDS))
        return code


def _record(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
