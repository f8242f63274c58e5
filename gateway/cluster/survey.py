"""What a cluster's engine and its gateways are like, read once, for `gateway doctor`."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from gateway.cluster.engine import Engine
from gateway.cluster.redis_client import FAILURES, Client, Watch, connect, described, watches
from gateway.config.model import Cluster
from gateway.core.cluster.members import Heard, Member, decode, decode_heard
from gateway.runtime import clock
from gateway.runtime.listening import shown


_SECTIONS = ("server", "memory", "persistence", "replication")
_SETTINGS = ("save", "min-replicas-to-write", "min-replicas-max-lag")
_PINGS = 5
_GATEWAYS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Server:
    """One Redis or Valkey; the first one of a survey takes the writes."""

    name: str
    info: Mapping[str, Any]  # Any: what the library makes of INFO
    settings: Mapping[str, str]
    """What CONFIG GET answers; empty if the user may not ask."""
    problem: str = ""
    """Why nothing is known of it."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A gateway that the engine lists."""

    member: Member
    heard: Heard | None
    """None for a version that does not report it."""
    at: float
    """When it reported that, as Unix time by the engine's clock."""


@dataclass(frozen=True, slots=True)
class Survey:
    servers: tuple[Server, ...]
    watches: tuple[Watch, ...]
    """What each Sentinel says; empty without Sentinel."""
    ping_seconds: float = 0.0
    """How long it takes to answer, the slowest of a few times."""
    ahead_seconds: float = 0.0
    """How far the engine's clock is ahead of this machine's."""
    gateways: tuple[Listed, ...] = ()
    problem: str = ""
    """Why the engine cannot be used: with Sentinel, only what can be read nevertheless is here."""
    advice: str = ""


async def survey(settings: Cluster) -> Survey:
    """Read all of it. Raises ConfigError: the file with the password cannot be read."""
    engine = Engine(settings, gateway="doctor")
    try:
        async with engine.visit() as client, asyncio.timeout(settings.timeout_seconds * (_PINGS + 4)):
            pings = [await _ping(client) for _ in range(_PINGS)]
            ahead = await _ahead(client)
            gateways = tuple(await _gateways(engine, client))
            primary = await _server(str(engine.address), client)
    except FAILURES as error:
        problem, advice = described(error, engine.address)
        servers, found = await _behind_sentinels(engine, settings)
        return Survey(servers, found, problem=problem, advice=advice)
    servers, found = await _behind_sentinels(engine, settings)
    return Survey(servers or (primary,), found, max(pings), ahead, gateways)


async def _behind_sentinels(engine: Engine, settings: Cluster) -> tuple[tuple[Server, ...], tuple[Watch, ...]]:
    """Ask the Sentinels, and each server that they know, the primary one first; nothing without Sentinel."""
    if not engine.address.service:
        return (), ()
    found = await watches(engine.address, settings)
    primary = next((one.primary for one in found if one.primary is not None), None)
    replicas = sorted({place for watch in found for place in watch.replicas} - {primary})
    places = [*replicas] if primary is None else [primary, *replicas]
    return tuple(await asyncio.gather(*(_at(engine, settings, place) for place in places))), tuple(found)


async def read_gateways(settings: Cluster) -> tuple[Listed, ...]:
    """Read only what the gateways report; nothing if the engine does not answer."""
    engine = Engine(settings, gateway="doctor")
    try:
        async with engine.visit() as client, asyncio.timeout(settings.timeout_seconds):
            return tuple(await _gateways(engine, client))
    except FAILURES:
        return ()


async def _ping(client: Client) -> float:
    began = time.perf_counter()
    await client.command("PING")
    return time.perf_counter() - began


async def _ahead(client: Client) -> float:
    before = clock.unix_ns()
    reply = await client.command("TIME")
    after = clock.unix_ns()
    assert isinstance(reply, tuple)
    seconds, microseconds = reply
    return float(seconds + microseconds / 1e6 - (before + after) / 2e9)


async def _gateways(engine: Engine, client: Client) -> list[Listed]:
    ids = await client.command("ZRANGE", engine.key("gateways"), 0, _GATEWAYS_MAX - 1)
    assert isinstance(ids, list)
    names = [one.decode() for one in ids]
    reports = await client.send([("GET", engine.key("gateway", one)) for one in names])
    heard = await client.send([("HMGET", engine.key("heard", one), "heard", "at_ms") for one in names])
    found = []
    for report, fields in zip(reports, heard, strict=True):
        try:
            member = decode(report)  # type: ignore[arg-type]  # None, if it is gone, is refused, too
        except (msgspec.MsgspecError, TypeError):
            continue
        what, at = fields if isinstance(fields, list) else (None, None)
        found.append(Listed(member, None if what is None else decode_heard(what), float(at or 0) / 1000))
    return sorted(found, key=lambda one: (one.member.name, one.member.id))


async def _at(engine: Engine, settings: Cluster, place: tuple[str, int]) -> Server:
    """Ask one server, as the user of `cluster.url`."""
    address = replace(engine.address, servers=(place,), service="")
    client = await connect(address, settings, name="doctor")
    try:
        async with asyncio.timeout(settings.timeout_seconds * 2):
            return await _server(shown(*place), client)
    except FAILURES as error:
        return Server(shown(*place), {}, {}, problem=described(error, address)[0])
    finally:
        await client.close()


async def _server(name: str, client: Client) -> Server:
    info: dict[str, Any] = {}
    for section in await client.send([("INFO", one) for one in _SECTIONS]):
        if isinstance(section, Exception):
            raise section
        assert isinstance(section, dict)
        info |= section
    settings: dict[str, str] = {}
    for found in await client.send([("CONFIG GET", one) for one in _SETTINGS]):
        if isinstance(found, dict):  # else this user may not ask
            settings |= {_text(key): _text(value) for key, value in found.items()}
    return Server(name, info, settings)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
