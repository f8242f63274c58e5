"""What is counted of clients' messages and resumes, for metrics."""

from collections import Counter
from dataclasses import dataclass, field

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

    def take(self) -> "ClientCounts":
        """Return the counts, and begin at 0 again."""
        taken = ClientCounts(self.messages, self.errors, self.rate_limited, self.denied, self.channels_resumed)
        self.messages, self.errors, self.rate_limited = Counter(), Counter(), Counter()
        self.denied, self.channels_resumed = 0, Counter()
        return taken
