"""Write ops/gateway.example.toml and the tables of docs/configuration.md from the model of the settings."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from gateway.config.settings import Setting, example, sections, settings, source_settings, tables


ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "ops/gateway.example.toml"
DOCUMENT = ROOT / "docs/configuration.md"
_UNLIMITED = {2**31 - 1, 1_000_000.0}
"""Upper limits of the model that are no limits in practice."""
_START, _END = "<!-- settings: written by make settings -->\n", "<!-- end of settings -->\n"


def document() -> str:
    """Return docs/configuration.md with the tables as the model has them now."""
    before, _, rest = DOCUMENT.read_text().partition(_START)
    return before + _START + "\n" + "\n".join(_reference()) + "\n" + _END + rest.partition(_END)[2]


def _reference() -> Iterator[str]:
    found = list(settings())
    yield from _section("General", "", [one for one in found if "." not in one.key])
    for name, text in sections().items():
        yield from _section(f"[{name}]", text, [one for one in found if one.key.startswith(f"{name}.")])
    more = {"[[bus.sources]]": source_settings(), "[roles.NAME]": tables()["roles"]}
    texts = {
        "[[bus.sources]]": "One table for each endpoint whose publishers do not send what the gateway expects: see "
        "[decoders](decoders.md). File only.",
        "[roles.NAME]": "The permissions of a role, as patterns of channels: see [security](security.md#permissions). "
        "File only.",
    }
    for title, members in more.items():
        yield from _section(title, texts[title], members.values())
    yield "### [channels.NAME]\n"
    yield "The settings of `[history]` for one channel. File only.\n"


def _section(title: str, text: str, members: Iterable[Setting]) -> Iterator[str]:
    yield f"### {title}\n"
    if text:
        yield f"{text}\n"
    yield "| setting | default | values | changed by | meaning |"
    yield "|---|---|---|---|---|"
    for one in members:
        name = one.key.rpartition(".")[2] if title.startswith(("[[", "[roles")) else one.key
        shown = "required" if one.key == "endpoint" else f"`{one.default_toml}`"
        changed = "reload" if one.live or title.startswith("[[") else "restart"
        yield f"| `{name}` | {shown} | {_values(one)} | {changed} | {one.doc.replace('|', chr(92) + '|')} |"
    yield ""


def _values(setting: Setting) -> str:
    """Return the valid values of a setting: its type, limits and unit."""
    match setting.kind:
        case msgspec.inspect.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case msgspec.inspect.IntType(ge=least, le=most) | msgspec.inspect.FloatType(ge=least, le=most):
            limits = f"at least {_plain(least)}" if most in _UNLIMITED else f"{_plain(least)} to {_plain(most)}"
            return f"{setting.unit}, {limits}" if setting.unit else limits
        case msgspec.inspect.BoolType():
            return "`true`, `false`"
        case msgspec.inspect.VarTupleType():
            return "list of texts"
        case msgspec.inspect.UnionType():
            return "text, or list of texts"
        case msgspec.inspect.DictType():
            return "table of texts"
        case msgspec.inspect.StrType():
            return "text"
        case _:
            raise TypeError(f"{setting.key}: describe the values of {setting.kind} here")


def _plain(number: float | None) -> str:
    if number is None:
        raise TypeError("a number needs both limits: see `_number` in gateway/config/model.py")
    return f"{number:,.10g}"


if __name__ == "__main__":
    EXAMPLE.write_text(example())
    DOCUMENT.write_text(document())
