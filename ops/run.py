"""Run the gateway, a publisher of this machine's metrics and one of made-up events, until Ctrl-C or SIGTERM."""

import argparse
import asyncio
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from gateway.cli.check import warnings
from gateway.config import Config


PUBLISHER = str(Path(sys.executable).with_name("neurograph-system-metrics"))
SAMPLES = str(Path(__file__).with_name("samples.py"))
DEMO = str(Path(__file__).with_name("demo.py"))
CAMERA = str(Path(__file__).with_name("camera.py"))
READY_SECONDS_MAX = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--bus", default=Config().bind, help="where publishers connect")
    parser.add_argument("--demo", action="store_true", help="print what a WebSocket client receives")
    parser.add_argument("--camera", type=int, metavar="PORT", help="also show a camera on a page, at this port")
    parser.add_argument("--input", default="", help="ffmpeg's input for the camera, as in -f v4l2 -i /dev/video0")
    arguments = parser.parse_args()
    if busy := [line for line in warnings(Config(port=arguments.port, bind=arguments.bus)) if "in use" in line]:
        choose = "make run PORT=8001 BUS=tcp://127.0.0.1:5557"
        print(*busy, f"Stop the gateway that runs there, or choose other ports: {choose}", sep="\n")
        return 1
    url = f"http://127.0.0.1:{arguments.port}/ws"
    flags, more = [], []
    if arguments.demo:
        more.append([DEMO, url])
    if arguments.camera:
        hosts = [f"http://{host}:{arguments.camera}" for host in ("127.0.0.1", "localhost")]
        flags = ["--set", f"allowed_origins={','.join(hosts)}"]
        camera = [CAMERA, "--port", str(arguments.camera), "--gateway", f"ws{url[4:]}", "--bus", arguments.bus]
        more.append([*camera, f"--input={arguments.input}"] if arguments.input else camera)
    return asyncio.run(run(arguments.port, arguments.bus, flags, more))


async def run(port: int, bus: str, flags: Sequence[str], scripts: Sequence[Sequence[str]]) -> int:
    """Run the gateway and these scripts until one exits or a signal arrives; return the gateway's exit status."""
    gateway = await start(sys.executable, "-m", "gateway", "serve", "--port", str(port), "--bind", bus, *flags)
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
        others.append(await start(PUBLISHER, "--interval", "1", "--connect", bus))
        others.append(await start(sys.executable, SAMPLES, bus))
        welcome(port, bus)
        others += [await start(sys.executable, *script) for script in scripts]
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


def welcome(port: int, bus: str) -> None:
    print(
        f"""
  Dashboard        http://127.0.0.1:{port}/
  WebSocket        ws://127.0.0.1:{port}/ws      send {{"type":"subscribe","channels":["metrics"]}}
  Publish to       {bus}
  Ctrl-C stops it.
""",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
