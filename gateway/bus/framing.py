"""Where a bus message ends, without asking each of its frames.

pyzmq takes three times as long for a frame that can be asked whether more follow as for its bytes. So
behind a message that ended with an envelope only the third frame is asked: if it is an envelope, too, the
message ends with it. If not, what has been read is told apart by what stands where: a topic, a payload
and an envelope cannot be taken for one another. From then on each frame is asked, until a message ends
with an envelope again.

So rubbish costs nobody else's event, a message of a single frame among it, such as a port scanner's
(libzmq takes what it does not understand for its first protocol). Two things only frames that are asked
could tell: rubbish that begins with an envelope is taken for the end of an event without one, and on a
channel that is named like a number an event can be lost with a single frame before it.
"""

from collections.abc import Callable
from typing import Literal

import msgspec
import zmq

from gateway.core.ingest import publishers
from gateway.core.protocol.channels import is_name
from gateway.core.protocol.envelope import MAGIC, is_envelope


Frames = list[bytes]

_NOBLOCK = int(zmq.NOBLOCK)
_ATTEMPT = MAGIC[:-1]
"""What begins so was meant to be an envelope."""


class MessageReader:
    """Reads the messages of one socket."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._receive: Callable[[int], bytes] = socket.recv
        self._ask: Callable[[int, Literal[False]], zmq.Frame] = socket.recv
        self._enveloped = False
        """Whether the last message ended with an envelope."""

    def read(self, messages_max: int) -> tuple[list[Frames], bool]:
        """Read what is there, but stop at so many messages; True if there may be more."""
        receive, ask = self._receive, self._ask
        batch: list[Frames] = []
        frames: Frames = []
        try:
            while len(batch) < messages_max:
                if not self._enveloped:
                    batch.append(self._to_the_end([], ask(_NOBLOCK, False)))
                    self._enveloped = len(batch[-1]) == 3 and is_envelope(batch[-1][2])
                    continue
                frames = [receive(_NOBLOCK)]
                frames.append(receive(_NOBLOCK))
                third = ask(_NOBLOCK, False)
                last = third.bytes
                if is_envelope(last) and not third.more:
                    frames.append(last)
                    batch.append(frames)
                else:
                    self._enveloped = False
                    batch += self._told_apart(frames, third)
                frames = []
        except zmq.Again:  # a message arrives as a whole, so one that was begun has ended
            if frames:
                batch.append(frames)
                self._enveloped = False
            return batch, False
        return batch, True

    def _told_apart(self, two: Frames, third: zmq.Frame) -> list[Frames]:
        """Return the messages that two frames are, a third, and those behind it."""
        if third.bytes.startswith(_ATTEMPT) and not _is_topic(third.bytes):
            return [self._to_the_end(two, third)]
        if not _is_topic(two[1]):
            return [two, self._to_the_end([], third)]
        frames = self._to_the_end(two, third)
        for start in (1, 2):
            if _is_event(frames[start:]):
                return [frames[:start], frames[start:]]
        return [frames]

    def _to_the_end(self, frames: Frames, frame: zmq.Frame) -> Frames:
        """Return a message of which this frame and those before it have been read."""
        frames.append(frame.bytes)
        while frame.more:
            frame = self._ask(_NOBLOCK, False)
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
    """Tell whether a frame is a topic and cannot be a payload."""
    if frame == publishers.TOPIC:
        return True
    if not is_name(frame.decode("ascii", errors="replace")):
        return False
    try:
        msgspec.json.decode(frame)  # a number, true, false, null
    except msgspec.DecodeError:
        return True
    return False
