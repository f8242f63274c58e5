"""Queries and headers: read, or refused with a RequestError, and nothing else."""

from __future__ import annotations

import json
from contextlib import suppress
from ipaddress import ip_address

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.config.model import Config
from gateway.core.protocol.errors import RequestError
from gateway.core.protocol.frames import text_frame
from gateway.core.protocol.messages import Position
from gateway.web import admission
from gateway.web.access import AccessPolicy
from gateway.web.endpoints import rest
from gateway.web.endpoints.sse import EventStream, read_event_id
from tests.support.core import open_identity


_texts = st.text(st.characters(exclude_categories=[]), max_size=30)
"""What a header may hold: bytes that are not UTF-8 become surrogates."""
_characters = st.text(max_size=30)
"""What an address can hold: surrogates cannot be encoded."""
_digits = st.text("0123456789-+.e_ \u0663²", max_size=25)
_positions = st.dictionaries(
    st.text("abc.-_", min_size=1, max_size=8),
    st.builds(Position, st.text("0123456789abcdef", max_size=16), st.integers(0, 2**53)),
    min_size=1,
    max_size=5,
)
_queries = st.dictionaries(
    st.sampled_from(["channels", "since", "last", "filter", "rate", "session", "user_id"]),
    st.one_of(_characters, _digits, st.sampled_from(["a,b", ",", "nan", "inf", "1e999", "[" * 9000])),
)


@given(_queries)
def test_the_query_of_a_connect_is_read_or_refused(query: dict[str, str]) -> None:
    try:
        connect_request = admission.read_connect_request(query, open_identity())
    except RequestError:
        return
    assert connect_request.last is None or connect_request.last >= 0
    assert connect_request.options.rate is None or 0.01 <= connect_request.options.rate <= 1000


@given(st.one_of(_texts, _digits.map("metrics=e:{}".format)))
@example("metrics=e:" + "9" * 5000)
@example("=,=,:")
def test_the_last_event_id_is_read_or_refused(text: str) -> None:
    try:
        found = read_event_id(text)
    except RequestError:
        return
    assert all(0 <= one.offset < 2**63 for one in found.values())


@given(_positions)
def test_the_id_that_an_event_has_is_read_as_its_positions(positions: dict[str, Position]) -> None:
    """What the gateway writes, it reads."""
    stream, sent = EventStream(), b""
    for channel, place in positions.items():
        event = {"type": "event", "channel": channel, "epoch": place.epoch, "offset": place.offset}
        sent = stream.encode(text_frame(json.dumps(event).encode()))
    [last_id] = [line for line in sent.decode().split("\n") if line.startswith("id: ")]

    assert positions == read_event_id(last_id.removeprefix("id: "))


@given(_digits | _texts, st.integers(0, 10), st.integers(10, 2**63))
def test_a_number_in_a_query_is_in_its_range_or_refused(text: str, least: int, most: int) -> None:
    try:
        found = rest.number({"n": text}, "n", default=least, least=least, most=most)
    except RequestError:
        return
    assert least <= found <= most


@given(
    st.lists(_texts | st.sampled_from(["127.0.0.1", "localhost:80", "[::1]", "a.b:99999"])),
    st.lists(_texts | st.sampled_from(["http://127.0.0.1", "null", "https://[::1]:443", "*"])),
    st.lists(_texts | st.sampled_from(["1.2.3.4, 10.0.0.1", "::1", "[::1]:80", ",,", "unknown"])),
)
def test_hosts_origins_and_forwarded_addresses_are_accepted_or_refused(
    hosts: list[str], origins: list[str], forwarded: list[str]
) -> None:
    """A host or origin may be refused; the address is always a valid one."""
    policy = AccessPolicy(Config(trusted_proxies=("127.0.0.1", "10.0.0.0/8"), allowed_origins=("http://127.0.0.1",)))
    caller = policy.caller("127.0.0.1", "http", forwarded, hosts)
    with suppress(RequestError):
        host = policy.check_host(hosts, None)
        policy.check_origin(origins, scheme=caller.scheme, host=host)

    assert str(ip_address(caller.address)) == caller.address
    assert caller.scheme in {"http", "https"}
