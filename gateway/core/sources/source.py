"""All steps together: from a message as a publisher sent it to messages as the gateway takes them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from gateway.core.sources.compression import make_decompress
from gateway.core.sources.errors import Unreadable
from gateway.core.sources.framing import Decoder, Parts, make_framing
from gateway.core.sources.payload import is_json, make_convert, make_payload
from gateway.core.sources.sequence import Numbering
from gateway.core.sources.spec import ROLES, Spec
from gateway.core.sources.topics import make_naming


class Decoded(NamedTuple):
    """What one message says: JSON texts for a channel, one for each event, and the publisher's number."""

    channel: str
    payloads: list[bytes]
    sequence: bytes | None


class Steps:
    """The steps of one source, as pure functions; each raises `Unreadable`.

    `bytes_max` limits payloads, compressed or not. `decoder` is the one that the settings name."""

    def __init__(self, spec: Spec, *, bytes_max: int, decoder: Decoder | None = None) -> None:
        self.parts = make_framing(spec, decoder)
        naming = make_naming(spec)
        self._is_log = spec.event == "log"
        self.channel: Callable[[bytes | None], str] = (lambda _: naming(None)) if self._is_log else naming
        self._decompress = make_decompress(spec.compression, bytes_max=bytes_max)
        self._convert = make_payload(spec)
        self._convert_member = make_convert("auto", nan_is_null=True)
        self._is_object = not ROLES.issuperset(spec.frames)
        self._bytes_max = bytes_max

    def decode(self, frames: Sequence[bytes]) -> Iterator[Decoded]:
        """Take all steps."""
        for parts in self.parts(frames):
            yield Decoded(self.channel(parts.topic), self.payloads(parts), parts.sequence)

    def payloads(self, parts: Parts) -> list[bytes]:
        """Return JSON texts, one for each event."""
        _check_size(parts, self._bytes_max)
        found = [] if parts.payload is None else self._convert(self._decompress(parts.payload))
        if self._is_object or parts.more:
            members = {name: self._convert_member(frame) for name, frame in parts.members}
            if parts.more:
                members["frames"] = b"[%b]" % b",".join(map(self._convert_member, parts.more))
            found = [_object({"payload": one, **members}) for one in found] or [_object(members)]
        if self._is_log:
            found = [log_record(parts.topic or b"", one) for one in found]
        return found


class Source:
    """One endpoint's messages, decoded and numbered.

    `new_incarnation` returns a random number for each start of the publisher."""

    def __init__(
        self, spec: Spec, *, bytes_max: int, new_incarnation: Callable[[], int], decoder: Decoder | None = None
    ) -> None:
        self._steps = Steps(spec, bytes_max=bytes_max, decoder=decoder)
        self._numbering = None if spec.sequence == "none" else Numbering(spec, new_incarnation=new_incarnation)

    def read(self, frames: Sequence[bytes]) -> list[list[bytes]]:
        """Return the messages that ingest takes: channel, payload and, if there is a number, an envelope.
        Raises Unreadable: the message does not fit the source's settings."""
        messages: list[list[bytes]] = []
        for parts in self._steps.parts(frames):
            name = self._steps.channel(parts.topic)
            channel = name.encode()
            if self._numbering is None:
                messages += [[channel, payload] for payload in self._steps.payloads(parts)]
                continue
            envelope = self._numbering.envelope(name, parts.topic or b"", parts.sequence)
            try:
                [payload] = self._steps.payloads(parts)  # `several` documents have no number
            except Unreadable as error:
                error.numbered = name, envelope
                raise
            messages.append([channel, payload, envelope.pack()])
        return messages


_LEVELS = {"trace", "debug", "info", "notice", "warn", "warning", "error", "critical", "fatal"}


def log_record(topic: bytes, text: bytes) -> bytes:
    """Return an event for the channel ``logs``; `text` is JSON, the level and the service are in the topic."""
    segments = topic.decode(errors="replace").split(".")
    level = next((segment for segment in segments if segment.lower() in _LEVELS), "info")
    service = ".".join(segment for segment in segments if segment not in {"", level})
    level = {"warn": "warning"}.get(level.lower(), level.lower())
    found = msgspec.json.decode(text) if is_json(text) else None
    message = found if isinstance(found, str) else text.decode(errors="replace")
    data = {"level": level, "message": message.rstrip("\n"), **({"service": service} if service else {})}
    return msgspec.json.encode({"event_type": f"log.{level}", "data": data})


def _object(members: Mapping[str, bytes]) -> bytes:
    """Join JSON texts to an object."""
    for name, text in members.items():
        if not is_json(text):
            raise Unreadable("invalid_json", f'{name!r} is no JSON; set payload = "auto" in [[bus.sources]]')
    return b"{%b}" % b",".join(b"%b:%b" % (msgspec.json.encode(name), text) for name, text in members.items())


def _check_size(parts: Parts, bytes_max: int) -> None:
    size = len(parts.payload or b"") + sum(len(frame) for _, frame in parts.members) + sum(map(len, parts.more))
    if size > bytes_max:
        raise Unreadable(
            "oversized", f"the payload has {size} bytes, more than the {bytes_max} of `ingest.payload_bytes_max`"
        )
