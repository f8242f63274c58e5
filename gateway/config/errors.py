"""What is wrong with a configuration, in one sentence per setting, with the remedy."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.protocol.errors import GatewayError


@dataclass(frozen=True, slots=True)
class Problem:
    """One setting that cannot be used."""

    key: str
    """Its key path."""
    reason: str
    """What is wrong, with the value that was given."""
    remedy: str
    """What to do about it."""
    origin: str = ""
    """Where the value came from: a file, an environment variable or a flag; empty if from nowhere."""

    def __str__(self) -> str:
        where = f" [{self.origin}]" if self.origin else ""
        return f"{self.key}: {self.reason}; {self.remedy}{where}"


class ConfigError(GatewayError):
    """The configuration cannot be used; ``problems`` has everything that was found, `str()` a line each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)
