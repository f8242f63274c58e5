"""CURVE keys in a folder: a pair for each name, and lists of whom to trust."""

from __future__ import annotations

import shutil
from pathlib import Path

import zmq
from neurograph_publisher import Curve
from zmq.auth import create_certificates, load_certificate


class Ring:
    """Pairs of keys, each made when its name is first used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def public(self, name: str) -> Path:
        """The file with a public key."""
        path = self.folder / f"{name}.key"
        if not path.exists():
            create_certificates(self.folder, name)
            self.secret(name).chmod(0o600)
        return path

    def secret(self, name: str) -> Path:
        """The file with a secret key."""
        self.public(name)
        return self.folder / f"{name}.key_secret"

    def listing(self, name: str, *keys: str) -> Path:
        """A folder with the public keys of these."""
        folder = self.folder / name
        folder.mkdir()
        for key in keys:
            self.add(name, key)
        return folder

    def add(self, listing: str, key: str) -> None:
        shutil.copy(self.public(key), self.folder / listing)

    def remove(self, listing: str, key: str) -> None:
        (self.folder / listing / f"{key}.key").unlink()

    def texts(self, name: str) -> tuple[str, str]:
        """A pair as text, public and secret."""
        public, secret = load_certificate(self.secret(name))
        assert secret is not None
        return public.decode(), secret.decode()

    def curve(self, own: str, gateways: str) -> Curve:
        """What a publisher of this name needs; `gateways` names a key, or a list that there is."""
        listing = self.folder / gateways
        return Curve(self.secret(own), listing if listing.is_dir() else self.public(gateways))

    def approach(self, socket: zmq.Socket[bytes], own: str, server: str) -> None:
        """Make a plain socket a CURVE client with these keys."""
        public, secret = self.texts(own)
        socket.curve_publickey, socket.curve_secretkey = public.encode(), secret.encode()
        socket.curve_serverkey = self.texts(server)[0].encode()


def binding(ring: Ring, *trusted: str) -> dict[str, object]:
    """Settings of a gateway that binds, and trusts these keys."""
    return {
        "connect": "",
        "bus.curve_key_file": ring.secret("gateway"),
        "bus.curve_client_keys_dir": ring.listing("trusted", *trusted),
    }
