"""What the commands print, safe on a terminal, and how they end."""

import os
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager

import click
import orjson


INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""

_CLEAR_LINE = "\x1b[K"
_PROGRESS_SECONDS = 0.5


class CommandError(click.ClickException):
    """Ends the command with a line on standard error and the exit status 1."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Return the text on one line: control characters, line ends and direction marks are escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, chars_max: int) -> str:
    """Return the printable beginning of a text, and the number of characters that were cut."""
    more = len(text) - chars_max
    return printable(text) if more <= 0 else f"{printable(text[:chars_max])}… ({more:,} more)"


def _base64(value: object) -> str:
    if isinstance(value, bytes):
        return b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} is not JSON")


def json_line(document: object) -> str:
    """Return the document as a line of JSON: bytes are base64, and what is not printable is escaped."""
    line = orjson.dumps(document, default=_base64).decode()
    if not line.isprintable():
        line = "".join(c if c.isprintable() else _json_escape(c) for c in line)
    return line + "\n"


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def has_colours() -> bool:
    """Whether standard output is a terminal, and colours are not turned off."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def notice(text: str) -> None:
    """Print a line on standard error."""
    click.echo(printable(text), err=True)


def write(text: str) -> None:
    """Write to standard output without delay.

    Raises:
        BrokenPipeError: The reader has closed the pipe.
    """
    sys.stdout.write(text)
    sys.stdout.flush()


class Progress:
    """A line on standard error, if that is a terminal, which is written anew at most twice a second."""

    def __init__(self, count: int = 0) -> None:
        self._count = count
        self._at = time.monotonic()
        self._is_shown = False

    def show(self, count: int, text: str) -> None:
        """Show a text, and how many more there are in a second."""
        now = time.monotonic()
        if now - self._at < _PROGRESS_SECONDS or not sys.stderr.isatty():
            return
        rate = (count - self._count) / (now - self._at)
        self._count, self._at, self._is_shown = count, now, True
        click.echo(f"\r{_CLEAR_LINE}{text}, {rate:,.0f}/s\r", nl=False, err=True)

    def clear(self) -> None:
        """Leave the line to what is printed next."""
        if self._is_shown:
            click.echo(_CLEAR_LINE, nl=False, err=True)


@contextmanager
def clean_exit() -> Iterator[None]:
    """Exit without a traceback: with 130 on Ctrl-C, with 0 when the reader has closed the pipe."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:  # events have any text, whatever the locale
        reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        # The interpreter flushes standard output once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
