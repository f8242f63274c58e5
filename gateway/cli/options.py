"""The options of all commands that need the gateway's configuration."""

import functools
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, NoReturn

import click

from gateway.config import Config, ConfigError, load, settings


REREAD = "gateway.reread"
"""In a command's click context: a function that reads the same configuration again."""

_DOCS = {setting.key: f"{setting.doc}  [default: {setting.default_toml}]" for setting in settings()}


_joined = lambda _context, _option, texts: ",".join(texts) if texts else None  # noqa: E731
_listed = lambda _context, _option, texts: list(texts) or None  # noqa: E731
_OPTIONS = (
    click.option("--host", multiple=True, callback=_joined, help=_DOCS["host"] + "  Repeatable."),
    click.option("--port", help=_DOCS["port"]),
    click.option("--workers", help=_DOCS["workers"]),
    click.option("--connect", multiple=True, callback=_listed, help=_DOCS["connect"] + "  Repeatable."),
    click.option("--bind", help=_DOCS["bind"]),
    click.option("--insecure-allow-remote", flag_value="true", help=_DOCS["insecure_allow_remote"]),
    click.option(
        "--config", type=click.Path(path_type=Path), help="TOML file with settings.  [environment: GATEWAY_CONFIG]"
    ),
    click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any other setting, as in history.events_max=500; `gateway check --example` lists all. Repeatable.",
    ),
)
_FLAGS = ("host", "port", "workers", "connect", "bind", "insecure_allow_remote")
"""The settings that have an option of their own."""


def configured(command: Callable[Concatenate[Config, ...], None]) -> Callable[..., None]:
    """Pass a command the configuration as its first argument; a wrong one exits with status 2."""

    @wraps(command)
    def wrapper(config: Path | None, assignments: tuple[str, ...], **others: Any) -> None:  # Any: as click parses
        given = {key: others.pop(key) for key in _FLAGS}
        flags = _assigned(assignments) | {key: value for key, value in given.items() if value is not None}
        reread = functools.partial(load, config, dict(os.environ), flags)
        click.get_current_context().meta[REREAD] = reread
        try:
            command(reread(), **others)
        except ConfigError as exc:  # also of files that only the command reads, as keys
            _refuse(exc)

    for option in reversed(_OPTIONS):
        wrapper = option(wrapper)
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
