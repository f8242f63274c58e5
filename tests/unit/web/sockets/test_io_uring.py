"""Sending to many sockets at once: how much each accepted, and the errors of the others."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import resource
import socket
from array import array
from collections.abc import Callable, Iterator

import psutil
import pytest

from gateway.web.sockets.io_uring import SENDS_MAX, IoUring


Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    """Connected sockets, none of which waits."""
    made = [socket.socketpair() for _ in range(2 * SENDS_MAX + 10)]
    for pair in made:
        for end in pair:
            end.setblocking(False)
    yield made
    for pair in made:
        for end in pair:
            end.close()


def near(pairs: list[Pair]) -> array[int]:
    return array("i", [one.fileno() for one, _ in pairs])


@pytest.mark.parametrize("count", [1, 2, SENDS_MAX - 1, SENDS_MAX, SENDS_MAX + 1, 266])
def test_all_sockets_get_all_data_at_any_position_of_the_queues(ring: IoUring, pairs: list[Pair], count: int) -> None:
    some = pairs[:count]
    for number in range(10):
        data = b"%d" % number * (number + 1)
        assert [] == ring.send(near(some), data)
        assert {data} == {far.recv(100) for _, far in some}


def test_sockets_that_accept_a_part_or_nothing_are_returned(ring: IoUring, pairs: list[Pair]) -> None:
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

    assert min(taken.values()) < 20 * len(data)
    for index in slow:
        assert taken[index] == read(some[index][1])


def read(end: socket.socket) -> int:
    """Read all there is, and return how much that was."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while data := end.recv(1 << 20):
            count += len(data)
    return count


def test_a_broken_socket_does_not_affect_the_others(ring: IoUring, pairs: list[Pair]) -> None:
    some = pairs[:5]
    some[1][1].close()
    sockets = near(some)
    sockets[3] = 99_999  # nobody's

    assert [(1, -errno.EPIPE), (3, -errno.EBADF)] == ring.send(sockets, b"data")
    assert [b"data"] * 3 == [some[index][1].recv(9) for index in (0, 2, 4)]


class Kernel:
    """System calls that only do a part of what they are asked for, at times."""

    def __init__(self, ring: IoUring, *most: int) -> None:
        """Each call takes so many requests, -1 is interrupted, 0 does nothing; then all is as it is."""
        self.real: Callable[..., int] = ring._syscall
        self.most = list(most)
        ring._syscall = self  # type: ignore[assignment]  # it is called as that is

    def __call__(self, number: int, ring: int, requests: int, wait: int, *rest: int) -> int:
        if not self.most:
            return self.real(number, ring, requests, wait, *rest)
        most = self.most.pop(0)
        if most < 0:
            ctypes.set_errno(errno.EINTR)
            return -1
        return self.real(number, ring, min(most, requests), 0, *rest) if most else 0


def test_all_is_sent_if_the_kernel_processes_a_few_at_a_time(ring: IoUring, pairs: list[Pair]) -> None:
    Kernel(ring, -1, 2, 3, -1, 1)
    for data in (b"one", b"two", b"three"):
        assert [] == ring.send(near(pairs), data)
        assert {data} == {far.recv(100) for _, far in pairs}


def test_a_kernel_that_stops_midway_closes_the_ring_and_the_unsent_are_returned(
    ring: IoUring, pairs: list[Pair]
) -> None:
    some = pairs[:20]
    assert [] == ring.send(near(some), b"old")
    assert {b"old"} == {far.recv(100) for _, far in some}
    kernel = Kernel(ring, 5, -1, 2, 0)
    short = ring.send(near(some), b"new")

    assert [(n, -errno.EAGAIN) for n in range(7, 20)] == short
    assert [b"new"] * 7 == [far.recv(100) for _, far in some[:7]]
    assert [0] * 13 == [read(far) for _, far in some[7:]]
    assert ring.closed
    assert [(n, -errno.EAGAIN) for n in range(20)] == ring.send(near(some), b"more")
    assert not kernel.most


def test_a_closed_ring_sends_nothing_and_says_so(ring: IoUring, pairs: list[Pair]) -> None:
    some = pairs[:200]
    assert [] == ring.send(near(some), b"1")
    ring.close()

    assert [(n, -errno.EAGAIN) for n in range(200)] == ring.send(near(some), b"2")
    assert {b"1"} == {far.recv(9) for _, far in some}


def test_without_io_uring_the_error_has_a_reason_and_nothing_stays_open() -> None:
    gc.collect()
    used = psutil.Process().num_fds()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(OSError, match=r"\S"):
            IoUring()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert psutil.Process().num_fds() <= used


def test_a_ring_that_is_garbage_collected_leaves_nothing_open(ring: IoUring) -> None:
    gc.collect()
    used = psutil.Process().num_fds()
    another = IoUring()
    assert used < psutil.Process().num_fds()
    del another

    assert psutil.Process().num_fds() <= used
