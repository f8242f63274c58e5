"""How configuration becomes a gateway."""

from gateway.config.model import Config, History, Ingest, Sessions
from gateway.core.fanout.fanout import Fanout
from gateway.core.ingest.pipeline import Pipeline
from gateway.core.sessions.observer import LocalObserver
from gateway.wiring import build_hub, build_logs, build_pipeline
from tests.support.core import Peer


def pipeline(config: Config) -> Pipeline:
    return build_pipeline(config, build_logs(config))


def test_each_channel_keeps_what_is_configured_for_it() -> None:
    config = Config(history=History(events_max=2), channels={"logs.a": History(events_max=5)})
    logs = pipeline(config)
    batch = [[name, b"{}"] for name in (b"logs.a", b"logs.b")] * 9
    logs.receive(batch, now_ns=0)

    assert len(logs.logs.by_name["logs.a"]) == 5
    assert len(logs.logs.by_name["logs.b"]) == 2


def test_no_more_channels_open_than_configured() -> None:
    batch = [[b"c%d" % number, b"1"] for number in range(4)]
    tick = pipeline(Config(ingest=Ingest(channels_max=8))).receive(batch, now_ns=0)

    assert [event.channel for event in tick.events] == ["c0", "c1"], "beside the six standard ones"
    assert [rejection.reason for rejection in tick.rejections] == ["too_many_channels"] * 2


def test_two_gateways_have_epochs_of_their_own() -> None:
    assert build_logs(Config()).epoch != build_logs(Config()).epoch


def test_a_client_learns_the_limits_that_hold_here() -> None:
    config = Config(sessions=Sessions(ttl_seconds=7.0))
    logs = build_logs(config)
    fanout = Fanout(logs.by_name, epoch=logs.epoch)
    observer = LocalObserver(logs, fanout)
    hub = build_hub(config, logs, fanout, observer, bus_state=lambda: "live")
    peer = Peer(hub, "p")
    peer.connect()

    assert peer.received[0]["session_ttl_seconds"] == 7.0
    assert peer.received[0]["heartbeat_seconds"] == Config().clients.heartbeat_seconds
