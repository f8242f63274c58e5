"""CURVE: a publisher that proves who it is, and speaks to no gateway that does not.

Who binds is the CURVE server. ZeroMQ asks in the server's own process whether it knows the key of who
connects: ZAP, ZeroMQ RFC 27.
"""

import os
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.auth import load_certificate
from zmq.utils import z85

from neurograph_publisher.checks import PublisherError


_ZAP = "inproc://zeromq.zap.01"
_DOMAIN = b"bus"
_KEY_CHARS = 40
_KEYS_MAX = 1_000
_LOOK_SECONDS = 1.0

Socket = zmq.Socket[bytes]


@dataclass(frozen=True, slots=True)
class Curve:
    """Where a publisher's keys are, in files as `gateway keys` and pyzmq make them.

    `key_file` is its own, NAME.key_secret. `gateways` is the public key of its gateway, NAME.key; or,
    for a publisher that binds, a folder with those of all gateways that may connect: who is put there
    may from then on, who is taken away may not connect again.
    """

    key_file: str | os.PathLike[str]
    gateways: str | os.PathLike[str]


class Keys:
    """The keys themselves.

    Raises:
        PublisherError: One cannot be read, or is none.
    """

    def __init__(self, curve: Curve) -> None:
        own, self._gateways = Path(curve.key_file), Path(curve.gateways)
        _, secret = _load(own)
        if secret is None:
            raise PublisherError(f"{own} has a public key alone: name the .key_secret")
        self._secret = secret
        self.public: bytes = zmq.curve_public(secret)
        self._known: set[bytes] = set()
        self._stamp: list[tuple[object, ...]] = []
        self._looked = 0.0
        self._read()
        if not (self._known or os.path.isdir(self._gateways)):
            _load(self._gateways)  # says why

    def approach(self, socket: Socket) -> None:
        """Make a socket that will connect prove who it is, and demand as much of the gateway.

        Raises:
            PublisherError: It is not clear whose key to demand.
        """
        if os.path.isdir(self._gateways):
            raise PublisherError(f"{self._gateways} is a folder: to connect, name one gateway's .key")
        [socket.curve_serverkey] = self._known
        socket.curve_publickey = self.public
        socket.curve_secretkey = self._secret

    def serve(self, socket: Socket) -> None:
        """Make a socket that will bind let in the gateways that are known, and nobody else."""
        socket.curve_server = 1
        socket.curve_secretkey = self._secret
        socket.zap_domain = _DOMAIN
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # nobody, when nobody answers

    def knows(self, key: bytes) -> bool:
        """Whether this is a gateway's key; who is not known is looked for once a second."""
        if key in self._known or time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._read()
        return key in self._known

    def _read(self) -> None:
        """Read the gateways' keys again if files have changed; those of no use are left out."""
        self._looked = time.monotonic()
        path = self._gateways
        files = sorted(path.glob("*.key"))[:_KEYS_MAX] if os.path.isdir(path) else [path]
        stamp = [(file, *_stamp(file)) for file in files]
        if stamp != self._stamp:
            self._stamp, self._known = stamp, set()
            for file in files:
                with suppress(PublisherError):
                    self._known.add(_load(file)[0])


class ZapServer:
    """Answers libzmq whether a gateway may connect (ZAP, RFC 27); only one thread may use it."""

    def __init__(self, context: zmq.Context[Socket], keys: Keys) -> None:
        self.refused = 0
        self._keys = keys
        self.socket = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.bind(_ZAP)

    def serve(self) -> None:
        """Answer all requests that wait."""
        with suppress(zmq.Again):
            while True:
                self.socket.send_multipart(self._answer(self.socket.recv_multipart(zmq.NOBLOCK)))

    def _answer(self, request: list[bytes]) -> list[bytes]:
        """Answer a request, which comes from libzmq itself and is as it should be."""
        peer, empty, version, number, _domain, _address, _identity, _mechanism, key = request
        if self._keys.knows(z85.encode(key)):
            return [peer, empty, version, number, b"200", b"OK", b"", b""]
        self.refused += 1
        # A final answer, which the other end is told; a gateway tries again nevertheless.
        return [peer, empty, version, number, b"400", b"unknown key", b"", b""]


def _stamp(file: Path) -> tuple[int, ...]:
    """What changes when a file does; nothing of one that is gone, or leads nowhere."""
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_ctime_ns


def _load(path: Path) -> tuple[bytes, bytes | None]:
    """Return the public and the secret key in a file, or raise PublisherError."""
    try:
        public, secret = load_certificate(path) if path.is_file() else (b"", None)
        if len(public) == _KEY_CHARS and z85.decode(public) and (not secret or z85.decode(secret)):
            return public, secret
    except OSError as error:
        raise PublisherError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, struct.error):
        pass
    raise PublisherError(f"{path} holds no CURVE key")
