"""What a reload changes: the differences of two configurations, and which of them need a restart."""

from dataclasses import dataclass
from typing import TypeVar

from msgspec import Struct, structs

from gateway.config.model import Auth, Config
from gateway.config.settings import sections


_Section = TypeVar("_Section", bound=Struct)


@dataclass(frozen=True, slots=True)
class Changes:
    """The differences of a new configuration, by key path."""

    config: Config
    """The old configuration with those new values that need no restart."""
    live: tuple[str, ...]
    """What takes effect now."""
    restart: tuple[str, ...]
    """What takes effect with the next start."""


class _Comparison:
    """Merges sections one by one, and notes what differs."""

    def __init__(self) -> None:
        self.live: list[str] = []
        self.restart: list[str] = []

    def merge(self, old: _Section, new: _Section, prefix: str, *, fixed: tuple[str, ...] = ()) -> _Section:
        """Return the old section with the new values of what may change, except `fixed`."""
        found: dict[str, object] = {}
        may_change = getattr(old, "LIVE", ())
        for name in old.__struct_fields__:
            before, after = getattr(old, name), getattr(new, name)
            if before == after or isinstance(before, Struct | dict):
                continue
            if name in may_change and name not in fixed:
                found[name] = after
                self.live.append(prefix + name)
            else:
                self.restart.append(prefix + name)
        return structs.replace(old, **found)


def changes(old: Config, new: Config) -> Changes:
    """Compare the configuration of a running gateway with a new one."""
    noted = _Comparison()
    top = noted.merge(old, new, "")
    made: dict[str, object] = {}
    for section in sections():
        fixed = Auth.SOURCES if section == "auth" and old.auth.required != new.auth.required else ()
        made[section] = noted.merge(getattr(old, section), getattr(new, section), f"{section}.", fixed=fixed)
    made["channels"] = {
        name: noted.merge(old.channels.get(name, old.history), new.channels.get(name, new.history), f"channels.{name}.")
        for name in dict.fromkeys((*old.channels, *new.channels))
    }
    made["roles"], made["secret_files"] = new.roles, new.secret_files
    names = dict.fromkeys((*old.roles, *new.roles))
    noted.live += [f"roles.{name}" for name in names if old.roles.get(name) != new.roles.get(name)]
    return Changes(structs.replace(top, **made), tuple(noted.live), tuple(noted.restart))
