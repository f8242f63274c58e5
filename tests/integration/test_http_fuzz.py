"""HTTP as nobody means it: every operation of the OpenAPI document, with values in and out of its schema."""

from __future__ import annotations

import asyncio

from tests.support.gateway import Gateway


async def test_who_expects_to_continue_and_is_gone_is_no_failure_of_ours(gateway: Gateway) -> None:
    """The gateway fixture checks that nothing of it is logged as an error."""
    head = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n\r\n"
    for _ in range(50):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(head)
        writer.write_eof()
        await reader.read()
        writer.close()

    assert 200 == (await gateway.request("GET", "/healthz")).status
