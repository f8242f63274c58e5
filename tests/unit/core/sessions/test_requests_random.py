"""Random messages: each is handled or gets an error, and the next is not affected."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.protocol import messages
from gateway.core.protocol.errors import RequestError
from gateway.core.sessions import requests
from tests.support.core import Peer, make_hub, publish


ANSWERS = {"subscribed", "unsubscribed", "subscriptions", "pong", "error"}

_numbers = st.integers() | st.sampled_from([2**63 - 1, 2**63, 2**64, 10**400]) | st.floats()
_texts = st.text(st.characters(exclude_categories=[]), max_size=20)  # also unpaired surrogates
_any: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
)


def _or_any(likely: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(likely, likely, likely, _any)


_channels = _or_any(st.sampled_from(["robots", "a.b", "*", ">", "a.*", "$everyone", "", "a..b", "x" * 129]))
_positions = st.fixed_dictionaries(
    {"epoch": _or_any(st.sampled_from(["e1", "e0", ""])), "offset": _or_any(st.integers(-1, 9))}
)
_since = _or_any(st.none() | _positions | st.dictionaries(st.sampled_from(["robots", "epoch"]), _positions))
_options: dict[str, st.SearchStrategy[Any]] = {
    "since": _since,
    "last": _or_any(st.integers(-1, 2**64)),
    "filter": _or_any(st.sampled_from(["data.x > 1", "(", "data." * 200, "!" * 1000, ""])),
    "rate": _or_any(st.sampled_from([0, 0.01, 1, 1000, 1001])),
}
_requests = _channels | st.fixed_dictionaries({"channel": _channels}, optional=_options)
_messages: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {},
    optional={
        "type": _or_any(st.sampled_from(["subscribe", "unsubscribe", "get_subscriptions", "ping", "auth", "publish"])),
        "channels": _or_any(st.lists(_requests, max_size=10)),
        "id": _or_any(st.integers() | st.text(max_size=130)),
        "token": _or_any(st.text()),
        **_options,
    },
)


def written(value: object) -> str:
    """JSON, and values that Python writes although JSON does not have them."""
    return json.dumps(value)


@given(st.one_of(_texts, _any.map(written), _messages.map(written), st.binary(max_size=50)))
@example("\ud800")
def test_any_message_is_parsed_or_gets_an_error_that_can_be_sent(text: str | bytes) -> None:
    try:
        message = requests.parse(text)
        if isinstance(message, messages.Subscribe):
            requests.split(message)
    except RequestError as error:
        reply = requests.error_message(error, requests.id_of(text))
        assert 400 <= json.loads(msgspec.json.encode(reply))["status"] < 500


@given(_messages.map(written), st.integers(0, 400))
def test_a_truncated_message_is_refused(text: str, at: int) -> None:
    """At any character: no beginning of a message is a message."""
    try:
        requests.parse(text[: min(at, len(text) - 1)])
    except RequestError:
        return
    raise AssertionError("half a message was taken")


@given(st.dictionaries(_texts, _any) | _positions | st.dictionaries(_texts, _positions))
def test_positions_are_parsed_or_refused(value: dict[str, Any]) -> None:
    """With values that JSON can have: unpaired surrogates are refused before."""
    try:
        found = requests.read_since(msgspec.json.decode(written(value)))
    except msgspec.DecodeError:
        return
    except RequestError:
        return
    positions = found.values() if isinstance(found, dict) else [found]
    for one in positions:
        assert one is not None
        assert 0 <= one.offset < 2**63
        assert len(one.epoch) <= 64


@given(st.lists(_messages.map(written), max_size=12))
def test_every_message_gets_one_reply_and_events_continue(texts: list[str]) -> None:
    """Also after other messages: none may affect the next."""
    hub = make_hub()
    publish(hub, "robots", 3)
    peer, other = Peer(hub, "p"), Peer(hub, "other")
    session = peer.connect()
    other.connect("robots")
    other.take()
    for text in texts:
        peer.take()
        token = hub.receive(session, text, now_ns=0)
        answers = [one for one in peer.take() if one["type"] in ANSWERS]
        assert 1 == len(answers) or (isinstance(token, messages.Auth) and not answers)
        publish(hub, "robots")

    assert list(range(4, 4 + len(texts))) == [one["offset"] for one in other.take()]
    assert len(session.subscriptions) <= 8
