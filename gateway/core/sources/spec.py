"""The settings of a source: one small step each."""

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from gateway.core.protocol.channels import is_name


Compression = Literal["none", "zlib", "gzip"]
Payload = Literal["json", "text", "msgpack", "raw", "hex", "auto"]
Sequence = Literal["none", "be32", "be64", "le32", "le64"]

ROLES = frozenset({"topic", "payload", "sequence", "-"})
"""What a frame can be, besides a member of `data`; - is one that is ignored."""


class Spec(Struct, frozen=True, kw_only=True):
    """How to read the messages of one endpoint."""

    decoder: str = ""
    """A decoder of an installed package, by the name of its entry point in `gateway.decoders`; it replaces
    `framing`, and the further steps apply to what it returns."""
    framing: Literal["multipart", "single"] = "multipart"
    """multipart = each part of a message has its frame; single = topic and payload share one frame."""
    frames: tuple[str, ...] = ("topic", "payload")
    """What each frame of a multipart message is: topic, payload, sequence, - for one that is ignored, or
    the name of a member: then data is an object with these members."""
    more_frames: Literal["reject", "ignore", "members"] = "reject"
    """What happens to frames beyond `frames`; members = they are a list in data, as its member `frames`."""
    split: str = ""
    """What stands between topic and payload in a single frame, as in " " or ":"; json = the payload begins
    at the first { or [; "" = all is payload."""
    topic: str = ""
    """Topic of messages that have none of their own."""
    separator: str = "."
    """What separates the segments of topics, as in "/"; a channel's name has dots instead."""
    prefix: str = ""
    """First segments of the names of all channels of this source."""
    rename: dict[str, str] = {}
    """Channels with other names, as in { "a" = "b", "kernel.>" = "jupyter.>" }; without `prefix`."""
    empty_topic: str = ""
    """Topic of messages whose topic is empty."""
    compression: Compression = "none"
    """How payloads are compressed: none, zlib or gzip."""
    payload: Payload = "json"
    """What payloads are: json, text, msgpack, raw = bytes in base64, hex = bytes as hexadecimal text, or auto =
    each by its look."""
    nan: Literal["reject", "null"] = "reject"
    """null = NaN and infinities, which JSON does not have, become null; reject = the message is rejected."""
    documents: Literal["one", "several"] = "one"
    """several = a payload may have several JSON texts, for example one per line; each is an event."""
    event: Literal["data", "log"] = "data"
    """log = payloads are texts of log records: they go to the channel logs, with the level that a segment
    of the topic names, and the other segments as service."""
    sequence: Sequence = "none"
    """The publisher's own numbers, which show losses: be32, be64, le32 or le64, big- or little-endian."""
    sequence_first: Literal[0, 1] = 0
    """Number of a publisher's first message."""
    sequence_scope: Literal["topic", "publisher"] = "topic"
    """Whether the publisher counts each topic by itself (topic), or all together (publisher)."""

    @property
    def has_topic(self) -> bool:
        """Whether messages can have a topic of their own."""
        if self.decoder:
            return True
        return bool(self.split) if self.framing == "single" else "topic" in self.frames


def problems(spec: Spec) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with settings that are valid by themselves: setting, reason, remedy."""
    roles = [role for role in spec.frames if role != "-"]
    if len(set(roles)) < len(roles) or {*roles} <= {"topic", "sequence"} or "" in roles:
        example = 'as in ["topic", "payload"]'
        yield "frames", f"{list(spec.frames)!r} has no payload, or a name twice", f"name each frame once, {example}"
    if not (spec.has_topic or spec.topic or spec.event == "log"):
        yield "topic", "is empty, and messages have no topic of their own", "name the topic of all messages"
    if spec.split and spec.framing == "multipart":
        yield "split", f"{spec.split!r} splits a single frame", 'set framing = "single", or remove it'
    if not spec.separator:
        yield "separator", "is empty", 'expected what separates segments, as in "/"'
    if spec.sequence == "none" and "sequence" in roles and not _ignores_frames(spec):
        yield "sequence", "is none, but a frame is the sequence", 'set how it counts, as in "be64"'
    if spec.sequence != "none" and ("sequence" not in roles or _ignores_frames(spec)):
        yield "sequence", f"{spec.sequence!r} needs a frame", 'list "sequence" in `frames`, or set "none"'
    if spec.sequence != "none" and spec.documents == "several":
        yield "documents", "several events cannot share one sequence number", 'set sequence = "none"'
    for name in (spec.prefix, *spec.rename.values()):
        if name and not is_name(name.removesuffix(".>")):
            key = "prefix" if name == spec.prefix else "rename"
            yield key, f"{name!r} is not a channel's name", "expected segments of A-Z a-z 0-9 _ - joined by dots"


def _ignores_frames(spec: Spec) -> bool:
    return bool(spec.decoder) or spec.framing == "single"
