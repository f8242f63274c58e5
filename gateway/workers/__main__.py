"""A worker's process: ``python -m gateway.workers LINK DOOR``, two inherited sockets."""

import asyncio
import os
import select
import shutil
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import msgspec

from gateway import logs
from gateway.config.errors import ConfigError
from gateway.runtime import allow_many_files, loop_factory, tune_garbage_collector
from gateway.workers import messages
from gateway.workers.pipe import Pipe
from gateway.workers.worker import Worker


log = logs.logger("gateway.workers")

_ORPHAN_SECONDS = 3.0
"""How long a worker without a parent may take to end."""

_decoder: msgspec.msgpack.Decoder[messages.ToWorker] = msgspec.msgpack.Decoder(messages.ToWorker)


def run(pipe: int, door: int) -> int:
    """Be a worker until the parent ends; return the process's exit status."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the parent says when clients are sent away
    threading.Thread(target=_follow, args=(pipe,), daemon=True).start()
    allow_many_files()
    tune_garbage_collector()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_serve(socket.socket(fileno=pipe), socket.socket(fileno=door)))


def _follow(pipe: int) -> None:
    """End with the parent, also if the loop does not turn: nobody else would end this process."""
    hung_up = select.poll()
    hung_up.register(pipe, 0)
    hung_up.poll()
    time.sleep(_ORPHAN_SECONDS)
    os._exit(1)


async def _serve(pair: socket.socket, door: socket.socket) -> int:
    parent = os.getppid()
    ended, begun = asyncio.Event(), asyncio.Event()
    waiting: list[messages.ToWorker] = []

    def heard(messages: list[messages.ToWorker]) -> None:
        waiting.extend(messages)
        begun.set()

    def lost() -> None:
        begun.set()
        ended.set()

    pipe: Pipe[messages.ToWorker] = Pipe(_decoder, on_messages=heard, on_lost=lost)
    await pipe.open(pair)
    await begun.wait()
    if ended.is_set():
        return 1
    begin = waiting.pop(0)
    assert isinstance(begin, messages.Begin)
    logs.set_up(begin.config.logging.level, begin.config.logging.format)
    try:
        worker = Worker(begin, pipe, door)
    except ConfigError as error:  # a file that could be read when the parent started
        log.error("worker_start_failed", reason=str(error))
        return 1
    try:
        await worker.start()
        worker.heard(waiting)
        pipe.on_messages = worker.heard
        await ended.wait()
    finally:
        await worker.stop()
        if os.getppid() != parent:  # it was killed, and nobody else would tidy up behind it
            shutil.rmtree(Path(begin.rest).parent, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1]), int(sys.argv[2])))
