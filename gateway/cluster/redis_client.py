"""Connections to Redis or Valkey, and what its errors mean."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import redis.exceptions as errors
from redis.asyncio import ConnectionPool, Redis, Sentinel, SSLConnection
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.config.cluster import Address, parse_url
from gateway.config.errors import ConfigError, Problem
from gateway.config.model import Cluster
from gateway.runtime.listening import shown


Argument = str | bytes | int | float
Reply = object

_ADVICE: tuple[tuple[type[Exception], str], ...] = (
    (errors.AuthenticationError, "check the user and password of cluster.url"),
    (errors.NoPermissionError, "allow cluster.url's user the commands and keys that docs/cluster.md lists"),
    (errors.OutOfMemoryError, "raise maxmemory of Redis, or free memory"),
    (errors.ReadOnlyError, "let cluster.url name the primary server, or use Sentinel"),
    (errors.BusyLoadingError, "wait until Redis has loaded its data"),
    (errors.MaxConnectionsError, "raise maxclients of Redis"),
)
_ADVICE_BY_WORD = {
    "NOREPLICAS": "start another replica: min-replicas-to-write asks for one that is connected",
    "MISCONF": "let Redis write to its disk",
}
"""What the library has no types for, by the first word of the error."""
_UNREACHABLE = "check cluster.url, and that Redis runs there"
_FAILING = "see the log of Redis"
FAILURES = (errors.RedisError, OSError, TimeoutError, EOFError)
"""What connections and commands raise."""


def address_of(settings: Cluster) -> Address:
    """Return where the engine is, with the password of its file.
    Raises ConfigError: the file cannot be read."""
    address = parse_url(settings.url)
    if not settings.password_file:
        return address
    try:
        password = Path(settings.password_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = f"{settings.password_file} cannot be read ({error})"
        problem = Problem("cluster.password_file", reason, "check the path and its permissions")
        raise ConfigError([problem]) from error
    return replace(address, password=password)


def is_failure(error: Exception) -> bool:
    """Return whether an error means that the engine cannot be used now, and not that one command is wrong."""
    if isinstance(error, errors.ResponseError):
        text = str(error)
        known = (errors.NoPermissionError, errors.OutOfMemoryError, errors.ReadOnlyError, errors.NoScriptError)
        return isinstance(error, known) or text.startswith(("STALE", "MISCONF", "MASTERDOWN", "NOREPLICAS", "OOM"))
    return isinstance(error, FAILURES)


def described(error: Exception, address: Address) -> tuple[str, str]:
    """Return what is wrong with the engine, and what to do about it."""
    advice = next((text for kind, text in _ADVICE if isinstance(error, kind)), None)
    advice = advice or _ADVICE_BY_WORD.get(str(error).partition(" ")[0])
    if isinstance(error, TimeoutError | errors.TimeoutError):
        return f"{address} does not answer within cluster.timeout_seconds", _UNREACHABLE
    if isinstance(error, errors.ResponseError):
        text = str(error).partition(" script: ")[0].rstrip(".")  # without where in the script it was
        return f"{address}: {text}", advice or _FAILING
    return f"{address}: {str(error) or type(error).__name__}", advice or _UNREACHABLE


class Client:
    """One connection to the server that takes writes. Commands are sent once: none is repeated after a failure."""

    def __init__(self, connection: "Redis", server: str) -> None:
        self._redis = connection
        self.server = server
        """Where it is; with Sentinel, of the server that was the primary one."""

    async def send(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """Send commands together; return a reply or an error for each. Raises `FAILURES`: there may be no reply."""
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return list(await pipeline.execute(raise_on_error=False))

    async def command(self, *command: Argument) -> Reply:
        """Send one command. Raises `FAILURES`."""
        [reply] = await self.send([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def close(self) -> None:
        """Close the connection, without waiting for the server."""
        await self._redis.connection_pool.disconnect(inuse_connections=True)


async def connect(address: Address, settings: Cluster, *, name: str) -> Client:
    """Return a client that is not connected yet; with Sentinel, of the server that is now the primary one.

    Raises `FAILURES`: no Sentinel knows it."""
    host, port = address.servers[0]
    if address.service:
        host, port = await _primary(address, settings)
    options = _options(address, settings, user=address.user, password=address.password)
    pool = ConnectionPool(
        connection_class=SSLConnection if address.tls else Connection,
        max_connections=1,
        host=host,
        port=port,
        db=address.database,
        client_name=name,
        **options,
    )
    return Client(Redis(connection_pool=pool), shown(host, port))


async def _primary(address: Address, settings: Cluster) -> tuple[str, int]:
    async with _sentinels(address, settings) as sentinel:
        host, port = await sentinel.discover_master(address.service)
        return str(host), int(port)


@dataclass(frozen=True, slots=True)
class Watch:
    """What one Sentinel says of the service."""

    sentinel: str
    problem: str = ""
    """Why it says nothing."""
    primary: tuple[str, int] | None = None
    others: int = 0
    """Other Sentinels that it knows."""
    quorum: int = 0
    replicas: tuple[tuple[str, int], ...] = ()


async def watches(address: Address, settings: Cluster) -> list[Watch]:
    """Ask each Sentinel for itself."""

    async def asked(one: Any, server: tuple[str, int]) -> Watch:  # Any: the library's client
        name = shown(*server)
        try:
            async with asyncio.timeout(settings.timeout_seconds):
                found = await one.sentinel_master(address.service)
                replicas = await one.sentinel_slaves(address.service)
        except FAILURES as error:
            return Watch(name, problem=str(error) or "it does not answer within cluster.timeout_seconds")
        places = tuple((str(replica["ip"]), int(replica["port"])) for replica in replicas)
        others, quorum = int(found["num-other-sentinels"]), int(found["quorum"])
        return Watch(
            name, primary=(str(found["ip"]), int(found["port"])), others=others, quorum=quorum, replicas=places
        )

    async with _sentinels(address, settings) as sentinel:
        return await asyncio.gather(*map(asked, sentinel.sentinels, address.servers))


@asynccontextmanager
async def _sentinels(address: Address, settings: Cluster) -> AsyncIterator[Sentinel]:
    options = _options(address, settings, user=address.sentinel_user, password=address.sentinel_password)
    sentinel = Sentinel(  # type: ignore[no-untyped-call]  # as it is in the library
        address.servers, sentinel_kwargs={**options, "ssl": address.tls}
    )
    try:
        yield sentinel
    finally:
        for one in sentinel.sentinels:
            await one.connection_pool.disconnect(inuse_connections=True)


def _options(address: Address, settings: Cluster, *, user: str, password: str) -> dict[str, Any]:
    options: dict[str, Any] = {  # Any: what the library's parameters take
        "username": user or None,
        "password": password or None,
        "socket_timeout": None,
        "socket_connect_timeout": settings.timeout_seconds,
        "retry": Retry(NoBackoff(), 0),  # the default repeats commands, which may then be done twice
    }
    if address.tls and settings.ca_file:
        options["ssl_ca_certs"] = settings.ca_file
    return options
