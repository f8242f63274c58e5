"""What a connect costs: how often a token is verified, wherever in the request it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.auth import Verifier
from gateway.auth.keys import FixedKeys, Key, public_key_file
from gateway.config.model import Auth, Config
from tests.support import ws
from tests.support.tokens import bearer
from tests.unit.web.conftest import Edge, MakeEdge


class CountingKey(FixedKeys):
    """A key from a file that counts how often a verification takes it."""

    verifications = 0

    async def find(self, kid: str | None) -> Sequence[Key]:
        self.verifications += 1
        return await super().find(kid)


@pytest.fixture
def private_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def key(private_key: ec.EllipticCurvePrivateKey, tmp_path: Path) -> CountingKey:
    path = tmp_path / "key.pem"
    path.write_bytes(private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return CountingKey([public_key_file(str(path))])


@pytest.fixture
async def edge(make_edge: MakeEdge, key: CountingKey) -> Edge:
    auth = Auth(public_key_file="counted", query_token=True)
    return await make_edge(Config(auth=auth), Verifier(auth, key))


@pytest.mark.parametrize("place", ["header", "subprotocol", "query"])
async def test_a_token_is_verified_once_per_connect(
    edge: Edge, key: CountingKey, private_key: ec.EllipticCurvePrivateKey, place: str
) -> None:
    """An ES256 signature takes 0.2 ms to verify: twice, 10,000 returning clients cost 4 s."""
    claims = {"sub": "ada", "exp": time.time() + 600, "roles": []}
    token = jwt.encode(claims, private_key, algorithm="ES256")
    client = await ws.connect(
        edge.url,
        headers=bearer(token) if place == "header" else None,
        protocols=["neurograph", f"bearer.{token}"] if place == "subprotocol" else (),
        token=token if place == "query" else None,
    )

    assert [one.user_id for one in edge.context.hub.sessions.values()] == ["ada"]
    assert key.verifications == 1
    await client.close()
