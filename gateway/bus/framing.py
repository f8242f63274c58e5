"""Finds the ends of bus messages without checking every frame for one.

pyzmq needs three times as long for a `zmq.Frame`, which knows whether more frames follow, as for plain
bytes. So after a message that ended with an envelope, only the third frame is read as a `zmq.Frame`: if
it is an envelope, the message ends there. If not, the frames read so far are split into messages by their
content, since topics, payloads and envelopes differ. From then on every frame is checked, until a message
ends with an envelope again.

So malformed messages do not cost events of others; nor do messages of one frame, such as a port scanner
causes (libzmq takes unknown bytes for ZMTP 1.0). Two cases would need every frame to be checked: a
malformed message that begins with an envelope is taken for the end of an event without one, and on a
channel whose name is a number an event can be lost together with a message of one frame before it."""

from collections.abc import Callable
from typing import Literal

import msgspec
import zmq

from gateway.core.ingest import publishers
from gateway.core.protocol.channels import is_topic
from gateway.core.protocol.envelope import MAGIC, is_envelope


Frames = list[bytes]

_NOBLOCK = int(zmq.NOBLOCK)
_ENVELOPE_START = MAGIC[:-1]
"""A frame that begins so was meant to be an envelope."""


class MessageReader:
    """Reads whole messages from one socket; `envelopes` says whether they may end with one."""

    def __init__(self, socket: "zmq.Socket[bytes]", *, envelopes: bool = True) -> None:
        self._envelopes = envelopes
        self._receive: Callable[[int], bytes] = socket.recv
        self._receive_frame: Callable[[int, Literal[False]], zmq.Frame] = socket.recv
        self._enveloped = False
        """Whether the last message ended with an envelope."""

    def read(self, messages_max: int) -> tuple[list[Frames], bool]:
        """Return up to `messages_max` messages that are there, and whether there may be more."""
        receive, receive_frame = self._receive, self._receive_frame
        batch: list[Frames] = []
        frames: Frames = []
        try:
            while len(batch) < messages_max:
                if not self._enveloped:
                    batch.append(self._read_to_end([], receive_frame(_NOBLOCK, False)))
                    self._enveloped = self._envelopes and len(batch[-1]) == 3 and is_envelope(batch[-1][2])
                    continue
                frames = [receive(_NOBLOCK)]
                frames.append(receive(_NOBLOCK))
                third = receive_frame(_NOBLOCK, False)
                last = third.bytes
                if is_envelope(last) and not third.more:
                    frames.append(last)
                    batch.append(frames)
                else:
                    self._enveloped = False
                    batch += self._split(frames, third)
                frames = []
        except zmq.Again:  # messages arrive whole, so the last one ended
            if frames:
                batch.append(frames)
                self._enveloped = False
            return batch, False
        return batch, True

    def _split(self, two: Frames, third: zmq.Frame) -> list[Frames]:
        if third.bytes.startswith(_ENVELOPE_START) and not _is_topic(third.bytes):
            return [self._read_to_end(two, third)]
        if not _is_topic(two[1]):
            return [two, self._read_to_end([], third)]
        frames = self._read_to_end(two, third)
        for start in (1, 2):
            if _is_event(frames[start:]):
                return [frames[:start], frames[start:]]
        return [frames]

    def _read_to_end(self, frames: Frames, frame: zmq.Frame) -> Frames:
        frames.append(frame.bytes)
        while frame.more:
            frame = self._receive_frame(_NOBLOCK, False)
            frames.append(frame.bytes)
        return frames


def _is_event(frames: Frames) -> bool:
    return (
        2 <= len(frames) <= 3
        and _is_topic(frames[0])
        and not _is_topic(frames[1])
        and all(map(is_envelope, frames[2:]))
    )


def _is_topic(frame: bytes) -> bool:
    """Tell whether a frame is a topic, and cannot be a payload."""
    if frame == publishers.TOPIC:
        return True
    if not is_topic(frame.decode("ascii", errors="replace")):
        return False
    try:
        msgspec.json.decode(frame)  # a number, true, false, null
    except msgspec.DecodeError:
        return True
    return False
