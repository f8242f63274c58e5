"""How the gateway is reached: TLS, proxy, further headers, compression."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ssl import SSLContext

import aiohttp

from neurograph_client.encoding import Encoding


_COMPRESSION_BITS = 15


@dataclass(frozen=True, slots=True)
class Transport:
    """What is the same for all connections of a client, also those over HTTP."""

    ssl: SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    proxy: str | None = None
    compression: bool = True
    encoding: Encoding = "json"

    @property
    def compression_bits(self) -> int:
        """What to offer for permessage-deflate; 0 offers none."""
        return _COMPRESSION_BITS if self.compression else 0

    def session(self, timeout: aiohttp.ClientTimeout | None = None) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self.ssl or True),
            headers=self.headers,
            proxy=self.proxy,
            timeout=timeout or aiohttp.ClientTimeout(),
        )
