"""DNS names in endpoints, such as a headless Service of gateways: all their addresses, looked up regularly."""

import contextlib
import ipaddress
import re
import socket
import threading
from collections.abc import Callable, Sequence


ADDRESSES_MAX = 128
"""How many addresses of one name are connected to; each has a queue."""

_NAMED = re.compile(r"tcp://([A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?):(\d+)")


def host_name(endpoint: str) -> str:
    """Return the name in a ``tcp://NAME:PORT`` endpoint; "" if it has an address, or `localhost`."""
    named = _NAMED.fullmatch(endpoint)
    if named is None or named[1] == "localhost":
        return ""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(named[1])
        return ""
    return named[1]


class Names:
    """Looks up the names of endpoints every `seconds`, in a thread, as that may take long. `wake` is called after a change.

    If a name has addresses of IPv4, those are used, else those of IPv6: a gateway that has both would get each event twice.
    A look-up that fails changes nothing."""

    def __init__(self, endpoints: Sequence[str], *, seconds: float, wake: Callable[[], object]) -> None:
        self._found: dict[str, tuple[str, ...] | None] = dict.fromkeys(endpoints)
        self._problems: dict[str, str] = {}
        self._seconds = seconds
        self._wake = wake
        self._ended = threading.Event()
        threading.Thread(target=self._follow, name="neurograph-names", daemon=True).start()

    @property
    def known(self) -> bool:
        """Whether each name has been found at least once."""
        return None not in self._found.values()

    @property
    def endpoints(self) -> list[str]:
        """The endpoints at all addresses."""
        return list(dict.fromkeys(one for found in self._found.values() for one in found or ()))

    @property
    def problem(self) -> str:
        """The reason why not all addresses are known or used; empty if they are."""
        return "; ".join(self._problems.values())

    def close(self) -> None:
        self._ended.set()

    def _follow(self) -> None:
        while not self._ended.is_set():
            changed = False
            for endpoint, before in list(self._found.items()):
                name = host_name(endpoint)
                found, problem = _look_up(endpoint, name)
                self._problems[endpoint] = problem
                if not problem:
                    del self._problems[endpoint]
                if found is not None and found != before:
                    self._found[endpoint], changed = found, True
            if changed and not self._ended.is_set():
                with contextlib.suppress(OSError):  # the publisher was closed just now
                    self._wake()
            self._ended.wait(self._seconds)


def _look_up(endpoint: str, name: str) -> tuple[tuple[str, ...] | None, str]:
    """Return the endpoints at a name's addresses, None if the look-up fails; and the problem, if there is one."""
    try:
        infos = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # a label that is too long is a UnicodeError
        missing = isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME
        return () if missing else None, f"{name} cannot be resolved: {getattr(error, 'strerror', error)}"
    four = {str(one[4][0]) for one in infos if one[0] == socket.AF_INET}
    six = {f"[{one[4][0]}]" for one in infos if one[0] == socket.AF_INET6}
    found = sorted(four or six)
    port = endpoint.rpartition(":")[2]
    problem = ""
    if len(found) > ADDRESSES_MAX:
        problem = f"{name} has {len(found)} addresses, and only {ADDRESSES_MAX} are connected to"
    return tuple(f"tcp://{address}:{port}" for address in found[:ADDRESSES_MAX]), problem
