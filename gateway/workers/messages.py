"""What parent and workers send each other; each direction is one ordered stream of messages."""

from typing import Any

import msgspec
from msgspec import Struct

from gateway.config.model import Config
from gateway.core.fanout.filters import Filter, parse
from gateway.core.fanout.views import Subscription
from gateway.core.log.epochs import Cursor, EpochTable
from gateway.core.log.log import Entry, LogState
from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.events import ClientChange
from gateway.core.protocol.messages import BusState
from gateway.core.sessions.permissions import Identity
from gateway.core.sessions.store import SessionState


Sample = tuple[str, str, dict[str, str], float]
"""A metric's name, that of one of its samples, the labels, the value."""


class Start(Struct, array_like=True, tag=True):
    """The first message to a worker; the parent answers REST at the Unix socket `rest`."""

    config: Config
    epoch: str
    rest: str


class Log(Struct, array_like=True, tag=True):
    """A log as it is now; what is appended to it follows."""

    state: LogState


class Filled(Struct, array_like=True, tag=True):
    """All logs have been sent."""


class Entries(Struct, array_like=True, tag=True):
    """What was appended, with the epochs of the channels where one began."""

    entries: list[Entry]
    epochs: dict[str, EpochTable]


class Evict(Struct, array_like=True, tag=True):
    """What was too old at this time has been evicted."""

    now_ns: int


class Bus(Struct, array_like=True, tag=True):
    """The state of the bus changed."""

    state: BusState


class Admitted(Struct, array_like=True, tag=True):
    """The answer to `Admit`: yes, with the session that the client resumes, if it resumes one."""

    number: int
    session: SessionState | None


class Refused(Struct, array_like=True, tag=True):
    """The answer to `Admit`: no; clients that may come back do so over `spread_seconds`."""

    number: int
    code: CloseCode
    spread_seconds: float


class Personal(Struct, array_like=True, tag=True):
    """A message to one client."""

    client_id: str
    entry: Entry


class Release(Struct, array_like=True, tag=True):
    """Another connection takes a client's session over: detach it, answer with `Released`."""

    number: int
    client_id: str


class Identified(Struct, array_like=True, tag=True):
    """The answer to `Identify`: whether the user may have one more client."""

    number: int
    allowed: bool


class Report(Struct, array_like=True, tag=True):
    """Answer with `Reported`."""

    number: int


class Reload(Struct, array_like=True, tag=True):
    """Read keys again from their files."""


class Drain(Struct, array_like=True, tag=True):
    """Close every client's connection, then answer with `Drained`."""

    number: int


AnswerToWorker = Admitted | Refused | Identified
ToWorker = (
    AnswerToWorker
    | Start
    | Log
    | Filled
    | Entries
    | Evict
    | Bus
    | Personal
    | Release
    | Report
    | Reload
    | Drain
)


class Ready(Struct, array_like=True, tag=True):
    """The logs are filled; connections may come."""


class Admit(Struct, array_like=True, tag=True):
    """May this client connect? `session` is the secret that it brings, `secret` its next one."""

    number: int
    client_id: str
    secret: str
    identity: Identity
    session: str | None
    address: str


class Identify(Struct, array_like=True, tag=True):
    """May this client have the identity of the token that it sent?"""

    number: int
    client_id: str
    identity: Identity


class Changed(Struct, array_like=True, tag=True):
    """What a client did, with its subscriptions and its known cursors as they are now."""

    client_id: str
    change: ClientChange
    subscriptions: list[Subscription]
    known: dict[str, Cursor]


class Confirmed(Struct, array_like=True, tag=True):
    """The known cursors of these clients."""

    clients: list[str]
    known: dict[str, Cursor]


class Released(Struct, array_like=True, tag=True):
    """The answer to `Release`: all that there was to report of the client was sent."""

    number: int


class Behind(Struct, array_like=True):
    """A client that does not have all there is for it."""

    lagging: bool
    lag: int
    buffered: int


class Reported(Struct, array_like=True, tag=True):
    """The answer to `Report`: open sockets, metrics, and clients that are behind."""

    number: int
    sockets: int
    samples: list[Sample]
    behind: dict[str, Behind]


class Drained(Struct, array_like=True, tag=True):
    """The answer to `Drain`: no client is left."""

    number: int


AnswerToParent = Released | Reported | Drained
ToParent = AnswerToParent | Ready | Admit | Identify | Changed | Confirmed


def _encode_hook(value: object) -> str:
    if isinstance(value, Filter):
        return value.text
    raise NotImplementedError(f"a message between processes cannot hold a {type(value).__name__}")


def _decode_hook(kind: type, text: Any) -> Filter:  # Any: what msgspec found
    if kind is Filter:
        return parse(text)
    raise NotImplementedError(f"a message between processes cannot hold a {kind.__name__}")


encode = msgspec.msgpack.Encoder(enc_hook=_encode_hook).encode
to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(
    ToWorker, dec_hook=_decode_hook
)
to_parent: msgspec.msgpack.Decoder[ToParent] = msgspec.msgpack.Decoder(
    ToParent, dec_hook=_decode_hook
)
