"""The options of commands that talk to a running gateway, and how they fail."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Concatenate, NoReturn, ParamSpec

import click


P = ParamSpec("P")

URL = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class Remote:
    """A gateway, and the token to bring."""

    url: str
    token: str | None

    def __repr__(self) -> str:
        return f"Remote({self.url!r})"


def remote(command: Callable[Concatenate[Remote, P], None]) -> Callable[..., None]:
    """Give a command a `Remote` as its first argument."""

    @click.option("--url", default=URL, envvar="GATEWAY_URL", show_default=True, show_envvar=True)
    @click.option("--token", envvar="GATEWAY_TOKEN", help="Who you are.  [env: GATEWAY_TOKEN]")
    @click.option(
        "--token-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The same, from a file: a command line is seen by others.",
    )
    @wraps(command)
    def wrapper(
        url: str, token: str | None, token_file: Path | None, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        command(Remote(url, _token(token, token_file)), *args, **kwargs)

    return wrapper


def need(package: str, folder: str) -> None:
    """End with what to do if a package of this project is not installed."""
    if find_spec(package) is None:
        name = package.replace("_", "-")
        fail(f"this command needs {name}: pip install {name}, or {folder} of this repository")


def fail(reason: str, *, status: int = 1) -> NoReturn:
    """End with a reason; status 2 means that what was asked for makes no sense."""
    click.echo(f"error: {printable(reason)}", err=True)
    raise SystemExit(status)


def printable(text: str) -> str:
    """Return text from outside so that a terminal takes none of it for a command."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _token(token: str | None, file: Path | None) -> str | None:
    if file is None:
        return token
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        fail(f"--token-file: {file} cannot be read ({error})", status=2)
