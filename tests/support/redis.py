"""Real Redis servers and Sentinels on this machine, each in a folder of its own."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.support.waiting import DEADLINE_SECONDS, scaled


SERVER = os.environ.get("REDIS_SERVER", "redis-server")
"""The program that is started: that of Redis, or valkey-server, wherever it is."""
NEEDED = "needs redis-server and redis-sentinel (Debian: apt-get install redis-server redis-sentinel)"
_ATTEMPTS = 20


def installed() -> bool:
    return shutil.which(SERVER) is not None


def some_port() -> int:
    """A port that the kernel gives to no connection, so that a server may have it again after a restart.

    A server that cannot have it exits, and is started with another one."""
    return random.randrange(15_000, 32_000)


class RedisServer:
    """One server. Use it as a context manager. It keeps its data, if it may, in its folder."""

    def __init__(self, *options: str, sentinel: bool = False) -> None:
        if not installed():
            pytest.skip(NEEDED)
        self.folder = Path(tempfile.mkdtemp(prefix="ng-redis-"))
        self.port = 0
        self.options = ["--save", "", *options]
        self.password = ""
        """What the tests' own connection authenticates with."""
        self._sentinel = sentinel
        self._file = self.folder / "redis.conf"
        self._file.touch()
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, primary: RedisServer, service: str, *, quorum: int = 1) -> None:
        """Let a Sentinel watch a server; it decides soon, with so many others as `quorum` says."""
        lines = (
            f"monitor {service} 127.0.0.1 {primary.port} {quorum}",
            f"down-after-milliseconds {service} 500",
            f"failover-timeout {service} 2000",
        )
        self._file.write_text("".join(f"sentinel {line}\n" for line in lines))

    def follow(self, primary: RedisServer) -> None:
        """Let it be a replica, until a Sentinel says otherwise: its file changes then."""
        self._file.write_text(f"replicaof 127.0.0.1 {primary.port}\n")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def start(self) -> RedisServer:
        """Start it, at the port that it had before if there is one."""
        for _ in range(_ATTEMPTS):
            port = self.port or some_port()
            kind = ["--sentinel"] if self._sentinel else self.options
            command = [SERVER, str(self._file), "--port", str(port), "--bind", "127.0.0.1", *kind]
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
            if self._answers(port):
                self.port = port
                return self
        raise AssertionError(f"{SERVER} does not start:\n{(self.folder / 'log').read_text()[-2000:]}")

    def _answers(self, port: int) -> bool:
        ends = time.monotonic() + scaled(DEADLINE_SECONDS)
        while time.monotonic() < ends and self.process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=scaled(DEADLINE_SECONDS)) as one:
                    one.sendall(b"PING\r\n")
                    answer = one.recv(100)
                    # It is this one if it has not ended because another has the port.
                    if answer.startswith((b"+PONG", b"-NOAUTH")) and self.process.poll() is None:
                        return True
            except OSError:
                pass
            time.sleep(0.01)
        return False

    def listen_with_tls(self) -> int:
        """Let it accept connections with TLS too; return the port."""
        for _ in range(_ATTEMPTS):
            port = some_port()
            try:
                self.command("CONFIG", "SET", "tls-port", port)
            except Exception as error:  # another process has it
                if "bind" not in str(error).lower() and "listen" not in str(error).lower():
                    raise
            else:
                return port
        raise AssertionError(f"{SERVER} finds no free port for TLS")

    def command(self, *arguments: str | int) -> object:
        """Send one command, and return its reply."""
        import redis

        with redis.Redis(port=self.port, password=self.password or None, decode_responses=True) as one:
            return one.execute_command(*arguments)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal; wait for its end if that is what the signal means."""
        self.process.send_signal(number)
        if number in {signal.SIGKILL, signal.SIGTERM}:
            self.process.wait(scaled(DEADLINE_SECONDS))

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> RedisServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class RedisGroup:
    """A primary server with replicas, and Sentinels that make another one primary if it fails. Use it as a context manager."""

    SERVICE = "chaos"

    def __init__(self, *, replicas: int = 2, sentinels: int = 3) -> None:
        # A primary that was replaced has no replicas: without the last ones it would take writes for 10 s, and lose them.
        options = ("--repl-diskless-sync-delay", "0", "--min-replicas-to-write", "1", "--min-replicas-max-lag", "2")
        self.servers = [RedisServer(*options) for _ in range(1 + replicas)]
        self.sentinels = [RedisServer(sentinel=True) for _ in range(sentinels)]

    def __enter__(self) -> RedisGroup:
        first, *others = self.servers
        first.start()
        for one in others:
            one.follow(first)
            one.start()
        for one in self.sentinels:
            one.watch(first, self.SERVICE, quorum=len(self.sentinels) // 2 + 1)
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in (*self.sentinels, *self.servers):
            one.stop()

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{one.port}' for one in self.sentinels)}/{self.SERVICE}"

    def primary(self) -> RedisServer:
        """The server that the Sentinels take for the primary one now."""
        found = self.sentinels[0].command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.SERVICE)
        assert isinstance(found, list)
        return next(one for one in self.servers if one.port == int(found[1]))

    def knows_all(self) -> bool:
        """Whether each Sentinel knows all others and all replicas, without which there is no failover."""
        for one in self.sentinels:
            found = _pairs(one.command("SENTINEL", "MASTER", self.SERVICE))
            replicas = one.command("SENTINEL", "REPLICAS", self.SERVICE)
            assert isinstance(replicas, list)
            ready = [replica for replica in map(_pairs, replicas) if replica["master-link-status"] == "ok"]
            if int(found["num-other-sentinels"]) < len(self.sentinels) - 1 or len(ready) < len(self.servers) - 1:
                return False
        return True


def _pairs(reply: object) -> dict[str, str]:
    assert isinstance(reply, list)
    return dict(zip(reply[::2], reply[1::2], strict=True))
