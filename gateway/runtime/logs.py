"""The gateway's log on standard error: readable on a terminal, otherwise JSON lines.

A record has a ``message``, which names what happened in snake_case, and fields. docs/monitor.md lists
all messages. Fields may hold what anyone sent: so control characters are escaped, which keeps a record
on one line and off the terminal, secrets are redacted, and records that others can cause are throttled."""

import json
import logging
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger


Logger = structlog.stdlib.BoundLogger

_SECRETS = "token|secret|session|password|authorization"
_SECRET_KEY = re.compile(rf"(?:.*[_.-])?(?:{_SECRETS})", re.IGNORECASE)
_SECRET_IN_URL = re.compile(rf"([?&](?:\w*_)?(?:{_SECRETS})=)[^&\s\"']+", re.IGNORECASE)
_TOKEN = re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?")  # a JWT, wherever it is
_REDACTED = "[redacted]"
_DEPTH_MAX = 4
_TEXT_MAX = 4096


_WAITING_BYTES_MAX = 1024 * 1024
_FLUSH_SECONDS = 1.0


class _Handler(logging.Handler):
    """The root logger's handler: writes to a file descriptor in a thread, so that no writer of a record waits.

    If a pipe's reader stops or a disk is full, records wait, and beyond `_WAITING_BYTES_MAX` they are
    dropped. Once the descriptor takes records again, it gets the number of those that were dropped."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.addFilter(_ThrottledFailures())
        self._descriptor = descriptor
        self._waiting: list[bytes] = []
        self._bytes = 0
        """The size of what waits, and of what is being written."""
        self._dropped = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
        except Exception:  # a value's own `__repr__`
            line = b""
        with self._changed:
            if not line or self._bytes + len(line) > _WAITING_BYTES_MAX:
                self._dropped += 1
                return
            self._waiting.append(line)
            self._bytes += len(line)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="log", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Wait until everything is written, but not for a reader that has stopped."""
        with self._changed:
            self._changed.wait_for(lambda: not self._bytes, _FLUSH_SECONDS)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        super().close()

    def _write(self) -> None:
        log = logger("gateway")
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                lines, self._waiting = self._waiting, []
            data, written = b"".join(lines), 0
            try:
                while written < len(data):
                    written += os.write(self._descriptor, data[written:])
            except OSError:  # no space, or nobody reads
                pass
            with self._changed:
                self._bytes -= len(data)
                self._changed.notify_all()
                if written < len(data):
                    self._dropped += len(lines)
                    continue
                dropped, self._dropped = self._dropped, 0
            if dropped:
                log.warning("log_records_dropped", count=dropped)


class _ThrottledFailures(logging.Filter):
    """Throttles records that have a traceback: whatever fails for one client may fail for thousands."""

    def __init__(self) -> None:
        super().__init__()
        self._throttle = Throttle(count=5, interval_seconds=1.0)

    def filter(self, record: logging.LogRecord) -> bool:
        event = record.msg if isinstance(record.msg, dict) else {}
        if not (record.exc_info or "exception" in event):
            return True
        key = f"{record.name} {event.get('event', record.msg)}"
        suppressed = self._throttle.allow(key, now=time.monotonic())
        if suppressed and event:
            event["suppressed"] = suppressed
        return suppressed is not None


def set_up(level: str, format: Literal["auto", "console", "json"], descriptor: int = 2) -> None:
    """Send this package's log and that of all libraries to a file descriptor, by default standard error.

    A second call replaces the first."""
    terminal = os.isatty(descriptor)
    console = format == "console" or (format == "auto" and terminal)
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        structlog.processors.format_exc_info,
        _redact,
    ]
    handler = _Handler(descriptor)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([_escape, _console(terminal)] if console else [_json]),
            ],
        )
    )
    _replace_handler(handler)
    logging.getLogger().setLevel(level.upper())
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _replace_handler(handler: "_Handler") -> None:
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _Handler)]:
        root.removeHandler(old)
        old.flush()
        old.close()
    root.addHandler(handler)


def logger(name: str) -> Logger:
    """Return a logger: ``log.info("client_connected", client_id=…)``."""
    return cast(Logger, structlog.get_logger(name))


@dataclass(slots=True, eq=False, repr=False)
class Throttle:
    """Allows `count` records per interval and key, and counts the others.

    It holds at most `keys_max` keys; a new one replaces the one whose interval began first."""

    count: int
    interval_seconds: float
    keys_max: int = 1000
    _windows: "OrderedDict[str, _Window]" = field(default_factory=OrderedDict)

    def allow(self, key: str, *, now: float) -> int | None:
        """Return how many records were suppressed since the last allowed one; None to suppress this one."""
        window = self._windows.get(key)
        if window is None or now - window.start >= self.interval_seconds:
            self._windows.pop(key, None)
            self._windows[key] = _Window(now)
            if len(self._windows) > self.keys_max:
                self._windows.popitem(last=False)
            return window.suppressed if window else 0
        if window.allowed < self.count:
            window.allowed += 1
            return 0
        window.suppressed += 1
        return None


@dataclass(slots=True)
class _Window:
    """The current interval of a key, which its first record began."""

    start: float
    allowed: int = 1
    suppressed: int = 0


def _redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {key: _without_secrets(key, value, _DEPTH_MAX) for key, value in event.items()}


def _without_secrets(key: object, value: object, depth: int) -> object:
    if isinstance(key, str) and _SECRET_KEY.fullmatch(key):
        return _REDACTED
    match value:
        case str():
            more = len(value) - _TEXT_MAX if key != "exception" else 0
            shown = value[:_TEXT_MAX] + f"… ({more} more)" if more > 0 else value
            return _SECRET_IN_URL.sub(rf"\1{_REDACTED}", _TOKEN.sub(_REDACTED, shown))
        case Mapping() if depth:
            return {str(k): _without_secrets(k, v, depth - 1) for k, v in value.items()}
        case list() | tuple() if depth:
            return [_without_secrets(None, one, depth - 1) for one in value]
        case Mapping() | list() | tuple():
            return "[too deep]"
        case _:
            return value


def _escape(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {
        _one_line(key): _traceback(value)
        if key == "exception"
        else _one_line(value if isinstance(value, str) else repr(value))
        for key, value in event.items()
    }


def _one_line(text: str) -> str:
    """Escape what is not printable: controls, line ends, changes of writing direction."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _traceback(value: object) -> str:
    """Keep a traceback's lines, but indented: none can be taken for a record."""
    return "\n".join("  " + _one_line(line) for line in str(value).split("\n"))


def _console(terminal: bool) -> Processor:
    colours = terminal and not os.environ.get("NO_COLOR")
    return structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=28)


def _json(_: WrappedLogger, __: str, event: EventDict) -> str:
    # Not orjson, which refuses lone surrogates and integers beyond 64 bits: no record may get lost.
    record = {"message": event.pop("event"), **event}
    return json.dumps(record, default=repr, ensure_ascii=True)
