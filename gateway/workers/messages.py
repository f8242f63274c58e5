"""What parent and workers tell each other; each direction is one ordered stream of messages."""

from msgspec import Struct

from gateway.config.model import Config
from gateway.core.log.epochs import Cursor, EpochTable
from gateway.core.log.log import Entry, LogState
from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.events import ClientChange
from gateway.core.protocol.messages import BusState
from gateway.core.sessions.permissions import Identity
from gateway.core.sessions.store import Followed, SessionState


Sample = tuple[str, str, dict[str, str], float]
"""A metric's name, that of one of its samples, the labels, the value."""


class Begin(Struct, array_like=True, tag=True):
    """The first message to a worker; REST is answered at the socket `rest`."""

    config: Config
    epoch: str
    rest: str


class Log(Struct, array_like=True, tag=True):
    """A log as it is now; what is appended to it follows."""

    state: LogState


class Filled(Struct, array_like=True, tag=True):
    """All logs have been sent."""


class Entries(Struct, array_like=True, tag=True):
    """What was appended; `table` of the channels where one began."""

    entries: list[Entry]
    table: dict[str, EpochTable]


class Evict(Struct, array_like=True, tag=True):
    """What was too old at this time has been dropped."""

    now_ns: int


class Bus(Struct, array_like=True, tag=True):
    """How the bus is."""

    state: BusState


class Admitted(Struct, array_like=True, tag=True):
    """The answer to `Arrive`: a client is in, with the session that it left behind, if there is one."""

    number: int
    session: SessionState | None


class Refused(Struct, array_like=True, tag=True):
    """The other answer; who may come back does so over `spread_seconds`."""

    number: int
    code: CloseCode
    spread_seconds: float


class Personal(Struct, array_like=True, tag=True):
    """A message to one client."""

    client_id: str
    entry: Entry


class Release(Struct, array_like=True, tag=True):
    """Another connection takes a client's session over; answer with `Released`."""

    number: int
    client_id: str


class Renamed(Struct, array_like=True, tag=True):
    """The answer to `Rename`: whether the user may have one more client."""

    number: int
    allowed: bool


class Report(Struct, array_like=True, tag=True):
    """Answer with `Reported`."""

    number: int


class Reload(Struct, array_like=True, tag=True):
    """Read keys again from their files."""


class Drain(Struct, array_like=True, tag=True):
    """Send every client away; answer with `Drained`."""

    number: int


ToWorker = (
    Begin
    | Log
    | Filled
    | Entries
    | Evict
    | Bus
    | Admitted
    | Refused
    | Personal
    | Release
    | Renamed
    | Report
    | Reload
    | Drain
)


class Ready(Struct, array_like=True, tag=True):
    """The logs are here, connections may come."""


class Arrive(Struct, array_like=True, tag=True):
    """May a client come in? `session` is the secret that it brings, `secret` its next one."""

    number: int
    client_id: str
    secret: str
    identity: Identity
    session: str | None
    address: str


class Rename(Struct, array_like=True, tag=True):
    """A client brought a token."""

    number: int
    client_id: str
    identity: Identity


class Did(Struct, array_like=True, tag=True):
    """What a client did, what it follows now, and what it is known to have."""

    client_id: str
    notice: ClientChange
    followed: list[Followed]
    known: dict[str, Cursor]


class Known(Struct, array_like=True, tag=True):
    """What these clients are known to have."""

    clients: list[str]
    known: dict[str, Cursor]


class Released(Struct, array_like=True, tag=True):
    """All that was to be told of a client whose session is taken over has been told."""

    number: int


class Behind(Struct, array_like=True):
    """A client that does not have all there is for it."""

    lagging: bool
    lag: int
    buffered: int


class Reported(Struct, array_like=True, tag=True):
    """How a worker is: its open sockets, its metrics, who is behind."""

    number: int
    sockets: int
    samples: list[Sample]
    behind: dict[str, Behind]


class Drained(Struct, array_like=True, tag=True):
    """No client is left."""

    number: int


Answer = Released | Reported | Drained


ToParent = Ready | Arrive | Rename | Did | Known | Released | Reported | Drained
