"""CURVE on the bus: encryption, and authentication of both ends by their keys.

The end that binds is the CURVE server. libzmq asks a socket in the server's process whether a client's
key is allowed (ZAP, ZeroMQ RFC 27)."""

import asyncio
import logging
from typing import Literal

import zmq
from zmq.utils import z85

from gateway.bus import keys
from gateway.config.model import Bus
from gateway.runtime.logs import Throttle, logger


log = logger("gateway.bus")

_ZAP = "inproc://zeromq.zap.01"
_DOMAIN = b"bus"
_REQUESTS_AT_ONCE_MAX = 100
_SHOWN_CHARS = 8
"""Length of a public key in logs."""
_CRYPTOGRAPHIC = 0x11000001  # ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC
_MECHANISM_MISMATCH = 0x11000002

_Socket = zmq.Socket[bytes]
Mode = Literal["connect", "bind"]


class Curve:
    """Configures sockets for CURVE, and authorizes clients' keys; without keys it does nothing.

    Make it before any socket is bound. It needs a running event loop until `close`.
    Raises ConfigError: a key cannot be used."""

    def __init__(self, context: zmq.Context[_Socket], config: Bus) -> None:
        self._keys = keys.read(config)
        self._loop = asyncio.get_running_loop()
        self._throttle = Throttle(count=5, interval_seconds=10.0)
        self._zap_socket: _Socket | None = None
        self._context = context
        self._accepted: set[bytes] = set()
        """The clients' keys that were accepted."""
        self._authorize_clients()

    def _authorize_clients(self) -> None:
        if self._zap_socket is None and self._keys is not None and self._keys.clients is not None:
            self._zap_socket = self._context.socket(zmq.ROUTER)
            self._zap_socket.linger = 0
            self._zap_socket.bind(_ZAP)
            self._loop.add_reader(self._zap_socket.FD, self.poll)

    def reload(self, found: keys.Keys | None) -> set[Mode]:
        """Use other keys; return which sockets must be replaced, as links do not end with the keys they began with."""
        old, self._keys = self._keys, found
        self._authorize_clients()
        own = [None if one is None else (one.public, one.secret) for one in (old, found)]
        if own[0] != own[1]:
            return {"bind", "connect"}
        stale: set[Mode] = set()
        if old is not None and found is not None and old.server != found.server:
            stale.add("connect")
        if any(self._name_of(key) is None for key in self._accepted):
            self._accepted.clear()  # those that are still allowed come again
            stale.add("bind")
        return stale

    def configure_server(self, socket: _Socket) -> None:
        """Make a socket that will bind accept only the clients in the list of keys."""
        if self._keys is None:
            if socket.type == zmq.XPUB:
                # With a domain, libzmq refuses what does not speak ZMTP 2 or later. Else it takes it for ZMTP 1, which
                # has no subscriptions, and makes one; it aborts the process if the socket is just being closed.
                socket.zap_domain = _DOMAIN
        else:
            socket.curve_server = 1
            socket.curve_secretkey = self._keys.secret
            socket.zap_domain = _DOMAIN
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without an answer, refuse

    def configure_client(self, socket: _Socket, server: str | None = None) -> bool:
        """Give a socket that will connect the gateway's key and the server's key.

        `server` is the key that a publisher announced, by default the configured one. Returns False if
        the gateway does not trust that key: the socket must not be connected."""
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

    @property
    def public(self) -> str | None:
        """The gateway's own public key."""
        return None if self._keys is None else self._keys.public.decode()

    @property
    def on(self) -> bool:
        """Whether the gateway uses CURVE."""
        return self._keys is not None

    def describe_failure(self, event: int, value: int, *, bound: bool, senders: str) -> tuple[str, bool]:
        """Return why a handshake failed, as far as libzmq reports it, and whether that is the exact reason.

        `value` is that of the monitor's event, and `senders` are the kinds of sockets that may be peers."""
        if event == zmq.Event.HANDSHAKE_FAILED_AUTH:
            if bound:
                return "The peer's CURVE key is not in bus.curve_client_keys_dir.", True
            return "The peer does not accept the gateway's CURVE key.", True
        if event == zmq.Event.HANDSHAKE_FAILED_PROTOCOL:
            if value == _MECHANISM_MISMATCH and self.on:
                return "The peer does not use CURVE; the gateway does.", True
            if value == _MECHANISM_MISMATCH:
                # Only CURVE is likely: the probe tells if it is another mechanism.
                return "The peer uses CURVE; set bus.curve_key_file to use it, too.", False
            if value != _CRYPTOGRAPHIC:
                return "The peer does not speak ZMTP, ZeroMQ's protocol.", False
            if bound:
                return "The peer has another public key for the gateway than the gateway's.", True
            return "The peer's CURVE key is not the one in bus.curve_server_key_file.", True
        closed = "The peer closed the connection during the ZMTP handshake"
        if self.on and not bound:
            key = "its CURVE key is not the one in bus.curve_server_key_file"
            return f"{closed}: {key}, or it does not accept the gateway's key.", False
        key = "it has another public key for the gateway" if self.on else "it uses CURVE and the gateway does not"
        causes = f"its socket is of another kind than {senders}, {key}, or it is not ZeroMQ, as a health check"
        return f"{closed}: {causes}; `gateway doctor`, run while the gateway is stopped, says which.", False

    def poll(self) -> None:
        zap_socket = self._zap_socket
        if zap_socket is None:
            return
        try:
            for _ in range(_REQUESTS_AT_ONCE_MAX):
                zap_socket.send_multipart(self._authorize(zap_socket.recv_multipart(zmq.NOBLOCK)), zmq.NOBLOCK)
        except zmq.Again:
            return
        # The FD is edge-triggered, so nothing would wake us for the remaining requests.
        self._loop.call_soon(self.poll)

    def close(self) -> None:
        """Stop answering: from now on all clients are refused."""
        if self._zap_socket is not None:
            self._loop.remove_reader(self._zap_socket.FD)
            self._zap_socket.close(linger=0)
            self._zap_socket = None

    def _authorize(self, request: list[bytes]) -> list[bytes]:
        """Answer an authorization request, which libzmq made, so it is well-formed."""
        peer, empty, version, number, _domain, address, _identity, mechanism, *credentials = request
        # A socket that was bound before the keys were set still has clients without one.
        shown = z85.encode(credentials[0]) if mechanism == b"CURVE" else b""
        name = self._name_of(shown)
        if name is None:
            self._log(logging.WARNING, "bus_client_refused", shown, address=address.decode(errors="replace"))
            # 300 is temporary: the connection is closed. After 400, which is final, libzmq would never
            # reconnect, and a publisher whose key is added later would need a restart.
            return [peer, empty, version, number, b"300", b"unknown key", b"", b""]
        self._accepted.add(shown)
        self._log(logging.INFO, "bus_client_accepted", shown, name=name)
        return [peer, empty, version, number, b"200", b"OK", b"", b""]

    def _name_of(self, key: bytes) -> str | None:
        clients = self._keys.clients if self._keys is not None else None
        return None if clients is None else clients.name_of(key, now=self._loop.time())

    def _log(self, level: int, message: str, key: bytes, **more: str) -> None:
        suppressed = self._throttle.allow(message, now=self._loop.time())
        if suppressed is not None:
            shown = key[:_SHOWN_CHARS].decode(errors="replace") + "…" if key else "none"
            log.log(level, message, public_key=shown, suppressed=suppressed, **more)
