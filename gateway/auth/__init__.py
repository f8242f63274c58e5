"""Authentication: turns a token into `Claims`, or into a `TokenError`, which does not tell why.

    verifier  verifies a token
    claims    reads its payload; why a token is refused
    keys      the keys that verify signatures, and their algorithms
    jwks      keys from a URL
    minting   makes tokens for development

The configuration and the key set the algorithm, never the token."""

from gateway.auth.claims import TokenError
from gateway.auth.verifier import Verifier, verifier


__all__ = ["TokenError", "Verifier", "verifier"]
