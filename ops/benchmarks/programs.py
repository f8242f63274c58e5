"""The C programs, compiled on demand."""

import os
import shutil
import subprocess
from pathlib import Path


HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MADE = ROOT / "build/benchmarks"
"""The folder of everything that is built; git ignores it, `make clean` removes it."""


class NotHere(Exception):
    """A required program is not installed; the text names it and how to install it."""


def program(name: str) -> str:
    """Return the path of `load`, `limit` or `publish`, compiled from its current source.

    Raises:
        NotHere: There is no C compiler, or compilation fails.
    """
    target = MADE / name
    sources = [HERE / f"{name}.c", *HERE.glob("*.h")]
    if target.exists() and all(one.stat().st_mtime < target.stat().st_mtime for one in sources):
        return str(target)
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NotHere("There is no C compiler (cc). On Debian: apt-get install gcc libc6-dev")
    MADE.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(
        f".{os.getpid()}"
    )  # a file of this process, as another process may compile it at the same time
    command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(fresh), str(sources[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotHere(f"{compiler} failed to compile {sources[0]}:\n{done.stderr}")
    fresh.replace(target)
    return str(target)
