"""Clients of all gateways by what they subscribe to, as members of sorted sets in the engine.

A member is the kind of pattern (`=` a channel, `~` with wildcards), the pattern, a zero byte, and the client as JSON:
so those of one pattern, and the distinct patterns, are found by order."""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from gateway.core.cluster.mirror import Members
from gateway.core.fanout.views import Subscription
from gateway.core.protocol.channels import is_wildcard, matches


class PresentClient(Struct, frozen=True, order=True, array_like=True):
    """A client that is subscribed to a channel; `within` are the grants that narrow its pattern."""

    client_id: str
    user_id: str | None
    within: tuple[str, ...] | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(PresentClient).decode


def key_of(pattern: str) -> str:
    """Return what the members of a pattern begin with, before the zero byte."""
    return f"{'~' if is_wildcard(pattern) else '='}{pattern}"


def members(client_id: str, user_id: str | None, subscriptions: Iterable[Subscription]) -> Members:
    return frozenset(
        f"{key_of(one.pattern)}\0{_encode(PresentClient(client_id, user_id, _sorted(one.within))).decode()}"
        for one in subscriptions
    )


def _sorted(within: frozenset[str] | None) -> tuple[str, ...] | None:
    return None if within is None else tuple(sorted(within))


def user_member(user_id: str, client_id: str) -> str:
    """Return the member that counts a client as one of its user's."""
    return f"{user_key(user_id)}\0{client_id}"


def user_key(user_id: str) -> str:
    """Return what the members of a user begin with: a name as JSON, which has no zero byte."""
    return _encode(user_id).decode()


def user_of(key: bytes) -> str:
    """Return the user that a key stands for. Raises msgspec.MsgspecError: it is none."""
    return msgspec.json.decode(key, type=str)


def selecting(channel: str, wildcards: Iterable[str]) -> list[str]:
    """Return the keys of the patterns that select a channel: itself, and those of some wildcards."""
    return [key_of(channel), *(key_of(one) for one in sorted(set(wildcards)) if matches(one, channel))]


def merged(channel: str, own: Iterable[PresentClient], found: Iterable[bytes]) -> Sequence[PresentClient]:
    """Return the clients of this gateway and those found in the engine, each once, sorted by id."""
    clients = {one.client_id: one for one in own}
    for text in found:
        try:
            one = _decode(text)
        except msgspec.MsgspecError:
            continue
        if one.within is None or any(matches(grant, channel) for grant in one.within):
            clients.setdefault(one.client_id, one)
    return sorted(clients.values())
