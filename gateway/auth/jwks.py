"""Public keys from a URL (JWKS, RFC 7517): fetched ahead of time, kept while their server is away.

They are fetched anew before `seconds` have passed, and when a token names a key that is not known,
but never twice within 10 s. What the server answers last counts, also if a key is missing there.
While it does not answer, the keys that are known stay good for a day.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp

from gateway.auth.errors import TokenError
from gateway.auth.keys import Key, from_jwk
from gateway.logs import logger


FETCH_SECONDS_MAX = 5.0
FETCH_SECONDS_APART = 10.0
KEPT_SECONDS_MAX = 86_400.0
WAITING_MAX = 1_000
"""Tokens that wait for one fetch; what comes beyond them is told to try again."""

_BYTES_MAX = 1_048_576
_KEYS_MAX = 100
_FRESH_PART = 0.8

log = logger("gateway.auth")


class _Refused(Exception):
    """What the server sent is of no use; says why."""


@dataclass(frozen=True, slots=True)
class _Keys:
    """What the server answered last, and when."""

    named: Mapping[str, Key]
    single: Key | None
    """The one for tokens that name none."""
    at: float


class Jwks:
    """The keys at a URL. Needs a running event loop; `clock` counts seconds, as `time.monotonic`."""

    def __init__(
        self, url: str, *, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._pause = max(seconds * _FRESH_PART, FETCH_SECONDS_APART)
        self._clock = clock
        self._keys: _Keys | None = None
        self._tried = -FETCH_SECONDS_APART
        self._problem = "they were not fetched yet"
        self._fetching: asyncio.Task[None] | None = None
        self._waiting = 0
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Fetch the keys, and again before they are stale, until `close`."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """End what is under way."""
        tasks = [task for task in (self._keeper, self._fetching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def reload(self) -> None:
        """There is no file to read again."""

    async def find(self, kid: str | None) -> Key:
        """Return the key of this id; without one, the only key that there is.

        A key that is known is there at once. Another one is waited for if the keys may be fetched.

        Raises:
            TokenError: There is no such key, or the server could not be asked.
        """
        found = self._known(kid)
        if found is None and await self._refreshed():
            found = self._known(kid)
        if found is None:
            raise TokenError("keys_unavailable" if self._problem else "unknown_key")
        return found

    def _known(self, kid: str | None) -> Key | None:
        if self._keys is None or self._clock() - self._keys.at > KEPT_SECONDS_MAX:
            return None
        return self._keys.single if kid is None else self._keys.named.get(kid)

    async def _refreshed(self) -> bool:
        """Wait for a fetch if one is under way or may begin; False if there is nothing to wait for."""
        fetch = self._fetch()
        if fetch is None:
            return False
        if self._waiting >= WAITING_MAX:
            raise TokenError("keys_unavailable")
        self._waiting += 1
        try:
            await asyncio.wait({fetch})  # not the task itself: who gives up must not end it
        finally:
            self._waiting -= 1
        return True

    def _fetch(self) -> asyncio.Task[None] | None:
        """The fetch that is under way, or a new one unless the last is too short ago."""
        if self._fetching is None and self._clock() - self._tried >= FETCH_SECONDS_APART:
            self._tried = self._clock()
            self._fetching = asyncio.get_running_loop().create_task(self._take())
        return self._fetching

    async def _keep(self) -> None:
        while True:
            if fetch := self._fetch():
                await asyncio.wait({fetch})
            await asyncio.sleep(FETCH_SECONDS_APART if self._problem else self._until_stale())

    def _until_stale(self) -> float:
        at = self._tried if self._keys is None else self._keys.at
        return max(at + self._pause - self._clock(), 0.01)

    async def _take(self) -> None:
        """Fetch the keys and put them in the place of the old ones, or say why not."""
        problem = ""
        try:
            async with asyncio.timeout(FETCH_SECONDS_MAX):
                document = await _get(self._url)
            self._keys = _keys(document, self._clock())
        except TimeoutError:
            problem = f"no whole answer within {FETCH_SECONDS_MAX:g} s"
        except _Refused as error:
            problem = str(error)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = _no_answer(error)
        finally:
            self._fetching = None
        if problem != self._problem:
            self._problem = problem
            if problem:
                log.warning("jwks_fetch_failed", reason=problem)
            else:
                log.info("jwks_fetched", keys=len(self._keys.named) if self._keys else 0)


def _no_answer(error: Exception) -> str:
    return f"no answer ({type(error).__name__})"  # its text may have the URL, and that a password


async def _once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send a request and keep the session from sending it again when the server hangs up."""
    try:
        return await handler(request)
    except aiohttp.ClientError as error:
        raise _Refused(_no_answer(error)) from None


async def _get(url: str) -> bytes:
    """The body of an answer 200; redirects are not followed, and compression is not undone."""
    async with (
        aiohttp.ClientSession(
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            middlewares=[_once],
        ) as http,
        http.get(url, allow_redirects=False) as answer,
    ):
        if answer.status != 200:
            raise _Refused(f"status {answer.status}")
        body = bytearray()
        async for part in answer.content.iter_any():
            body += part
            if len(body) > _BYTES_MAX:
                raise _Refused(f"an answer of more than {_BYTES_MAX} bytes")
        return bytes(body)


_HEADERS = {"Accept": "application/json, application/jwk-set+json", "Accept-Encoding": "identity"}


def _keys(document: bytes, at: float) -> _Keys:
    """The keys of a JWK set that verify tokens; others are left out, and of one id the first counts."""
    try:
        found = json.loads(document)
    except (ValueError, RecursionError):
        raise _Refused("an answer that is no JSON") from None
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise _Refused("an answer that is no set of keys")
    if len(listed) > _KEYS_MAX:
        raise _Refused(f"an answer of more than {_KEYS_MAX} keys")
    usable = [(jwk, key) for jwk in listed if isinstance(jwk, dict) and (key := from_jwk(jwk))]
    named: dict[str, Key] = {}
    for jwk, key in usable:
        kid = jwk.get("kid")
        if isinstance(kid, str):
            named.setdefault(kid, key)
    return _Keys(named=named, single=usable[0][1] if len(usable) == 1 else None, at=at)
