"""What parent and workers send each other; each direction is one ordered stream of messages."""

from typing import Any, Literal

from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder

from gateway.config.model import Config
from gateway.core.fanout.filters import Filter, parse
from gateway.core.fanout.views import Subscription
from gateway.core.log.log import LogState
from gateway.core.log.sources import Cursor, Entry
from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.events import ClientChange
from gateway.core.protocol.messages import BroadcastResult, BusState
from gateway.core.sessions.permissions import Identity
from gateway.core.sessions.store import SessionState
from gateway.metrics.exposition import Key


Sample = tuple[Key, float]
"""What it is, and the value."""


class Message(Struct, array_like=True, tag=True):
    """A message; it is written as an array that begins with its class's name."""


class Answer(Message):
    """A message that answers the request of this number."""

    number: int


class Start(Message):
    """The first message to a worker."""

    config: Config
    epoch: str


class Log(Message):
    """A log as it is now; what is appended to it follows."""

    state: LogState


class Filled(Message):
    """All logs have been sent."""


class Entries(Message):
    """What was appended."""

    entries: list[Entry]


class Evict(Message):
    """What was too old at this time has been evicted."""

    now_ns: int


class Close(Message):
    """A channel was closed; those that open from now on have this epoch."""

    name: str
    epoch: str


class Cut(Message):
    """Logs that held more than this were cut to it."""

    bytes_max: int


class Bus(Message):
    state: BusState


class Admitted(Answer):
    """The answer to `Admit`: yes, with the session that the client resumes, if it resumes one."""

    session: SessionState | None


class Refused(Answer):
    """The answer to `Admit`: no; clients that may reconnect do so over `spread_seconds`."""

    code: CloseCode
    spread_seconds: float


class Personal(Message):
    client_id: str
    entry: Entry


class Disconnect(Message):
    """Close the connection of a client."""

    client_id: str
    code: CloseCode


class Release(Message):
    """Another connection takes a client's session over: detach it, answer with `Released`."""

    number: int
    client_id: str


class Identified(Answer):
    """The answer to `Identify`: whether the user may have one more client."""

    allowed: bool


class Broadcasted(Answer):
    """The answer to `Publish`: what came of it, or the error, its message and when to try again."""

    result: BroadcastResult | None
    error: str = ""
    message: str = ""
    retry_after: float | None = None


class Report(Message):
    number: int


class Reload(Message):
    """Use this configuration, and read keys again from their files."""

    config: Config


class Drain(Message):
    """Close every client's connection, then answer with `Drained`."""

    number: int


ToWorker = (
    Start
    | Admitted
    | Refused
    | Identified
    | Broadcasted
    | Log
    | Filled
    | Entries
    | Evict
    | Close
    | Cut
    | Bus
    | Personal
    | Disconnect
    | Release
    | Report
    | Reload
    | Drain
)


class Ready(Message):
    """The logs are filled; connections may come."""


class Resend(Message):
    """Send these logs again, None for all; `empty` if their entries are to be left out."""

    names: list[str] | None
    empty: bool


class Admit(Message):
    """May this client connect? `session` is the secret that it brings, `secret` its next one."""

    number: int
    client_id: str
    secret: str
    identity: Identity
    session: str | None
    address: str
    kind: Literal["websocket", "sse"]


class Failed(Message):
    """The client with this secret, if it was admitted, could not be connected."""

    secret: str


class Identify(Message):
    """May this client have the identity of the token that it sent?"""

    number: int
    client_id: str
    identity: Identity


class Publish(Message):
    """Publish a client's event; `text` is its message."""

    number: int
    client_id: str
    text: bytes


class Changed(Message):
    """What a client did, and what changed since the last report: subscriptions, and known cursors."""

    client_id: str
    change: ClientChange
    subscriptions: list[Subscription]
    removed: list[str]
    known: dict[str, Cursor]


class Confirmed(Message):
    clients: list[str]
    known: dict[str, Cursor]


class Released(Answer):
    """The answer to `Release`: all that there was to report of the client was sent."""


class Behind(Struct, array_like=True):
    """A client that does not have all there is for it."""

    lagging: bool
    lag: int
    buffered: int


class Reported(Answer):
    """The answer to `Report`: open sockets, metrics, and clients that are behind."""

    sockets: int
    samples: list[Sample]
    behind: dict[str, Behind]


class Drained(Answer):
    """The answer to `Drain`: no client is left."""


ToParent = Ready | Resend | Admit | Failed | Identify | Publish | Changed | Confirmed | Released | Reported | Drained


def _encode_hook(value: object) -> str:
    if isinstance(value, Filter):
        return value.text
    raise NotImplementedError(f"a message between processes cannot hold a {type(value).__name__}")


def _decode_hook(kind: type, text: Any) -> Filter:  # Any: what msgspec found
    if kind is Filter:
        return parse(text)
    raise NotImplementedError(f"a message between processes cannot hold a {kind.__name__}")


encode = Encoder(enc_hook=_encode_hook).encode
to_worker: Decoder[ToWorker] = Decoder(ToWorker, dec_hook=_decode_hook)
to_parent: Decoder[ToParent] = Decoder(ToParent, dec_hook=_decode_hook)
