"""How many sockets a listener may have."""

from __future__ import annotations

import pytest

from gateway.config.model import Clients, Config
from gateway.web.sockets.listener import FILES_RESERVED, bus_connections_max, sockets_max


@pytest.mark.parametrize(
    ("files", "sockets"), [(None, 1256), (20_000, 1256), (1024, 1024 - 64 - 256), (400, 400 - 64 - 100), (10, 1)]
)
def test_files_are_left_to_publishers_and_to_the_process(files: int | None, sockets: int) -> None:
    assert sockets_max(1000, files) == sockets


@pytest.mark.parametrize(("files", "connections"), [(None, 1000), (20_000, 1000), (1024, 256), (400, 100), (10, 1)])
def test_publishers_and_clients_have_files_at_the_same_time(files: int | None, connections: int) -> None:
    assert bus_connections_max(Config(clients=Clients(connections_max=1000)), files=files) == connections
    if files is not None and files > 100:
        assert connections + sockets_max(1000, files) + FILES_RESERVED <= files
