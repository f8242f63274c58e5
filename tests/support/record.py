"""What one reader was given of one channel, and whether that is all that it was owed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


Message = dict[str, Any]  # what a message holds is for each test to say


@dataclass
class Record:
    """The events and gaps of one channel in the order of their arrival."""

    events: list[Message] = field(default_factory=list)
    gaps: list[Message] = field(default_factory=list)
    epochs: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Offsets from..to that were delivered or named by a gap, in order of arrival, by epoch."""
    epoch: str = ""

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Those of the present epoch."""
        return self.epochs.setdefault(self.epoch, [])

    def add(self, message: Message) -> None:
        epoch = message.get("epoch")
        if epoch and not self.epoch:
            self.epochs[epoch] = self.spans  # that of what came before it was named
            del self.epochs[""]
        self.epoch = epoch or self.epoch
        if message["type"] == "gap":
            self.gaps.append(message)
            if message["from"] is not None:
                self.spans.append((message["from"], message["to"]))
            return
        self.events.append(message)
        offset = message["offset"]
        if self.spans and self.spans[-1][1] == offset - 1 and not self._ends_with_gap(offset):
            self.spans[-1] = (self.spans[-1][0], offset)
        else:
            self.spans.append((offset, offset))

    @property
    def offsets(self) -> list[int]:
        return [event["offset"] for event in self.events]

    @property
    def numbers(self) -> list[int]:
        """What the publisher numbered its events with."""
        return [event["data"]["n"] for event in self.events]

    def faults(self, *, after: int | None = None, until: int | None = None) -> list[str]:
        """Holes and duplicates, one sentence each; none if all offsets came, or a gap named them.

        `after` is the last offset known before, `until` the last one owed; left out, they are not checked.
        """
        found = []
        known = after
        for epoch, spans in self.epochs.items():
            if epoch != self.epoch:
                found += _faults(spans)
        found += _faults(self.spans, after)
        if self.spans:
            known = self.spans[-1][1]
        if until is not None and known != until:
            found.append(f"it ends at {known}, not at {until}")
        return found

    def _ends_with_gap(self, offset: int) -> bool:
        return bool(self.gaps) and self.gaps[-1]["to"] == offset - 1


def _faults(spans: list[tuple[int, int]], known: int | None = None) -> list[str]:
    """Holes and duplicates within one epoch."""
    found = []
    for first, last in spans:
        if known is not None and first <= known:
            found.append(f"{first}..{last} came after {known}")
        elif known is not None and first > known + 1:
            found.append(f"{known + 1}..{first - 1} is a hole")
        known = last
    return found
