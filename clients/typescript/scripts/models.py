"""Write `src/models.ts` from the gateway's own models; `--check` fails if the file is not up to date.

Run it with the repository's Python, from anywhere: `.venv/bin/python clients/typescript/scripts/models.py`.
"""

import sys
import textwrap
from pathlib import Path
from typing import Any, get_args

import msgspec


HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))

from gateway.core.protocol import errors, events, messages  # noqa: E402  # the path comes first


TARGET = HERE.parent / "src" / "models.ts"
HEAD = "// Made by scripts/models.py from the gateway's models. Do not edit.\n"
PRIMITIVES = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean"}

Schema = dict[str, Any]


def type_of(schema: Schema) -> str:
    """Return a JSON Schema as a TypeScript type."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "enum" in schema:
        return " | ".join(msgspec.json.encode(value).decode() for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(type_of(one) for one in schema["anyOf"]))
    match schema.get("type"):
        case "array":
            item = type_of(schema["items"])
            return f"({item})[]" if " | " in item else f"{item}[]"
        case None if "additionalProperties" not in schema:
            return "unknown"
        case "object" | None:
            return f"Record<string, {type_of(schema['additionalProperties'])}>"
        case "null":
            return "null"
        case primitive:
            return PRIMITIVES[primitive]


def interface(name: str, schema: Schema) -> str:
    """Return an object's schema as a TypeScript interface."""
    lines = [*comment(schema.get("description", ""), ""), f"export interface {name} {{"]
    for field, own in schema["properties"].items():
        lines += comment(own.get("description", ""), "  ")
        optional = "" if field in schema["required"] else "?"
        lines.append(f"  {field}{optional}: {type_of(own)};")
    return "\n".join([*lines, "}", ""])


def comment(text: str, indent: str) -> list[str]:
    """Return a docstring as a comment."""
    first, *rest = text.splitlines() or [""]
    lines = [first, *textwrap.dedent("\n".join(rest)).splitlines()]
    if not text:
        return []
    if len(lines) == 1:
        return [f"{indent}/** {first} */"]
    return [f"{indent}/**", *(f"{indent} * {line}".rstrip() for line in lines), f"{indent} */"]


def models() -> str:
    """Return the text of `src/models.ts`."""
    channels = {name: standard.data for name, standard in events.STANDARD.items()}
    sent, received = get_args(messages.ClientMessage), get_args(messages.ServerMessage)
    _, schemas = msgspec.json.schema_components(
        [*received, *sent, *channels.values(), events.BusStatus, events.GatewayFigures]
    )
    unions = {
        "ClientMessage": " | ".join(model.__name__ for model in sent),
        "ServerMessage": " | ".join(model.__name__ for model in received),
        "GapReason": 'Gap["reason"]',
        "BusState": 'Subscribed["bus"]',
        "ErrorCode": " | ".join(f'"{code.word}"' for code in errors.ErrorCode),
    }
    parts = [HEAD, *(interface(name, schema) for name, schema in schemas.items())]
    parts.append("/** What `data` is on the standard channels. */\nexport interface StandardChannels {")
    parts[-1] += "".join(f"\n  {name}: {data.__name__};" for name, data in channels.items())
    parts[-1] += "\n}\n"
    parts.append("".join(f"export type {name} = {text};\n" for name, text in unions.items()))
    parts.append("/** Why the gateway closed a connection. */\nexport const CloseCode = {")
    parts[-1] += "".join(f"\n  {code.name}: {code.value}," for code in errors.CloseCode)
    parts[-1] += "\n} as const;\n"
    return "\n".join(parts)


def main() -> None:
    """Write the models, or with `--check` compare them with the file."""
    text = models()
    if "--check" in sys.argv[1:]:
        if text != TARGET.read_text():
            raise SystemExit("src/models.ts is not up to date with the gateway's models: run `make models`")
        return
    TARGET.write_text(text)


if __name__ == "__main__":
    main()
