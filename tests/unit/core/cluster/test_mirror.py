"""A set in the engine, and what is written of it."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from gateway.core.cluster.mirror import Members, Mirror
from tests.support.sizes import full


CLIENTS = st.sampled_from("abc")
MEMBERS = st.frozensets(st.sampled_from(["1", "2", "3"]))


class MirrorMachine(RuleBasedStateMachine):
    """Clients change, the engine forgets, and writes get lost: in the end it holds what it should."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: dict[str, Members] = {}
        self.held: set[tuple[str, str]] = set()
        self.mirror = Mirror(
            lambda client: frozenset(f"{client}{one}" for one in self.wanted.get(client, ())),
            lambda: [client for client, members in self.wanted.items() if members],
        )

    @rule(client=CLIENTS, members=MEMBERS)
    def change(self, client: str, members: Members) -> None:
        self.wanted[client] = members
        self.mirror.note(client)

    @rule(client=CLIENTS, connects=st.booleans())
    def reserve(self, client: str, connects: bool) -> None:
        """A client is counted before it connects, and perhaps does not."""
        self.mirror.note_written(client, f"{client}1")
        self.held.add((client, "1"))
        if connects:
            self.wanted[client] = self.wanted.get(client, frozenset()) | {"1"}
        self.mirror.note(client)

    @rule(forgets=st.booleans())
    def lose(self, forgets: bool) -> None:
        if forgets:
            self.held.clear()
        self.mirror.lose()

    @rule(count=st.integers(1, 3))
    def write(self, count: int) -> None:
        changes = self.mirror.take(count)
        if changes is not None:
            if changes.clear:
                self.held.clear()
            self.held -= {(one[0], one[1]) for one in changes.remove}
            self.held |= {(one[0], one[1]) for one in changes.add}

    @rule(count=st.integers(1, 3))
    def fail_to_write(self, count: int) -> None:
        self.mirror.take(count)
        self.mirror.lose()

    def teardown(self) -> None:
        """All that is noted can be written, after which nothing is left to write."""
        for _ in range(10):
            self.write(1)
        assert self.held == {(client, one) for client, members in self.wanted.items() for one in members}
        assert self.mirror.take(9) is None


TestMirror = MirrorMachine.TestCase
TestMirror.settings = settings(max_examples=full(100, 25), stateful_step_count=20, deadline=None)
