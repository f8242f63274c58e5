"""Looks up the addresses of a host's name, without blocking the event loop or the end of the process."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence


Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""Returns the addresses of a name, none if it has none. Raises OSError: that cannot be found out now."""

SECONDS = 5.0
"""A look-up without an answer for this long has failed."""

_NONE = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class Resolver:
    """Asks the system's resolver, in a thread for each name.

    If a name has addresses of IPv4, those are used, else those of IPv6: a host that has both would be connected
    twice, and ZeroMQ's sockets listen on IPv4 alone unless they are told otherwise."""

    def __init__(self) -> None:
        self._pending: dict[str, asyncio.Future[list[str] | OSError]] = {}

    async def __call__(self, name: str) -> list[str]:
        """Look up a name. See `Resolve`."""
        pending = self._pending.get(name)
        if pending is None:  # else the last look-up still hangs
            loop = asyncio.get_running_loop()
            pending = self._pending[name] = loop.create_future()
            pending.add_done_callback(lambda _: self._pending.pop(name, None))
            # Not the loop's executor: the end of the process waits for its threads.
            threading.Thread(target=_look_up, args=(name, loop, pending), name="resolver", daemon=True).start()
        try:
            async with asyncio.timeout(SECONDS):
                found = await asyncio.shield(pending)
        except TimeoutError:
            raise OSError(f"no answer within {SECONDS:g} s") from None
        if isinstance(found, OSError):
            raise found
        return found


def _look_up(name: str, loop: asyncio.AbstractEventLoop, pending: "asyncio.Future[list[str] | OSError]") -> None:
    found: list[str] | OSError
    try:
        infos = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        found = [] if error.errno in _NONE else OSError(error.strerror)
    except (OSError, UnicodeError) as error:  # a label that is too long is a UnicodeError
        found = OSError(str(error))
    else:
        by_family = {family: [str(one[4][0]) for one in infos if one[0] == family] for family, *_ in infos}
        found = sorted(set(by_family.get(socket.AF_INET) or by_family.get(socket.AF_INET6, [])))
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(_settle, pending, found)


def _settle(pending: "asyncio.Future[list[str] | OSError]", found: list[str] | OSError) -> None:
    if not pending.done():
        pending.set_result(found)
