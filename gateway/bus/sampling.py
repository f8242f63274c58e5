"""Receives from one endpoint for some seconds, and tries a publisher's replay, for `gateway doctor`."""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import zmq

from gateway.bus import zmtp_probe
from gateway.bus.context import make_context
from gateway.bus.curve import Curve
from gateway.bus.framing import Frames
from gateway.bus.replay import ReplayClient
from gateway.bus.sequence_replay import SequenceReplayClient
from gateway.bus.subscriber import Subscriber
from gateway.config.model import Bus
from gateway.config.sources import Endpoint
from gateway.core.ingest.publishers import ReplayRequest


Context = zmq.Context[zmq.Socket[bytes]]

MESSAGES_MAX = 20_000
BYTES_MAX = 64 * 1024 * 1024
_ROUND_SECONDS = 0.02
_REPLAY_SECONDS = 2.0


@dataclass(slots=True)
class Sample:
    """What an endpoint sent, and how the connection went."""

    messages: list[tuple[int, Frames]] = field(default_factory=list)
    """The time of receipt in unix nanoseconds, and the frames; the first `MESSAGES_MAX`."""
    received: int = 0
    """All messages, also those beyond the limits of `messages`."""
    connected: bool = False
    problem: str = ""
    """Why the handshake failed."""
    first_seconds: float | None = None
    """When the first message came, after the start."""
    seconds: float = 0.0
    """How long was received after the first message."""
    _kept_bytes: int = 0

    def keep(self, batch: Sequence[Frames], *, seconds: float) -> None:
        """Count messages that came `seconds` after the start, and keep them within the limits."""
        if self.first_seconds is None:
            self.first_seconds = seconds
        self.received += len(batch)
        now_ns = time.time_ns()
        for frames in batch:
            self._kept_bytes += sum(map(len, frames))
            if len(self.messages) < MESSAGES_MAX and (self._kept_bytes < BYTES_MAX or not self.messages):
                self.messages.append((now_ns, frames))

    def note(self, subscriber: Subscriber, change: str) -> None:
        """Keep what a change of the connection says."""
        self.connected |= change == "up"
        if change == "refused":
            self.problem = subscriber.diagnosis.problem


async def sample(config: Bus, endpoint: Endpoint, *, seconds: float) -> Sample:
    """Wait up to `seconds` for a first message, then receive for `seconds`.
    Raises BusError: the endpoint cannot be opened.
    Raises ConfigError: a CURVE key cannot be used."""
    loop, found = asyncio.get_running_loop(), Sample()
    context = make_context()
    curve = Curve(context, config if endpoint.may_use_curve else Bus())
    began = loop.time()
    subscriber = Subscriber(
        context,
        endpoint.address,
        endpoint.mode,
        config,
        curve,
        on_messages=lambda batch: found.keep([*batch], seconds=loop.time() - began),
        on_change=found.note,
        source=endpoint.source,
    )
    try:
        subscriber.open()
        ends = began + seconds
        while loop.time() < ends and not (found.problem and not found.connected):
            await asyncio.sleep(_ROUND_SECONDS)
            subscriber.poll()
            curve.poll()
            if found.first_seconds is not None and not found.seconds:
                found.seconds, ends = seconds, loop.time() + seconds
    finally:
        subscriber.close()
        curve.close()
        context.destroy(linger=0)
    return found


async def ask_for_replay(config: Bus, request: ReplayRequest) -> Frames | None:
    """Return a publisher's reply to a replay request; None if none comes."""
    return await _ask(
        config,
        request,
        lambda context, curve, on_reply: ReplayClient(
            context, config, curve, on_replies=lambda replies: on_reply(replies[0])
        ),
    )


async def ask_for_own_replay(
    config: Bus, request: ReplayRequest, *, first: int, convert: Callable[[bytes], bytes]
) -> Frames | None:
    """Return the answer of a publisher with numbers of its own, as a reply; see `SequenceReplayClient`."""
    return await _ask(
        config,
        request,
        lambda context, curve, on_reply: SequenceReplayClient(
            context, request.endpoint, config, curve, first=first, convert=convert, on_reply=on_reply
        ),
    )


async def _ask(
    config: Bus,
    request: ReplayRequest,
    make_client: Callable[[Context, Curve, Callable[[Frames], None]], ReplayClient | SequenceReplayClient],
) -> Frames | None:
    reply: asyncio.Future[Frames] = asyncio.get_running_loop().create_future()

    def on_reply(frames: Frames) -> None:
        if not reply.done():
            reply.set_result(frames)

    context = make_context()
    curve = Curve(context, config)
    client = make_client(context, curve, on_reply)
    try:
        client.send_request(request)
        return await asyncio.wait_for(reply, _REPLAY_SECONDS)
    except TimeoutError:
        return None
    finally:
        client.close()
        curve.close()
        context.destroy(linger=0)


async def identify_visitors(endpoint: str, *, seconds: float) -> list[zmtp_probe.Peer]:
    """Listen at an endpoint that publishers connect to, and return what connects; nothing is received from it.

    Their connections are closed, after which ZeroMQ connects again. It ends soon after the first one.
    Raises OSError: the endpoint cannot be bound."""
    peers: list[zmtp_probe.Peer] = []
    came = asyncio.Event()

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            peers.append(await zmtp_probe.identify(reader, writer, seconds=min(seconds, zmtp_probe.SECONDS)))
        except asyncio.CancelledError:
            pass  # the server has ended; Python 3.11 would report a cancelled visit as a failed callback
        finally:
            writer.close()
            came.set()

    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc":
        serve = functools.partial(asyncio.start_unix_server, visit, "\0" + rest[1:] if rest[:1] == "@" else rest)
    else:
        host, _, port = rest.rpartition(":")
        number = 0 if port == "*" else int(port)
        serve = functools.partial(asyncio.start_server, visit, None if host == "*" else host.strip("[]"), number)
    server = await serve()
    async with server:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await came.wait()
                await asyncio.sleep(min(seconds, 0.3))
    return peers
