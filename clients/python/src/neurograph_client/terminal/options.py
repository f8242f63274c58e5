"""The options that name a gateway and a token, and requests to that gateway."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import urlsplit

import aiohttp
import click
from click.core import ParameterSource

from neurograph_client import ClientError, NotConnectedError, RequestRefusedError, rest
from neurograph_client.address import Address
from neurograph_client.terminal.output import CommandError


P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., None])

URL = "http://127.0.0.1:8000"
URL_VARIABLE, TOKEN_VARIABLE = "GATEWAY_URL", "GATEWAY_TOKEN"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway's address, and a token for it or the file that holds one."""

    url: str
    token: str | Path | None = field(default=None, repr=False)

    def read_token(self) -> str | None:
        """Return the token. A file is read anew each time, so that it may be replaced.

        Raises:
            OSError: The file cannot be read.
            ValueError: Its content cannot be a token.
        """
        if self.token is None:
            return None
        token = self.token if isinstance(self.token, str) else self.token.read_text()
        token = token.strip()
        if not token or not token.isascii() or not token.isprintable():
            raise ValueError("it is empty, or has characters that no token has")
        return token

    def get(self, path: str, *, timeout_seconds: float = 10.0) -> Any:
        """Return a JSON document of the gateway's HTTP interface.

        It opens no WebSocket, so that the gateway does not count it as a client.

        Raises:
            ClientError: There is no gateway, or it did not answer in time, or its answer is an error.
            CommandError: The file with the token cannot be used any more.
        """
        try:
            token = self.read_token()
        except (OSError, ValueError) as error:
            raise CommandError(f"the token cannot be used: {error}") from None

        async def request() -> Any:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            address, within = Address(self.url), timeout_seconds
            async with aiohttp.ClientSession() as http:
                return await rest.request(http, address, "GET", path, headers=headers, within=within)

        try:
            return asyncio.run(request())
        except TimeoutError:
            raise NotConnectedError(f"no answer within {timeout_seconds:g} s") from None

    def explain(self, error: ClientError) -> str:
        """Return what went wrong in a sentence, with the remedy if a token is missing."""
        if isinstance(error, NotConnectedError):
            return f"no gateway at {self.url}: {error}"
        status = getattr(error, "status", None) or getattr(error, "code", None)
        answered = f" answered {status}" if isinstance(error, RequestRefusedError) else ""
        hint = f" (give a token: --token-file, --token or {TOKEN_VARIABLE})" * (status == 401)
        return f"{self.url}{answered}: {error}{hint}"


bus_option = click.option(
    "--bus",
    envvar="GATEWAY_BUS",
    default="tcp://127.0.0.1:5556",
    show_default=True,
    show_envvar=True,
    help="The endpoint that the gateway binds.",
)


def wait_option(what: str) -> Callable[[F], F]:
    """Return the option `--wait` of a command that waits for `what`."""
    return click.option(
        "--wait",
        "wait_seconds",
        type=click.FloatRange(min=0, max=3600),
        default=10.0,
        show_default=True,
        help=f"Wait at most so many seconds {what}.",
    )


def gateway_options(command: Callable[Concatenate[Gateway, P], None]) -> Callable[..., None]:
    """Give a command the options `--url`, `--token` and `--token-file`, as a `Gateway`."""

    @click.option(
        "--url", envvar=URL_VARIABLE, default=URL, show_default=True, show_envvar=True, help="The gateway's address."
    )
    @click.option("--token", envvar=TOKEN_VARIABLE, show_envvar=True, help="A bearer token.")
    @click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        help="A file with the token. It is read anew for every connection.",
    )
    @wraps(command)
    def wrapper(url: str, token: str | None, token_file: Path | None, *args: P.args, **kwargs: P.kwargs) -> None:
        source = click.get_current_context().get_parameter_source("token")
        if token_file and source is ParameterSource.COMMANDLINE:
            raise click.UsageError("give --token or --token-file, not both")
        command(gateway_at(url, token_file or token or None), *args, **kwargs)

    return wrapper


def gateway_at(url: str, token: str | Path | None) -> Gateway:
    """Return a gateway after a check of what was given. Errors show neither the token nor a password in the URL."""
    gateway = Gateway(url.rstrip("/"), token)
    if not _is_address(url):
        expected = f"expected an address like {URL}, without user, query and fragment"
        raise click.BadParameter(expected, param_hint="--url")
    try:
        gateway.read_token()
    except (OSError, ValueError) as error:
        raise click.UsageError(f"the token cannot be used: {error}") from None
    return gateway


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(Address(url).url)
        more = parts.username or parts.password or parts.query or parts.fragment
        return parts.port != 0 and not more and url.isprintable()
    except ValueError:
        return False


def complete_channel(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Ask the gateway for its channels, for a shell that completes their names."""
    given = context.params
    url = given.get("url") or os.environ.get(URL_VARIABLE, URL)
    token = given.get("token_file") or given.get("token") or os.environ.get(TOKEN_VARIABLE)
    try:
        found = gateway_at(url, token).get("channels", timeout_seconds=1.0)
        names = [str(one["name"]) for one in found["channels"]]
    except (ClientError, click.ClickException, KeyError, TypeError):
        return []  # an error message would end up in the command line
    return [name for name in names if name.startswith(incomplete)]
