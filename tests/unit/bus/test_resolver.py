"""Names are looked up by the system's resolver, without waiting for it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.bus import resolver
from gateway.bus.resolver import Resolver


class System:
    """Answers in place of the system's resolver."""

    def __init__(self) -> None:
        self.infos: list[Any] = []
        self.error: OSError | None = None
        self.asked: list[str] = []
        self.answers = threading.Event()
        self.answers.set()

    def getaddrinfo(self, name: str, port: None, *, type: int) -> list[Any]:
        self.asked.append(name)
        self.answers.wait(60)
        if self.error is not None:
            raise self.error
        return self.infos


def info(address: str) -> Any:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.SOCK_STREAM, 6, "", (address, 0)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    system = System()
    monkeypatch.setattr(socket, "getaddrinfo", system.getaddrinfo)
    yield system
    system.answers.set()


async def test_an_address_is_its_own() -> None:
    assert ["127.0.0.1"] == await Resolver()("127.0.0.1")


async def test_the_addresses_of_ipv4_are_used_if_there_are_both(system: System) -> None:
    system.infos = [info("fd00::1"), info("10.0.0.2"), info("10.0.0.1"), info("10.0.0.1")]

    assert ["10.0.0.1", "10.0.0.2"] == await Resolver()("name.test")


async def test_addresses_of_ipv6_are_used_if_there_are_no_others(system: System) -> None:
    system.infos = [info("fd00::2"), info("fd00::1")]

    assert ["fd00::1", "fd00::2"] == await Resolver()("name.test")


async def test_a_name_that_does_not_exist_has_no_addresses(system: System) -> None:
    system.error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    assert [] == await Resolver()("name.test")


async def test_a_resolver_that_fails_is_an_error(system: System) -> None:
    system.error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with pytest.raises(OSError, match="Temporary failure"):
        await Resolver()("name.test")


async def test_a_resolver_that_hangs_is_an_error_and_is_not_asked_twice_at_once(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "SECONDS", 0.01)
    system.answers.clear()
    system.infos = [info("10.0.0.1")]
    lookup = Resolver()
    for _ in range(2):
        with pytest.raises(OSError, match="no answer within"):
            await lookup("name.test")
    assert ["name.test"] == system.asked

    monkeypatch.setattr(resolver, "SECONDS", 60.0)
    asked = asyncio.ensure_future(lookup("name.test"))
    system.answers.set()
    assert ["10.0.0.1"] == await asked
