"""io_uring: one system call sends to many sockets (io_uring(7), Linux 5.18 or later).

It uses a submission queue and a completion queue, both shared with the kernel, and the send operation.
Sends do not block, so all completions are there when the call returns, and the kernel keeps no
reference to our memory. The layouts are those of linux/io_uring.h. Caller and kernel run in one thread
here, so that neither needs memory barriers."""

import ctypes
import errno
import mmap
import os
import socket
import struct
import sys
from array import array

from gateway.runtime.logs import logger


log = logger("gateway.http")

SENDS_MAX = 128
"""Sends per system call: the data of more no longer fits the processor's caches."""

_SETUP, _ENTER = 425, 426
_SUBMIT_ALL = 1 << 7
_GET_EVENTS = 1 << 0
_SEND = 26
_PARAMS_BYTES = 120
_SUBMISSIONS_OFFSET = 0x10000000
_SUBMISSION = struct.Struct("@BBHiQQIIQ24x")
"""Operation, flags, priority, descriptor, offset, address, size, flags of send(2), user data."""
_COMPLETION = struct.Struct("@QiI")
"""User data, result, flags."""


class IoUring:
    """Sends the same bytes to many sockets.
    Raises OSError: the kernel has no io_uring, or this process may not use it."""

    _descriptor = -1

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self._syscall.restype = ctypes.c_long
        self._syscall.argtypes = [ctypes.c_long] * 7
        params = ctypes.create_string_buffer(_PARAMS_BYTES)
        struct.pack_into("@I", params, 8, _SUBMIT_ALL)
        at = ctypes.addressof(params)
        descriptor = self._syscall(_SETUP, SENDS_MAX, at, 0, 0, 0, 0)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._descriptor = descriptor
        try:
            self._map(params.raw)
            self._check()
        except OSError:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        """Whether nothing is sent any more, after `close` or an error of the kernel."""
        return self._descriptor < 0

    def close(self) -> None:
        """Free the ring: from now on every send fails with EAGAIN."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()

    def send(self, sockets: "array[int]", data: bytes) -> list[tuple[int, int]]:
        """Send data to each of some sockets, given by their descriptors.

        Returns those that did not accept all of it: the index of each, and how many bytes were sent, or
        the negated errno."""
        size, start, incomplete = len(data), 0, []
        address = ctypes.c_void_p.from_buffer(ctypes.c_char_p(data)).value or 0
        while start < len(sockets):
            # Not beyond the end of the queue, so that neither this queue nor the other is ever split.
            at = self._words[self._tail] % SENDS_MAX
            part = sockets[start : start + SENDS_MAX - at]
            count = len(part)
            self._descriptors[at : at + count] = part
            self._addresses[at : at + count] = array("Q", (address,)) * count
            self._sizes[at : at + count] = array("I", (size,)) * count
            results = self._submit(count, size)
            incomplete += [(start + n, sent) for n, sent in results if sent != size]
            start += count
        return incomplete

    def _submit(self, count: int, size: int) -> list[tuple[int, int]]:
        """Submit the next sends and return their results; none if each sent `size` bytes."""
        if self.closed:
            return [(n, -errno.EAGAIN) for n in range(count)]
        words = self._words
        first, completed = words[self._tail], words[self._completed_head]
        words[self._tail] = (first + count) & 0xFFFFFFFF
        self._enter(count)
        words[self._tail] = words[self._head]  # drop what the kernel did not process
        words[self._completed_head] = words[self._completed_tail]
        done = (words[self._completed_tail] - completed) & 0xFFFFFFFF
        at = completed % self._completions_max
        sent = self._sent_sizes[at : at + done].tobytes()
        if sent == size.to_bytes(4, sys.byteorder) * count:
            return []
        found = [_COMPLETION.unpack_from(self._completions, _COMPLETION.size * (at + n)) for n in range(done)]
        results = {index: result for index, result, _ in found}
        indexes = range(first % SENDS_MAX, first % SENDS_MAX + count)
        return [(n, results.get(index, -errno.EAGAIN)) for n, index in enumerate(indexes)]

    def _enter(self, count: int) -> None:
        """Have the kernel process submissions; if it does not process all, close the ring."""
        words, accepted = self._words, 0
        until = (words[self._completed_tail] + count) & 0xFFFFFFFF
        while accepted < count or words[self._completed_tail] != until:
            left = count - accepted
            more = self._syscall(_ENTER, self._descriptor, left, count, _GET_EVENTS, 0, 0)
            if more > 0:
                accepted += more
            elif more == 0 or ctypes.get_errno() != errno.EINTR:
                reason = os.strerror(ctypes.get_errno()) if more else "no submission was accepted"
                log.warning("io_uring_failed", reason=reason)
                self.close()
                return

    def _map(self, params: bytes) -> None:
        """Map the queues, at the offsets that the kernel has returned."""
        submissions_max, self._completions_max = struct.unpack_from("@II", params)
        head, tail, _, _, _, _, order = struct.unpack_from("@7I", params, 40)
        completed_head, completed_tail, _, _, _, completions = struct.unpack_from("@6I", params, 80)
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        completions_end = completions + _COMPLETION.size * self._completions_max
        bytes_max = max(order + 4 * submissions_max, completions_end)
        queues = memoryview(mmap.mmap(self._descriptor, bytes_max, flags))
        self._words = queues.cast("I")
        self._head, self._tail = head // 4, tail // 4
        self._completed_head, self._completed_tail = completed_head // 4, completed_tail // 4
        self._words[order // 4 : order // 4 + submissions_max] = array("I", range(submissions_max))
        self._completions = queues[completions:completions_end]
        self._sent_sizes = self._completions.cast("i")[2::4]
        bytes_max = _SUBMISSION.size * submissions_max
        submissions = memoryview(mmap.mmap(self._descriptor, bytes_max, flags, offset=_SUBMISSIONS_OFFSET))
        send_flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        for index in range(submissions_max):  # the fields that are the same in every send
            at = _SUBMISSION.size * index
            _SUBMISSION.pack_into(submissions, at, _SEND, 0, 0, -1, 0, 0, 0, send_flags, index)
        self._descriptors = submissions.cast("i")[1::16]
        self._addresses = submissions.cast("Q")[2::8]
        self._sizes = submissions.cast("I")[6::16]

    def _check(self) -> None:
        """Send once: sandboxes that imitate Linux may lack the operation."""
        near, far = socket.socketpair()
        with near, far:
            far.setblocking(False)
            if self.send(array("i", [near.fileno()]), b"?") or far.recv(2) != b"?":
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
