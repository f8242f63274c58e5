"""Sending to many sockets at once: what each took, and what is told of the others."""

from __future__ import annotations

import contextlib
import errno
import resource
import socket
from array import array
from collections.abc import Iterator

import psutil
import pytest

from gateway.web.ring import REQUESTS_MAX, Ring


Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def ring() -> Iterator[Ring]:
    try:
        ring = Ring()
    except OSError as error:
        pytest.xfail(f"no io_uring here: {error}")
    yield ring
    ring.close()


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    """Connected sockets, none of which waits."""
    made = [socket.socketpair() for _ in range(2 * REQUESTS_MAX + 10)]
    for pair in made:
        for end in pair:
            end.setblocking(False)
    yield made
    for pair in made:
        for end in pair:
            end.close()


def near(pairs: list[Pair]) -> array[int]:
    return array("i", [one.fileno() for one, _ in pairs])


@pytest.mark.parametrize("count", [1, 2, REQUESTS_MAX - 1, REQUESTS_MAX, REQUESTS_MAX + 1, 266])
def test_all_get_all_of_it_wherever_the_queues_stand(
    ring: Ring, pairs: list[Pair], count: int
) -> None:
    some = pairs[:count]
    for number in range(10):
        data = b"%d" % number * (number + 1)
        assert [] == ring.send(near(some), data)
        assert {data} == {far.recv(100) for _, far in some}


def test_who_takes_only_a_part_or_nothing_is_named(ring: Ring, pairs: list[Pair]) -> None:
    some = pairs[:150]
    slow, data = (3, 149), b"x" * 50_000
    taken = dict.fromkeys(slow, 0)
    for _ in range(20):
        for index, took in ring.send(near(some), data):
            assert index in slow
            assert took == -errno.EAGAIN or 0 < took < len(data)
            taken[index] += max(took, 0) - len(data)
        for index in slow:
            taken[index] += len(data)
        for index, (_, far) in enumerate(some):
            if index not in slow:
                assert len(data) == read(far)

    for index in slow:
        assert taken[index] == read(some[index][1])


def read(end: socket.socket) -> int:
    """Read all there is, and return how much that was."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while data := end.recv(1 << 20):
            count += len(data)
    return count


def test_a_broken_socket_costs_the_others_nothing(ring: Ring, pairs: list[Pair]) -> None:
    some = pairs[:5]
    some[1][1].close()
    sockets = near(some)
    sockets[3] = 99_999  # nobody's

    assert [(1, -errno.EPIPE), (3, -errno.EBADF)] == ring.send(sockets, b"data")
    assert [b"data"] * 3 == [some[index][1].recv(9) for index in (0, 2, 4)]


def test_a_closed_ring_sends_nothing_and_says_so(pairs: list[Pair]) -> None:
    try:
        ring = Ring()
    except OSError as error:
        pytest.xfail(f"no io_uring here: {error}")
    some = pairs[:200]
    assert [] == ring.send(near(some), b"1")
    ring.close()

    assert [(n, -errno.EAGAIN) for n in range(200)] == ring.send(near(some), b"2")
    assert {b"1"} == {far.recv(9) for _, far in some}


def test_where_there_is_none_the_reason_is_told_and_nothing_stays_open() -> None:
    used = psutil.Process().num_fds()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(OSError, match=r"\S"):
            Ring()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert used == psutil.Process().num_fds()
