"""The sources of settings, each read into a flat table: key path -> value and origin."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.config.errors import ConfigError, Problem
from gateway.config.settings import settings


FILE_VARIABLE = "GATEWAY_CONFIG"
_OF_COMMANDS = {"GATEWAY_URL", "GATEWAY_TOKEN", "GATEWAY_BUS"}
"""Variables of the commands that talk to a gateway."""

# Kubernetes sets these in every pod if there is a service named "gateway": no settings, and no mistake.
_SERVICE_LINK = re.compile(
    r"GATEWAY_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_\d+_(TCP|UDP|SCTP)(_.+)?)"
)


@dataclass(frozen=True, slots=True)
class Given:
    """A value as given. `text` means that it must be parsed to its setting's type."""

    value: object
    origin: str
    text: bool


def from_file(path: Path) -> dict[str, Given]:
    """Return the values of a TOML file.

    Raises:
        ConfigError: The file cannot be read or is not TOML.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        reason = f"{path} cannot be read ({exc.strerror})"
        raise ConfigError(
            [Problem("config", reason, "check the path and its permissions")]
        ) from exc
    except ValueError as exc:
        reason = f"{path} is not a TOML file in UTF-8: {exc}"
        raise ConfigError([Problem("config", reason, "see `gateway check --example`")]) from exc
    return {key: Given(value, str(path), text=False) for key, value in _flat(document, "")}


def _flat(table: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    """Return the values of all ``GATEWAY_…`` variables, known settings or not."""
    keys = {setting.variable: setting.key for setting in settings()}
    return {
        keys.get(name, name): Given(value, f"environment variable {name}", text=True)
        for name, value in environ.items()
        if name.startswith("GATEWAY_")
        and name not in {FILE_VARIABLE, *_OF_COMMANDS}
        and not _SERVICE_LINK.fullmatch(name)
    }


def from_flags(flags: Mapping[str, str | list[str]]) -> dict[str, Given]:
    """Return the values of flags, which are named by key path."""
    return {key: Given(value, f"flag {_flag(key)}", text=True) for key, value in flags.items()}


def _flag(key: str) -> str:
    own = {"host", "port", "connect", "bind", "insecure_allow_remote"}
    return "--" + key.replace("_", "-") if key in own else f"--set {key}"
