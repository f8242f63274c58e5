"""A publisher that connects to a port of another program does not crash its process."""

from __future__ import annotations

import subprocess
import sys

from tests.support.forkserver import search_path
from tests.support.waiting import DEADLINE_SECONDS, scaled


SCRIPT = r"""
import socket, threading
from neurograph_publisher import Publisher

def serve(listener, visited):
    while True:
        accepted, _ = listener.accept()
        visited.release()
        accepted.sendall(b"hello there, this is not zeromq at all\r\n" * 3)
        accepted.close()

publishers = []
for _ in range(4):
    listener = socket.create_server(("127.0.0.1", 0))
    visited = threading.Semaphore(0)
    threading.Thread(target=serve, args=(listener, visited), daemon=True).start()
    one = Publisher(connect=f"tcp://127.0.0.1:{listener.getsockname()[1]}", heartbeat_seconds=0.05)
    publishers.append(one)
    for _ in range(2):
        visited.acquire()
    for n in range(20):
        one.publish("a", {"n": n})
for one in publishers:
    one.close()
print("closed")
"""


def test_closing_with_messages_queued_for_a_port_without_zeromq_does_not_abort_the_process() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"PYTHONPATH": search_path("neurograph_publisher")},
        capture_output=True,
        timeout=scaled(DEADLINE_SECONDS),
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (0, b"closed\n"), ended.stderr.decode()
