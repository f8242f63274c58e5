"""One case per publisher: its messages as bytes, the settings of its source, and the events that clients get.

`seen` is the version whose messages were captured, in November 2026; those without it were written according to the
software's source or documentation of that month.
"""

import gzip
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec


Frames = Sequence[bytes]

_pack = msgspec.msgpack.encode


@dataclass(frozen=True)
class Case:
    """The messages of one publisher, and the events that they become."""

    publisher: str
    looks: str
    """A description of the messages, for the table."""
    messages: Sequence[Frames]
    events: Sequence[tuple[str, object]]
    """The channel and data of each event; for one that carries bytes, these with its other members."""
    settings: Mapping[str, object] | None = None
    """The table of its source; None if it needs none."""
    seen: str = ""
    """The version whose messages were captured; "" if they were not captured."""
    lost: int = 0
    """Messages that are missing by the publisher's own numbers."""


def _dumps(value: object) -> bytes:
    return json.dumps(value).encode()


def _base64(text: str) -> dict[str, str]:
    """Bytes within data."""
    return {"base64": text}


def _event(text: str, **members: object) -> dict[str, object]:
    """An event that carries bytes, and what is beside them."""
    return {"data_base64": text, **members}


_KERNEL = (
    b"stream.stdout",
    b"<IDS|MSG>",
    b"a5a8f5812c3a14af6147bc3ab134cf958ecb1bb27f932a9bf643c3b06d8b1769",
    b'{"msg_id": "c81e939e_24036_12", "msg_type": "stream", "version": "5.4"}',
    b'{"msg_id": "c88b3585_24035_1", "msg_type": "execute_request"}',
    b"{}",
    b'{"name": "stdout", "text": "hello\\n"}',
)
_KERNEL_DATA = {
    "header": {"msg_id": "c81e939e_24036_12", "msg_type": "stream", "version": "5.4"},
    "parent_header": {"msg_id": "c88b3585_24035_1", "msg_type": "execute_request"},
    "metadata": {},
    "content": {"name": "stdout", "text": "hello\n"},
}
_KV = [1_795_901_871.5, [["BlockRemoved", [b"\x01\x02"], "GPU"]], 0]
_KV_DATA = [1_795_901_871.5, [["BlockRemoved", [_base64("AQI=")], "GPU"]], 0]
_HASH = bytes(range(32))
_GENESIS = "418015bb9ae982a1975da7d79277c2705727a56894ba0fb246adaabb1f4632e3"
_FIRST = "9367c7420fd1bb7fc6c5505eb2da37245579de8346cda8b7ee68d8ab4764c2ec"
_BLOCKS = (
    {"first_height": 1, "first_prev_id": _GENESIS, "ids": [_FIRST]},
    {
        "first_height": 2,
        "first_prev_id": _FIRST,
        "ids": ["1266ca0b59e9f921c9989182a4219308bbdc595d8a5b43f4400331078828db84"],
    },
)
_PICKLED = (
    b"start \x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x03uid\x94\x8c\x01a\x94\x8c\x04time\x94G"
    b"?\xf8\x00\x00\x00\x00\x00\x00u."
)

CASES = (
    Case(
        "circus, events and stats",
        "topic, JSON",
        [[b"watcher.w.reap", b'{"process_pid": 24414, "time": 1795901876.4551353, "exit_code": 0}']],
        [("watcher.w.reap", {"process_pid": 24414, "time": 1795901876.4551353, "exit_code": 0})],
        seen="0.19.0",
    ),
    Case(
        "rsyslog omczmq, topicframe on, JSON template",
        "topic, JSON",
        [[b"syslog.app", b'{"message":" started"}']],
        [("syslog.app", {"message": " started"})],
        seen="8.2302",
    ),
    Case(
        "rsyslog omczmq, topicframe off",
        "`syslog.app{…}` in one frame",
        [[b'syslog.app{"message":" started"}']],
        [("syslog.app", {"message": " started"})],
        {"preset": "rsyslog"},
        seen="8.2302",
    ),
    Case(
        "rsyslog, default template",
        "one line of text",
        [[b"<14>2026-11-28T22:22:20.978541+00:00 vm app[12]: started"]],
        [("syslog", "<14>2026-11-28T22:22:20.978541+00:00 vm app[12]: started")],
        {"preset": "rsyslog"},
        seen="8.2302",
    ),
    Case(
        "pyzmq's PUBHandler",
        "`root.LEVEL`, text",
        [[b"app.WARNING", b"WARNING zl.py:6 - disk 93%\n"], [b"INFO", b"plain\n"], [b"app.ERROR.db", b"lost\n"]],
        [
            ("logs", {"level": "warning", "message": "WARNING zl.py:6 - disk 93%", "service": "app"}),
            ("logs", {"level": "info", "message": "plain"}),
            ("logs", {"level": "error", "message": "lost", "service": "app.db"}),
        ],
        {"preset": "pyzmq-log"},
        seen="27.3",
    ),
    Case(
        "ipykernel's IOPub",
        "7 frames with `<IDS\\|MSG>`, then buffers",
        [_KERNEL, [*_KERNEL, b"\x00\x01"]],
        [
            ("jupyter.stream.stdout", _KERNEL_DATA),
            ("jupyter.stream.stdout", {**_KERNEL_DATA, "frames": [_base64("AAE=")]}),
        ],
        {"preset": "jupyter-iopub"},
        seen="7.4",
    ),
    Case(
        "monerod --zmq-pub",
        "`json-full-chain_main:[…]` in one frame",
        [[b"json-minimal-chain_main:" + _dumps(one)] for one in _BLOCKS],
        [("monero.json-minimal-chain_main", one) for one in _BLOCKS],
        {"preset": "monero"},
        seen="0.18.0.0",
    ),
    Case(
        "GNU Radio's pub_sink and pub_msg_sink",
        "float32 samples or a PMT, with or without a key",
        [
            [struct.pack("<2f", 0.5, -1)],
            [b"rx1", struct.pack("<f", 1)],
            [b"\x07\x02\x00\x04freq\x04?\xf8\x00\x00\x00\x00\x00\x00"],
        ],
        [
            ("gnuradio", _event("AAAAPwAAgL8=")),
            ("rx1", _event("AACAPw==")),
            ("gnuradio", _event("BwIABGZyZXEEP/gAAAAAAAA=")),
        ],
        {"preset": "gnuradio"},
        seen="3.10.5",
    ),
    Case(
        "bluesky's Publisher with JSON",
        "`prefix name {…}` in one frame; a space first without prefix",
        [[b'raw start {"uid": "a", "time": 1.5}'], [b' start {"uid": "a", "time": 1.5}']],
        [("raw.start", {"uid": "a", "time": 1.5}), ("start", {"uid": "a", "time": 1.5})],
        {"framing": "single", "split": "json", "separator": " "},
        seen="1.15.1",
    ),
    Case(
        "bluesky's Publisher with pickle, its default",
        "space, name, space, pickle in one frame",
        [[b" " + _PICKLED]],
        [("bluesky", _event("c3RhcnQggASVHwAAAAAAAAB9lCiMA3VpZJSMAWGUjAR0aW1llEc/+AAAAAAAAHUu"))],
        {"framing": "single", "split": " ", "empty_topic": "bluesky", "payload": "raw"},
        seen="1.15.1",
    ),
    Case(
        "imagezmq",
        "JSON about the picture, pixels or JPEG",
        [
            [b'{"msg": "cam1", "dtype": "uint8", "shape": [2, 2, 3]}', bytes(range(12))],
            [b'{"msg": "cam1"}', b"\xff\xd8\xff\xd9"],
        ],
        [
            ("camera", _event("AAECAwQFBgcICQoL", about={"msg": "cam1", "dtype": "uint8", "shape": [2, 2, 3]})),
            ("camera", _event("/9j/2Q==", about={"msg": "cam1"})),
        ],
        {"frames": ["about", "payload"], "topic": "camera", "payload": "raw"},
        seen="1.2.0",
    ),
    Case(
        "datastreamservicelib",
        "topic, 16 bytes of id, MessagePack",
        [[b"sensor", b"\xf3<w\x8dk\x18C\x91\x89\xca7\xae*9\x96\t", b"\x81\xa5value\x03"]],
        [("sensor", {"value": 3})],
        {"frames": ["topic", "-", "payload"], "payload": "msgpack"},
        seen="1.15.0",
    ),
    Case(
        "vLLM's KV cache events",
        "empty topic, u64 from 0, MessagePack",
        [[b"", struct.pack(">Q", n), _pack(_KV)] for n in (0, 1, 3)],
        [("vllm.kv", _KV_DATA)] * 3,
        {"preset": "vllm-kv"},
        lost=1,
    ),
    Case(
        "llm-d, Dynamo",
        "`kv@host:8000@org/model`, then as vLLM",
        [[b"kv@10.0.0.1:8000@org/model", struct.pack(">Q", 0), _pack(_KV)]],
        [("vllm.kv%4010%2E0%2E0%2E1%3A8000%40org.model", _KV_DATA)],
        {"preset": "vllm-kv"},
    ),
    Case(
        "Bitcoin Core",
        "topic, bytes, u32 little-endian per topic",
        [[b"hashblock", _HASH, struct.pack("<I", n)] for n in (7, 8, 10)],
        [("bitcoin.hashblock", _HASH.hex())] * 3,
        {"preset": "bitcoin"},
        lost=1,
    ),
    Case(
        "Pupil Labs",
        "`gaze.3d.0.`, MessagePack, at times a picture",
        [
            [b"gaze.3d.0.", _pack({"confidence": 1.0, "norm_pos": [0.5, float("nan")]})],
            [b"frame.world", _pack({"format": "jpeg"}), b"\xff\xd8"],
        ],
        [
            ("pupil.gaze.3d.0", {"confidence": 1.0, "norm_pos": [0.5, None]}),
            ("pupil.frame.world", {"payload": {"format": "jpeg"}, "frames": [_base64("/9g=")]}),
        ],
        {"preset": "pupil"},
    ),
    Case(
        "Frigate",
        "`topic/sub {…}` in one frame",
        [[b'event/update {"camera":"front"}']],
        [("frigate.event.update", {"camera": "front"})],
        {"preset": "frigate"},
    ),
    Case(
        "the weather server of the ZeroMQ guide",
        "`10001 72 40` in one frame",
        [[b"10001 72 40"]],
        [("10001", "72 40")],
        {"framing": "single", "split": " ", "payload": "text"},
    ),
    Case(
        "MISP",
        "`misp_json_event {…}` in one frame",
        [[b'misp_json_event {"Event":{"id":"1"}}']],
        [("misp_json_event", {"Event": {"id": "1"}})],
        {"framing": "single", "split": " "},
    ),
    Case(
        "EDDN",
        "one frame of JSON with zlib",
        [[zlib.compress(b'{"$schemaRef":"x","message":{}}')]],
        [("eddn", {"$schemaRef": "x", "message": {}})],
        {"preset": "eddn"},
    ),
    Case(
        "NDOV",
        "`/RIG/KV6posinfo`, XML with gzip",
        [[b"/RIG/KV6posinfo", gzip.compress(b"<VV_TM_PUSH/>")]],
        [("RIG.KV6posinfo", "<VV_TM_PUSH/>")],
        {"separator": "/", "compression": "gzip", "payload": "text"},
    ),
    Case(
        "Open Ephys",
        "envelope, JSON header, samples",
        [[b"DATA", b'{"message_no":1}', struct.pack("<5f", 1, 1, 1, 1, 1)]],
        [("DATA", _event("AACAPwAAgD8AAIA/AACAPwAAgD8=", header={"message_no": 1}))],
        {"frames": ["topic", "header", "payload"], "payload": "raw"},
    ),
    Case(
        "gz-transport",
        "`@/partition@/topic`, sender, protobuf, type",
        [[b"@/host@/clock", b"tcp://10.0.0.1:4000", b"\x08\x01", b"gz.msgs.Clock"]],
        [("%40.host%40.clock", _event("CAE=", sender="tcp://10.0.0.1:4000", kind="gz.msgs.Clock"))],
        {"frames": ["topic", "sender", "payload", "kind"], "separator": "/", "payload": "raw"},
    ),
    Case(
        "Zeek's cluster",
        "`zeek/…`, sender, format, payload",
        [[b"zeek/cluster/logger", b"worker-1", b"json", b'{"name":"ping"}']],
        [("zeek.cluster.logger", {"payload": {"name": "ping"}, "sender": "worker-1"})],
        {"frames": ["topic", "sender", "-", "payload"], "separator": "/"},
    ),
    Case(
        "FreeSWITCH, `send_json`",
        "one frame of JSON",
        [[b'{"Event-Name":"HEARTBEAT"}']],
        [("freeswitch", {"Event-Name": "HEARTBEAT"})],
        {"framing": "single", "topic": "freeswitch"},
    ),
    Case(
        "OpenBCI, fedmsg; any XPUB",
        "topic, JSON",
        [[b"org.fedoraproject.prod", b'{"msg_id":"1"}']],
        [("org.fedoraproject.prod", {"msg_id": "1"})],
    ),
    Case("topic and a number", "topic, `21.5`", [[b"t", b"21.5"], [b"t", b"true"]], [("t", 21.5), ("t", True)]),
    Case(
        "topic and text",
        "topic, text, empty, Python's `False`",
        [[b"t", b"hello"], [b"t", b""], [b"t", b"False"]],
        [("t", "hello"), ("t", None), ("t", "False")],
        {"payload": "auto"},
    ),
    Case(
        "MQTT and ROS habits",
        "`robot/1/pose`, JSON",
        [[b"robot/1/pose", b'{"x":1}'], ["küche/licht".encode(), b"1"]],
        [("robot.1.pose", {"x": 1}), ("k%C3%BCche.licht", 1)],
        {"separator": "/"},
    ),
    Case(
        "Python's `json` with NaN",
        'topic, `{"x": NaN}`',
        [[b"t", _dumps({"x": float("nan"), "y": [float("-inf")]})]],
        [("t", {"x": None, "y": [None]})],
        {"nan": "null"},
    ),
    Case(
        "NDJSON",
        "topic, one JSON text per line",
        [[b"t", b'{"a":1}\n{"a":2}\n']],
        [("t", {"a": 1}), ("t", {"a": 2})],
        {"documents": "several"},
    ),
    Case(
        "topic and MessagePack",
        "topic, MessagePack",
        [[b"t", _pack({"a": 1, 2: b"x"})]],
        [("t", {"a": 1, "2": _base64("eA==")})],
        {"payload": "msgpack"},
    ),
    Case(
        "protobuf, pickle, other bytes",
        "topic, bytes",
        [[b"t", b"\x08\x96\x01"]],
        [("t", _event("CJYB"))],
        {"payload": "raw"},
    ),
)
