"""Lines of a file or of standard input, each an event."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import click


Encode = Callable[[bytes], bytes]

_BYTES_MAX = 32 * 1024 * 1024
_REPORTED_MAX = 10
_LOOK_SECONDS = 0.2


def lines(source: BinaryIO) -> Iterator[bytes]:
    """Read lines without their ends. A line that is too long is truncated, and is still too long for an event."""
    while line := source.readline(_BYTES_MAX + 1):
        rest = line
        while len(rest) > _BYTES_MAX and not rest.endswith(b"\n"):
            rest = source.readline(_BYTES_MAX + 1)
        yield _bare(line)


def followed(path: Path) -> Iterator[bytes]:
    """Read a file's lines, and for ever those that are added later.

    If the file is replaced or truncated, as log files are, it is read from its beginning."""
    while True:
        with path.open("rb") as source:
            line, is_cut = b"", False
            while True:
                line += source.readline(_BYTES_MAX + 1 - len(line))
                is_whole = line.endswith(b"\n")
                if is_whole or len(line) > _BYTES_MAX:
                    if not is_cut:
                        yield _bare(line)
                    line, is_cut = b"", not is_whole
                elif _is_replaced(path, source):
                    break
                else:
                    time.sleep(_LOOK_SECONDS)
            if line and not is_cut:
                yield _bare(line)


def _is_replaced(path: Path, source: BinaryIO) -> bool:
    """Return whether the path names another file than the open one, or whether that is shorter now."""
    try:
        now = path.stat()
    except FileNotFoundError:  # being replaced
        return False
    return not os.path.samestat(now, os.fstat(source.fileno())) or now.st_size < source.tell()


def _bare(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r")


class Payloads:
    """Iterates over the payloads of lines. Invalid lines are reported, and cause an error at the end."""

    skips_empty = True

    def __init__(self, source: Iterator[bytes], encode: Encode) -> None:
        self._source = source
        self._encode = encode
        self._refused = 0
        self.line = 0
        """The number of the line of the newest payload."""

    @property
    def place(self) -> str:
        """The place of the newest payload in the input."""
        return f"line {self.line}"

    def __iter__(self) -> Iterator[bytes]:
        for line in self._source:
            self.line += 1
            if self.skips_empty and not line.strip():
                continue
            try:
                payload = self._encode(line)
            except ValueError as error:
                self.refuse(str(error))
            else:
                yield payload
        if self._refused:
            raise click.ClickException(f"{self._refused:,} line{'s' * (self._refused != 1)} not valid")

    def refuse(self, why: str) -> None:
        """Report that the current line is invalid."""
        self._refused += 1
        if self._refused <= _REPORTED_MAX:
            click.echo(f"{self.place}: {why}", err=True)
