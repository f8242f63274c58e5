"""Files with secrets: those that the configuration names, and the one that it was read from."""

import os
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

from gateway.config.model import Config


_OTHERS = 0o077
_SECRETS = ("auth.secret_file", "bus.curve_key_file", "cluster.password_file", "tls.key_file")


def warnings(config: Config) -> Iterator[str]:
    """Yield which files with secrets other users may read."""
    found = {key: attrgetter(key)(config) for key in _SECRETS} | config.secret_files
    for key, name in found.items() if os.name == "posix" else ():
        path = Path(name or os.devnull)
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            try:
                mode = file.stat().st_mode & _OTHERS if file.is_file() else 0
            except OSError:
                continue  # who reads it says so
            if mode:
                yield f"{key}: other users can read {file} (mode …{mode:02o}): chmod 600 {file}"
