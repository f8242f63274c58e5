"""Standard streams that are closed or full: a command says so if it can, and never shows a traceback."""

import contextlib
import errno
import os
import sys
from typing import NoReturn

import click


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


def open_closed() -> None:
    """Open the null device for each standard stream that is closed.

    Otherwise the next socket would get its number, and what libraries write to standard error."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # for as long as the process


def exit_if_full(error: OSError) -> NoReturn:
    """Exit with a sentence if a standard stream failed with this error; else raise it."""
    if error.filename is not None or error.errno not in _FULL:
        raise error
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes it once more when it exits
    with contextlib.suppress(OSError):
        click.echo(f"Error: the output cannot be written: {error.strerror}", err=True)
    raise SystemExit(1) from None
