"""What is counted of clients' messages and resumes, for metrics."""

from collections import Counter
from dataclasses import dataclass, field, replace

from gateway.core.protocol.errors import ErrorCode
from gateway.core.sessions.rate_limit import Kind


@dataclass(slots=True)
class ClientCounts:
    """Counts of all clients of one process, since they were last taken."""

    messages: Counter[str] = field(default_factory=Counter)
    """Messages by type; ``invalid`` are those that are none."""
    errors: Counter[ErrorCode] = field(default_factory=Counter)
    """Replies with errors."""
    rate_limited: Counter[Kind] = field(default_factory=Counter)
    denied: int = 0
    """Channels that a client may not subscribe to."""
    channels_resumed: Counter[bool] = field(default_factory=Counter)
    """Channels that were resumed, by whether nothing was missing."""
    personal: Counter[bool] = field(default_factory=Counter)
    """Personal messages from the bus, by whether a session for them was found."""
    published: Counter[bool | None] = field(default_factory=Counter)
    """Events that clients published on channels, by whether a process on the bus gets them; None is not published there."""

    def take(self) -> "ClientCounts":
        """Return the counts, and begin at 0 again."""
        taken = replace(self)
        self.messages, self.errors, self.rate_limited = Counter(), Counter(), Counter()
        self.denied, self.channels_resumed, self.personal, self.published = 0, Counter(), Counter(), Counter()
        return taken
