"""The six publishers: what each requires, and how its driver is built and started."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


PUBLISHERS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Language:
    """The publisher of one language; commands run in its folder."""

    name: str
    library: str
    needs: tuple[str, ...]
    """Commands that must be installed."""
    get: str
    """How to get them."""
    build: tuple[tuple[str, ...], ...]
    """The first command builds the driver, further ones run the package's own tests."""
    driver: tuple[str, ...]
    example: tuple[str, ...]
    """Called with the endpoint to connect to."""
    lacks: tuple[str, ...] = ()
    """Cases about features that this publisher does not have, as its README says."""

    @property
    def folder(self) -> Path:
        return PUBLISHERS / self.name

    @property
    def missing(self) -> list[str]:
        """Required commands and libraries that are not installed."""
        missing = [name for name in self.needs if shutil.which(name) is None]
        return missing or ([] if self._has_libzmq() else ["libzmq"])

    def _has_libzmq(self) -> bool:
        if "pkg-config" not in self.needs:
            return True
        return not subprocess.run(["pkg-config", "--exists", "libzmq"], check=False).returncode


_JAVA = ("java", "-cp", "target/classes:target/test-classes:target/lib/*")

LANGUAGES = [
    Language(
        name="python",
        library="pyzmq",
        needs=(),
        get="",
        build=(),
        driver=(sys.executable, "conformance/driver.py"),
        example=(sys.executable, "example.py"),
    ),
    Language(
        name="node",
        library="zeromq",
        needs=("node", "npm"),
        get="Node.js 20 or later with npm",
        build=(("npm", "ci", "--silent", "--no-audit", "--no-fund"), ("npm", "test", "--silent")),
        driver=("node", "conformance/driver.js"),
        example=("node", "example.js"),
    ),
    Language(
        name="c",
        library="libzmq",
        needs=("cc", "make", "pkg-config"),
        get="a C compiler, make, pkg-config and libzmq (Debian: build-essential pkg-config libzmq3-dev)",
        build=(("make", "--silent", "all"), ("make", "--silent", "test")),
        driver=("build/driver",),
        example=("build/example",),
    ),
    Language(
        name="go",
        library="none",
        needs=("go",),
        get="Go 1.24 or later",
        build=(
            ("go", "build", "-C", "conformance", "-o", "../build/driver", "."),
            ("go", "build", "-o", "build/example", "./example"),
            ("go", "vet", "./..."),
            ("go", "test", "./..."),
        ),
        driver=("build/driver",),
        example=("build/example",),
    ),
    Language(
        name="rust",
        library="zmq",
        needs=("cargo", "cc", "pkg-config"),
        get="Rust 1.82 or later, pkg-config and libzmq (Debian: cargo pkg-config libzmq3-dev)",
        build=(
            ("./cargo-system-libzmq", "build", "--quiet", "--release", "--jobs=2", "--examples"),
            ("./cargo-system-libzmq", "test", "--quiet", "--release", "--jobs=2"),
        ),
        driver=("target/release/examples/driver",),
        example=("target/release/examples/publish",),
    ),
    Language(
        name="java",
        library="JeroMQ",
        needs=("java", "mvn"),
        get="Java 17 and Maven (Debian: default-jdk-headless maven)",
        build=(("mvn", "--quiet", "--batch-mode", "install"),),
        driver=(*_JAVA, "org.neurograph.publisher.Driver"),
        example=(*_JAVA, "org.neurograph.publisher.Example"),
    ),
]
