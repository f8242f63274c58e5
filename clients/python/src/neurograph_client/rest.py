"""What goes over HTTP: sending events, and looking at the gateway."""

from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson

from neurograph_client.address import Address
from neurograph_client.connection import reason_of, refusal
from neurograph_client.encoding import to_json
from neurograph_client.errors import NotConnectedError, RequestRefusedError


_PROBLEM_CHARS_MAX = 200


async def request(
    http: aiohttp.ClientSession,
    address: Address,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str],
    within: float,
    body: Mapping[str, Any] | None = None,
) -> Any:
    """Send one request and return the JSON that it is answered with.

    Raises:
        NotConnectedError: The gateway was not reached.
        RequestRefusedError: It does not do what was asked.
        TimeoutError: It did not answer in time.
    """
    data = None if body is None else to_json(body)
    kind = {} if body is None else {"Content-Type": "application/json"}
    try:
        async with http.request(
            method,
            address.http(path),
            data=data,
            headers={**headers, **kind},
            timeout=aiohttp.ClientTimeout(total=within),
        ) as answer:
            text = await answer.read()
            status = answer.status
    except TimeoutError:
        raise
    except (aiohttp.ClientError, OSError) as error:
        raise NotConnectedError(reason_of(error)) from error
    try:
        found = orjson.loads(text)
        if status < 400:
            return found
        raise refusal(found)
    except (ValueError, KeyError, TypeError) as error:  # not the gateway's own words
        reason = text[:_PROBLEM_CHARS_MAX].decode(errors="replace")
        raise RequestRefusedError("unknown", reason, status=status) from error
