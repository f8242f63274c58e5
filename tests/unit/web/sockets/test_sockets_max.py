"""How many sockets a listener may have."""

from __future__ import annotations

import pytest

from gateway.web.sockets.listener import sockets_max


@pytest.mark.parametrize(
    ("files", "sockets"), [(None, 1256), (20_000, 1256), (1024, 1024 - 64 - 256), (400, 400 - 64 - 100), (10, 1)]
)
def test_files_are_left_to_publishers_and_to_the_process(files: int | None, sockets: int) -> None:
    assert sockets_max(1000, files) == sockets
