"""Where a gateway is: one address for its WebSocket and for its HTTP interface."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit


_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


@dataclass(frozen=True, slots=True)
class Address:
    """A gateway's address, from a URL with or without ``/ws``, of http, https, ws or wss; http if none is given.

    Raises:
        ValueError: It is no such URL.
    """

    url: str

    def __post_init__(self) -> None:
        if "://" not in self.url:
            object.__setattr__(self, "url", f"http://{self.url}")
        parts = urlsplit(self.url)
        if parts.scheme not in _SCHEMES or not parts.hostname:
            raise ValueError(f"{self.url!r} is no address like http://127.0.0.1:8000")

    def websocket(self, query: Mapping[str, object]) -> str:
        """Return the address to connect to; what is None is left out, mappings become JSON.

        Its scheme is that of HTTP: a proxy does not know ws.
        """
        given = {
            name: json.dumps(value, separators=(",", ":")) if isinstance(value, dict) else value
            for name, value in query.items()
            if value is not None
        }
        text = f"{self._base()}/ws"
        return f"{text}?{urlencode(given)}" if given else text

    def http(self, path: str) -> str:
        """Return the address of something in the HTTP interface."""
        return f"{self._base()}/api/v1/websocket/{path}"

    def _base(self) -> str:
        parts = urlsplit(self.url)
        return f"{_SCHEMES[parts.scheme]}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/ws')}"
