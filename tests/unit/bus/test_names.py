"""Which addresses of a name are connected to, and which are left."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.bus.names import ADDRESSES_MAX, Name
from gateway.bus.subscriber import BusError
from gateway.config.sources import Endpoint


class Followed:
    """A name, and the links that it has open."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.open: dict[int, str] = {}
        self.silent: set[int] = set()
        self.full = False
        self.answer: list[str] | OSError = []
        self.name = Name(
            Endpoint("tcp://name.test:1", "connect"),
            resolve=self._resolve,
            open_link=self._open,
            close_link=self.open.__delitem__,
            is_silent=lambda number: number in self.silent,
        )

    async def _resolve(self, name: str) -> list[str]:
        assert "name.test" == name
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer

    def _open(self, endpoint: Endpoint) -> int:
        if self.full:
            raise BusError("no free file descriptor")
        self.opened.append(endpoint.address)
        self.open[len(self.opened)] = endpoint.address
        return len(self.opened)

    def finds(self, found: Iterable[str]) -> list[str]:
        self.name.follow(list(found), now=0.0)
        return list(self.open.values())


def test_an_address_of_ipv6_gets_its_brackets() -> None:
    assert ["tcp://[fd00::1]:1", "tcp://[fd00::2]:1"] == Followed().finds(["fd00::1", "fd00::2"])


def test_an_address_is_left_once_it_is_gone_and_silent() -> None:
    followed = Followed()
    followed.finds(["10.0.0.1", "10.0.0.2"])
    followed.silent = {1, 2}
    followed.finds(["10.0.0.2"])
    followed.name.leave_silent()

    assert {2: "tcp://10.0.0.2:1"} == followed.open


def test_an_address_that_is_gone_and_still_sends_is_kept() -> None:
    followed = Followed()
    followed.finds(["10.0.0.1"])
    followed.finds([])
    followed.name.leave_silent()

    assert {1: "tcp://10.0.0.1:1"} == followed.open
    assert {1} == followed.name.leaving


async def test_a_look_up_that_fails_leaves_no_address() -> None:
    followed = Followed()
    followed.finds(["10.0.0.1"])
    followed.silent = {1}
    followed.answer = OSError("Temporary failure in name resolution")

    await followed.name.look_up(now=0.0)
    followed.name.leave_silent()
    assert {1: "tcp://10.0.0.1:1"} == followed.open
    assert "name.test cannot be resolved: Temporary failure" in followed.name.problem


def test_addresses_beyond_the_limit_are_reported_and_wait_until_others_are_left() -> None:
    followed = Followed()
    addresses = [f"10.0.0.{number}" for number in range(ADDRESSES_MAX + 1)]
    assert ADDRESSES_MAX == len(followed.finds(addresses))
    assert f"only {ADDRESSES_MAX} of a name are connected to" in followed.name.statuses()[0].problem

    followed.silent = {1}
    followed.finds(addresses[1:])
    followed.name.leave_silent()
    assert f"tcp://{addresses[-1]}:1" in followed.finds(addresses[1:])
    assert [] == followed.name.statuses()


def test_an_address_that_cannot_be_opened_is_tried_again() -> None:
    followed = Followed()
    followed.full = True
    assert [] == followed.finds(["10.0.0.1"])
    assert "no free file descriptor" == followed.name.statuses()[0].problem

    followed.full = False
    assert ["tcp://10.0.0.1:1"] == followed.finds(["10.0.0.1"])


async def test_a_name_that_is_followed_no_more_opens_nothing() -> None:
    followed = Followed()
    followed.answer = ["10.0.0.1"]
    asked = followed.name.look_up(now=0.0)
    followed.name.close()
    await asked

    assert {} == followed.open
