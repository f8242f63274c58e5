"""Permissions: what patterns grant, and what a wildcard selects of it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.model import Config
from gateway.core.fanout.views import Subscription
from gateway.core.protocol.channels import matches
from gateway.core.sessions.permissions import Action, Claims, Grants, Policy, covers, overlap
from gateway.wiring import build_policy


SEGMENTS = ["a", "b", "c", "d"]
NAMES = [".".join(parts) for length in (1, 2, 3, 4) for parts in itertools.product("abcd", repeat=length)]
"""Enough names to distinguish patterns of up to three segments over a, b and c."""

_segment = st.sampled_from(["a", "b", "c", "*"])
patterns = st.one_of(
    st.just(">"),
    st.builds(
        lambda parts, rest: ".".join(parts) + rest,
        st.lists(_segment, min_size=1, max_size=3),
        st.sampled_from(["", ".>"]),
    ),
)


def names(pattern: str) -> set[str]:
    return {name for name in NAMES if matches(pattern, name)}


@given(patterns, patterns)
def test_a_pattern_covers_another_if_it_selects_all_of_its_names(wide: str, narrow: str) -> None:
    # A pattern of three segments and `>` needs names of four segments.
    assert (names(narrow) <= names(wide)) == covers(wide, narrow)


@given(patterns, patterns)
def test_patterns_overlap_if_there_is_a_name_that_both_select(one: str, other: str) -> None:
    assert bool(names(one) & names(other)) == overlap(one, other)


@given(st.lists(patterns, max_size=4), patterns)
def test_a_wildcard_selects_the_channels_that_it_and_a_grant_select(granted: list[str], pattern: str) -> None:
    permissions = Policy({"r": Grants(subscribe=tuple(granted))}, "r").anonymous.permissions
    seen = Subscription(pattern, within=permissions.within(pattern))

    assert {name for name in NAMES if seen.selects(name)} == {
        name for name in names(pattern) if permissions.may(Action.SUBSCRIBE, name)
    }


@pytest.mark.parametrize(
    ("role", "subscribes"),
    [
        ("anonymous", "metrics status"),
        ("bot", "metrics status signals"),
        ("developer", "metrics status signals actions logs"),
        ("monitor", "metrics status"),
        ("admin", "metrics status signals actions logs connections my.own"),
        ("unheard_of", "metrics status"),
    ],
)
def test_the_default_roles_may_subscribe_as_on_the_first_server(role: str, subscribes: str) -> None:
    policy = build_policy(Config())
    permissions = policy.identity(Claims(user_id="u", expires_ns=1, roles=(role,))).permissions
    every = ["metrics", "status", "signals", "actions", "logs", "connections", "my.own"]

    assert subscribes.split() == [name for name in every if permissions.may(Action.SUBSCRIBE, name)]
    assert (role == "admin") == permissions.may(Action.PUBLISH, "metrics")
    assert (role == "admin") == permissions.may(Action.PUBLISH, "$everyone")
    assert (role in {"admin", "monitor"}) == permissions.admin


def test_a_tokens_grants_add_to_those_of_its_roles() -> None:
    policy = build_policy(Config())
    claims = Claims(user_id="u", expires_ns=1, roles=("bot",), grants=Grants(subscribe=("app.*",), admin=True))
    permissions = policy.identity(claims).permissions

    assert permissions.may(Action.SUBSCRIBE, "app.x")
    assert permissions.may(Action.SUBSCRIBE, "signals")
    assert not permissions.may(Action.SUBSCRIBE, "logs")
    assert not permissions.may(Action.PUBLISH, "app.x")
    assert permissions.admin


def test_no_wildcard_grants_the_gateways_own_channels() -> None:
    permissions = Policy({"r": Grants(publish=(">", "*"))}, "r").anonymous.permissions

    assert not permissions.may(Action.PUBLISH, "$everyone")
    assert not permissions.may(Action.PUBLISH, "$personal")
