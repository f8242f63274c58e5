"""Whether publishers replay what was lost, for `gateway doctor`."""

from collections.abc import Sequence

from gateway.cli import findings
from gateway.cli.findings import Finding, Message, Report
from gateway.config import Config
from gateway.config.hosts import beside
from gateway.config.model import Bus, Source
from gateway.config.sources import Endpoint
from gateway.core.ingest.publishers import ReplayRequest
from gateway.core.protocol.envelope import is_envelope, unpack
from gateway.core.sources.errors import Unreadable
from gateway.core.sources.payload import is_json
from gateway.wiring import build_source


_ANNOUNCED = "open that port to the gateway; a publisher on another machine needs Publisher(replay_address=…)"
_CONFIGURED = (
    "correct `replay` of the source, open that port to the gateway, or let the publisher replay (vLLM: replay_endpoint)"
)


async def examine(config: Config, endpoint: Endpoint, messages: Sequence[Message], report: Report) -> None:
    """Ask for the newest message of an endpoint's publishers once more; `messages` is what came."""
    if endpoint.source is None:
        await _announced(config, endpoint, messages, report)
    else:
        await _configured(config, endpoint, endpoint.source, messages, report)


async def _announced(config: Config, endpoint: Endpoint, messages: Sequence[Message], report: Report) -> None:
    """Ask each publisher whose heartbeats say where it replays."""
    from gateway.bus.sampling import ask_for_replay  # here, so that other commands start without zmq

    for beat in findings.heartbeats(messages):
        topics = [(topic, number) for topic, number in beat.sequences.items() if number]
        if not beat.replay or not topics:
            text = f"{beat.name or beat.incarnation} offers none" if not beat.replay else "nothing was published yet"
            remedy = "" if beat.replay else "what is lost stays lost: Publisher(replay=1000)"
            report(Finding("replay", "note", text, remedy))
            continue
        topic, newest = topics[0]
        asked = beat.replay
        if asked.startswith("tcp://*:") and endpoint.mode == "connect":
            asked = beside(asked, endpoint.address)
        wanted = ReplayRequest(1, int(beat.incarnation, 16), asked, beat.replay_key, topic, newest, newest)
        reply = await ask_for_replay(config.bus, wanted)
        report(_answer(asked, reply, f"message {newest} of {topic}", _ANNOUNCED))


async def _configured(
    config: Config, endpoint: Endpoint, source: Source, messages: Sequence[Message], report: Report
) -> None:
    """Ask at the endpoint that the source names, as vLLM answers; if nothing came, for the first message."""
    from gateway.bus.sampling import ask_for_own_replay

    if source.sequence == "none":
        return
    if not source.replay:
        text = "its source has no `replay`: what is lost is reported, and stays lost"
        report(Finding("replay", "note", text, "if the publisher replays as vLLM does, set `replay` to that endpoint"))
        return
    reader = build_source(config, source)
    newest = 1
    for _, frames in messages:
        try:
            read = reader.read(frames)
        except Unreadable:
            continue
        newest = max([newest, *(unpack(one[2]).sequence for one in read if len(one) == 3 and is_envelope(one[2]))])
    wanted = ReplayRequest(1, 0, source.replay, None, "", newest, newest)
    bus = config.bus if endpoint.may_use_curve else Bus()
    reply = await ask_for_own_replay(bus, wanted, first=source.sequence_first, convert=reader.convert_replayed)
    number = newest - 1 + source.sequence_first
    if reply is not None and len(reply) >= 5 and not is_json(reply[3]):
        text = f"{source.replay} replays message {number}, but it cannot be read as the source says"
        report(
            Finding(
                "replay", "problem", text, "set `payload` and `compression` as the publisher encodes what it replays"
            )
        )
        return
    report(_answer(source.replay, reply, f"message {number}", _CONFIGURED))


def _answer(place: str, reply: Sequence[bytes] | None, message: str, remedy: str) -> Finding:
    if reply is None:
        return Finding("replay", "problem", f"{place} does not answer within 2 s", remedy)
    if len(reply) < 5:
        return Finding("replay", "warning", f"{place} answers that it does not hold {message}")
    return Finding("replay", "ok", f"{place} replays {message}")
