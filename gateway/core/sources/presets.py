"""Settings for known publishers, by name; settings of the source itself override them."""

from collections.abc import Mapping


PRESETS: Mapping[str, Mapping[str, object]] = {
    # pyzmq's PUBHandler: `root.LEVEL`, text.
    "pyzmq-log": {"payload": "text", "event": "log"},
    # An IPython kernel's IOPub socket: topic, delimiter, signature, four dicts, buffers.
    "jupyter-iopub": {
        "frames": ("topic", "-", "-", "header", "parent_header", "metadata", "content"),
        "more_frames": "members",
        "prefix": "jupyter",
    },
    # vLLM's ZmqEventPublisher, and what speaks like it; the topic is empty unless it is configured.
    "vllm-kv": {
        "frames": ("topic", "sequence", "payload"),
        "separator": "/",
        "prefix": "vllm",
        "empty_topic": "kv",
        "payload": "msgpack",
        "sequence": "be64",
        "sequence_scope": "publisher",
    },
    # Bitcoin Core's -zmqpub…: hashes, transactions and blocks.
    "bitcoin": {"frames": ("topic", "payload", "sequence"), "prefix": "bitcoin", "payload": "hex", "sequence": "le32"},
    # Pupil Core and Pupil Invisible: `gaze.3d.0.`, MessagePack, then pictures as further frames.
    "pupil": {"more_frames": "members", "prefix": "pupil", "payload": "msgpack", "nan": "null"},
    # Frigate's event publisher: `topic/sub {json}` in one frame.
    "frigate": {"framing": "single", "split": "json", "separator": "/", "prefix": "frigate"},
    # EDDN's relay: one frame of compressed JSON.
    "eddn": {"framing": "single", "topic": "eddn", "compression": "zlib"},
    # rsyslog's omczmq without a frame for the topic: `topic{json}`, JSON alone, or a line of text.
    "rsyslog": {"framing": "single", "split": "json", "topic": "syslog", "payload": "auto"},
    # GNU Radio's pub_sink and pub_msg_sink, with or without a key: samples and PMTs as bytes.
    "gnuradio": {"topic": "gnuradio", "payload": "raw"},
    # monerod's --zmq-pub: `json-full-chain_main:[…]` in one frame.
    "monero": {"framing": "single", "split": ":", "prefix": "monero"},
}
