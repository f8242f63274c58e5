"""Builds a `Config` from its sources, or reports everything that is wrong with them.

Each source is read into a flat table: key path -> value and origin."""

import contextlib
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from msgspec import inspect, structs

from gateway.config.checks import check, without_own_bind
from gateway.config.cluster import has_password
from gateway.config.errors import ConfigError, Problem
from gateway.config.model import Config, Role, Source
from gateway.config.settings import Setting, Value, sections, settings, tables
from gateway.config.sources import KEY as SOURCES
from gateway.config.sources import read_sources
from gateway.core.protocol.channels import is_name


_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?")
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


_PATHS = ("_file", "_dir")
"""The ends of the names of settings that are paths."""
_FILE_VARIABLE = "GATEWAY_CONFIG"
_OF_COMMANDS = {"GATEWAY_URL", "GATEWAY_TOKEN", "GATEWAY_BUS"}
"""Variables of the commands that talk to a gateway."""

# Kubernetes sets these in every pod if there is a service "gateway" or "gateway-…": no settings, and no mistake.
_SERVICE_LINK = re.compile(
    r"GATEWAY_(\w+_)?(SERVICE_HOST=.*|SERVICE_PORT(_\w+)?=.*|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?=.*"
    r"|PORT=(tcp|udp|sctp)://.+:\d+)"
)


@dataclass(frozen=True, slots=True)
class Given:
    """A value as given. `text` means that it must be parsed to its setting's type."""

    value: object
    origin: str
    text: bool


def load(path: Path | None, environ: Mapping[str, str], flags: Mapping[str, str | list[str]]) -> Config:
    """Read the configuration: a TOML file < ``GATEWAY_…`` variables < flags, named by key path.

    Without `path` the file is the one that ``GATEWAY_CONFIG`` names, if any. Values that a higher
    source replaces are not checked.
    Raises ConfigError: with a problem for each setting that is unknown or has an invalid value."""
    if path is None and environ.get(_FILE_VARIABLE):
        path = Path(environ[_FILE_VARIABLE])
    given = {**(_from_file(path) if path else {}), **_from_environment(environ), **_from_flags(flags)}
    config, problems = _build(given)
    origins = {key: one.origin for key, one in given.items()}
    problems = problems or check(config, origins)
    if problems:
        raise ConfigError(problems)
    config = structs.replace(config, secret_files=_secret_files(config, given))
    return config if "bind" in given else without_own_bind(config)


def _secret_files(config: Config, given: Mapping[str, Given]) -> dict[str, str]:
    """Return which settings are secrets that a file has, and that file."""
    secrets = {"auth.secret": bool(config.auth.secret), "cluster.url": has_password(config.cluster.url)}
    return {key: given[key].origin for key, secret in secrets.items() if secret and not given[key].text}


def _from_file(path: Path) -> dict[str, Given]:
    """Return the values of a TOML file; relative paths in it are relative to its folder.
    Raises ConfigError: the file cannot be read or is not TOML."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # editors on Windows write a mark at its start
    except OSError as exc:
        reason = f"{path} cannot be read ({exc.strerror})"
        raise ConfigError([Problem("config", reason, "check the path and its permissions")]) from exc
    except ValueError as exc:
        reason = f"{path} is not a TOML file in UTF-8: {exc}"
        raise ConfigError([Problem("config", reason, "see `gateway check --example`")]) from exc
    values = {
        key: str(path.parent / value) if key.endswith(_PATHS) and value and isinstance(value, str) else value
        for key, value in _flat(document, "")
    }
    return {key: Given(value, str(path), text=False) for key, value in values.items()}


def _flat(table: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    keys = {setting.variable: setting.key for setting in settings()} | {"GATEWAY_BUS_SOURCES": SOURCES}
    return {
        keys.get(name, name): Given(value, f"environment variable {name}", text=True)
        for name, value in environ.items()
        if name.startswith("GATEWAY_")
        and name not in {_FILE_VARIABLE, *_OF_COMMANDS}
        and not _SERVICE_LINK.fullmatch(f"{name}={value}")
    }


def _from_flags(flags: Mapping[str, str | list[str]]) -> dict[str, Given]:
    return {key: Given(value, f"flag {_flag(key)}", text=True) for key, value in flags.items()}


def _flag(key: str) -> str:
    own = {"host", "port", "connect", "bind", "insecure_allow_remote"}
    return "--" + key.replace("_", "-") if key in own else f"--set {key}"


def _build(given: Mapping[str, Given]) -> tuple[Config, list[Problem]]:
    known = {setting.key: setting for setting in settings()}
    values: dict[str, dict[str, Value]] = {}
    problems: list[Problem] = []
    sources: tuple[Source, ...] = ()
    for key, one in given.items():
        setting, section, name = _locate(key, known)
        if key == SOURCES:
            sources, wrong = read_sources(one.value, origin=one.origin, text=one.text)
            problems += wrong
            continue
        if setting is None:
            problems.append(_unknown(key, one, known))
            continue
        try:
            values.setdefault(section, {})[name] = _parse(setting.kind, one)
        except ValueError as exc:
            problems.append(_unusable(key, setting, one, str(exc)))
    return _assemble(values, sources), problems


def _locate(key: str, known: Mapping[str, Setting]) -> tuple[Setting | None, str, str]:
    """Return the setting that a key names, its section ("" = top level) and its field."""
    section, _, name = key.rpartition(".")
    table, _, entry = section.partition(".")
    if entry and table in tables():
        return (tables()[table].get(name) if _is_entry(table, entry) else None), section, name
    return known.get(key), section, name


def _is_entry(table: str, entry: str) -> bool:
    """Tell whether a table may have an entry of this name; channels' names may have dots."""
    return is_name(entry) and (table == "channels" or "." not in entry)


def _assemble(values: Mapping[str, dict[str, Value]], sources: tuple[Source, ...]) -> Config:
    default = Config()
    made = {name: structs.replace(getattr(default, name), **values.get(name, {})) for name in sections()}
    made["bus"] = structs.replace(made["bus"], sources=sources)
    channels = {name: structs.replace(made["history"], **own) for name, own in _entries("channels", values)}
    roles = default.roles | {
        name: structs.replace(default.roles.get(name, Role()), **own) for name, own in _entries("roles", values)
    }
    return structs.replace(default, **values.get("", {}), **made, channels=channels, roles=roles)


def _entries(table: str, values: Mapping[str, dict[str, Value]]) -> Iterator[tuple[str, dict[str, Value]]]:
    for section, own in values.items():
        if section.startswith(f"{table}."):
            yield section.removeprefix(f"{table}."), own


def _parse(kind: inspect.Type, one: Given) -> Value:
    """Return the value in its setting's type; a ValueError's text follows "<value>"."""
    value = one.value
    match kind:
        case inspect.BoolType():
            if one.text:
                value = _BOOLEANS.get(str(value).lower())
            if not isinstance(value, bool):
                raise ValueError("is neither true nor false")
            return value
        case inspect.IntType() | inspect.FloatType():
            return _number(kind, one)
        case inspect.LiteralType(values=words):
            if value not in words:
                raise ValueError(f"is not one of {', '.join(map(str, words))}")
            return str(value)
        case inspect.VarTupleType():
            return _strings(one)
        case inspect.UnionType():
            is_one = isinstance(value, str) and not (one.text and "," in value)
            if not is_one and not isinstance(value, list | str):
                raise ValueError("is neither a string nor a list of strings")
            return str(value) if is_one else _strings(one)
        case _:
            if not isinstance(value, str):
                raise ValueError("is not a string")
            return value


def _strings(one: Given) -> tuple[str, ...]:
    value = one.value
    if isinstance(value, str) and one.text:
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise ValueError("is not a list of strings")
    return tuple(value)


def _number(kind: inspect.IntType | inspect.FloatType, one: Given) -> int | float:
    whole, value = isinstance(kind, inspect.IntType), one.value
    if one.text:
        with contextlib.suppress(ValueError):
            value = int(str(value)) if whole else float(str(value))
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise ValueError("is not a whole number" if whole else "is not a number")
    if not math.isfinite(value):
        raise ValueError("is not a finite number")
    if kind.ge is not None and value < kind.ge:
        raise ValueError(f"is below {kind.ge:g}")
    if kind.le is not None and value > kind.le:
        raise ValueError(f"is above {kind.le:.0f}")
    return value if whole else float(value)


def _unusable(key: str, setting: Setting, one: Given, reason: str) -> Problem:
    number = one.text and _NUMBER.fullmatch(str(one.value))
    value = "the value" if setting.secret else one.value if number else repr(one.value)
    shown = f"{value} {reason}"
    remedy = f"leave it out for the default ({setting.default_toml})"
    return Problem(key, shown, remedy, one.origin)


def _unknown(key: str, one: Given, known: Mapping[str, Setting]) -> Problem:
    if key.startswith(f"{SOURCES}."):
        return Problem(SOURCES, "is a table", f"write [[{SOURCES}]]: it is a list of tables", one.origin)
    if key in sections() or key in tables():
        return Problem(key, f"{one.value!r} is not a table", f"write [{key}]", one.origin)
    table, _, rest = key.partition(".")
    if table in tables():
        entry = rest.rpartition(".")[0]
        thing = table.removesuffix("s")
        if not _is_entry(table, entry):
            return Problem(
                key,
                f"{entry!r} is not a valid name of a {thing}",
                "expected segments of A-Z a-z 0-9 _ - joined by dots"
                if table == "channels"
                else "expected A-Z a-z 0-9 _ -",
                one.origin,
            )
        fields = ", ".join(tables()[table])
        return Problem(key, "no such setting", f"a {thing} has {fields}", one.origin)
    names = [setting.variable for setting in known.values()] if key.startswith("GATEWAY_") else list(known)
    near = get_close_matches(key, names, n=1)
    remedy = f"did you mean {near[0]}?" if near else "`gateway check --example` lists all settings"
    return Problem(key, "no such setting", remedy, one.origin)
