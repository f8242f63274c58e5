"""The options of all commands that need the gateway's configuration."""

import functools
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Concatenate, NoReturn, ParamSpec

import click

from gateway.config import Config, ConfigError, load, settings


P = ParamSpec("P")

REREAD = "gateway.reread"
"""In a command's click context: a function that reads the same configuration again."""

_DOCS = {setting.key: f"{setting.doc}  [default: {setting.default_toml}]" for setting in settings()}


def configured(command: Callable[Concatenate[Config, P], None]) -> Callable[..., None]:
    """Pass a command the configuration as its first argument; a wrong one exits with status 2."""

    @click.option("--host", multiple=True, help=_DOCS["host"] + "  Repeatable.")
    @click.option("--port", help=_DOCS["port"])
    @click.option("--workers", help=_DOCS["workers"])
    @click.option("--connect", multiple=True, help=_DOCS["connect"] + "  Repeatable.")
    @click.option("--bind", help=_DOCS["bind"])
    @click.option("--insecure-allow-remote", is_flag=True, help=_DOCS["insecure_allow_remote"])
    @click.option(
        "--config", type=click.Path(path_type=Path), help="TOML file with settings.  [environment: GATEWAY_CONFIG]"
    )
    @click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any other setting, as in history.events_max=500; `gateway check --example` lists all. Repeatable.",
    )
    @wraps(command)
    def wrapper(
        host: tuple[str, ...],
        port: str | None,
        workers: str | None,
        connect: tuple[str, ...],
        bind: str | None,
        insecure_allow_remote: bool,
        config: Path | None,
        assignments: tuple[str, ...],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        given = {"port": port, "workers": workers, "bind": bind}
        flags: dict[str, str | list[str]] = _assigned(assignments)
        flags |= {key: value for key, value in given.items() if value is not None}
        if host:
            flags["host"] = ",".join(host)
        if connect:
            flags["connect"] = list(connect)
        if insecure_allow_remote:
            flags["insecure_allow_remote"] = "true"
        reread = functools.partial(load, config, dict(os.environ), flags)
        click.get_current_context().meta[REREAD] = reread
        try:
            command(reread(), *args, **kwargs)
        except ConfigError as exc:  # also of files that only the command reads, as keys
            _refuse(exc)

    return wrapper


def _assigned(assignments: tuple[str, ...]) -> dict[str, str | list[str]]:
    flags: dict[str, str | list[str]] = {}
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator or not key.strip():
            raise click.BadParameter(f"{assignment!r} is not KEY=VALUE", param_hint="--set")
        flags[key.strip()] = value.strip()
    return flags


def _refuse(error: ConfigError) -> NoReturn:
    click.echo("The configuration is not valid:", err=True)
    for problem in error.problems:
        click.echo(f"  {problem}", err=True)
    raise SystemExit(2)
