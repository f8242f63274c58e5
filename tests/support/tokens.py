"""Tokens as an issuer would sign them, and a gateway that takes them."""

from __future__ import annotations

import time
from typing import Any

import jwt


SECRET = "a secret of the tests, long enough for HS256"
SETTINGS: dict[str, object] = {"auth.secret": SECRET}


def token(*roles: str, user: str | None = "alice", seconds: float = 3600, **claims: Any) -> str:
    """Return a token; `claims` replace or add to what is in it, None leaves one out."""
    payload = {"sub": user, "exp": time.time() + seconds, "roles": list(roles), **claims}
    present = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(present, SECRET, algorithm="HS256")


def bearer(value: str) -> dict[str, str]:
    """Return the header that brings a token."""
    return {"Authorization": f"Bearer {value}"}
