"""Who may do what: roles from the configuration, grants from a token, and what they come to.

Patterns grant channels. A wildcard that somebody follows sees of its channels those that a grant
covers, so a subscription to ``>`` is never more than its owner's rights, also of channels yet to
open.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, NoReturn

from msgspec import Meta, Struct

from gateway.core.protocol.channels import is_wildcard, matches
from gateway.core.protocol.errors import ErrorCode, RequestError


ANONYMOUS = "anonymous"

Names = Annotated[tuple[Annotated[str, Meta(max_length=128)], ...], Meta(max_length=64)]


class Grants(Struct, frozen=True):
    """Patterns by action, as in a role or in a token's `permissions`."""

    subscribe: Names = ()
    publish: Names = ()
    presence: Names = ()
    admin: bool = False


class Claims(Struct, frozen=True, kw_only=True):
    """What a verified token says: who, until when (unix time in ns), in which roles, with what more."""

    user_id: str | None
    expires_ns: int
    roles: tuple[str, ...] = ()
    grants: Grants = Grants()


class Action(Enum):
    """What one may do with a channel."""

    SUBSCRIBE = "subscribe"
    PUBLISH = "publish"
    PRESENCE = "presence"


@dataclass(frozen=True, slots=True)
class Permissions:
    """What somebody may do: patterns by action, and whether the gateway's own state is shown."""

    patterns: Mapping[Action, frozenset[str]]
    admin: bool = False

    def may(self, action: Action, channel: str) -> bool:
        """Tell whether an action on one channel is allowed."""
        return any(matches(pattern, channel) for pattern in self.patterns[action])

    def within(self, pattern: str) -> frozenset[str] | None:
        """Return what of a pattern may be followed: None = all, else the grants that it meets."""
        granted = self.patterns[Action.SUBSCRIBE]
        if any(covers(grant, pattern) for grant in granted):
            return None
        return frozenset(grant for grant in granted if overlap(grant, pattern))


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody: a user, or nobody in particular; `expires_ns` is unix time, None = never."""

    permissions: Permissions
    user_id: str | None = None
    roles: tuple[str, ...] = ()
    expires_ns: int | None = None
    is_anonymous: bool = False
    """Whether a token would make somebody else of it."""

    @property
    def is_open(self) -> bool:
        """Whether everybody is this, as there is no authentication."""
        return self.expires_ns is None and not self.is_anonymous

    def is_same_as(self, other: "Identity") -> bool:
        """Tell whether what one has left behind may be taken up by the other.

        With an open door whoever has the secret may; else it has to be the same user.
        """
        if self.is_open:
            return True
        return self.user_id == other.user_id and self.is_anonymous == other.is_anonymous

    def may_become(self, other: "Identity") -> bool:
        """Tell whether a client that is one may go on as the other: as the same user, or from nobody."""
        return self.is_anonymous or other.user_id == self.user_id

    def require(self, action: Action, channel: str) -> None:
        """Insist on a right.

        Raises:
            RequestError: It is not there; without a token one may help.
        """
        if not self.permissions.may(action, channel):
            self._refuse(f"{action.value} {channel}")

    def require_admin(self) -> None:
        """Insist on the right to see the gateway's own state.

        Raises:
            RequestError: It is not there; without a token one may help.
        """
        if not self.permissions.admin:
            self._refuse("see this")

    def _refuse(self, what: str) -> NoReturn:
        if self.is_anonymous:
            raise RequestError(ErrorCode.UNAUTHORIZED, f"a token is needed to {what}")
        raise RequestError(ErrorCode.FORBIDDEN, f"none of your roles may {what}")


@dataclass(frozen=True, slots=True)
class Policy:
    """What roles may do; with `unauthenticated_role` everybody has it, and no token is needed."""

    roles: Mapping[str, Grants]
    unauthenticated_role: str | None
    anonymous: Identity = field(init=False)
    """Who brings no token."""

    def __post_init__(self) -> None:
        role = ANONYMOUS if self.unauthenticated_role is None else self.unauthenticated_role
        nobody = Identity(
            permissions=self._permissions([role]),
            roles=(role,),
            is_anonymous=self.unauthenticated_role is None,
        )
        object.__setattr__(self, "anonymous", nobody)

    def identity(self, claims: Claims) -> Identity:
        """Return who a token makes of its bearer: its roles, as far as they exist, and its grants."""
        return Identity(
            permissions=self._permissions([ANONYMOUS, *claims.roles], claims.grants),
            user_id=claims.user_id,
            roles=claims.roles,
            expires_ns=claims.expires_ns,
        )

    def _permissions(self, roles: Iterable[str], own: Grants = Grants()) -> Permissions:  # noqa: B008  # frozen
        grants = [own, *(self.roles[name] for name in roles if name in self.roles)]
        return Permissions(
            patterns={
                Action.SUBSCRIBE: frozenset(p for one in grants for p in one.subscribe),
                Action.PUBLISH: frozenset(p for one in grants for p in one.publish),
                Action.PRESENCE: frozenset(p for one in grants for p in one.presence),
            },
            admin=any(one.admin for one in grants),
        )


def covers(wide: str, narrow: str) -> bool:
    """Tell whether a pattern selects every name that another one selects."""
    if not is_wildcard(narrow):
        return matches(wide, narrow)
    wides, narrows = wide.split("."), narrow.split(".")
    for n, one in enumerate(wides):
        if one == ">":
            return n < len(narrows)
        if n >= len(narrows) or narrows[n] == ">" or one not in {"*", narrows[n]}:
            return False
    return len(wides) == len(narrows)


def overlap(first: str, second: str) -> bool:
    """Tell whether there are names that both patterns select."""
    firsts, seconds = first.split("."), second.split(".")
    for one, other in zip(firsts, seconds, strict=False):
        if ">" in {one, other}:
            return True
        if one != other and "*" not in {one, other}:
            return False
    return len(firsts) == len(seconds)
