"""CURVE on the bus: sockets that prove who they are, and let in those on the list.

Who binds is the CURVE server. ZeroMQ asks in the server's own process whether it knows the key of who
connects: ZAP, ZeroMQ RFC 27.
"""

import asyncio
import logging

import zmq
from zmq.utils import z85

from gateway.bus import keys
from gateway.config.model import Bus
from gateway.logs import Throttle, logger


log = logger("gateway.bus")

_ZAP = "inproc://zeromq.zap.01"
_DOMAIN = b"bus"
_REQUESTS_AT_ONCE_MAX = 100
_HANDSHAKE_SECONDS = 5.0
"""libzmq may notice a refusal only when this ends: then who was refused tries again."""
_SHOWN_CHARS = 8
"""Of a public key, in logs."""
_CRYPTOGRAPHIC = 0x11000001  # ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC
_MECHANISM_MISMATCH = 0x11000002

_Socket = zmq.Socket[bytes]


class Curve:
    """Prepares sockets as configured, and answers ZeroMQ's questions; without CURVE it does nothing.

    Needs a running event loop from its making, which is before any socket is bound, to `close`.

    Raises:
        ConfigError: A key cannot be used.
    """

    def __init__(self, context: zmq.Context[_Socket], config: Bus) -> None:
        self._keys = keys.read(config)
        self._loop = asyncio.get_running_loop()
        self._logged = Throttle(count=5, interval_seconds=10.0)
        self._door: _Socket | None = None
        if self._keys is not None and self._keys.clients is not None:
            self._door = context.socket(zmq.ROUTER)
            self._door.linger = 0
            self._door.bind(_ZAP)
            self._loop.add_reader(self._door.FD, self.touch)

    def serve(self, socket: _Socket) -> None:
        """Make a socket that will bind let in those on the list, and nobody else."""
        if self._keys is not None:
            socket.curve_server = 1
            socket.curve_secretkey = self._keys.secret
            socket.zap_domain = _DOMAIN
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # nobody, when nobody answers
            socket.setsockopt(zmq.HANDSHAKE_IVL, round(_HANDSHAKE_SECONDS * 1000))

    def approach(self, socket: _Socket, server: str | None = None) -> bool:
        """Make a socket that will connect prove who it is, and demand as much of the other end.

        `server` is the key that a publisher announced for itself, else it is the configured one.
        Returns False if that is no key that the gateway trusts: the socket must not be connected.
        """
        own = self._keys
        if own is None:
            return True
        key = server.encode() if server else own.server
        if key is None or (key != own.server and self._name_of(key) is None):
            self._log(logging.WARNING, "bus_key_untrusted", key or b"")
            return False
        socket.curve_serverkey = key
        socket.curve_publickey = own.public
        socket.curve_secretkey = own.secret
        return True

    def explain(self, event: int, value: int, *, bound: bool) -> str:
        """Say what a failed handshake means, as near as ZeroMQ tells; `value` is its event's."""
        on = self._keys is not None
        mismatch = "it does not use CURVE" if on else "it uses CURVE, see bus.curve_key_file"
        if event == zmq.Event.HANDSHAKE_FAILED_AUTH:
            return "its key is not on the list" if bound else "it does not know the gateway's key"
        if event == zmq.Event.HANDSHAKE_FAILED_PROTOCOL:
            if value == _MECHANISM_MISMATCH:
                return mismatch
            if value != _CRYPTOGRAPHIC:
                return "it does not speak ZeroMQ's protocol"
            if bound:
                return "it has another public key for the gateway than the gateway has"
            return "its key is not the one in bus.curve_server_key_file"
        if bound:
            return f"it broke off: {mismatch}, or is no publisher"
        if on:
            return (
                "it broke off: its key is not the one in bus.curve_server_key_file, "
                f"it does not know the gateway's, or {mismatch}"
            )
        return f"it broke off: perhaps {mismatch}"

    def touch(self) -> None:
        """Answer all who wait at the door; also when nothing woke us."""
        door = self._door
        if door is None:
            return
        try:
            for _ in range(_REQUESTS_AT_ONCE_MAX):
                door.send_multipart(self._answer(door.recv_multipart(zmq.NOBLOCK)), zmq.NOBLOCK)
        except zmq.Again:
            return
        # The edge is spent: nothing would wake us for what is left.
        self._loop.call_soon(self.touch)

    def close(self) -> None:
        """Answer no more: from now on nobody comes in."""
        if self._door is not None:
            self._loop.remove_reader(self._door.FD)
            self._door.close(linger=0)
            self._door = None

    def _answer(self, request: list[bytes]) -> list[bytes]:
        """Answer a request, which comes from libzmq itself and is as it should be."""
        peer, empty, version, number, _domain, address, _identity, _mechanism, key = request
        shown = z85.encode(key)
        name = self._name_of(shown)
        if name is None:
            self._log(
                logging.WARNING,
                "bus_client_refused",
                shown,
                address=address.decode(errors="replace"),
            )
            # "Temporary": the connection just ends. After a final refusal (400) libzmq never tries
            # again, and a key put on the list later would need a restart of its publisher.
            return [peer, empty, version, number, b"300", b"unknown key", b"", b""]
        self._log(logging.INFO, "bus_client_accepted", shown, name=name)
        return [peer, empty, version, number, b"200", b"OK", b"", b""]

    def _name_of(self, key: bytes) -> str | None:
        clients = self._keys.clients if self._keys is not None else None
        return None if clients is None else clients.name_of(key, now=self._loop.time())

    def _log(self, level: int, message: str, key: bytes, **more: str) -> None:
        suppressed = self._logged.allow(message, now=self._loop.time())
        if suppressed is not None:
            shown = key[:_SHOWN_CHARS].decode(errors="replace") + "…" if key else "none"
            log.log(level, message, public_key=shown, suppressed=suppressed, **more)
