"""Messages of clients, good ones as the AsyncAPI document has them, and what may become of them."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

from gateway.web.endpoints.schemas import asyncapi_document


Json = Any  # whatever JSON holds, and some that it does not

_DOCUMENT = asyncapi_document()
_SCHEMAS: dict[str, Json] = _DOCUMENT["components"]["schemas"]
_KINDS = [reference["$ref"].rsplit("/", 1)[1] for reference in _DOCUMENT["operations"]["receive"]["messages"]]
_REFERENCE = "#/components/schemas/"

_CHANNELS = ["metrics", "signals", "healthy", "connections", "status", "a.b.c", "*", ">", "a.*", "a.>"]
_NO_CHANNELS = ["никто", "$everyone", "$personal", "a..b", ".", "", "a.", "a.>.b", "a*", "x" * 256]
_CONDITIONS = ["data.n > 3", "data.a == 'b'", "has(data.n) && data.n in [1, 2]", "!(true)", "data.n"]
_NO_CONDITIONS = [
    *("(" * 500, "!" * 900, "1" * 900, "data" + ".a" * 400, "[" * 300 + "]" * 300, "'\\u12", "a ? b"),
    *("size(data) > 1e999", "data[9999999999999999999999]", "\0", "data.n =~ '(a+)+$'"),
]
ODD_VALUES: list[Json] = [
    *(None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, -1e-308, "", "\0", "a", "é", "\U0001f600", [], {}),
    *(2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, -(2**64), 10**30, 10**400),
    *([[]], {"": None}, [None] * 50, {"a": {"b": {"c": []}}}, "x" * 129, "x" * 2000, "\ud800"),
    *({"epoch": "e", "offset": 2**63 - 1}, {"epoch": "", "offset": 0}, {"offset": -1}),
    *({"metrics": {"epoch": "e", "offset": 1}}, {"epoch": {"epoch": "e", "offset": 1}, "offset": 1}),
]
"""Values that are seldom right; those of Python's own that JSON cannot write are left to `_NUMBERS`."""

_NUMBERS = [
    *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-999", "00", "01", "-", "+1", ".5", "1."),
    *("0x10", "1_000", "9" * 400, "-" + "9" * 5000, "1" + "0" * 300 + ".5", "1e" + "9" * 20, "0." + "0" * 500),
]
_SCRAPS = [
    *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\0", b"\x7f", b"\x1b[2J", b"\r\n", b"//", b"null"),
    *("\ufeff".encode(), b"\\ud800", b"\\udc00\\ud800", b"\\u12", b"\\x41", "\u2028\u202e".encode()),
]


def good(rng: random.Random) -> dict[str, Json]:
    """A message as its schema says."""
    kind = "Subscribe" if rng.random() < 0.4 else rng.choice(_KINDS)
    made = _instance(rng, {"$ref": _REFERENCE + kind}, "")
    assert isinstance(made, dict)
    return made


def spoilt(rng: random.Random) -> bytes:
    """A message that is most likely wrong, in UTF-8 all the same: what it says is the gateway's to judge."""
    return rng.choice(_SPOILERS)(rng)


def _wrong_values(rng: random.Random) -> bytes:
    message = good(rng)
    for _ in range(rng.randint(1, 3)):
        _spoil_one(rng, message)
    return json.dumps(message).encode()


def _spoil_one(rng: random.Random, message: dict[str, Json]) -> None:
    """Put something else in a place of a message, or leave it out, or put more beside it."""
    at: Json = message
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return
        key = rng.choice(keys)
        if not isinstance(at[key], dict | list) or rng.random() < 0.3:
            break
        at = at[key]
    match rng.randrange(8):
        case 0:
            del at[key]
        case 1 if isinstance(at, dict):
            at[rng.choice(["type", "id", "since", "epoch", "x" * 200, "", "\ud800"])] = _odd(rng)
        case _:
            at[key] = _odd(rng)


def _odd(rng: random.Random) -> Json:
    if rng.random() < 0.8:
        return copy.deepcopy(rng.choice(ODD_VALUES))
    return rng.choice(_NO_CHANNELS + _NO_CONDITIONS)


def _wrong_numbers(rng: random.Random) -> bytes:
    """A number that JSON does not know, or that no machine holds."""
    message = good(rng) | {rng.choice(["id", "last", "rate", "x"]): "@"}
    message["since"] = {"epoch": "e", "offset": "@"}
    number = rng.choice(_NUMBERS)
    return json.dumps(message).replace('"@"', number).encode()


def _a_name_twice(rng: random.Random) -> bytes:
    text = json.dumps(good(rng))
    name = rng.choice(["type", "channels", "id", "since", "token"])
    value = json.dumps(_odd(rng))
    return f'{{"{name}":{value},{text[1:-1]},"{name}":{value}}}'.encode()


def _deep(rng: random.Random) -> bytes:
    depth = rng.choice([100, 1_000, 10_000, 30_000])
    left, right = rng.choice([("[", "]"), ('{"a":', "}")])
    nested = left * depth + "1" + right * rng.choice([depth, 0])
    name = rng.choice(["id", "since", "channels", "x", "filter"])
    return f'{{"type":"subscribe","channels":["a"],"{name}":{nested}}}'.encode()[:60_000]


def _long(rng: random.Random) -> bytes:
    """Lists and texts at the limits of what one message may ask for."""
    count = rng.choice([999, 1000, 1001, 3000])
    kind = rng.choice(["subscribe", "unsubscribe"])
    one = rng.choice(["a", "*", "a.>", "a.b.*", "x" * 10])
    channels = [f"{one}.{n}" if rng.random() < 0.5 else one for n in range(count)]
    return json.dumps({"type": kind, "channels": channels}).encode()[:60_000]


def _cut(rng: random.Random) -> bytes:
    text = json.dumps(good(rng)).encode()
    return text[: rng.randrange(len(text))]


def _with_scraps(rng: random.Random) -> bytes:
    text = bytearray(json.dumps(good(rng)).encode())
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(text) + 1)
        text[at : at + rng.choice([0, 0, 1, 3])] = rng.choice(_SCRAPS)
    return _utf8(bytes(text))


def _flipped(rng: random.Random) -> bytes:
    text = bytearray(json.dumps(good(rng)).encode())
    for _ in range(rng.randint(1, 6)):
        text[rng.randrange(len(text))] ^= 1 << rng.randrange(8)
    return _utf8(bytes(text))


def _noise(rng: random.Random) -> bytes:
    return _utf8(rng.randbytes(rng.choice([0, 1, 2, 10, 100, 1000])))


def _no_object(rng: random.Random) -> bytes:
    return json.dumps(_odd(rng)).encode()


def _allowed(rng: random.Random) -> bytes:
    """A good one: what is wrong has to be told from it."""
    return json.dumps(good(rng)).encode()


_SPOILERS: list[Callable[[random.Random], bytes]] = [
    *[_wrong_values] * 8,
    *[_wrong_numbers] * 2,
    *[_with_scraps] * 2,
    *[_flipped] * 2,
    *(_a_name_twice, _deep, _long, _cut, _noise, _no_object, _allowed),
]


def _utf8(text: bytes) -> bytes:
    return text.decode(errors="replace").encode()


def _instance(rng: random.Random, schema: Json, name: str) -> Json:
    """A value as a schema says, with names of ours where it says no more than that it is a text."""
    if "$ref" in schema:
        return _instance(rng, _SCHEMAS[schema["$ref"].removeprefix(_REFERENCE)], name)
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if "anyOf" in schema:
        return _instance(rng, rng.choice(schema["anyOf"]), name)
    match schema.get("type"):
        case "null":
            return None
        case "boolean":
            return rng.random() < 0.5
        case "array":
            return [_instance(rng, schema["items"], name) for _ in range(rng.randint(1, 3))]
        case "integer":
            return rng.choice([schema.get("minimum", -5), 1, 7, schema.get("maximum", 100)])
        case "number":
            return rng.choice([schema["minimum"], 1, 2.5, schema["maximum"]])
        case "string":
            return rng.choice(_texts(name))
    if "properties" in schema:
        required = schema.get("required", [])
        return {
            key: _instance(rng, one, key)
            for key, one in schema["properties"].items()
            if key in required or rng.random() < 0.3
        }
    if name == "event":  # the model leaves to ingest what it may be
        return {"event_type": rng.choice(_texts("")), "data": {"n": rng.randint(0, 9)}}
    assert "additionalProperties" in schema, schema
    inner = schema["additionalProperties"]
    return {one: _instance(rng, inner, "") for one in rng.sample(_CHANNELS, rng.randint(0, 3))}


def _texts(name: str) -> list[str]:
    match name:
        case "channels" | "channel":
            return _CHANNELS
        case "filter":
            return _CONDITIONS
        case "token":
            return ["", "a.b.c", "e30.e30.e30", "eyJhbGciOiJIUzI1NiJ9.e30.AAAA", "." * 9000, "é.é.é"]
        case _:
            return ["e", "a", "x" * 64, "é"]
