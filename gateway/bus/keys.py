"""CURVE keys in files: the gateway's own, and those that it trusts.

Keys are Z85 text in the format of pyzmq's `create_certificates`."""

import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import zmq
from zmq.auth import create_certificates, load_certificate
from zmq.utils import z85

from gateway.config.errors import ConfigError, Problem
from gateway.config.model import Bus
from gateway.runtime.logs import logger


log = logger("gateway.bus")

KEYS_MAX: Final = 1_000
"""Files read in a folder of keys, in the order of their names."""
RELOAD_SECONDS: Final = 1.0
"""A new key is used after this time at the latest."""

_KEY_CHARS = 40

_Pair = tuple[bytes, bytes | None]  # public, secret


class AllowList:
    """The public keys in a folder's ``*.key`` files, read again when the folder changes.
    Raises ConfigError: the folder does not exist, or a file in it holds no key. Later, such a file is logged and
    ignored, and without the folder no key is allowed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[bytes, str] = {}
        self._stamp: list[tuple[object, ...]] = []
        self._read_at = 0.0
        if not os.path.isdir(folder):  # Path.is_dir may raise
            raise _problem("curve_client_keys_dir", f"there is no folder {folder}")
        for name, reason in self._read():
            raise _problem("curve_client_keys_dir", f"{folder / name} {reason}")

    def __len__(self) -> int:
        return len(self._names)

    def name_of(self, key: bytes, *, now: float) -> str | None:
        """Return the name of the file that holds this key, None if none does. `now` is in seconds.

        For unknown keys the folder is read at most once in `RELOAD_SECONDS`; a known key is always checked
        against the folder as it is now."""
        if key in self._names or now - self._read_at >= RELOAD_SECONDS:
            self._read_at = now
            if unusable := self._read():
                name, reason = unusable[0]
                log.warning("bus_keys_unusable", file=name, reason=reason, count=len(unusable))
        return self._names.get(key)

    def _read(self) -> list[tuple[str, str]]:
        """Read the folder if it changed; return the files that cannot be used, with the reasons."""
        files = sorted(self._folder.glob("*.key"))[:KEYS_MAX]
        stamp = [(file.name, *_stamp(file)) for file in files]
        if stamp == self._stamp:
            return []
        self._stamp, self._names = stamp, {}
        unusable = []
        for file in files:
            try:
                self._names[_load(file)[0]] = file.stem
            except ValueError as error:
                unusable.append((file.name, str(error)))
        return unusable


@dataclass(frozen=True, slots=True)
class Keys:
    """The gateway's keys, that of the publishers in `connect`, and those allowed to connect to `bind`."""

    public: bytes
    secret: bytes = field(repr=False)
    server: bytes | None
    clients: AllowList | None


def read(config: Bus) -> Keys | None:
    """Read the configured keys; None without CURVE. Raises ConfigError: a file cannot be read, or holds no key."""
    own, server, clients = (config.curve_key_file, config.curve_server_key_file, config.curve_client_keys_dir)
    if not own:
        return None
    _, secret = _configured("curve_key_file", own)
    if secret is None:
        raise _problem("curve_key_file", f"{own} holds a public key only", "name the .key_secret file")
    return Keys(
        public=zmq.curve_public(secret),
        secret=secret,
        server=_configured("curve_server_key_file", server)[0] if server else None,
        clients=AllowList(Path(clients)) if clients else None,
    )


def warnings(config: Bus) -> Iterator[str]:
    """Yield what is probably a mistake, although the keys can be read."""
    if config.curve_client_keys_dir and not AllowList(Path(config.curve_client_keys_dir)):
        yield f"bus.curve_client_keys_dir: there is no *.key in {config.curve_client_keys_dir}: no publisher can connect"


def make_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Write NAME.key and NAME.key_secret, the latter readable by its owner only; return both paths.
    Raises OSError: one of them exists, or the folder cannot be written."""
    public, secret = folder / f"{name}.key", folder / f"{name}.key_secret"
    if public.exists():
        raise FileExistsError(errno.EEXIST, "exists already", str(public))
    secret.touch(0o600, exist_ok=False)
    public.touch(0o644, exist_ok=False)
    create_certificates(folder, name)
    return public, secret


def _stamp(file: Path) -> tuple[int, ...]:
    """Return what changes when the file does; empty if the file is missing or a broken link."""
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_ctime_ns


def _configured(setting: str, path: str) -> _Pair:
    try:
        return _load(Path(path))
    except ValueError as error:
        raise _problem(setting, f"{path} {error}") from None


def _load(path: Path) -> _Pair:
    """Return the keys in a file; a ValueError says what is wrong, without the file's content."""
    try:
        if not path.is_file():  # reading a pipe might never end
            raise ValueError("is not a file")
        public, secret = _certificate(path)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    if not _is_key(public) or not (secret is None or _is_key(secret)):
        raise ValueError("holds no CURVE key")
    return public, secret


def _certificate(path: Path) -> _Pair:
    try:
        return load_certificate(path)
    except ValueError:
        return b"", None


def _is_key(text: bytes) -> bool:
    try:
        return len(text) == _KEY_CHARS and bool(z85.decode(text))
    except (KeyError, struct.error):
        return False


def _problem(setting: str, reason: str, remedy: str = "make keys with `gateway keys`") -> ConfigError:
    return ConfigError([Problem(f"bus.{setting}", reason, remedy)])
