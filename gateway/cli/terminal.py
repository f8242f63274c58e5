"""What every command that speaks to people at a terminal has to mind: what it prints, how it ends."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click


INTERRUPTED = 130
"""The exit status after Ctrl-C, as of any program that the signal ends."""


class Failure(click.ClickException):
    """Ends the program with a line on standard error and status 1."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class Mistake(Failure):
    """The same with status 2: what was asked for is wrong, whoever asks and whenever."""

    exit_code = 2


def printable(text: str) -> str:
    """The text on one line and safe on a terminal: controls, line ends, turns of writing direction escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, chars_max: int) -> str:
    """The beginning of a text, safe on a terminal, and how much more of it there is."""
    more = len(text) - chars_max
    return printable(text) if more <= 0 else f"{printable(text[:chars_max])}… ({more:,} more)"


def json_line(document: object) -> str:
    """The document as a line of JSON, in which all that is not printable is escaped."""
    import orjson  # here, so that `gateway check` and --help start without it

    line = orjson.dumps(document).decode()
    if not line.isprintable():
        line = "".join(c if c.isprintable() else _json_escape(c) for c in line)
    return line + "\n"


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def on_terminal() -> bool:
    """Whether standard output is a terminal, and so read by people."""
    return sys.stdout.isatty()


def coloured() -> bool:
    """Whether standard output is a terminal that is to have colours."""
    return on_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    """Tell people something that is no output, on standard error."""
    click.echo(printable(text), err=True)


def write(text: str) -> None:
    """Write lines to standard output, now.

    Raises:
        BrokenPipeError: Nobody reads it any more.
    """
    sys.stdout.write(text)
    sys.stdout.flush()


@contextmanager
def ending_well() -> Iterator[None]:
    """End the program without a traceback: with 130 on Ctrl-C, with 0 when nobody reads on."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:  # whatever the locale: what comes is any text
        reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        # The interpreter flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
