"""Why a token is refused: one sentence for its sender, one word for the audit log."""

from typing import Literal

from gateway.core.protocol.errors import GatewayError


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

    `reason` is for logs; it holds no part of the token.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__("the token is not valid")
        self.reason = reason

    @property
    def temporary(self) -> bool:
        """Whether the same token may be valid later: the keys could not be fetched."""
        return self.reason == "keys_unavailable"
