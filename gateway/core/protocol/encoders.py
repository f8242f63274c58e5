"""Encodes what the fan-out writes in a form that some clients ask for, once for all of them."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from gateway.core.protocol.frames import each_frame


_CACHE_BYTES_MAX = 4 * 1024 * 1024

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class NewestCache(Generic[Key, Value]):
    """Keeps what was added last, up to a size in bytes."""

    def __init__(self) -> None:
        self.bytes = 0
        self._found: dict[Key, tuple[Value, int]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: Key) -> Value | None:
        found = self._found.get(key)
        return None if found is None else found[0]

    def add(self, key: Key, value: Value, size: int) -> Value:
        """Keep a value that is not kept yet; `size` is that of key and value."""
        self._found[key] = value, size
        self.bytes += size
        while self.bytes > _CACHE_BYTES_MAX:
            oldest = next(iter(self._found))
            self.bytes -= self._found.pop(oldest)[1]
        return value


class Encoder:
    """Encodes each of several frames in a row."""

    def __init__(self, encode: Callable[[bytes], bytes]) -> None:
        self._encode = encode
        self._last = self._encoded = b""

    def __call__(self, frames: bytes) -> bytes:
        """Return the frames of the same messages; if called with one object twice, the same object."""
        if frames is not self._last:
            self._last, self._encoded = frames, b"".join(map(self._encode, each_frame(frames)))
        return self._encoded
