"""Conditions on events."""

from collections.abc import Mapping


class FilterError(ValueError):
    """A text that is no condition; `position` is where it stops being one."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} at {position}")
        self.message = message
        self.position = position


class Filter:
    """A condition on an event."""

    __slots__ = ("errors", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.errors = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def matches(self, event: Mapping[str, object]) -> bool:
        """Tell whether an event meets the condition."""
        name, _, value = self.text.partition("==")
        return str(event.get(name)) == value


def parse(text: str) -> Filter:
    """Read a condition."""
    if "==" not in text:
        raise FilterError("expected ==", len(text))
    return Filter(text)
