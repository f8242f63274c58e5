"""A worker's process: ``python -m gateway.workers PIPE SOCKETS``, two inherited descriptors."""

import asyncio
import os
import select
import signal
import socket
import sys
import threading
import time

from gateway.config.errors import ConfigError
from gateway.runtime import logs
from gateway.runtime.system import allow_many_files, loop_factory, tune_garbage_collector
from gateway.workers import messages
from gateway.workers.pipe import Pipe, Unreadable
from gateway.workers.worker import Worker


log = logs.logger("gateway.workers")

_ORPHAN_SECONDS = 3.0
"""How long a worker without a parent may take to end."""


def run(pipe: int, sockets: int) -> int:
    """Run a worker until the parent ends; return the process's exit status."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the parent says when to drain
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    allow_many_files()
    tune_garbage_collector()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_serve(socket.socket(fileno=pipe), socket.socket(fileno=sockets)))


def _end_with_parent(pipe: int) -> None:
    """End with the parent, also if the event loop is stuck: nobody else would end this process."""
    hung_up = select.poll()
    hung_up.register(pipe, 0)
    hung_up.poll()
    time.sleep(_ORPHAN_SECONDS)
    os._exit(1)


async def _serve(pair: socket.socket, sockets: socket.socket) -> int:
    ended, started = asyncio.Event(), asyncio.Event()
    waiting: list[messages.ToWorker | Unreadable] = []

    def on_messages(received: list[messages.ToWorker | Unreadable]) -> None:
        waiting.extend(received)
        started.set()

    def on_lost() -> None:
        started.set()
        ended.set()

    pipe = Pipe(messages.to_worker, on_messages=on_messages, on_lost=on_lost)
    await pipe.open(pair)
    await started.wait()
    if ended.is_set():
        return 1
    start = waiting.pop(0)
    assert isinstance(start, messages.Start)
    logs.set_up(start.config.logging.level, start.config.logging.format)
    try:
        worker = Worker(start, pipe, sockets)
    except ConfigError as error:  # a file that could be read when the parent started
        log.error("worker_start_failed", reason=str(error))
        return 1
    try:
        await worker.start()
        worker.on_messages(waiting)
        pipe.on_messages = worker.on_messages
        await ended.wait()
    finally:
        await worker.stop()
    return 0


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1]), int(sys.argv[2])))
