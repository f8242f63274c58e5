"""What a sample of bus messages says about its publishers; without any I/O, for `gateway doctor`."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.config.model import Config
from gateway.config.sources import Endpoint
from gateway.core.ingest import publishers
from gateway.core.ingest.advice import remedy
from gateway.core.ingest.inspection import describe_frame, describe_frames
from gateway.core.ingest.publishers import Heartbeat
from gateway.core.protocol.envelope import Envelope, is_envelope, unpack
from gateway.core.protocol.events import STANDARD
from gateway.core.sources.suggest import as_toml, suggest
from gateway.wiring import build_logs, build_pipeline, build_source


State = Literal["ok", "note", "warning", "problem"]
Message = tuple[int, Sequence[bytes]]
"""The time of receipt in unix nanoseconds, and the frames."""

_OF_OTHER_FORMS = {"frame_count", "bad_topic", "bad_envelope", "invalid_utf8", "invalid_json"}
"""Reasons of rejections that a source may help with."""
_SHAPES_MAX = 5
_TOPICS_MAX = 5
_CLOCK_SECONDS_MAX = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    check: str
    state: State
    text: str
    remedy: str = ""
    """What to do about it."""
    settings: str = ""
    """What to write in the configuration instead, as TOML: a source that reads such messages."""


Report = Callable[[Finding], object]
"""Gets each finding as it comes."""


def examine(
    messages: Sequence[Message], *, config: Config, received: int, seconds: float, endpoint: Endpoint
) -> Iterator[Finding]:
    """Yield what these messages of one endpoint say; `received` counts also those that were not kept.

    If it has a source, they are read as its settings say."""
    if endpoint.source is not None:
        yield from _frames(frames for _, frames in messages)
        yield from _validity([frames for _, frames in messages], config, endpoint)
        yield _rates(messages, received=received, seconds=seconds)
        return
    events = [(at, frames) for at, frames in messages if frames[0] != publishers.TOPIC]
    yield from _frames(frames for _, frames in events)
    yield from _validity([frames for _, frames in events], config, endpoint)
    enveloped = [
        (at, str(frames[0], "utf-8", "replace"), unpack(frames[2])) for at, frames in events if _numbered(frames)
    ]
    yield from _envelopes(len(events), enveloped)
    yield from _heartbeats([frames for _, frames in messages if frames[0] == publishers.TOPIC])
    yield from _clock(enveloped)
    yield _rates(events, received=received, seconds=seconds)


def missing_source(endpoint: Endpoint, settings: Mapping[str, object]) -> str:
    """Return the table that reads an endpoint with these settings, as TOML."""
    source = endpoint.source
    kept: dict[str, object] = {"endpoint": endpoint.address}
    if endpoint.mode == "bind":
        kept["mode"] = "bind"
    if source is not None and source.socket == "pull":
        kept["socket"] = "pull"
    if not endpoint.may_use_curve:
        kept["curve"] = False
    return as_toml({**kept, **settings})


def heartbeats(messages: Iterable[Message]) -> list[Heartbeat]:
    """Return the newest valid heartbeat of each publisher."""
    newest: dict[str, Heartbeat] = {}
    for _, frames in messages:
        if frames[0] == publishers.TOPIC and len(frames) == 2:
            try:
                one = publishers.parse(frames[1])
            except ValueError:
                continue
            newest[one.incarnation] = one
    return list(newest.values())


def _numbered(frames: Sequence[bytes]) -> bool:
    if len(frames) != 3 or not is_envelope(frames[2]):
        return False
    try:
        unpack(frames[2])
    except ValueError:
        return False
    return True


def _frames(messages: Iterable[Sequence[bytes]]) -> Iterator[Finding]:
    """Show a message of each shape."""
    shapes: dict[tuple[int, bytes], Sequence[bytes]] = {}
    for frames in messages:
        if len(shapes) < _SHAPES_MAX:
            shapes.setdefault((len(frames), frames[0][:64]), frames)
    for frames in shapes.values():
        yield Finding("frames", "note", describe_frames(frames))


def _validity(messages: Sequence[Sequence[bytes]], config: Config, endpoint: Endpoint) -> Iterator[Finding]:
    """Validate the messages as the gateway does; the first of each reason is shown."""
    pipeline = build_pipeline(config, build_logs(config))
    reader = None if endpoint.source is None else build_source(config, endpoint.source)
    rejected: Counter[str] = Counter()
    shown: dict[str, tuple[str, Sequence[bytes]]] = {}
    channels: set[str] = set()
    for frames in messages:
        if reader is not None:
            tick = pipeline.receive_from(reader, [frames], now_ns=0)
        else:  # without the envelope, as replay and order are not what is examined here
            tick = pipeline.receive([frames[:2] if _numbered(frames) else frames], now_ns=0)
        channels |= {event.channel for event in tick.events}
        for rejection in tick.rejections:
            rejected[rejection.reason] += 1
            shown.setdefault(rejection.reason, (rejection.detail, frames))
    for reason, count in rejected.most_common():
        detail, frames = shown[reason]
        text = f"{count} of {len(messages)} messages are rejected ({reason}): {detail}"
        readers = [one for one in suggest(frames) if one.settings] if reason in _OF_OTHER_FORMS else []
        settings = missing_source(endpoint, readers[0].settings) if readers else ""
        yield Finding("valid", "problem", text, remedy(reason, frames), settings)
    if messages and not rejected:
        typed = sorted(channels & STANDARD.keys())
        models = f"; {', '.join(typed)} fit their models" if typed else ""
        yield Finding(
            "valid", "ok", f"all {len(messages)} messages are valid events of {len(channels)} channels{models}"
        )


def _envelopes(events: int, enveloped: Sequence[tuple[int, str, Envelope]]) -> Iterator[Finding]:
    if not events:
        return
    if not enveloped:
        text = "no message has an envelope, so losses, repetitions and restarts are not noticed"
        yield Finding("envelope", "note", text, "publish with one of the packages in publishers/, or add the 32 bytes")
        return
    if len(enveloped) < events:
        yield Finding("envelope", "warning", f"{len(enveloped)} of {events} messages have an envelope", "add it to all")
    streams: dict[tuple[int, str], list[int]] = {}
    for _, topic, envelope in enveloped:
        streams.setdefault((envelope.incarnation, topic), []).append(envelope.sequence)
    incarnations = {incarnation for incarnation, _ in streams}
    yield Finding("envelope", "ok", f"{len(streams)} numbered topics of {len(incarnations)} publishers")
    missing = sum(max(numbers) - min(numbers) + 1 - len(set(numbers)) for numbers in streams.values())
    repeated = sum(len(numbers) - len(set(numbers)) for numbers in streams.values())
    if missing:
        remedy = "raise the publisher's high-water mark (ZMQ_SNDHWM), or let it keep messages for replay"
        yield Finding("gaps", "warning", f"{missing} messages were lost between publisher and doctor", remedy)
    elif repeated:
        remedy = "the publisher must count each topic from 1 without repetition, with a new incarnation at each start"
        yield Finding("gaps", "problem", f"{repeated} sequence numbers came twice", remedy)
    else:
        yield Finding("gaps", "ok", "no sequence number is missing or came twice")


def _heartbeats(messages: Sequence[Sequence[bytes]]) -> Iterator[Finding]:
    for frames in messages:
        try:
            if len(frames) != 2:
                raise ValueError(f"it has {len(frames)} frames instead of 2")
            publishers.parse(frames[1])
        except ValueError as error:
            text = f"a heartbeat is not valid: {error}"
            yield Finding("heartbeats", "problem", text, "see docs/protocol.md, Heartbeats")
            return
    found = heartbeats((0, frames) for frames in messages)
    if not found:
        text = "none came, so a silent publisher and a lost last message are not noticed"
        yield Finding("heartbeats", "note", text, "publish with one of the packages in publishers/")
        return
    named = ", ".join(f"{one.name or one.incarnation} every {one.interval:g} s" for one in found[:_TOPICS_MAX])
    yield Finding("heartbeats", "ok", named)


def _clock(enveloped: Sequence[tuple[int, str, Envelope]]) -> Iterator[Finding]:
    """Compare the clocks: the message that was fastest shows the difference best."""
    if not enveloped:
        return
    delay = min((at - envelope.sent_ns for at, _, envelope in enveloped), key=abs) / 1e9
    if abs(delay) <= _CLOCK_SECONDS_MAX:
        yield Finding("clock", "ok", f"the publisher's clock differs by at most {abs(delay) * 1000:.0f} ms")
        return
    side = "behind" if delay > 0 else "ahead"
    text = f"the publisher's clock is {abs(delay):.1f} s {side} (or its messages are that old)"
    yield Finding("clock", "warning", text, "synchronize the clocks with NTP")


def _rates(events: Sequence[Message], *, received: int, seconds: float) -> Finding:
    if not events:
        return Finding("rates", "note", "only heartbeats came, no events", "publish something, or wait: --seconds 60")
    per_second = received / max(seconds, 0.001)
    topics = Counter(describe_frame(frames[0]).rpartition(" (")[0] for _, frames in events)
    size = sum(len(frame) for _, frames in events for frame in frames) // len(events)
    most = ", ".join(f"{name} {count}" for name, count in topics.most_common(_TOPICS_MAX))
    more = f" and {len(topics) - _TOPICS_MAX} more" if len(topics) > _TOPICS_MAX else ""
    text = f"{per_second:.1f} messages per second of {size} bytes on average; by topic: {most}{more}"
    return Finding("rates", "ok", text)
