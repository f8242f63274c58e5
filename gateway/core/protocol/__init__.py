"""The words on the wire: channels, events, messages, WebSocket frames, errors."""
