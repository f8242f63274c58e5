"""Peers are counted right, although libzmq does not say which connection's handshake succeeded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.bus.connections import Connections


def test_a_connection_is_a_peer_from_its_handshake_to_its_end() -> None:
    connections = Connections()
    connections.opened(7)
    assert connections.peers == 0
    connections.succeeded()
    assert connections.peers == 1
    assert connections.closed(7) == "down"
    assert connections.peers == 0


def test_a_socket_of_a_wrong_kind_takes_no_peer_away() -> None:
    """libzmq reports only that its connection opened and closed."""
    connections = Connections()
    connections.opened(7)
    connections.succeeded()
    for _ in range(2):
        connections.opened(8)
        assert connections.closed(8) == "wrong_kind"

    assert connections.peers == 1


def test_a_failure_that_was_reported_is_no_wrong_kind() -> None:
    connections = Connections()
    connections.opened(7)
    connections.failed()
    assert connections.closed(7) == "refused"


def test_of_two_that_begin_at_once_the_one_that_ends_at_once_was_no_peer() -> None:
    connections = Connections()
    connections.opened(7)
    connections.opened(8)
    connections.succeeded()

    assert connections.closed(8) == "wrong_kind"
    assert connections.peers == 1
    assert connections.closed(7) == "down"


def test_the_end_of_a_connection_that_was_never_seen_to_begin_changes_nothing() -> None:
    connections = Connections()
    connections.opened(7)
    connections.succeeded()

    assert connections.closed(8) == "unknown"
    assert connections.peers == 1


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["peer", "refused", "wrong_kind"])), max_size=40), st.data()
)
def test_when_no_handshake_is_under_way_the_count_is_exact(steps: list[tuple[int, str]], data: st.DataObject) -> None:
    """Handshakes go on side by side; peers that end are among them."""
    connections, up = Connections(), set()
    shaking: dict[int, str] = {}

    def finish(descriptor: int) -> None:
        match shaking.pop(descriptor):
            case "peer":
                connections.succeeded()
                up.add(descriptor)
            case "refused":
                connections.failed()
                connections.closed(descriptor)
            case _:
                connections.closed(descriptor)

    for descriptor, outcome in steps:
        if descriptor in shaking:
            finish(descriptor)
        elif descriptor in up:
            if not shaking:
                assert connections.closed(descriptor) == "down"
                up.discard(descriptor)
        else:
            connections.opened(descriptor)
            shaking[descriptor] = outcome
    for descriptor in data.draw(st.permutations(sorted(shaking))):
        finish(descriptor)

    assert connections.peers == len(up)
