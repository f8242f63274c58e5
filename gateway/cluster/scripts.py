"""What is done in the engine in one step: the Lua scripts of the folder `lua`."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    text: str

    @property
    def sha(self) -> str:
        """Its name in the engine."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


def _read(name: str) -> str:
    return (files("gateway.cluster") / "lua" / f"{name}.lua").read_text(encoding="utf-8")


HELLO = Script("hello", _read("hello"))


def script(name: str, *parts: str) -> Script:
    """Return a script that begins with the check of the epoch, then with `parts` that define functions.

    `Engine.run` adds the arguments for that."""
    return Script(name, "".join(map(_read, ("prelude", *parts, name))))
