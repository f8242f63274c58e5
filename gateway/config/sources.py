"""Reads the tables [[bus.sources]]: a preset's settings, and over them those of the table; lists all endpoints."""

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Literal, NamedTuple

import msgspec
from msgspec import inspect, structs

from gateway.config.checks import same_endpoint
from gateway.config.errors import Problem
from gateway.config.hosts import host_name, with_host
from gateway.config.model import Config, Source
from gateway.config.settings import source_settings
from gateway.core.sources.presets import PRESETS


KEY = "bus.sources"


class Endpoint(NamedTuple):
    """An endpoint of the bus, with its source if it has one."""

    address: str
    mode: Literal["connect", "bind"]
    source: Source | None = None

    @property
    def may_use_curve(self) -> bool:
        """Whether the keys of `bus` are used here, if there are any."""
        return self.source is None or self.source.curve

    @property
    def host(self) -> str:
        """The name whose addresses it connects to; "" if it has an address of its own."""
        return host_name(self.address) if self.mode == "connect" else ""

    def at(self, host_address: str) -> "Endpoint":
        """Return it at one address of its name; the replay of its source, too, if that has the same name."""
        source, address = self.source, with_host(self.address, host_address)
        if source is not None:
            same = source.replay and host_name(source.replay) == self.host
            replay = with_host(source.replay, host_address) if same else source.replay
            source = structs.replace(source, endpoint=address, replay=replay)
        return Endpoint(address, self.mode, source)


def endpoints(config: Config) -> list[Endpoint]:
    """Return the endpoints of the bus; one that has a source is opened once, as the source says."""
    plain = [Endpoint(address, "connect") for address in config.connect]
    if config.bind:
        plain.append(Endpoint(config.bind, "bind"))
    sources = [Endpoint(source.endpoint, source.mode, source) for source in config.bus.sources]
    taken = {same_endpoint(one.address) for one in sources}
    return [*(one for one in plain if same_endpoint(one.address) not in taken), *sources]


def read_sources(value: object, *, origin: str, text: bool) -> tuple[tuple[Source, ...], list[Problem]]:
    """Return the sources of a list of tables, which is JSON if it is `text`, and what is wrong with them."""
    if text:
        try:
            value = json.loads(str(value))
        except ValueError as error:
            return (), [Problem(KEY, f"is not JSON ({error})", "write a list of objects, or use a file", origin)]
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        return (), [Problem(KEY, f"{value!r} is not a list of tables", "write [[bus.sources]]", origin)]
    sources, problems = [], []
    for number, table in enumerate(value):
        found = [
            Problem(f"{KEY}[{number}].{name}", reason, remedy, origin) for name, reason, remedy in _problems(table)
        ]
        if not found:
            sources.append(msgspec.convert(PRESETS.get(table.get("preset", ""), {}) | table, Source))
        problems += found
    return tuple(sources), problems


def _problems(table: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with a table: setting, reason, remedy."""
    settings = source_settings()
    if "endpoint" not in table:
        yield "endpoint", "is missing", 'name the endpoint, as in "tcp://127.0.0.1:28332"'
    for name, value in table.items():
        setting = settings.get(name)
        if setting is None:
            near = get_close_matches(name, settings, n=1)
            yield name, "no such setting", f"did you mean {near[0]}?" if near else f"a source has {', '.join(settings)}"
        elif name == "preset" and value not in {"", *PRESETS}:
            yield name, f"{value!r} is not a preset", f"expected one of {', '.join(PRESETS)}"
        elif reason := _mismatch(value, setting.kind):
            yield name, f"{value!r} {reason}", f"leave it out for the default ({setting.default_toml})"


def _mismatch(value: object, kind: inspect.Type) -> str:
    """Return why a value is not of a kind, to follow the value; empty if it is."""
    match kind:
        case inspect.LiteralType(values=words):
            return "" if value in words else f"is not one of {', '.join(map(str, words))}"
        case inspect.BoolType():
            return "" if isinstance(value, bool) else "is neither true nor false"
        case inspect.VarTupleType():
            fits = isinstance(value, list) and all(isinstance(one, str) for one in value)
            return "" if fits else "is not a list of strings"
        case inspect.DictType():
            fits = isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
            return "" if fits else "is not a table of strings"
        case _:
            return "" if isinstance(value, str) else "is not a string"
