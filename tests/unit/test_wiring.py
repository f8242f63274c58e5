"""How configuration becomes a gateway."""

from gateway.config.model import Config, History, Ingest, Sessions
from gateway.wiring import build_hub
from tests.support.core import Peer, publish


def test_each_channel_keeps_what_is_configured_for_it() -> None:
    hub = build_hub(
        Config(history=History(events_max=2), channels={"logs.a": History(events_max=5)})
    )
    publish(hub, "logs.a", 9)
    publish(hub, "logs.b", 9)

    assert len(hub.logs.by_name["logs.a"]) == 5
    assert len(hub.logs.by_name["logs.b"]) == 2


def test_no_more_channels_open_than_configured() -> None:
    hub = build_hub(Config(ingest=Ingest(channels_max=8)))
    tick = hub.tick([[b"c%d" % number, b"1"] for number in range(4)], now_ns=0)

    assert [event.channel for event in tick.events] == ["c0", "c1"], "beside the six standard ones"
    assert [rejection.reason for rejection in tick.rejections] == ["too_many_channels"] * 2


def test_two_gateways_have_epochs_of_their_own() -> None:
    assert build_hub(Config()).logs.epoch != build_hub(Config()).logs.epoch


def test_a_client_is_told_the_limits_that_hold_here() -> None:
    hub = build_hub(Config(sessions=Sessions(ttl_seconds=7.0)))
    peer = Peer(hub, "p")
    peer.connect()

    assert peer.received[0]["session_ttl_seconds"] == 7.0
    assert peer.received[0]["heartbeat_seconds"] == Config().clients.heartbeat_seconds
