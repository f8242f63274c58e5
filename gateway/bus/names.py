"""An endpoint whose host is a name, such as a headless Service: the gateway connects to each of its addresses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.bus.resolver import Resolve
from gateway.bus.subscriber import BusError
from gateway.config.sources import Endpoint
from gateway.metrics.metrics import EndpointStatus
from gateway.runtime.logs import Throttle, logger


log = logger("gateway")

ADDRESSES_MAX = 128
"""Addresses of one name that are connected to; each takes four open files."""
_REPEATED_LOG_SECONDS = 60.0


@dataclass(slots=True, eq=False, repr=False)
class Name:
    """The addresses of one endpoint, and the link to each.

    `open_link` connects to an endpoint and returns the number of its link, or raises BusError; `close_link` ends it.
    An address that the name does not have any more is left when `is_silent` says so of its link: a publisher that
    ends may still send, and one that is only not ready any more sends on."""

    endpoint: Endpoint
    resolve: Resolve
    open_link: Callable[[Endpoint], int]
    close_link: Callable[[int], None]
    is_silent: Callable[[int], bool]
    closed: bool = False
    answered: bool = False
    """Whether the first look-up has ended, in vain or not."""
    problem: str = ""
    """Why not all of its addresses are connected to."""
    links: dict[str, int] = field(default_factory=dict)
    """The number of the link to each address."""
    leaving: set[int] = field(default_factory=set)
    """The links to addresses that the name does not have any more."""
    _throttle: Throttle = field(default_factory=lambda: Throttle(count=1, interval_seconds=_REPEATED_LOG_SECONDS))

    async def look_up(self, *, now: float) -> None:
        """Ask for the addresses, and follow what has changed."""
        try:
            found = await self.resolve(self.endpoint.host)
        except OSError as error:  # those that are known may still be right
            self._report(
                f"{self.endpoint.host} cannot be resolved: {error}; correct the name, or the DNS server.", now=now
            )
        else:
            if not self.closed:
                self.follow(found, now=now)
        self.answered = True

    def follow(self, found: Sequence[str], *, now: float) -> None:
        """Connect to addresses that are new, and to those that are back; mark those that are gone."""
        self.leaving = {number for address, number in self.links.items() if address not in found}
        problem = "" if found else f"{self.endpoint.host} has no addresses; correct the name, or start a publisher."
        for address in found:
            if address in self.links:
                continue
            if len(self.links) >= ADDRESSES_MAX:
                problem = (
                    f"{self.endpoint.host} has {len(found)} addresses, and only {ADDRESSES_MAX} of a name are connected to; "
                    "use several names, or put `gateway proxy` in between."
                )
                break
            try:
                self.links[address] = self.open_link(self.endpoint.at(address))
            except BusError as error:  # for example, no free open file: tried again at the next look-up
                problem = str(error)
        self._report(problem, now=now)

    def leave_silent(self) -> None:
        """Close the links to addresses that are gone, if their publishers are, too."""
        for address, number in list(self.links.items()):
            if number in self.leaving and self.is_silent(number):
                del self.links[address]
                self.leaving.discard(number)
                self.close_link(number)
                log.info("bus_address_left", endpoint=self.endpoint.address, address=address)

    def close(self) -> None:
        self.closed = True
        for number in self.links.values():
            self.close_link(number)
        self.links.clear()
        self.leaving.clear()

    def statuses(self) -> list[EndpointStatus]:
        """Return what is to be said of the name itself: nothing if it is connected to all of its addresses."""
        if self.links and not self.problem:
            return []
        return [
            EndpointStatus(
                self.endpoint.address,
                "connect",
                "connecting",
                peers=0,
                received=0,
                reopened=0,
                last_event_seconds=None,
                problem=self.problem,
            )
        ]

    def _report(self, problem: str, *, now: float) -> None:
        self.problem = problem
        if problem and (suppressed := self._throttle.allow(problem, now=now)) is not None:
            log.warning("bus_name_problem", endpoint=self.endpoint.address, problem=problem, suppressed=suppressed)
