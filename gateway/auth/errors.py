"""Why a token is refused: one sentence for whoever sent it, one word for the audit log."""

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
    """A token that is not taken. Its text is the same whatever is wrong, so that nobody can probe.

    `reason` is for logs and metrics; it holds nothing of the token.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__("the token is not valid")
        self.reason = reason

    @property
    def temporary(self) -> bool:
        """Whether the same token may be taken later: the keys could not be asked for."""
        return self.reason == "keys_unavailable"
