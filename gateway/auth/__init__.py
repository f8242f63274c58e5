"""Authentication: from a token to `Claims`, or to a `TokenError` that tells its sender nothing.

    verifier  whether a token is good, and what it says
    claims    from what it says to what the gateway goes by
    keys      what signatures are verified with, and how each kind is
    jwks      keys from a URL
    minting   tokens for development
    errors    why a token is refused

What is signed how comes from the configuration and the keys, never from the token.
"""

from gateway.auth.errors import TokenError
from gateway.auth.verifier import Verifier, verifier


__all__ = ["TokenError", "Verifier", "verifier"]
