"""Files with secrets: those that the configuration names, and the one that it was read from."""

import os
from collections.abc import Iterator
from contextlib import suppress
from operator import attrgetter
from pathlib import Path

from gateway.config.model import Config


_OTHERS = 0o077
_SECRETS = ("auth.secret_file", "bus.curve_key_file", "cluster.password_file", "tls.key_file")


def warnings(config: Config) -> Iterator[str]:
    """Yield which files with secrets other users may read."""
    found = {key: attrgetter(key)(config) for key in _SECRETS} | config.secret_files
    for key, name in found.items() if os.name == "posix" else ():
        for file, mode in _modes(Path(name or os.devnull)):
            if mode & _OTHERS:
                yield f"{key}: other users can read {file} (mode …{mode & _OTHERS:02o}): chmod 600 {file}"


def _modes(path: Path) -> Iterator[tuple[Path, int]]:
    """Yield a file, or those of a folder, with their modes; none that cannot be looked at: who reads it says so."""
    with suppress(OSError):
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.is_file():
                yield file, file.stat().st_mode
