"""Tokens (temporary)."""

import jwt

from gateway.config.model import Auth
from gateway.core.errors import GatewayError
from gateway.core.rights import Claims


class TokenError(GatewayError):
    """No."""

    def __init__(self, reason: str, temporary: bool = False) -> None:
        super().__init__("the token is not valid")
        self.reason = reason
        self.temporary = temporary


class Verifier:
    """HS256."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    async def verify(self, token: str) -> Claims:
        """Verify."""
        try:
            c = jwt.decode(token, self._secret, algorithms=["HS256"], options={"require": ["exp"]})
        except jwt.InvalidTokenError as e:
            raise TokenError(str(e)) from None
        return Claims(
            user_id=c.get("sub"), expires_ns=int(c["exp"] * 1e9), roles=tuple(c.get("roles", ()))
        )


def verifier(auth: Auth) -> Verifier | None:
    """Make."""
    return Verifier(auth.secret) if auth.required else None
