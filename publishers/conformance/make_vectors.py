"""Write the test vectors for the bytes on the bus, which all languages share, with the Python publisher.

`python publishers/conformance/make_vectors.py` writes vectors/*.json; a test of the Python publisher checks that they
are up to date. Integers above 2^53 are decimal strings: JSON numbers of some languages cannot represent them.
"""

import json
from pathlib import Path
from typing import Any

from neurograph_publisher import envelope, heartbeat, replay
from neurograph_publisher.checks import PublisherError, check_topic


VECTORS = Path(__file__).parent / "vectors"

_U32, _U64 = 2**32 - 1, 2**64 - 1
_INCARNATION = 0x0123456789ABCDEF
_TIME_NS = 1_795_435_200_123_456_789


def _envelope(name: str, flags: int, incarnation: int, sequence: int, time_ns: int) -> Any:
    packed = envelope.pack(incarnation=incarnation, sequence=sequence, time_ns=time_ns, flags=flags)
    return {
        "name": name,
        "flags": str(flags),
        "incarnation": str(incarnation),
        "sequence": str(sequence),
        "time_ns": str(time_ns),
        "hex": packed.hex(),
    }


def envelopes() -> Any:
    """The 32 bytes of an envelope."""
    good = envelope.pack(incarnation=1, sequence=1, time_ns=1)
    return {
        "about": "The 32 bytes of a message's envelope (docs/protocol.md, part 1).",
        "valid": [
            _envelope("first message", 0, 1, 1, 0),
            _envelope("a usual one", 1, _INCARNATION, 42, _TIME_NS),
            _envelope("every field at its largest", _U32, _U64, _U64, _U64),
            _envelope("byte order", 0x01020304, 0x05060708090A0B0C, 0x0D0E0F1011121314, 0x15161718191A1B1C),
            _envelope("beyond what a double holds", 0, 2**53 + 1, 2**53 + 1, 2**53 + 1),
            _envelope("incarnation zero", 0, 0, 1, 0),
            _envelope("beyond what a signed integer holds", 2**31, 2**63, 2**63, 2**63),
        ],
        "invalid": [
            {"name": name, "reason": reason, "hex": frame.hex()}
            for name, reason, frame in (
                ("empty", "0 bytes, not 32", b""),
                ("too short", "31 bytes, not 32", good[:-1]),
                ("too long", "33 bytes, not 32", good + b"\0"),
                ("another magic", "begins with NGE2, not NGE1", b"NGE2" + good[4:]),
                ("little-endian magic", "begins with 1EGN, not NGE1", b"1EGN" + good[4:]),
                ("sequence 0", "a sequence counts from 1", good[:16] + bytes(8) + good[24:]),
                ("text", "begins with xxxx, not NGE1", b"x" * 32),
            )
        ],
    }


def _heartbeat(case: str, **members: Any) -> Any:
    shown = {**members, "incarnation": f"{members['incarnation']:016x}"}
    messages = heartbeat.payloads(**members)
    frames = [[heartbeat.TOPIC.hex(), payload.hex()] for payload in messages]
    return {"name": case, "publisher": shown, "messages": frames}


def heartbeats() -> Any:
    """Heartbeats; other spellings of the same JSON are also valid."""
    usual = {"incarnation": _INCARNATION, "interval": 1.0, "replay": None, "replay_key": None}
    core = {**usual, "name": "core", "sequences": {"metrics": 120, "logs": 7}}
    address, key = "tcp://127.0.0.1:40123", "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"
    return {
        "about": "The frames of heartbeats (docs/protocol.md, part 1). `messages` has the frames of each message. "
        "Compare the second frame as JSON: the order of members and the spelling of numbers are free.",
        "valid": [
            _heartbeat("a usual one", **core),
            _heartbeat("with replay", **{**core, "replay": address}),
            _heartbeat("with replay over CURVE", **{**core, "replay": address, "replay_key": key}),
            _heartbeat("nothing published yet", **{**core, "sequences": {}}),
            _heartbeat("farewell", **{**core, "interval": 0}),
            _heartbeat("leading zeros", **{**core, "incarnation": 0xAB, "interval": 0.25}),
            _heartbeat(
                "1,001 topics take two messages", **{**core, "sequences": {f"topic.{n}": n + 1 for n in range(1001)}}
            ),
        ],
    }


def replays() -> Any:
    """Replay requests, and the replies of a publisher that keeps these messages."""
    store = replay.Store(1000)
    messages = []
    for sequence, payload in ((3, b"{}"), (4, '{"ä":"😀"}'.encode()), (6, b"[1,2]")):
        frame = envelope.pack(incarnation=_INCARNATION, sequence=sequence, time_ns=_TIME_NS + sequence, flags=1)
        store.append(b"metrics", sequence, payload, frame)
        messages.append({"payload": payload.hex(), "envelope": frame.hex()})
    exchanges = []
    for name, number, topic, first, last in (
        ("all that is held", 1, "metrics", 1, 100),
        ("both ends belong to the range", 2, "metrics", 3, 4),
        ("a number that is not held is passed over", _U64, "metrics", 4, 6),
        ("nothing held of the range", 4, "metrics", 7, _U64),
        ("an empty range", 5, "metrics", 5, 4),
        ("an unknown topic", 6, "logs", 1, 10),
    ):
        asked = [b"NGR1", number.to_bytes(8), topic.encode(), first.to_bytes(8) + last.to_bytes(8)]
        request = replay.parse(asked)
        assert request is not None
        answer = replay.reply(request, _INCARNATION, store.read(topic.encode(), first, last))
        exchanges.append(
            {"name": name, "request": [frame.hex() for frame in asked], "reply": [frame.hex() for frame in answer]}
        )
    good = [bytes.fromhex(frame) for frame in exchanges[0]["request"]]
    broken = {
        "no frames": [],
        "three frames": good[:3],
        "five frames": [*good, b""],
        "an empty delimiter": [b"", *good],
        "another magic": [b"NGR2", *good[1:]],
        "a short number": [good[0], good[1][1:], *good[2:]],
        "a short range": [*good[:3], good[3][1:]],
        "a range in two frames": [*good[:3], good[3][:8], good[3][8:]],
    }
    for name, frames in broken.items():
        assert replay.parse(frames) is None, name
    return {
        "about": "Replay without the ROUTER's identity frame (docs/protocol.md, part 1): what a publisher replies that "
        "holds `messages` of the topic `metrics` and nothing else. No request of `invalid` gets a reply.",
        "incarnation": f"{_INCARNATION:016x}",
        "messages": messages,
        "exchanges": exchanges,
        "invalid": [{"name": name, "request": [frame.hex() for frame in frames]} for name, frames in broken.items()],
    }


def topics() -> Any:
    """Topics that a publisher accepts, and those that it refuses."""
    valid = ["metrics", "a", "A.b-c_d.9", "0.1.2", "a" * 128, "-", "_", "a.b.c.d.e.f.g"]
    invalid = ["", ".", "a.", ".a", "a..b", "a b", "a/b", "a:b", "ä", "$heartbeat", "a\n", "a*"]
    invalid += ["a\tb", "a" * 129, ">", "robots.*"]
    for topic in valid:
        check_topic(topic)
    for topic in invalid:
        try:
            check_topic(topic)
        except PublisherError:
            continue
        raise AssertionError(topic)
    return {"about": "Topics (docs/protocol.md, part 1).", "valid": valid, "invalid": invalid}


def documents() -> dict[str, str]:
    """Return each file's name and text."""
    made = {"envelope": envelopes, "heartbeat": heartbeats, "replay": replays, "topics": topics}
    return {f"{name}.json": json.dumps(make(), indent=1, ensure_ascii=True) + "\n" for name, make in made.items()}


if __name__ == "__main__":
    for name, text in documents().items():
        (VECTORS / name).write_text(text)
