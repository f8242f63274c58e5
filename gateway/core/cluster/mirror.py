"""What the engine holds of this gateway's clients, compared with what it should hold."""

from collections.abc import Callable
from dataclasses import dataclass


Members = frozenset[str]
"""A client's members of a set in the engine."""
_NONE: Members = frozenset()


@dataclass(frozen=True, slots=True)
class Changes:
    """What to write next; with `clear`, the set is to be emptied first."""

    clear: bool
    add: list[str]
    remove: list[str]


class Mirror:
    """A set in the engine, in which each client has some members.

    Invariant: what is `_written` and not changed since is in the engine; after `lose`, nothing is."""

    def __init__(self, members_of: Callable[[str], Members], client_ids: Callable[[], list[str]]) -> None:
        self._members_of = members_of
        """Returns what the engine should hold of a client now; nothing, if it is not connected."""
        self._client_ids = client_ids
        """Returns all clients that are connected."""
        self._written: dict[str, Members] = {}
        self._changed: dict[str, None] = {}
        self._clear = False

    def note(self, client_id: str) -> None:
        """Note that a client has changed."""
        self._changed[client_id] = None

    def note_written(self, client_id: str, member: str) -> None:
        """Note that the engine was given a member already; `note` the client when it should have it, or not."""
        if not self._clear:  # else it will be removed with all others
            self._written[client_id] = self._written.get(client_id, _NONE) | {member}

    def lose(self) -> None:
        """Note that it is not known what the engine holds: all is written again."""
        self._clear = True
        self._written.clear()
        self._changed = dict.fromkeys(self._client_ids())

    def take(self, clients_max: int) -> Changes | None:
        """Return the changes of some clients, which are then taken as written; None if there are none."""
        if not (self._clear or self._changed):
            return None
        taken = list(self._changed)[:clients_max]
        changes, self._clear = Changes(self._clear, [], []), False
        for client_id in taken:
            del self._changed[client_id]
            before, now = self._written.pop(client_id, _NONE), self._members_of(client_id)
            if now:
                self._written[client_id] = now
            changes.add.extend(now - before)
            changes.remove.extend(before - now)
        return changes
