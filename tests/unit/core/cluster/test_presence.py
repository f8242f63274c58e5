"""Clients by what they subscribe to, as the engine holds them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.cluster import presence
from gateway.core.cluster.presence import PresentClient
from gateway.core.fanout.views import Subscription, channel_view
from gateway.core.protocol.channels import is_wildcard


PATTERNS = st.sampled_from(["a", "a.b", "a.*", "a.>", "*", ">", "*.b", "b"])
SUBSCRIPTIONS = st.builds(
    # Grants narrow only what has wildcards.
    lambda pattern, within: Subscription(pattern, within=within if is_wildcard(pattern) else None),
    PATTERNS,
    st.none() | st.frozensets(PATTERNS, min_size=1),
)
CLIENTS = st.dictionaries(
    st.sampled_from(["x", "y", "z"]), st.lists(SUBSCRIPTIONS, unique_by=lambda one: one.pattern), max_size=3
)


@given(CLIENTS, st.sampled_from(["a", "a.b", "a.b.c", "b"]))
def test_the_engine_finds_the_clients_that_a_gateway_itself_would(
    clients: dict[str, list[Subscription]], channel: str
) -> None:
    """As its sorted set does: by key, without a look at what the members say."""
    held = {member for id_, views in clients.items() for member in presence.members(id_, f"user {id_}", views)}
    wildcards = [one.pattern for views in clients.values() for one in views if is_wildcard(one.pattern)]
    keys = presence.selecting(channel, wildcards)
    found = [member.partition("\0")[2].encode() for member in held if member.partition("\0")[0] in keys]

    here = {id_ for id_, views in clients.items() if channel_view(frozenset(views), channel) is not None}
    assert sorted(here) == [one.client_id for one in presence.merged(channel, [], found)]


def test_a_client_that_two_gateways_have_is_listed_once() -> None:
    """It has just moved. What this gateway knows itself counts."""
    [member] = presence.members("x", "old", [Subscription("a")])
    found = [member.partition("\0")[2].encode(), b"garbage", b'["only"]']

    assert [PresentClient("x", "new")] == presence.merged("a", [PresentClient("x", "new")], found)


@given(st.text(), st.text())
def test_no_user_is_taken_for_another(first: str, second: str) -> None:
    one, other = presence.user_member(first, "x"), presence.user_member(second, "x")

    assert (first == second) == (one == other)
    assert 1 == one.count("\0")
