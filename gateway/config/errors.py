"""What is wrong with a configuration: one sentence per setting, with the remedy."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.protocol.errors import GatewayError


@dataclass(frozen=True, slots=True)
class Problem:
    key: str
    """Its key path, as in ``clients.heartbeat_seconds``."""
    reason: str
    """What is wrong, with the value that was given."""
    remedy: str
    """What to do about it."""
    origin: str = ""
    """The file, environment variable or flag that has the value; empty for a default."""

    def __str__(self) -> str:
        where = f" [{self.origin}]" if self.origin else ""
        return f"{self.key}: {self.reason}; {self.remedy}{where}"


class ConfigError(GatewayError):
    """The configuration cannot be used; ``problems`` has all that is wrong, `str()` a line each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)
