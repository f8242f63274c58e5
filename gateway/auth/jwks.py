"""Public keys from a URL (JWKS, RFC 7517): refreshed in the background, kept while the server is down.

They are fetched again before `refresh_seconds` have passed, and when a token names an unknown key, but at
most once in 10 s. The last answer counts: a key that it lacks is no longer valid. While the server does not
answer, the known keys stay valid for a day."""

import asyncio
import codecs
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import aiohttp
import orjson

from gateway.auth.claims import TokenError
from gateway.auth.keys import Key, KeySource, from_jwk
from gateway.runtime.logs import logger


FETCH_SECONDS_MAX = 5.0
FETCH_INTERVAL_SECONDS_MIN = 10.0
KEPT_SECONDS_MAX = 86_400.0
WAITING_MAX = 1_000
"""Tokens that wait for one fetch; further ones are refused as temporarily unavailable."""

_BYTES_MAX = 1_048_576
_KEYS_MAX = 100
_REFRESH_AT = 0.8
"""The part of the refresh time after which keys are fetched again."""

log = logger("gateway.auth")


class _UnusableAnswer(Exception):
    """The server's answer cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class _Keys:
    by_id: Mapping[str, Key]
    only: Key | None
    """The key for tokens without a key id, if there is just one."""
    fetched_at: float


class Jwks(KeySource):
    """The keys at a URL. Needs a running event loop; `clock` counts seconds, as `time.monotonic`."""

    def __init__(
        self,
        url: str,
        *,
        refresh_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        on_fetch: Callable[[bool], object] = lambda succeeded: None,
    ) -> None:
        self._url = url
        self._on_fetch = on_fetch
        self._refresh_seconds = max(refresh_seconds * _REFRESH_AT, FETCH_INTERVAL_SECONDS_MIN)
        self._clock = clock
        self._keys: _Keys | None = None
        self._last_fetch = -FETCH_INTERVAL_SECONDS_MIN
        self._problem = "not fetched yet"
        self._fetching: asyncio.Task[None] | None = None
        self._waiting = 0
        self._refresher: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._refresher = asyncio.get_running_loop().create_task(self._refresh())

    async def close(self) -> None:
        tasks = [task for task in (self._refresher, self._fetching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def find(self, kid: str | None) -> Sequence[Key]:
        """Return a known key at once; for an unknown one fetch the keys again, if that is due."""
        found = self._known(kid)
        if found is None and await self._wait_for_fetch():
            found = self._known(kid)
        if found is None:
            raise TokenError("keys_unavailable" if self._problem else "unknown_key")
        return (found,)

    def _known(self, kid: str | None) -> Key | None:
        if self._keys is None or self._clock() - self._keys.fetched_at > KEPT_SECONDS_MAX:
            return None
        return self._keys.only if kid is None else self._keys.by_id.get(kid)

    async def _wait_for_fetch(self) -> bool:
        """Wait for the current fetch, or start one; False if none may start now."""
        fetch = self._start_fetch()
        if fetch is None:
            return False
        if self._waiting >= WAITING_MAX:
            raise TokenError("keys_unavailable")
        self._waiting += 1
        try:
            # Not the task itself: cancelling a waiter must not cancel the fetch.
            await asyncio.wait({fetch})
        finally:
            self._waiting -= 1
        return True

    def _start_fetch(self) -> asyncio.Task[None] | None:
        """Return the current fetch, or start one unless the last one was too recent."""
        now = self._clock()
        if self._fetching is None and now - self._last_fetch >= FETCH_INTERVAL_SECONDS_MIN:
            self._last_fetch = now
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
        return self._fetching

    async def _refresh(self) -> None:
        while True:
            if fetch := self._start_fetch():
                await asyncio.wait({fetch})
            pause = FETCH_INTERVAL_SECONDS_MIN
            if self._keys is not None and not self._problem:
                due = self._keys.fetched_at + self._refresh_seconds
                pause = max(due - self._clock(), 0.01)
            await asyncio.sleep(pause)

    async def _fetch(self) -> None:
        """Fetch the keys and replace the old ones, or log why not."""
        problem = ""
        try:
            async with asyncio.timeout(FETCH_SECONDS_MAX):
                document = await _get(self._url)
            self._keys = _keys(document, self._clock())
        except TimeoutError:
            problem = f"no complete answer within {FETCH_SECONDS_MAX:g} s"
        except _UnusableAnswer as error:
            problem = str(error)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = _no_answer(error)
        finally:
            self._fetching = None
        self._on_fetch(not problem)
        if problem != self._problem:
            self._problem = problem
            if problem:
                log.warning("jwks_fetch_failed", reason=problem)
            else:
                log.info("jwks_fetched", keys=len(self._keys.by_id) if self._keys else 0)


def _no_answer(error: Exception) -> str:
    return f"no answer ({type(error).__name__})"  # its text may hold the URL, which may hold a password


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send a request, and keep aiohttp from sending it again when the server disconnects."""
    try:
        return await handler(request)
    except aiohttp.ClientError as error:
        raise _UnusableAnswer(_no_answer(error)) from None


async def _get(url: str) -> bytes:
    """Return the body of an answer with status 200, without redirects or decompression."""
    async with (
        aiohttp.ClientSession(
            auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), headers=_HEADERS, middlewares=[_once]
        ) as http,
        http.get(url, allow_redirects=False) as answer,
    ):
        if answer.status != 200:
            raise _UnusableAnswer(f"status {answer.status}")
        body = bytearray()
        async for part in answer.content.iter_any():
            body += part
            if len(body) > _BYTES_MAX:
                raise _UnusableAnswer(f"the answer has more than {_BYTES_MAX} bytes")
        return bytes(body)


_HEADERS = {"Accept": "application/json, application/jwk-set+json", "Accept-Encoding": "identity"}


def _keys(document: bytes, fetched_at: float) -> _Keys:
    """Return the keys of a JWK set that can verify tokens; of several with one id, the first."""
    try:
        found = orjson.loads(document.removeprefix(codecs.BOM_UTF8))
    except (ValueError, RecursionError):
        raise _UnusableAnswer("the answer is not JSON") from None
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise _UnusableAnswer("the answer is not a JWK set")
    if len(listed) > _KEYS_MAX:
        raise _UnusableAnswer(f"the answer has more than {_KEYS_MAX} keys")
    usable = [(jwk, key) for jwk in listed if isinstance(jwk, dict) and (key := from_jwk(jwk))]
    by_id: dict[str, Key] = {}
    for jwk, key in usable:
        kid = jwk.get("kid")
        if isinstance(kid, str):
            by_id.setdefault(kid, key)
    return _Keys(by_id, usable[0][1] if len(usable) == 1 else None, fetched_at)
