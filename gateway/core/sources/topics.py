"""From a topic to the name of its channel.

The separator becomes a dot, empty segments are left out, and bytes that names do not allow are written as
``%`` and two hexadecimal digits: ``robot/1/pose`` is the channel ``robot.1.pose``, and ``kv@host:80`` is
``kv%40host%3A80``."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from gateway.core.protocol.channels import NAME_BYTES_MAX, is_name
from gateway.core.sources.errors import Unreadable
from gateway.core.sources.spec import Spec


_CACHED_MAX = 4096
_OTHER = re.compile(rb"[^A-Za-z0-9_-]")
_SHOWN_BYTES = 128


def make_naming(spec: Spec) -> Callable[[bytes | None], str]:
    """Return a function from a message's topic to its channel; it raises `Unreadable`."""
    fixed = (spec.topic or ("logs" if spec.event == "log" else "")).encode()
    empty = spec.empty_topic.encode() or fixed
    separator = spec.separator.encode()

    @lru_cache(_CACHED_MAX)
    def name(topic: bytes | None) -> str:
        if topic is None:
            topic = fixed
        segments = [part for part in (topic or empty).split(separator) if part]
        if not segments:
            raise Unreadable("bad_topic", "the topic is empty; name its channel with `empty_topic` in [[bus.sources]]")
        found = _renamed(".".join(map(_escaped, segments)), spec.rename)
        if spec.prefix:
            found = f"{spec.prefix}.{found}"
        if not is_name(found):
            raise Unreadable(
                "bad_topic",
                f"{topic[:_SHOWN_BYTES]!r} is longer than the {NAME_BYTES_MAX} bytes of a channel's name; "
                "a shorter `prefix` or `rename` in [[bus.sources]] would help",
            )
        return found

    return name


def unescape(name: str) -> str:
    """Return a channel's name as people read it: escapes are characters again, where they are UTF-8."""
    if "%" not in name:
        return name
    found = re.sub(rb"%([0-9A-F]{2})", lambda match: bytes.fromhex(match[1].decode()), name.encode())
    try:
        return found.decode()
    except UnicodeDecodeError:
        return name


def escape(text: str) -> str:
    """Return the channel's name for a text in which dots separate segments, and escapes stay as they are."""
    return re.sub(rb"%(?![0-9A-F]{2})|[^A-Za-z0-9_.%-]", _hexadecimal, text.encode()).decode()


def _escaped(segment: bytes) -> str:
    return _OTHER.sub(_hexadecimal, segment).decode()


def _hexadecimal(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]


def _renamed(name: str, rename: Mapping[str, str]) -> str:
    """Apply the first rule that fits: a name, or a prefix that ends in ``.>``."""
    for old, new in rename.items():
        if name == old:
            return new
        if old.endswith(".>") and name.startswith(old[:-1]):
            rest = name[len(old) - 1 :]
            return f"{new[:-1]}{rest}" if new.endswith(".>") else new
    return name
