"""Writes src/neurograph_client/models.py from the gateway's own models of events."""

import inspect
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct
from msgspec import inspect as kinds

from gateway.core.protocol.events import STANDARD


TARGET = Path(__file__).parent / "src/neurograph_client/models.py"

_HEAD = '''\
"""What the events of the six standard channels carry. Made from the gateway's models: `make models`.

Unknown members are kept in the dictionary, and None stands for "not known".
"""

from typing import Any, Final, Required, TypedDict

from neurograph_client.items import Channel

'''
_NAMES = {
    kinds.IntType: "int",
    kinds.FloatType: "float",
    kinds.StrType: "str",
    kinds.BoolType: "bool",
    kinds.NoneType: "None",
    kinds.AnyType: "Any",
}


def models() -> str:
    """Return the module's text."""
    parts = [_HEAD]
    parts += ["\n".join(_model(standard.data)) + "\n\n" for standard in STANDARD.values()]
    parts += ["\n"] + [
        f'{name.upper()}: Final[Channel[{standard.data.__name__}]] = Channel("{name}")\n'
        f'"""{standard.description}: ``{standard.event_types}``."""\n'
        for name, standard in STANDARD.items()
    ]
    return "".join(parts)


def _model(struct: type[Struct]) -> Iterator[str]:
    yield f"\nclass {struct.__name__}(TypedDict, total=False):"
    doc = inspect.getdoc(struct) or ""
    yield (
        '    """'
        + doc.replace("\n", "\n    ").replace("    \n", "\n")
        + ('\n    """' if "\n" in doc else '"""')
    )
    yield ""
    described = kinds.type_info(struct)
    assert isinstance(described, kinds.StructType)
    for field in described.fields:
        name = _name(field.type)
        yield f"    {field.name}: {f'Required[{name}]' if field.required else name}"


def _name(kind: kinds.Type) -> str:
    if isinstance(kind, kinds.Metadata):
        return _name(kind.type)
    if isinstance(kind, kinds.UnionType):
        names = dict.fromkeys(_name(one) for one in kind.types)
        return " | ".join(sorted(names, key=lambda name: name == "None"))
    if isinstance(kind, kinds.ListType):
        return f"list[{_name(kind.item_type)}]"
    return _NAMES[type(kind)]


if __name__ == "__main__":
    TARGET.write_text(models())
