"""Run the gateway, a publisher of this machine's metrics and one of made-up events, until Ctrl-C or SIGTERM."""

import argparse
import asyncio
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from gateway.cli.check import warnings
from gateway.config import Config


PUBLISHER = str(Path(sys.executable).with_name("neurograph-system-metrics"))
SAMPLES = str(Path(__file__).with_name("samples.py"))
DEMO = str(Path(__file__).with_name("demo.py"))
READY_SECONDS_MAX = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--demo", action="store_true", help="print what a WebSocket client receives")
    arguments = parser.parse_args()
    if busy := [line for line in warnings(Config(port=arguments.port)) if "in use" in line]:
        print(*busy, "Stop the gateway that runs there, or choose a port: make run PORT=8001", sep="\n")
        return 1
    return asyncio.run(run(arguments.port, demo=arguments.demo))


async def run(port: int, *, demo: bool) -> int:
    """Run all processes until one ends or a signal comes; return the gateway's exit status."""
    gateway = await start(sys.executable, "-m", "gateway", "serve", "--port", str(port))
    others: list[Process] = []
    stop = asyncio.Event()

    def end() -> None:
        if stop.is_set():  # the second time: at a second signal the gateway stops at once
            terminate(gateway)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end)
    await first(ready(port), gateway.wait(), stop.wait())
    if gateway.returncode is None and not stop.is_set():
        others.append(await start(PUBLISHER, "--interval", "1"))
        others.append(await start(sys.executable, SAMPLES))
        welcome(port)
        if demo:
            others.append(await start(sys.executable, DEMO, f"http://127.0.0.1:{port}/ws"))
        await first(gateway.wait(), stop.wait(), *(one.wait() for one in others))
    for one in (*others, gateway):
        terminate(one)
    await asyncio.gather(*(one.wait() for one in others))
    return await gateway.wait()


async def first(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait until the first of them is done; cancel the others."""
    tasks = [asyncio.create_task(one) for one in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def start(*command: str) -> Process:
    # In its own session, so that Ctrl-C reaches this script only, which then stops each process once.
    nothing = asyncio.subprocess.DEVNULL
    return await asyncio.create_subprocess_exec(*command, stdin=nothing, start_new_session=True)


def terminate(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()


async def ready(port: int) -> None:
    """Wait until the gateway is ready, for READY_SECONDS_MAX at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(READY_SECONDS_MAX), aiohttp.ClientSession() as http:
            while True:
                with suppress(aiohttp.ClientError):
                    async with http.get(f"http://127.0.0.1:{port}/readyz") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.1)


def welcome(port: int) -> None:
    print(
        f"""
  Dashboard        http://127.0.0.1:{port}/
  WebSocket        ws://127.0.0.1:{port}/ws      send {{"type":"subscribe","channels":["metrics"]}}
  Publish to       tcp://127.0.0.1:5556
  Ctrl-C stops it.
""",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
