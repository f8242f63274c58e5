"""The model's fields one by one, for whoever reads, prints or documents them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import cast

import msgspec
from msgspec import Struct, inspect

from gateway.config.model import Config, History, Role


Value = str | int | float | bool | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of the model, for whoever reads, prints or documents it."""

    key: str
    kind: inspect.Type
    default: Value
    unit: str
    doc: str
    secret: bool = False
    """Whether its value is never shown."""

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return "GATEWAY_" + self.key.replace(".", "_").upper()

    @property
    def default_toml(self) -> str:
        """The default as TOML writes it."""
        return json.dumps(self.default)  # numbers, texts, truth and lists look the same in both


def sections() -> dict[str, str]:
    """The model's sections and what each is about; those of single channels are not among them."""
    kinds = {field.name: field.default for field in msgspec.structs.fields(Config)}
    return {
        name: (type(default).__doc__ or "")
        for name, default in kinds.items()
        if isinstance(default, Struct)
    }


_TABLES: Mapping[str, type[Struct]] = {"channels": History, "roles": Role}


@cache
def tables() -> Mapping[str, Mapping[str, Setting]]:
    """The sections that exist once for each name, as in [channels.metrics], and their fields."""
    return {
        table: {setting.key: setting for setting in _settings_of(model, "")}
        for table, model in _TABLES.items()
    }


def settings() -> Iterator[Setting]:
    """Every setting in the model's order, the sections' after the top level's."""
    yield from _settings_of(Config, "")
    for section in sections():
        yield from _settings_of(type(getattr(Config(), section)), section + ".")


def _settings_of(model: type[Struct], prefix: str) -> Iterator[Setting]:
    described = cast(inspect.StructType, inspect.type_info(model))
    for field in described.fields:
        if isinstance(field.type, inspect.Metadata):
            yield Setting(
                key=prefix + field.name,
                kind=field.type.type,
                default=field.default,
                unit=(field.type.extra or {}).get("unit", ""),
                doc=(field.type.extra_json_schema or {}).get("description", ""),
                secret=(field.type.extra or {}).get("secret", False),
            )
