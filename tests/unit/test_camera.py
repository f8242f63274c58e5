"""The camera demo: images are found in what ffmpeg writes."""

from __future__ import annotations

import os
import threading

import pytest

from ops.camera import END, START, frames


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
    with pytest.raises(ValueError, match="no JPEG images"):
        next(frames(written(b"PNG" + END)))
