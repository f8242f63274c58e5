"""The HTTP side: WebSocket, REST, documents; the only home of aiohttp."""
