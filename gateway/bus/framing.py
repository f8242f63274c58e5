"""Where a bus message ends, without asking each of its frames.

pyzmq takes three times as long for a frame that can be asked whether more follow as for its bytes. So
only the third is asked. If it is an envelope the message ends with it; any other is the next
message's topic, for a message is a topic, a payload and perhaps an envelope, and none of these can
be taken for another. Whatever else a publisher sends is told apart as well as can be; the messages
of others stay as they are, but for one: an event without an envelope, if a message of a single frame
follows it at once, is rejected together with that.
"""

from collections.abc import Callable
from typing import Literal

import msgspec
import zmq

from gateway.core import publishers
from gateway.core.channels import is_name
from gateway.core.envelope import is_envelope


Frames = list[bytes]

_NOBLOCK = int(zmq.NOBLOCK)

_Receive = Callable[[int, Literal[False]], zmq.Frame]


def read(socket: "zmq.Socket[bytes]", messages_max: int) -> tuple[list[Frames], bool]:
    """Read what is there, but stop at so many messages; True if there may be more."""
    receive = socket.recv
    batch: list[Frames] = []
    frames: Frames = []
    try:
        while len(batch) < messages_max:
            if not frames:
                frames.append(receive(_NOBLOCK))
            frames.append(receive(_NOBLOCK))
            third = receive(_NOBLOCK, False)
            frames.append(third.bytes)
            if is_envelope(frames[2]) and not third.more:
                batch.append(frames)
                frames = []
            else:
                *whole, frames = _told_apart(frames, third, receive)
                batch += whole
        if frames:  # the topic of a message that goes on
            batch.append(_to_the_end(frames, receive))
    except zmq.Again:  # a message arrives as a whole, so one that was begun has ended
        if frames:
            batch.append(frames)
        return batch, False
    return batch, True


def _told_apart(frames: Frames, third: zmq.Frame, receive: _Receive) -> list[Frames]:
    """Return the messages that three frames and those behind them are, and last what begins the next."""
    topic, payload, last = frames
    enveloped, rubbish = is_envelope(last), _is_topic(payload)
    if third.more and not enveloped and not rubbish:
        return [[topic, payload], [last]]
    if third.more:
        frames = _to_the_end(frames, receive)
    if rubbish and not enveloped:
        for start in (1, 2):
            if _is_message(frames[start:]):
                return [frames[:start], frames[start:], []]
    return [frames, []]


def _to_the_end(frames: Frames, receive: _Receive) -> Frames:
    """Read the rest of a message of which more follows."""
    more = True
    while more:
        frame = receive(_NOBLOCK, False)
        frames.append(frame.bytes)
        more = bool(frame.more)
    return frames


def _is_message(frames: Frames) -> bool:
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
