"""io_uring, where one system call sends to many sockets (io_uring(7), Linux 5.18 and later).

Of it only what that takes: a queue of requests and one of results, both shared with the kernel, and one
operation. No socket is waited for, so all results are there when the call returns, and the kernel keeps
nothing of ours. Layouts are those of linux/io_uring.h. Caller and kernel are one thread here: what one
writes, the other sees without barriers.
"""

import ctypes
import errno
import mmap
import os
import socket
import struct
import sys
from array import array

from gateway.logs import logger


log = logger("gateway.http")

REQUESTS_MAX = 128
"""So many sends to a system call: what belongs to more has left the caches by its end."""

_SETUP, _ENTER = 425, 426
_SUBMIT_ALL = 1 << 7
_GET_EVENTS = 1 << 0
_SEND = 26
_PARAMS_BYTES = 120
_REQUESTS_AT = 0x10000000
_REQUEST = struct.Struct("@BBHiQQIIQ24x")
"""Operation, flags, priority, descriptor, offset, address, size, flags of send(2), user data."""
_RESULT = struct.Struct("@QiI")
"""User data, what came of it, flags."""


class Ring:
    """Sends the same bytes to many sockets.

    Raises:
        OSError: There is no io_uring, or this process may not use it.
    """

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
        descriptor = self._syscall(_SETUP, REQUESTS_MAX, at, 0, 0, 0, 0)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._descriptor = descriptor
        try:
            self._map(params.raw)
            self._try()
        except OSError:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        """Whether nothing is sent any more: it was closed, or the kernel did not do as it was asked."""
        return self._descriptor < 0

    def close(self) -> None:
        """Send nothing any more: from now on each socket has taken nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()

    def send(self, sockets: "array[int]", data: bytes) -> list[tuple[int, int]]:
        """Send data to each of some sockets, given by their descriptors.

        Returns those that did not take all of it: the index of each, and how many bytes it took; below
        zero that is for which error (errno) it took none.
        """
        size, start, short = len(data), 0, []
        address = ctypes.c_void_p.from_buffer(ctypes.c_char_p(data)).value or 0
        while start < len(sockets):
            # Not beyond the end of the queue, so that neither it nor that of results is ever split.
            at = self._words[self._tail] % REQUESTS_MAX
            part = sockets[start : start + REQUESTS_MAX - at]
            count = len(part)
            self._sockets[at : at + count] = part
            self._addresses[at : at + count] = array("Q", (address,)) * count
            self._sizes[at : at + count] = array("I", (size,)) * count
            results = self._submit(count, size)
            short += [(start + n, taken) for n, taken in results if taken != size]
            start += count
        return short

    def _submit(self, count: int, size: int) -> list[tuple[int, int]]:
        """Let the kernel go through requests; their results, unless all took so many bytes."""
        if self.closed:
            return [(n, -errno.EAGAIN) for n in range(count)]
        words = self._words
        first, result = words[self._tail], words[self._results_head]
        words[self._tail] = (first + count) & 0xFFFFFFFF
        self._enter(count)
        words[self._tail] = words[self._head]  # what it did not come to is not asked for any more
        words[self._results_head] = words[self._results_tail]
        done = (words[self._results_tail] - result) & 0xFFFFFFFF
        at = result % self._results_max
        taken = self._taken[at : at + done].tobytes()
        if taken == size.to_bytes(4, sys.byteorder) * count:
            return []
        found = [_RESULT.unpack_from(self._results, _RESULT.size * (at + n)) for n in range(done)]
        by_place = {place: taken for place, taken, _ in found}
        places = range(first % REQUESTS_MAX, first % REQUESTS_MAX + count)
        return [(n, by_place.get(place, -errno.EAGAIN)) for n, place in enumerate(places)]

    def _enter(self, count: int) -> None:
        """Have so many requests done. A kernel that does not is not asked again."""
        words, taken = self._words, 0
        until = (words[self._results_tail] + count) & 0xFFFFFFFF
        while taken < count or words[self._results_tail] != until:
            left = count - taken
            more = self._syscall(_ENTER, self._descriptor, left, count, _GET_EVENTS, 0, 0)
            if more > 0:
                taken += more
            elif more == 0 or ctypes.get_errno() != errno.EINTR:
                why = os.strerror(ctypes.get_errno()) if more else "nothing is done"
                log.warning("io_uring_failed", reason=why)
                self.close()
                return

    def _map(self, params: bytes) -> None:
        """Find the queues where the kernel has put them."""
        requests_max, self._results_max = struct.unpack_from("@II", params)
        head, tail, _, _, _, _, order = struct.unpack_from("@7I", params, 40)
        results_head, results_tail, _, _, _, found = struct.unpack_from("@6I", params, 80)
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        bytes_max = max(order + 4 * requests_max, found + _RESULT.size * self._results_max)
        queues = memoryview(mmap.mmap(self._descriptor, bytes_max, flags))
        self._words = queues.cast("I")
        self._head, self._tail = head // 4, tail // 4
        self._results_head, self._results_tail = results_head // 4, results_tail // 4
        self._words[order // 4 : order // 4 + requests_max] = array("I", range(requests_max))
        self._results = queues[found : found + _RESULT.size * self._results_max]
        self._taken = self._results.cast("i")[2::4]
        bytes_max = _REQUEST.size * requests_max
        requests = memoryview(mmap.mmap(self._descriptor, bytes_max, flags, offset=_REQUESTS_AT))
        how = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        for place in range(requests_max):  # what stays the same in all of them
            at = _REQUEST.size * place
            _REQUEST.pack_into(requests, at, _SEND, 0, 0, -1, 0, 0, 0, how, place)
        self._sockets = requests.cast("i")[1::16]
        self._addresses = requests.cast("Q")[2::8]
        self._sizes = requests.cast("I")[6::16]

    def _try(self) -> None:
        """See whether it works: there are kernels that only look like Linux."""
        near, far = socket.socketpair()
        with near, far:
            far.setblocking(False)
            if self.send(array("i", [near.fileno()]), b"?") or far.recv(2) != b"?":
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
