"""A gateway with TLS, whose certificate is not signed by an authority that the system trusts."""

from __future__ import annotations

import asyncio
import gc
import signal
import ssl
import warnings
from pathlib import Path

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from neurograph_client import Client, connect
from neurograph_client.connection import reason_of

from tests.conftest import Launch
from tests.support.gateway import Gateway
from tests.support.tls import Files, make
from tests.support.waiting import eventually


@pytest.fixture
def certificate(tmp_path: Path) -> Files:
    return make(tmp_path)


@pytest.fixture
async def secured(launch: Launch, certificate: Files) -> Gateway:
    gateway: Gateway = await launch(
        settings=certificate.settings, trust=ssl.create_default_context(cafile=certificate.cert)
    )
    return gateway


async def test_a_client_that_trusts_the_certificate_uses_websocket_and_http(secured: Gateway) -> None:
    """It can subscribe over the WebSocket and send requests over HTTP."""
    async with Client(secured.url, ssl=secured.trust, timeout=60) as client, client.subscribe("a") as events:
        await client.publish("a", {"n": 1}, event_type="note")
        item = await anext(events)

    assert ("a", {"n": 1}) == (item.channel, getattr(item, "data", None))


@pytest.mark.parametrize("is_frozen", [False, True], ids=["answers", "frozen"])
async def test_a_blocking_client_that_was_closed_leaves_no_socket(secured: Gateway, is_frozen: bool) -> None:
    """TLS has its own closing handshake, after that of the WebSocket."""

    def follow() -> None:
        client = connect(secured.url, ssl=secured.trust, timeout=60)
        client.channels()
        if is_frozen:
            secured.kill(signal.SIGSTOP)
        client.close()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await asyncio.to_thread(follow)
        gc.collect()
    if is_frozen:
        secured.kill(signal.SIGCONT)

    assert [] == [str(one.message) for one in caught]


async def test_a_gateway_with_a_certificate_of_another_authority_is_refused_with_the_reason(
    secured: Gateway, tmp_path: Path
) -> None:
    client = Client(secured.url, ssl=ssl.create_default_context(cafile=make(tmp_path, "other").cert), timeout=60)
    connecting = asyncio.create_task(client.__aenter__())
    try:
        await eventually(lambda: client.last_disconnect)
    finally:
        connecting.cancel()
        await asyncio.wait({connecting})

    assert client.last_disconnect is not None
    assert client.last_disconnect.reason.startswith("the gateway's certificate is not trusted: ")


def test_a_certificate_that_is_not_trusted_is_an_error_that_says_what_to_do() -> None:
    wrong = ssl.SSLCertVerificationError(1, "certificate verify failed")
    wrong.verify_message = "self-signed certificate"
    key = ConnectionKey("gateway.example", 443, True, True, None, None, None)
    said = reason_of(aiohttp.ClientConnectorCertificateError(key, wrong))

    assert said.startswith("the gateway's certificate is not trusted: self-signed certificate; if ")
    assert "`ssl.create_default_context(cafile=...)`" in said
