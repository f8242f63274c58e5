"""Writes two modules of src/neurograph_client from the gateway's own declarations.

`models.py` has the data of events, `codes.py` the gap reasons, error codes and close codes.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from msgspec import Struct
from msgspec import inspect as kinds

from gateway.core.protocol.errors import CloseCode, ErrorCode
from gateway.core.protocol.events import STANDARD
from gateway.core.protocol.messages import GapReason


PACKAGE = Path(__file__).parent / "src/neurograph_client"

_MODELS_HEAD = '''\
"""What the events of the six standard channels carry. Made from the gateway's models: `make models`.

Unknown members are kept in the dictionary, and None stands for "not known".
"""

from typing import Any, Final, Required, TypedDict

from neurograph_client.items import Channel

'''
_CODES_HEAD = '''\
"""The codes of the gateway's protocol. Made from the gateway's declarations: `make models`.

A newer gateway may send codes that are not listed here.
"""

from enum import IntEnum, StrEnum
from typing import Literal


GapReason = Literal['''
_NAMES = {
    kinds.IntType: "int",
    kinds.FloatType: "float",
    kinds.StrType: "str",
    kinds.BoolType: "bool",
    kinds.NoneType: "None",
    kinds.AnyType: "Any",
}


def modules() -> dict[Path, str]:
    """Return the text of each generated module by its path."""
    return {PACKAGE / "models.py": _models(), PACKAGE / "codes.py": _codes()}


def _codes() -> str:
    """Return the text of `codes.py`."""
    return "\n".join(
        [
            _CODES_HEAD + ", ".join(f'"{reason}"' for reason in get_args(GapReason)) + "]",
            '"""Why events are missing."""',
            "",
            "",
            "class ErrorCode(StrEnum):",
            '    """Why the gateway refused a request: the `code` of `RequestRefusedError`."""',
            "",
            *(f'    {code.name} = "{code.word}"' for code in ErrorCode),
            "",
            "",
            "class CloseCode(IntEnum):",
            '    """Why the gateway closed a connection: the `code` of `Disconnect` and `ClosedError`."""',
            "",
            *(f"    {code.name} = {code.value}" for code in CloseCode),
            "",
        ]
    )


def _models() -> str:
    """Return the text of `models.py`."""
    parts = [_MODELS_HEAD]
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
    yield ('    """' + doc.replace("\n", "\n    ").replace("    \n", "\n") + ('\n    """' if "\n" in doc else '"""'))
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
    for path, text in modules().items():
        path.write_text(text)
