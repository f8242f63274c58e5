"""The processes and sockets of a case: a publisher's driver, a real gateway, and plain sockets."""

import json
import os
import queue
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import zmq

from publishers.conformance.languages import Language
from tests.support import forkserver
from tests.support.addresses import free_port


WITHIN_SECONDS = 60.0
HEARTBEAT = b"$heartbeat"


def until(condition: Callable[[], Any], what: str, *, within: float = WITHIN_SECONDS) -> Any:
    """Wait until the condition returns a true value, and return that."""
    deadline = time.monotonic() + within
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"timed out after {within:.0f} s, waiting for: {what}"
        time.sleep(0.02)


class Refused(Exception):
    """The publisher answered with an error."""


class Driver:
    """A publisher in its own process, which reads commands as lines of JSON and answers each."""

    def __init__(self, command: Sequence[str], *, folder: Path) -> None:
        self.process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.opened: dict[str, Any] = {}
        """The answer to opening the publisher: incarnation, endpoint, replay."""
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def begin(self, do: str, **arguments: Any) -> None:
        """Send a command; `finish` reads the answer to it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()

    def ask(self, do: str, *, within: float = WITHIN_SECONDS, **arguments: Any) -> Any:
        """Return the answer to a command, or raise Refused."""
        self.begin(do, **arguments)
        return self.finish(do, within=within)

    def finish(self, do: str, *, within: float = WITHIN_SECONDS) -> Any:
        """Return the answer to a command that was sent, or raise Refused."""
        try:
            line = self._answers.get(timeout=within)
        except queue.Empty:
            raise AssertionError(f"the driver did not answer the command {do} within {within:.0f} s") from None
        assert line, f"the driver exited with {self.process.wait()} before it answered the command {do}"
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["ok"]

    def refusal(self, do: str, **arguments: Any) -> str:
        """Send a command that must be refused, and return the error."""
        try:
            answer = self.ask(do, **arguments)
        except Refused as error:
            return str(error)
        raise AssertionError(f"{do} {str(arguments)[:100]} must be refused, and was answered with {answer!r}")

    def kill(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.wait()

    def end(self, *, within: float = WITHIN_SECONDS) -> int:
        """Close its input, and return its exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(timeout=within)

    def close(self) -> None:
        """Kill the process if it still runs."""
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


class Gateway:
    """A gateway process; `settings` are lines of its TOML file."""

    def __init__(self, folder: Path, port: int, *settings: str) -> None:
        self._file = folder / f"gateway-{port}.toml"
        self._file.write_text("\n".join((f"port = {port}", *settings)))
        self._address = f"http://127.0.0.1:{port}"
        self._log = (folder / f"gateway-{port}.log").open("ab")
        self._process: forkserver.Process | None = None
        self.start()

    def start(self) -> None:
        """Start it, also after `kill`, and wait until it is ready."""
        arguments, log = ["serve", "--config", str(self._file)], self._log.fileno()
        with Path(os.devnull).open() as nothing:
            self._process = forkserver.start(
                arguments, stdin=nothing.fileno(), stdout=log, stderr=log, environment=os.environ
            )
        until(self._is_up, "the gateway's start")

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the gateway exited at its start; see {self._log.name}"
        try:
            urllib.request.urlopen(self._address + "/readyz", timeout=5).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Stop it at the end of the case."""
        self.kill()
        self._log.close()

    def get(self, path: str) -> Any:
        """Return the answer of its REST API."""
        address = f"{self._address}/api/v1/websocket/{path}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)

    def history(self, channel: str) -> list[Any]:
        """Return the events and gaps that a channel holds, up to 1,000."""
        try:
            return list(self.get(f"channels/{channel}/events?limit=1000")["events"])
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return []
            raise

    def events(self, channel: str, count: int) -> list[Any]:
        """Wait for `count` events, and return them."""
        return list(
            until(
                lambda: found if len(found := self.history(channel)) >= count else None, f"{count} events on {channel}"
            )
        )


class Subscriber:
    """A plain SUB socket, which reads the frames of messages."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        *,
        connect: str = "",
        prefix: bytes = b"",
        queue_max: int = 0,
        buffer_bytes: int = -1,
    ) -> None:
        self.socket = context.socket(zmq.SUB)
        self.socket.linger = 0
        self.socket.rcvhwm = queue_max
        self.socket.rcvbuf = buffer_bytes
        self.socket.subscribe(prefix)
        if connect:
            self.socket.connect(connect)
        else:
            self.socket.bind("tcp://127.0.0.1:*")
        self.endpoint = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def frames(self, *, within: float = WITHIN_SECONDS) -> list[bytes]:
        """Return the next message."""
        assert self.socket.poll(round(within * 1000)), f"no message within {within:.0f} s"
        return self.socket.recv_multipart()

    def event(self) -> list[bytes]:
        """Return the next message that is not a heartbeat."""
        while (frames := self.frames())[0] == HEARTBEAT:
            pass
        return frames

    def heartbeat(self) -> dict[str, Any]:
        """Return the next heartbeat."""
        while (frames := self.frames())[0] != HEARTBEAT:
            pass
        assert len(frames) == 2, f"a heartbeat has {len(frames)} frames, not 2"
        return dict(json.loads(frames[1]))

    def await_publisher(self, driver: Driver) -> None:
        """Wait until the publisher has this subscription; a SUB sends it only when it is used."""

        def is_known() -> bool:
            self.socket.get(zmq.EVENTS)
            return bool(driver.ask("wait", seconds=0.1))

        until(is_known, "the publisher sees a subscriber")

    def close(self) -> None:
        """Close the socket."""
        self.socket.close(linger=0)


class ForeignPort:
    """A TCP server that does not speak ZeroMQ: it sends an answer on each connection, and closes it.

    With `waits` it does so only at `answer_newest`.
    """

    def __init__(self, answer: bytes, *, waits: bool = False) -> None:
        self._answer = answer
        self._waits = waits
        self._waiting: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._visited = threading.Semaphore(0)
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def await_visits(self, count: int) -> None:
        """Wait for `count` more connections."""
        for _ in range(count):
            assert self._visited.acquire(timeout=WITHIN_SECONDS), f"nobody connected within {WITHIN_SECONDS:.0f} s"

    def answer_newest(self) -> None:
        """Answer the newest connection, and close it."""
        self._reply(self._waiting.pop())

    def close(self) -> None:
        """Stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._listener.close()
        for visitor in self._waiting:
            visitor.close()

    def _serve(self) -> None:
        while True:
            try:
                visitor, _ = self._listener.accept()
            except OSError:
                return  # closed
            if self._waits:
                self._waiting.append(visitor)
            else:
                self._reply(visitor)
            self._visited.release()

    def _reply(self, visitor: socket.socket) -> None:
        with visitor, suppress(OSError):
            visitor.sendall(self._answer)


class Setting:
    """Everything that a case of one language has started; closing it stops all."""

    def __init__(self, language: Language, scratch: Path) -> None:
        self.scratch = scratch
        self.language = language
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._opened: list[Any] = []

    def driver(self, **options: Any) -> Driver:
        """Start a driver, and open its publisher if there are options."""
        driver = Driver(self.language.driver, folder=self.language.folder)
        self._opened.append(driver)
        if options:
            driver.opened = driver.ask("open", **options)
        return driver

    def run_example(self, endpoint: str) -> None:
        """Run the package's example to its end."""
        command = [*self.language.example, endpoint]
        subprocess.run(command, cwd=self.language.folder, check=True, stdout=subprocess.DEVNULL)

    def gateway(self, *settings: str) -> Gateway:
        """Start a gateway."""
        gateway = Gateway(self.scratch, free_port(), *settings)
        self._opened.append(gateway)
        return gateway

    def subscriber(self, **options: Any) -> Subscriber:
        """Open a plain SUB socket."""
        subscriber = Subscriber(self.context, **options)
        self._opened.append(subscriber)
        return subscriber

    def foreign_port(self, answer: bytes, *, waits: bool = False) -> ForeignPort:
        """Start a TCP server that does not speak ZeroMQ."""
        port = ForeignPort(answer, waits=waits)
        self._opened.append(port)
        return port

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in reversed(self._opened):
            opened.close()
        self.context.destroy(linger=0)
