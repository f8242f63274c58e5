"""CURVE: a publisher proves its identity, and accepts only gateways that prove theirs.

The end that binds is the CURVE server. In the server's process ZeroMQ requests for each client whether its key
is known: ZAP, ZeroMQ RFC 27.
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
    """The files with a publisher's keys, as `gateway keys` and pyzmq make them.

    `key_file` is its own, NAME.key_secret. `gateways` is the public key of its gateway, NAME.key; or,
    for a publisher that binds, a folder with the keys of all gateways that may connect. Changes of the folder
    apply to new connections.
    """

    key_file: str | os.PathLike[str]
    gateways: str | os.PathLike[str]


class Keys:
    """The keys from the files of a `Curve`.

    Raises:
        PublisherError: A file cannot be read, or holds no key.
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
            _load(self._gateways)  # raises with the reason

    def approach(self, socket: Socket) -> None:
        """Make a socket that will connect a CURVE client, which requires the gateway's key.

        Raises:
            PublisherError: `gateways` is a folder, so the gateway's key is not clear.
        """
        if os.path.isdir(self._gateways):
            raise PublisherError(f"{self._gateways} is a folder: to connect, name one gateway's .key")
        [socket.curve_serverkey] = self._known
        socket.curve_publickey = self.public
        socket.curve_secretkey = self._secret

    def serve(self, socket: Socket) -> None:
        """Make a socket that will bind a CURVE server, which accepts only the gateways with known keys."""
        socket.curve_server = 1
        socket.curve_secretkey = self._secret
        socket.zap_domain = _DOMAIN
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # refuse all connections while no thread answers ZAP requests

    def knows(self, key: bytes) -> bool:
        """Whether this is a gateway's key; for an unknown key, the folder is read again at most once a second."""
        if key in self._known or time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._read()
        return key in self._known

    def _read(self) -> None:
        """Read the gateways' keys again if files have changed; invalid files are skipped."""
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
        """Answer all waiting requests."""
        with suppress(zmq.Again):
            while True:
                self.socket.send_multipart(self._answer(self.socket.recv_multipart(zmq.NOBLOCK)))

    def _answer(self, request: list[bytes]) -> list[bytes]:
        """Answer a request, which is valid, as libzmq itself made it."""
        peer, empty, version, number, _domain, _address, _identity, _mechanism, key = request
        if self._keys.knows(z85.encode(key)):
            return [peer, empty, version, number, b"200", b"OK", b"", b""]
        self.refused += 1
        # 400 is a permanent refusal, which the other end receives; a gateway tries again nevertheless.
        return [peer, empty, version, number, b"400", b"unknown key", b"", b""]


def _stamp(file: Path) -> tuple[int, ...]:
    """Return values that change with the file; empty if it does not exist, or is a broken link."""
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
