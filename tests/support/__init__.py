"""What the tests stand on: a real gateway process, real publishers, two kinds of WebSocket client."""
