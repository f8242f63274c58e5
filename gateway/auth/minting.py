"""Makes tokens for development, which an identity provider issues in production."""

import time
from collections.abc import Sequence

import jwt
import msgspec

from gateway.auth.claims import TokenError
from gateway.auth.keys import SigningKey, private_key_file, secret, secret_files
from gateway.auth.verifier import verifier
from gateway.config.errors import ConfigError, Problem
from gateway.config.model import Auth
from gateway.core.sessions.permissions import Claims, Grants


def signing_key(auth: Auth, private_key: str | None) -> SigningKey:
    """Return the key to sign tokens with: the configured secret, or the private key in a file.
    Raises ConfigError: there is no such key, or it cannot be used."""
    if not auth.required:
        raise ConfigError([Problem("auth", "is not configured, so no token is needed", "set auth.secret_file")])
    symmetric = bool(auth.secret or auth.secret_file)
    if symmetric == (private_key is not None):
        reason = "is not needed with a secret" if symmetric else "is needed to sign a token"
        remedy = "leave it out" if symmetric else "name the private key of the public one"
        raise ConfigError([Problem("--private-key-file", reason, remedy)])
    if private_key is not None:
        return private_key_file(private_key)
    value = secret(auth.secret) if auth.secret else secret_files(auth.secret_file)[-1]
    return SigningKey("HS256", value)


def mint(auth: Auth, key: SigningKey, *, user: str | None, roles: Sequence[str], grants: Grants, seconds: int) -> str:
    """Return a token that is valid for so many seconds, for the configured audience and issuer."""
    now = int(time.time())
    claims: dict[str, object] = {"iat": now, "exp": now + seconds, "roles": list(roles)}
    named = {"sub": user, "aud": auth.audience, "iss": auth.issuer}
    claims |= {name: value for name, value in named.items() if value}
    if grants != Grants():
        claims["permissions"] = msgspec.to_builtins(grants)
    return jwt.encode(claims, key.material, algorithm=key.algorithm)


async def verify(auth: Auth, token: str) -> Claims | None:
    """Return the claims that the configured gateway reads from a token; None if its keys are at a URL.
    Raises ConfigError: the gateway would refuse the token."""
    checks = None if auth.jwks_url else verifier(auth)
    if checks is None:
        return None
    try:
        return await checks.verify(token)
    except TokenError as error:
        foreign = error.reason in {"algorithm", "signature"}
        remedy = "sign with the private key of auth.public_key_file" if foreign else "change the options"
        reason = f"the gateway would refuse this token ({error.reason})"
        raise ConfigError([Problem("token", reason, remedy)]) from None
