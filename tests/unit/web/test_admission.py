"""Whom a gateway admits that has just started."""

from __future__ import annotations

from gateway.core.protocol.errors import CloseCode
from tests.support.raw import RawPeer
from tests.unit.web.conftest import MakeEdge


async def test_a_client_that_comes_before_the_logs_are_filled_comes_again_within_a_second(make_edge: MakeEdge) -> None:
    """It has listened already: the line `listening` of its log does not say that it is ready."""
    edge = await make_edge()
    edge.context.refilling = lambda: True
    early = RawPeer(edge.port)
    await early.upgrade("/ws")
    ending = await early.read_ending()
    edge.context.refilling = lambda: False
    late = RawPeer(edge.port)
    await late.upgrade("/ws")
    connected = await late.expect("connected")
    for peer in (early, late):
        peer.close()

    assert (CloseCode.TRY_LATER, "connected") == (ending.code, connected["type"])
    assert ending.closing is not None
    assert 0 <= ending.closing["after_ms"] <= 1000
