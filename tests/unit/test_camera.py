"""The camera demo: images are found in what ffmpeg writes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import zmq

from ops import camera
from ops.camera import END, START, frames
from tests.support.addresses import ipc


def written(*chunks: bytes) -> int:
    """A descriptor from which these chunks are read."""
    receiving, sending = os.pipe()

    def write() -> None:
        for chunk in chunks:
            os.write(sending, chunk)
        os.close(sending)

    threading.Thread(target=write, daemon=True).start()
    return receiving


def test_images_are_found_wherever_the_stream_is_cut() -> None:
    images = [START + b"one" + END, START + bytes(100_000) + END, START + END]
    stream = b"".join(images)

    assert images == list(frames(written(stream[:4], stream[4:6], stream[6:])))


def test_a_stream_without_jpeg_images_is_refused() -> None:
    with pytest.raises(ValueError, match="the input is not JPEG"):
        next(frames(written(b"PNG" + END)))


def test_it_ends_although_nobody_reads_what_ffmpeg_still_writes(tmp_path: Path) -> None:
    """This ffmpeg ends where it cannot write any more, and at no signal."""
    (tmp_path / "frame").write_bytes(START + END)
    ffmpeg = tmp_path / "ffmpeg"
    ffmpeg.write_text(f"#!/bin/sh\ntrap '' TERM\nwhile cat {tmp_path}/frame; do :; done\n")
    ffmpeg.chmod(0o755)
    with zmq.Context() as context, context.socket(zmq.SUB) as bus:
        bus.subscribe("camera")
        endpoint = ipc(tmp_path, "bus")
        bus.bind(endpoint)
        command = [sys.executable, camera.__file__, "--port", "0", "--bus", endpoint]
        environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                bus.recv()  # it publishes
                process.terminate()
                process.wait(timeout=60)
            finally:
                process.kill()
