"""The model's fields one by one: to parse them, to document them, and to write the example file."""

import ast
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise
from typing import cast

import msgspec
from msgspec import Struct

from gateway.config.model import ChannelHistory, Config, Role, Source
from gateway.core.sources.spec import Spec


_HEAD = """\
# Configuration of the NeuroGraph gateway: every setting with its default. Keep only what you change.
# Environment variables override this file (GATEWAY_HISTORY_EVENTS_MAX=500), and flags override both
# (--port 9000, --set history.events_max=500). `gateway check --config FILE` checks the result.
"""
_CHANNEL = """\
# The history of one channel; what is not set here is as in [history].
# [channels.metrics]
# events_max = 10000

# Roles, which tokens name in `role` or `roles`. Built-in ones can be changed, others added. The built-in ones:
"""

_EXAMPLE_ENDPOINT = '"tcp://127.0.0.1:28332"'

Value = str | int | float | bool | tuple[str, ...] | dict[str, str]


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of the model."""

    key: str
    kind: msgspec.inspect.Type
    default: Value
    unit: str
    doc: str
    secret: bool = False
    """Whether its value must never be shown."""
    live: bool = False
    """Whether a reload changes it; else the gateway needs a restart."""

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return "GATEWAY_" + self.key.replace(".", "_").upper()

    @property
    def default_toml(self) -> str:
        """The default as TOML writes it."""
        return json.dumps(self.default)  # numbers, strings, booleans and lists are written alike


def sections() -> dict[str, str]:
    """Return the model's sections and their descriptions, without those of single channels or roles."""
    kinds = {field.name: field.default for field in msgspec.structs.fields(Config)}
    return {name: _docs()[type(default).__name__, ""] for name, default in kinds.items() if isinstance(default, Struct)}


@cache
def source_settings() -> Mapping[str, Setting]:
    """Return the settings of one source, its own first."""
    found = {setting.key: setting for setting in _settings_of(Source, "")}
    own = [key for key in found if key not in Spec.__struct_fields__]
    return {key: found[key] for key in (*own, *Spec.__struct_fields__)}


_TABLES: Mapping[str, type[Struct]] = {"channels": ChannelHistory, "roles": Role}


@cache
def tables() -> Mapping[str, Mapping[str, Setting]]:
    """Return the sections that exist once per name, as in [channels.metrics], with their fields."""
    return {table: {setting.key: setting for setting in _settings_of(model, "")} for table, model in _TABLES.items()}


@cache
def settings() -> tuple[Setting, ...]:
    """Return every setting in the model's order, top level first."""
    of_sections = (_settings_of(type(getattr(Config(), section)), section + ".") for section in sections())
    return (*_settings_of(Config, ""), *chain.from_iterable(of_sections))


def _settings_of(model: type[Struct], prefix: str) -> Iterator[Setting]:
    described = cast(msgspec.inspect.StructType, msgspec.inspect.type_info(model))
    for field in described.fields:
        doc = next((_docs()[key] for one in model.__mro__ if (key := (one.__name__, field.name)) in _docs()), None)
        if doc is not None:
            found = field.type
            if not isinstance(found, msgspec.inspect.Metadata):
                found = msgspec.inspect.Metadata(found)
            unit, secret = ((found.extra or {}).get(name) for name in ("unit", "secret"))
            made = field.default_factory
            default = field.default if made is msgspec.NODEFAULT else made()
            live = field.name in getattr(model, "LIVE", ())
            yield Setting(prefix + field.name, found.type, default, unit or "", doc, bool(secret), live)


@cache
def _docs() -> Mapping[tuple[str, str], str]:
    """Return the text below each setting in the model's source, by section and name; of a section, below the name "".

    Python itself keeps no docstrings of attributes, and with -OO none at all."""
    docs = {}
    modules = (inspect.getsource(sys.modules[model.__module__]) for model in (Config, Spec))
    for section in chain.from_iterable(ast.parse(source).body for source in modules):
        if isinstance(section, ast.ClassDef):
            docs[section.name, ""] = ast.get_docstring(section) or ""
            for field, below in pairwise(section.body):
                if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                    text = ast.literal_eval(below.value)
                    docs[section.name, ast.unparse(field.target)] = " ".join(text.split())
    return docs


def example() -> str:
    """Return a TOML file with every setting, its default and its description."""
    return "\n".join(_example_lines())


def _example_lines() -> Iterator[str]:
    yield _HEAD
    described = sections()
    within = ""
    for setting in settings():
        section, _, name = setting.key.rpartition(".")
        if section != within:
            within = section
            yield from ("", f"# {described[section]}", f"[{section}]")
        yield from _entry(name, setting)
    yield ""
    yield f"# {_docs()['Source', '']}"
    yield "# [[bus.sources]]"
    for setting in source_settings().values():
        value = _EXAMPLE_ENDPOINT if setting.key == "endpoint" else setting.default_toml
        yield f"# {setting.key} = {value}  # {setting.doc}"
    yield ""
    yield _CHANNEL
    for name, role in Config().roles.items():
        yield f"# [roles.{name}]"
        for setting in tables()["roles"].values():
            value = getattr(role, setting.key)
            if value:
                yield f"# {setting.key} = {json.dumps(value)}"
        yield ""


def _entry(name: str, setting: Setting) -> Iterator[str]:
    unit = f" [{setting.unit}]" if setting.unit else ""
    yield f"# {setting.doc}{unit}"
    yield f"{name} = {setting.default_toml}"
