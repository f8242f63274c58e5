"""The gateway's dependencies: the group `run` of pyproject.toml, and the packages of its terminal commands.
The group `cluster` is an extra.

In a checkout, these packages are the ones beside the gateway; elsewhere, those of exactly its version."""

import re
import tomllib
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


OWN = {
    "neurograph-client": Path("clients/python"),  # gateway tail, gateway status
    "neurograph-publisher": Path("publishers/python"),  # gateway publish, neurograph-system-metrics
}


class Dependencies(MetadataHookInterface):
    """Hatchling finds it here by its base class."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the dependencies to the project's metadata."""
        root = Path(self.root)
        groups = tomllib.loads((root / "pyproject.toml").read_text())["dependency-groups"]
        metadata["optional-dependencies"] = {"cluster": groups["cluster"]}
        metadata["dependencies"] = [*groups["run"], *(_own(name, root / folder, root) for name, folder in OWN.items())]


def _own(name: str, folder: Path, root: Path) -> str:
    if (folder / "pyproject.toml").exists():
        return f"{name}[terminal] @ {folder.as_uri()}"
    found = re.search(r'^__version__ = "(.+)"$', (root / "gateway/__init__.py").read_text(), re.MULTILINE)
    if found is None:
        raise ValueError("gateway/__init__.py: there is no __version__")
    return f"{name}[terminal]=={found[1]}"
