"""`gateway record`: write events to files."""

import asyncio
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import click

from neurograph_client import Client, ClientError, ClosedError, Event, Gap, NotConnectedError, Subscription
from neurograph_client.recording.files import RecordingError
from neurograph_client.recording.parts import Recorder
from neurograph_client.terminal import output
from neurograph_client.terminal.options import Gateway, complete_channel, gateway_options
from neurograph_client.terminal.sizes import read_size, size
from neurograph_client.terminal.tail import ALL_CHANNELS, log_as_notices, new_client


_FLUSH_SECONDS = 1.0
_SERVE = """
import os, signal, threading

def end_with_the_recorder():
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=end_with_the_recorder, daemon=True).start()
from gateway.__main__ import main
main()
"""
"""What runs the command `gateway`, and ends it when this process ends, however that is."""

_BUS_LAST = 1000
"""With how many events of its own gateway's log a recording begins: what came before it was connected."""


@click.command()
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("channels", nargs=-1, shell_complete=complete_channel)
@click.option("--resume", is_flag=True, help="Continue the recording OUT from its last positions.")
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="Begin with the newest N events of the log.")
@click.option("--filter", metavar="CEL", help="Only events that meet this condition.")
@click.option("--rotate-bytes", type=read_size, metavar="SIZE", help="Begin a further file at this size, as in 100MB.")
@click.option(
    "--rotate-seconds", type=click.FloatRange(min=1), metavar="SECONDS", help="Begin a further file after this time."
)
@click.option("--duration", type=click.FloatRange(min=0), metavar="SECONDS", help="Stop after this time.")
@click.option("--bus", metavar="ENDPOINT", help="Record this ZeroMQ endpoint, by a gateway of its own.")
@gateway_options
def record(
    gateway: Gateway,
    out: Path,
    channels: tuple[str, ...],
    resume: bool,
    last: int | None,
    filter: str | None,
    rotate_bytes: int | None,
    rotate_seconds: float | None,
    duration: float | None,
    bus: str | None,
) -> None:
    """Record the events of CHANNELS in OUT, until Ctrl-C. Without CHANNELS, record the events of all.

    OUT is MCAP, which Foxglove and the tools of ROS 2 open; or JSON lines, if its name ends in .jsonl. Each event
    is there once, in order, with its position; where events are missing, there is a gap. After a lost connection
    recording resumes.

    What was received is on the disk after a second, also if the process is killed; `--resume` then mends the
    file and continues behind its last event, in a further file (OUT.2.mcap).

    The exit status is 0 after Ctrl-C, SIGTERM or --duration, 1 if the gateway refuses or a file cannot be
    written, and 2 if an option is wrong.

    \b
    gateway record run.mcap
    gateway record errors.jsonl logs --filter "data.level == 'error'"
    gateway record run.mcap --resume --rotate-bytes 100MB
    gateway record bus.mcap --bus tcp://127.0.0.1:5556
    """
    log_as_notices()
    with output.clean_exit():
        try:
            last = last or (_BUS_LAST if bus else None)
            recorder = Recorder(out, resume=resume, rotate_bytes=rotate_bytes, rotate_seconds=rotate_seconds)
            try:
                with _bus_gateway(bus) if bus else nullcontext(gateway) as source:
                    asyncio.run(_Recording(source, recorder, channels or ALL_CHANNELS, last, filter).run(duration))
            finally:
                recorder.close()
                output.notice(f"{_progress(recorder)} in {recorder.path}")
        except (RecordingError, OSError) as error:
            raise output.CommandError(str(error)) from None
        except ClientError as error:
            raise output.CommandError(gateway.explain(error)) from None


class _Recording:
    """The connection to a gateway, and what is recorded of it."""

    def __init__(
        self, gateway: Gateway, recorder: Recorder, channels: tuple[str, ...], last: int | None, filter: str | None
    ) -> None:
        self._gateway = gateway
        self._recorder = recorder
        self._channels = channels
        self._last = last
        self._filter = filter
        self._stop = asyncio.Event()

    async def run(self, duration: float | None) -> None:
        loop = asyncio.get_running_loop()
        with suppress(NotImplementedError):  # Windows: there Ctrl-C is an exception
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._stop.set)
        if duration is not None:
            loop.call_later(duration, self._stop.set)
        stopped = asyncio.create_task(self._stop.wait())
        recording = asyncio.create_task(self._record())
        await asyncio.wait({stopped, recording}, return_when=asyncio.FIRST_COMPLETED)
        if recording.done():
            stopped.cancel()
            await recording
        recording.cancel()
        await asyncio.gather(recording, return_exceptions=True)

    async def _record(self) -> None:
        while True:
            client = new_client(self._gateway)
            try:
                async with client:
                    await self._follow(client)
                return
            except NotConnectedError:  # not within the client's timeout
                continue

    async def _follow(self, client: Client) -> None:
        since = self._recorder.positions or None
        async with client.subscribe(
            *self._channels, since=since, last=None if since else self._last, filter=self._filter
        ) as subscription:
            self._recorder.begin(subscription.starts)
            await self._write_all(subscription)

    async def _write_all(self, subscription: Subscription[Any]) -> None:
        flushed = time.monotonic()
        progress = output.Progress(self._recorder.events)
        taking: asyncio.Task[list[Event[Any] | Gap]] | None = None
        try:
            while True:
                taking = taking or asyncio.create_task(subscription.take_all())
                done, _ = await asyncio.wait({taking}, timeout=_FLUSH_SECONDS)
                if done:
                    self._recorder.write(taking.result())
                    taking = None
                if time.monotonic() - flushed >= _FLUSH_SECONDS:
                    self._recorder.flush()
                    flushed = time.monotonic()
                    progress.show(self._recorder.events, f"{_progress(self._recorder)} in {self._recorder.path.name}")
        except StopAsyncIteration:
            raise ClosedError("the client was closed") from None
        finally:
            if taking is not None:
                taking.cancel()


def _progress(recorder: Recorder) -> str:
    gaps = f", {recorder.gaps:,} gaps ({recorder.missing:,} events missing)" if recorder.gaps else ""
    return f"{recorder.events:,} events{gaps}, {size(recorder.bytes_written)}"


@contextmanager
def _bus_gateway(endpoint: str) -> Iterator[Gateway]:
    """Run a gateway of this command's own, which connects to a bus and repairs what it can."""
    arguments = ["--port", "0", "--connect", endpoint, "--bind", "", "--set", "figures_seconds=0"]
    command = [sys.executable, "-c", _SERVE, "serve", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stderr=pipe, text=True) as process:  # noqa: S603  # one argument each
        try:
            assert process.stderr is not None
            said = []
            for line in process.stderr:
                said.append(line)
                if found := re.search(r"https?://[^\s\"]+", line):
                    # A pipe that nobody reads would stop the gateway once it is full.
                    threading.Thread(target=deque, args=(process.stderr, 0), daemon=True).start()
                    yield Gateway(found[0])
                    return
            raise output.CommandError(f"no gateway for {endpoint}: {''.join(said).strip()}")
        finally:
            process.terminate()
