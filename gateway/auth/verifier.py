"""Verifies tokens: their form, signature, times, audience and issuer."""

import base64
import json
import re
from collections.abc import Callable
from typing import NoReturn

import jwt

from gateway.auth import claims
from gateway.auth.claims import Reason, TokenError
from gateway.auth.jwks import Jwks
from gateway.auth.keys import FixedKeys, Key, KeySource, public_key_file, secret, secret_files
from gateway.config.model import Auth
from gateway.core.protocol.nesting import check_nesting
from gateway.core.sessions.permissions import Claims


TOKEN_BYTES_MAX = 8_192
LEVELS_MAX = 100
"""Of lists and objects in each other: how many Python itself can decode depends on its version."""

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_REASONS: dict[type[jwt.PyJWTError], Reason] = {
    jwt.InvalidSignatureError: "signature",
    jwt.InvalidAlgorithmError: "algorithm",
    jwt.ExpiredSignatureError: "expired",
    jwt.ImmatureSignatureError: "not_yet_valid",
    jwt.InvalidAudienceError: "audience",
    jwt.InvalidIssuerError: "issuer",
    jwt.exceptions.InvalidSubjectError: "claim",
    jwt.InvalidIssuedAtError: "claim",
    jwt.exceptions.InvalidJTIError: "claim",
}
_MISSING: dict[str, Reason] = {"aud": "audience", "iss": "issuer"}


class Verifier:
    """Verifies the tokens of one configuration. Needs a running event loop from `start` to `close`."""

    def __init__(self, auth: Auth, keys: KeySource) -> None:
        self._audience = auth.audience or None
        self._issuer = auth.issuer or None
        self._leeway = auth.leeway_seconds
        self._keys = keys

    def start(self) -> None:
        """Start to refresh keys from a URL. Returns at once, whether they can be fetched or not."""
        self._keys.start()

    async def close(self) -> None:
        await self._keys.close()

    async def verify(self, token: str) -> Claims:
        """Return the claims of a token. Waits only for keys from a URL, for some seconds at most.
        Raises TokenError: the token is not valid, or the keys cannot be fetched."""
        header = self._header(token)
        kid = header.get("kid")
        if kid is not None and not isinstance(kid, str):
            raise TokenError("malformed")
        *others, last = await self._keys.find(kid)
        if not any(self._is_of(token, key) for key in others):
            self._check(token, last)
        return claims.read(_object(token.split(".")[1]), leeway_seconds=self._leeway)

    def _header(self, token: str) -> dict[str, object]:
        """Return the header of a token of valid form; its content is not trusted."""
        if len(token) > TOKEN_BYTES_MAX or not _COMPACT.fullmatch(token):
            raise TokenError("malformed")
        head, _, signature = token.split(".")
        _decoded(signature)
        header = _object(head)
        # Extensions that change what is signed: a JWT has no legitimate use for them.
        if "crit" in header or "b64" in header:
            raise TokenError("malformed")
        return header

    def _is_of(self, token: str, key: Key) -> bool:
        """Return whether the token is signed with a key. Raises TokenError: it is, and something else is wrong."""
        try:
            self._check(token, key)
        except TokenError as error:
            if error.reason != "signature":
                raise
            return False
        return True

    def _check(self, token: str, key: Key) -> None:
        """Raise TokenError unless algorithm, signature, times, audience and issuer are right."""
        try:
            jwt.decode(
                token,
                key.material,
                algorithms=[key.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
                options={"require": ["exp"]},
            )
        except jwt.MissingRequiredClaimError as error:
            raise TokenError(_MISSING.get(error.claim, "claim")) from None
        except jwt.PyJWTError as error:
            raise TokenError(_REASONS.get(type(error), "malformed")) from None


def _decoded(segment: str) -> bytes:
    """Decode base64url; only the canonical encoding is accepted."""
    try:
        content = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError:
        raise TokenError("malformed") from None
    if base64.urlsafe_b64encode(content).rstrip(b"=") != segment.encode():
        raise TokenError("malformed")
    return content


def _object(segment: str) -> dict[str, object]:
    """Decode a segment to a JSON object, strictly: UTF-8, no duplicate names, no NaN, few levels."""
    content = _decoded(segment)
    try:
        check_nesting(content, LEVELS_MAX)
        found = json.loads(content.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except ValueError:
        raise TokenError("malformed") from None
    if not isinstance(found, dict):
        raise TokenError("malformed")
    return found


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("duplicate name")
    return found


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def verifier(auth: Auth, *, on_fetch: Callable[[bool], object] = lambda succeeded: None) -> Verifier | None:
    """Return the configured verifier, or None if authentication is disabled.

    `on_fetch` is called after each fetch of keys from a URL, with whether it succeeded.
    Raises ConfigError: a secret or key cannot be used."""
    if auth.secret:
        return Verifier(auth, FixedKeys([Key("HS256", secret(auth.secret))]))
    if auth.secret_file:
        return Verifier(auth, FixedKeys([Key("HS256", one) for one in secret_files(auth.secret_file)]))
    if auth.public_key_file:
        return Verifier(auth, FixedKeys([public_key_file(auth.public_key_file)]))
    if auth.jwks_url:
        return Verifier(auth, Jwks(auth.jwks_url, refresh_seconds=auth.jwks_refresh_seconds, on_fetch=on_fetch))
    return None
