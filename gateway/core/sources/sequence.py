"""From a publisher's own numbers to envelopes, so that losses on publishers nobody touched are noticed.

A foreign number has no incarnation: a number that is not higher than the last one shows that the publisher
started again. Nothing is known of what was sent before the first message that the gateway heard; of a
publisher that started again, what comes before its first message is missing. If a publisher counts all
topics together, what is missing counts for the topic of the next message.

One source is one publisher: two that number alike cannot be told apart."""

from collections.abc import Callable

from gateway.core.protocol.envelope import Envelope
from gateway.core.sources.errors import Unreadable
from gateway.core.sources.spec import Spec


STEP_MAX = 2**24
"""A number further ahead than this is no loss: the publisher started again, at an unknown number."""
TOPICS_MAX = 10_000
"""Topics whose numbers are remembered; at the limit all are forgotten, and begin anew."""

_SIZES = {"be32": 4, "be64": 8, "le32": 4, "le64": 8}


class Numbering:
    """One publisher's numbers. `new_incarnation` returns a random number for each of its starts."""

    def __init__(self, spec: Spec, *, new_incarnation: Callable[[], int]) -> None:
        self._size = _SIZES[spec.sequence]
        self._kind = spec.sequence
        self._big = spec.sequence.startswith("be")
        self._first = spec.sequence_first
        self._per_topic = spec.sequence_scope == "topic"
        self._new_incarnation = new_incarnation
        self._last: dict[bytes, int] = {}
        """The last number of each topic, or of all as b""."""
        self._incarnations: dict[bytes, int] = {}
        self._counts: dict[str | bytes, int] = {}
        """The last number in envelopes: of each topic, or else of each channel."""

    def envelope(self, channel: str, topic: bytes, frame: bytes | None) -> Envelope:
        """Return the envelope of a channel's next message. Raises Unreadable: the frame has another size."""
        if frame is None or len(frame) != self._size:
            raise Unreadable(
                "bad_sequence",
                f"the sequence number has {len(frame or b'')} bytes, those of {self._kind} have {self._size}; "
                'set `sequence` as the publisher counts, or "none", and `frames` to where it is',
            )
        number = int.from_bytes(frame, "big" if self._big else "little")
        scope = topic if self._per_topic else b""
        missing = self._missing(scope, number)
        self._last[scope] = number
        counted = topic if self._per_topic else channel
        self._counts[counted] = count = self._counts.get(counted, 0) + missing + 1
        return Envelope(self._incarnations[scope], count, 0)

    def _missing(self, scope: bytes, number: int) -> int:
        """Return how many messages are missing before this one; note a new incarnation."""
        last = self._last.get(scope)
        if last is None:
            if len(self._last) >= TOPICS_MAX:
                for remembered in (self._last, self._incarnations, self._counts):
                    remembered.clear()
            self._start(scope)
            return 0
        step = (number - last) % (1 << 8 * self._size)  # 32 bits overflow
        if 0 < step <= STEP_MAX:
            return step - 1
        self._start(scope)
        return number - self._first if self._first <= number <= STEP_MAX else 0

    def _start(self, scope: bytes) -> None:
        self._incarnations[scope] = self._new_incarnation()
        if self._per_topic:
            self._counts.pop(scope, None)
        else:
            self._counts.clear()
