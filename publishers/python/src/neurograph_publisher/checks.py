"""The checks of a publisher's arguments, and its exception."""

import os
import re
import sys
from socket import gethostname


_is_topic = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*").fullmatch
_TOPIC_BYTES_MAX = 128
_NAME_MAX = 64
_EVENT_TYPE_MAX = 128


class PublisherError(Exception):
    """An invalid argument or state; the text says what is wrong and what to do."""


def check_process() -> None:
    """Raise PublisherError if gevent has patched threads or sockets: ZeroMQ would wait for ever."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        raise PublisherError(
            "gevent has patched this process (monkey.patch_all), and a publisher needs real threads and "
            "sockets; publish from a process without it, or patch with thread=False, socket=False, select=False"
        )


def check_topic(topic: object) -> None:
    """Raise PublisherError unless the topic is valid."""
    if not isinstance(topic, str) or len(topic) > _TOPIC_BYTES_MAX or not _is_topic(topic):
        raise PublisherError(
            f"{topic!r} is not a topic: text, segments of [A-Za-z0-9_-] joined by dots, "
            f"at most {_TOPIC_BYTES_MAX} bytes"
        )


def check_event_type(event_type: object) -> None:
    """Raise PublisherError unless the event type is valid."""
    if not isinstance(event_type, str) or not 0 < len(event_type) <= _EVENT_TYPE_MAX:
        raise PublisherError(f"event_type: {event_type!r} is not text of 1 to {_EVENT_TYPE_MAX} characters")


def check_within(name: str, value: float, least: float, most: float) -> None:
    """Raise PublisherError unless the number is from `least` to `most`, both included."""
    if not least <= value <= most:
        raise PublisherError(f"{name}: {value} is not within {least} to {most}")


def check_name(name: str | None) -> str:
    """Return the name, by default the host and process id, or raise PublisherError if it is invalid."""
    if name is None:
        return f"{gethostname()}:{os.getpid()}"[-_NAME_MAX:]
    if not name.isprintable() or not 0 < len(name) <= _NAME_MAX:
        raise PublisherError(f"name: {name!r} is not 1 to {_NAME_MAX} printable characters")
    return name
