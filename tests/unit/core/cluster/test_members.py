"""The gateways of a cluster, as one of them knows them."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.cluster.members import ClusterState, Member, Members, encode


TTL_NS = 10


def member(id_: str, name: str = "") -> Member:
    return Member(id=id_, name=name or id_, version="1", started=0.0, clients=0, lag_seconds=0.0, recovering=0)


def test_the_own_report_is_the_present_one() -> None:
    members = Members(ttl_ns=TTL_NS)
    members.take([encode(member("a")), encode(member("b"))], now_ns=0)
    own = msgspec.structs.replace(member("a"), clients=7)

    assert [own, member("b")] == members.with_own(own, now_ns=1)


def test_without_a_list_for_long_only_this_gateway_is_known() -> None:
    members = Members(ttl_ns=TTL_NS)
    members.take([encode(member("b"))], now_ns=5)

    assert [member("a"), member("b")] == members.with_own(member("a"), now_ns=14)
    assert [member("a")] == members.with_own(member("a"), now_ns=15)


@given(st.lists(st.binary()))
def test_reports_that_cannot_be_read_cost_the_others_nothing(garbage: list[bytes]) -> None:
    members = Members(ttl_ns=TTL_NS)
    newer = b'{"further": 1,' + encode(member("b"))[1:]
    members.take([*garbage, newer, *garbage], now_ns=0)

    assert [member("a"), member("b")] == members.with_own(member("a"), now_ns=0)


def test_gateways_are_listed_by_name() -> None:
    members = Members(ttl_ns=TTL_NS)
    members.take([encode(member("1", "z")), encode(member("2", "b"))], now_ns=0)

    assert ["b", "m", "z"] == [one.name for one in members.with_own(member("3", "m"), now_ns=0)]


def test_a_cluster_is_degraded_while_its_engine_is_down() -> None:
    state = ClusterState(
        "a", (), problem="it is gone", advice="start it", failures=1, commands=0, events={}, lease=None
    )

    assert ["the cluster's engine is down: it is gone; start it"] == state.degraded
    assert [] == ClusterState("a", (), problem="", advice="", failures=1, commands=0, events={}, lease=None).degraded
