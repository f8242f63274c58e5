"""Where a running gateway is and how it is asked, shared by the commands that speak to one."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from gateway.cli.terminal import Failure


P = ParamSpec("P")

URL = "http://127.0.0.1:8000"
URL_VARIABLE, TOKEN_VARIABLE = "GATEWAY_URL", "GATEWAY_TOKEN"
EXTRA = "neurograph-gateway[terminal]"

_SECURE = {"http": False, "ws": False, "https": True, "wss": True}
_BODY_BYTES_MAX = 64 * 1024 * 1024
_TOLD_CHARS_MAX = 200
_COMPLETION_SECONDS = 1.0


class Unreachable(Failure):
    """There is no gateway, or it did not answer in time."""


class Refused(Failure):
    """The gateway answered that it does not do what was asked; `code` is the HTTP status."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Remote:
    """A gateway's address, and the token that opens it: as it is, or the file that it is in."""

    url: str
    token: str | Path | None = field(default=None, repr=False)

    def bearer(self) -> str | None:
        """Return the token; that in a file anew each time, so that it may be replaced.

        Raises:
            OSError: The file cannot be read.
            ValueError: What it holds can be no token.
        """
        if self.token is None:
            return None
        token = self.token if isinstance(self.token, str) else self.token.read_text()
        token = token.strip()
        if not token or not token.isascii() or not token.isprintable():
            raise ValueError("it is empty, or has characters that no token has")
        return token

    def get(self, path: str, *, seconds: float = 10.0) -> Any:
        """Return the JSON document at a path below ``/api/v1/websocket/``.

        Not with the client library, which opens a WebSocket first: who looks is not to be counted.

        Raises:
            Unreachable: No answer came in time.
            Refused: The answer is an error.
            Failure: The file with the token cannot be used any more.
        """
        from http.client import HTTPConnection, HTTPException, HTTPSConnection

        parts = urlsplit(self.url)
        secure = _SECURE[parts.scheme]
        kind = HTTPSConnection if secure else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=seconds)
        base = parts.path.rstrip("/").removesuffix("/ws")
        try:
            token = self.bearer()
        except (OSError, ValueError) as error:
            raise Failure(f"the token cannot be used: {_reason(error)}") from None
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            connection.request("GET", f"{base}/api/v1/websocket/{path}", headers=headers)
            answer = connection.getresponse()
            status, body = answer.status, answer.read(_BODY_BYTES_MAX)
        except (OSError, HTTPException, ValueError) as error:
            raise Unreachable(f"no gateway at {self.url}: {_reason(error)}") from None
        finally:
            connection.close()
        return _document(self.url, status, body)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _document(url: str, status: int, body: bytes) -> Any:
    import orjson

    try:
        found = orjson.loads(body)
        if status == 200:
            return found
        told = f"{found['code']}: {found['detail']}"
    except (ValueError, KeyError, TypeError):  # not the gateway's own words
        told = body[:_TOLD_CHARS_MAX].decode(errors="replace")
    raise Refused(f"{url} answered {status}: {told}{hint(status)}", status)


def hint(status: int | None) -> str:
    """What to do about an HTTP status, if that can be said."""
    if status == 401:
        return f" (give a token: --token-file, --token or {TOKEN_VARIABLE})"
    return ""


def remote(command: Callable[Concatenate[Remote, P], None]) -> Callable[..., None]:
    """Give a command the gateway that it is to speak to as its first argument."""

    @click.option(
        "--url",
        envvar=URL_VARIABLE,
        default=URL,
        show_default=True,
        show_envvar=True,
        help="The gateway's address.",
    )
    @click.option("--token", envvar=TOKEN_VARIABLE, show_envvar=True, help="A bearer token.")
    @click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        help="The file that it is in; read anew for every connection.",
    )
    @wraps(command)
    def wrapper(
        url: str,
        token: str | None,
        token_file: Path | None,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        by_flag = (
            click.get_current_context().get_parameter_source("token") is ParameterSource.COMMANDLINE
        )
        if token_file is not None and by_flag:
            raise click.UsageError("give --token or --token-file, not both")
        command(_checked(url, token_file or token or None), *args, **kwargs)

    return wrapper


def _checked(url: str, token: str | Path | None) -> Remote:
    """Return what can be spoken to; nothing of the token, or of a password in the URL, is told."""
    if not _is_address(url):
        raise click.BadParameter(
            f"no address like {URL}, without user, query and fragment", param_hint="--url"
        )
    found = Remote(url.rstrip("/"), token)
    try:
        found.bearer()
    except OSError as error:
        reason = f"{token} cannot be read ({error.strerror})"
        raise click.BadParameter(reason, param_hint="--token-file") from None
    except ValueError as error:
        option = "--token-file" if isinstance(token, Path) else "--token"
        raise click.BadParameter(f"no token: {error}", param_hint=option) from None
    return found


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        reachable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    more = parts.username or parts.password or parts.query or parts.fragment
    return parts.scheme in _SECURE and reachable and not more and url.isprintable()


def complete_channel(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Ask the gateway for its channels, for a shell that completes their names."""
    url = context.params.get("url") or os.environ.get(URL_VARIABLE, URL)
    file = context.params.get("token_file")
    token = file or context.params.get("token") or os.environ.get(TOKEN_VARIABLE)
    try:
        channels = _checked(url, token).get("channels", seconds=_COMPLETION_SECONDS)["channels"]
        names = [str(one["name"]) for one in channels]
    except (click.ClickException, KeyError, TypeError):  # a shell that completes wants no errors
        return []
    return [name for name in names if name.startswith(incomplete)]


@contextmanager
def needing(package: str) -> Iterator[None]:
    """Import one of this project's other packages, or say how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != package.replace("-", "_"):
            raise
        raise Failure(f"this command needs the package {package}: pip install '{EXTRA}'") from None
