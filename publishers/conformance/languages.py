"""The six publishers: what each needs, how its driver is built and started."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


PUBLISHERS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Language:
    """A publisher; commands run in its folder."""

    name: str
    library: str
    needs: tuple[str, ...]
    """Commands that have to be there."""
    get: str
    """How to get them."""
    build: tuple[tuple[str, ...], ...]
    """The first makes the driver, further ones run the package's own tests."""
    driver: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return PUBLISHERS / self.name

    @property
    def missing(self) -> list[str]:
        """What is needed and not there."""
        missing = [name for name in self.needs if shutil.which(name) is None]
        return missing or ([] if self._has_libzmq() else ["libzmq"])

    def _has_libzmq(self) -> bool:
        if "pkg-config" not in self.needs:
            return True
        return not subprocess.run(["pkg-config", "--exists", "libzmq"], check=False).returncode


def _rust(*arguments: str) -> tuple[str, ...]:
    """Link the system's libzmq, which has CURVE, instead of building the crate's own, which has not."""
    return ("sh", "-c", "exec ./cargo-system-libzmq " + " ".join(arguments))


LANGUAGES = [
    Language(
        "python",
        "pyzmq",
        (),
        "",
        (),
        (sys.executable, "conformance/driver.py"),
    ),
    Language(
        "node",
        "zeromq (npm)",
        ("node", "npm"),
        "Node.js 20 or later with npm",
        (("npm", "ci", "--silent", "--no-audit", "--no-fund"), ("npm", "test", "--silent")),
        ("node", "conformance/driver.js"),
    ),
    Language(
        "c",
        "libzmq",
        ("cc", "make", "pkg-config"),
        "a C compiler, make, pkg-config and libzmq's headers (Debian: build-essential pkg-config libzmq3-dev)",
        (("make", "--silent", "driver"), ("make", "--silent", "test")),
        ("build/driver",),
    ),
    Language(
        "go",
        "none (ZMTP in Go)",
        ("go",),
        "Go 1.24 or later",
        (("go", "build", "-o", "build/driver", "./conformance"), ("go", "test", "./...")),
        ("build/driver",),
    ),
    Language(
        "rust",
        "zmq (crate)",
        ("cargo", "rustc", "cc", "pkg-config"),
        "Rust 1.85 or later, pkg-config and libzmq's headers (Debian: pkg-config libzmq3-dev)",
        (
            _rust("build", "--quiet", "--release", "--jobs=2", "--example=driver"),
            _rust("test", "--quiet", "--release", "--jobs=2"),
        ),
        ("target/release/examples/driver",),
    ),
    Language(
        "java",
        "JeroMQ",
        ("java", "mvn"),
        "Java 17 and Maven (Debian: default-jdk-headless maven)",
        (("mvn", "--quiet", "--batch-mode", "verify"),),
        (
            "java",
            "-cp",
            "target/classes:target/test-classes:target/lib/*",
            "org.neurograph.publisher.Driver",
        ),
    ),
]
