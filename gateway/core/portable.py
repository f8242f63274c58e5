"""A session as it goes from one process to another."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from gateway.core.channels import EVERYONE, PERSONAL
from gateway.core.filters import parse
from gateway.core.log import LogState
from gateway.core.numbering import Cursor
from gateway.core.rights import Identity
from gateway.core.session import Session
from gateway.core.views import Selection


class Followed(Struct, frozen=True, array_like=True):
    """One subscription; the filter as its text."""

    pattern: str
    filter: str | None
    rate: float | None
    within: frozenset[str] | None


class SessionState(Struct, frozen=True):
    """All of a session that outlives its connection, except for its secret."""

    client_id: str
    identity: Identity
    followed: list[Followed]
    known: dict[str, Cursor]
    personal: LogState | None


def pack(session: Session) -> SessionState:
    """Return a session's state."""
    personal = session.personal
    return SessionState(
        session.client_id,
        session.identity,
        followed(session),
        known(session),
        None if personal is None else personal.state,
    )


def followed(session: Session) -> list[Followed]:
    """Return what a session follows."""
    return [
        Followed(one.pattern, one.filter.text if one.filter else None, one.rate, one.within)
        for one in session.subscriptions.values()
    ]


def known(session: Session) -> dict[str, Cursor]:
    """Return how far a session is known to have come in what it follows."""
    own, selections = {EVERYONE, PERSONAL}, session.subscriptions.values()
    return {
        name: place
        for name, place in session.known.items()
        if name in own or any(one.selects(name) for one in selections)
    }


def subscriptions(followed: Iterable[Followed]) -> Mapping[str, Selection]:
    """Return what the same session follows in another process, by pattern."""
    return {
        one.pattern: Selection(
            one.pattern, parse(one.filter) if one.filter is not None else None, one.rate, one.within
        )
        for one in followed
    }
