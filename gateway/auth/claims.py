"""Reads the payload of a verified token into `Claims`, or says why a token is refused."""

import math
from collections.abc import Mapping
from typing import Literal

import msgspec

from gateway.core.protocol.channels import EVERYONE, PERSONAL, is_pattern
from gateway.core.protocol.errors import GatewayError
from gateway.core.sessions.permissions import Claims, Grants


_NAME_MAX = 128
_ROLES_MAX = 64
_SECONDS_MAX = (2**63 - 1) // 10**9
"""Later expiries are clamped to this: Unix time in ns fits 64 bits until the year 2262."""


Reason = Literal[
    "malformed",
    "algorithm",
    "signature",
    "expired",
    "not_yet_valid",
    "audience",
    "issuer",
    "claim",
    "unknown_key",
    "keys_unavailable",
]


class TokenError(GatewayError):
    """A token is refused. The text is always the same, so that a sender cannot probe for the reason.

    `reason` is for logs; it holds no part of the token."""

    def __init__(self, reason: Reason) -> None:
        super().__init__("the token is not valid")
        self.reason = reason

    @property
    def temporary(self) -> bool:
        """Whether the same token may be valid later: the keys could not be fetched."""
        return self.reason == "keys_unavailable"


def read(payload: Mapping[str, object], *, leeway_seconds: float) -> Claims:
    """Return the claims of a payload whose signature and times are verified.

    They expire at `exp` plus the leeway, as the token does.
    Raises TokenError: a claim that the gateway uses has a wrong type or value."""
    for name in ("exp", "nbf", "iat"):
        if name in payload:
            _time(payload[name])
    expires = int(_time(payload.get("exp"))) + leeway_seconds
    user = payload.get("sub")
    return Claims(
        user_id=None if user is None else _name(user),
        expires_ns=round(min(expires, _SECONDS_MAX) * 10**9),
        roles=_roles(payload),
        grants=_grants(payload.get("permissions", {})),
    )


def _time(value: object) -> int | float:
    """Check a NumericDate (RFC 7519, section 2): a number, not a string that looks like one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TokenError("claim")
    return value


def _name(value: object) -> str:
    if not (isinstance(value, str) and 0 < len(value) <= _NAME_MAX and value.isprintable()):
        raise TokenError("claim")
    return value


def _roles(payload: Mapping[str, object]) -> tuple[str, ...]:
    several = payload.get("roles", [])
    if not isinstance(several, list):
        raise TokenError("claim")
    one = [payload["role"]] if "role" in payload else []
    roles = dict.fromkeys(_name(role) for role in [*one, *several])
    if len(roles) > _ROLES_MAX:
        raise TokenError("claim")
    return tuple(roles)


def _grants(value: object) -> Grants:
    if not (isinstance(value, dict) and value.keys() <= set(Grants.__struct_fields__)):
        raise TokenError("claim")
    try:
        grants = msgspec.convert(value, Grants)
    except msgspec.ValidationError:
        raise TokenError("claim") from None
    broadcast = set(grants.publish) - {EVERYONE, PERSONAL}
    if not all(map(is_pattern, {*grants.subscribe, *grants.presence, *broadcast})):
        raise TokenError("claim")
    return grants
