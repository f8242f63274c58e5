"""Permissions of clients: roles from the configuration, and grants from a token.

Grants are patterns of channels. A subscription to a wildcard gets only the channels that a grant
selects, also of those that open later."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Annotated, NoReturn

from msgspec import Meta, Struct

from gateway.core.protocol.channels import PERSONAL, is_wildcard, matches
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
    """What a verified token says; `expires_ns` is unix time."""

    user_id: str | None
    expires_ns: int
    roles: tuple[str, ...] = ()
    grants: Grants = Grants()


class Action(Enum):
    """What a client may do with a channel; PRESENCE is to see its subscribers."""

    SUBSCRIBE = "subscribe"
    PUBLISH = "publish"
    PRESENCE = "presence"


_VERBS = {Action.SUBSCRIBE: "subscribe to", Action.PUBLISH: "publish on", Action.PRESENCE: "see the subscribers of"}


@dataclass(frozen=True, slots=True)
class Permissions:
    """Patterns by action; `admin` allows to see the gateway's own state."""

    patterns: Mapping[Action, frozenset[str]]
    admin: bool = False

    def may(self, action: Action, channel: str) -> bool:
        return any(matches(pattern, channel) for pattern in self.patterns[action])

    def within(self, pattern: str) -> frozenset[str] | None:
        """Return the grants to subscribe that overlap a pattern; None if one covers all of it."""
        granted = self.patterns[Action.SUBSCRIBE]
        if any(covers(grant, pattern) for grant in granted):
            return None
        return frozenset(grant for grant in granted if overlap(grant, pattern))


@dataclass(frozen=True, slots=True)
class Identity:
    """A client's user and permissions; `expires_ns` is unix time, None if it does not expire."""

    permissions: Permissions
    user_id: str | None = None
    roles: tuple[str, ...] = ()
    expires_ns: int | None = None
    is_anonymous: bool = False
    """Whether the client can have other permissions with a token."""
    grants: Grants = Grants()  # noqa: RUF009  # frozen
    """The token's own grants, besides those of its roles."""

    @property
    def is_open(self) -> bool:
        """Whether there is no authentication: then all clients have this identity."""
        return self.expires_ns is None and not self.is_anonymous

    def is_same_as(self, other: "Identity") -> bool:
        """Return whether `other` may resume a session of this identity: it needs the same user.

        Without authentication, the session's secret is enough."""
        if self.is_open:
            return True
        return self.user_id == other.user_id and self.is_anonymous == other.is_anonymous

    def may_become(self, other: "Identity") -> bool:
        """Return whether a connected client may change to `other`: the same user, or if anonymous."""
        return self.is_anonymous or other.user_id == self.user_id

    def require(self, action: Action, channel: str) -> None:
        if not self.permissions.may(action, channel):
            self._refuse(f"{_VERBS[action]} {channel}")

    def require_publisher(self, channel: str | None) -> None:
        """Check that the client may publish to a channel, or to anything at all if none is given.
        Raises RequestError: it may not."""
        if channel is not None:
            self.require(Action.PUBLISH, channel)
        elif not self.permissions.patterns[Action.PUBLISH]:
            self._refuse("publish")

    def require_admin(self) -> None:
        """Check the permission to see the gateway's own state. Raises RequestError: the client does not have it."""
        if not self.permissions.admin:
            self._refuse("see the gateway's state")

    def require_operator(self) -> None:
        """Check that the client may act on other clients: not each reader of the gateway's state may.
        Raises RequestError: it may not."""
        if not (self.permissions.admin and self.permissions.may(Action.PUBLISH, PERSONAL)):
            self._refuse("disconnect clients")

    def _refuse(self, what: str) -> NoReturn:
        if self.is_anonymous:
            raise RequestError(ErrorCode.UNAUTHORIZED, f"a token is needed to {what}")
        raise RequestError(ErrorCode.FORBIDDEN, f"none of your roles may {what}")


@dataclass(frozen=True, slots=True)
class Policy:
    """The grants of each role. If `unauthenticated_role` is set, all clients have it, without a token."""

    roles: Mapping[str, Grants]
    unauthenticated_role: str | None
    anonymous: Identity = field(init=False)
    """The identity of clients without a token."""

    def __post_init__(self) -> None:
        role = ANONYMOUS if self.unauthenticated_role is None else self.unauthenticated_role
        anonymous = Identity(
            permissions=self._permissions([role]), roles=(role,), is_anonymous=self.unauthenticated_role is None
        )
        object.__setattr__(self, "anonymous", anonymous)

    def identity(self, claims: Claims) -> Identity:
        """Return a token's identity: with the grants of its roles, as far as they exist, and its own."""
        return Identity(
            permissions=self._permissions([ANONYMOUS, *claims.roles], claims.grants),
            user_id=claims.user_id,
            roles=claims.roles,
            expires_ns=claims.expires_ns,
            grants=claims.grants,
        )

    def renewed(self, identity: Identity) -> Identity:
        """Return an identity of another policy with the permissions that this one gives its roles."""
        if identity.is_anonymous or identity.is_open:
            return replace(self.anonymous, user_id=identity.user_id)
        roles = (ANONYMOUS, *identity.roles)
        return replace(identity, permissions=self._permissions(roles, identity.grants))

    def _permissions(self, roles: Iterable[str], own: Grants = Grants()) -> Permissions:  # noqa: B008  # frozen
        grants = [own, *(self.roles[name] for name in roles if name in self.roles)]
        patterns = {action: frozenset(p for one in grants for p in getattr(one, action.value)) for action in Action}
        return Permissions(patterns, admin=any(one.admin for one in grants))


def covers(wide: str, narrow: str) -> bool:
    """Return whether one pattern selects every name that the other selects."""
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
    """Return whether there are names that both patterns select."""
    firsts, seconds = first.split("."), second.split(".")
    for one, other in zip(firsts, seconds, strict=False):
        if ">" in {one, other}:
            return True
        if one != other and "*" not in {one, other}:
            return False
    return len(firsts) == len(seconds)
