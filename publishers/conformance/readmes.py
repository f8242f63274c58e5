"""Each package's README as a new user follows it: in an empty folder, with its commands, and its code block as the program."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from publishers.conformance.languages import PUBLISHERS
from publishers.conformance.processes import Setting
from tests.support.addresses import free_tcp


_ENDPOINT = "tcp://127.0.0.1:5556"

_GO = """package main

import (
	"log"
	"time"

	"neurograph/publisher"
)

func main() {
%s}
"""
_RUST = """use neurograph_publisher::{Options, Publisher};
use serde_json::json;
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
%s    Ok(())
}
"""
_JAVA = """import java.time.Duration;
import java.util.Map;
import org.neurograph.publisher.Options;
import org.neurograph.publisher.Publisher;

public class Main {
    public static void main(String[] arguments) throws Exception {
%s    }
}
"""
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>readme</groupId>
  <artifactId>readme</artifactId>
  <version>1</version>
  <properties>
    <maven.compiler.source>17</maven.compiler.source>
    <maven.compiler.target>17</maven.compiler.target>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
  <dependencies>
    <dependency>
      <groupId>%s</groupId>
      <artifactId>%s</artifactId>
      <version>%s</version>
    </dependency>
  </dependencies>
</project>
"""


def readme(setting: Setting) -> None:
    """The README's commands and code, in an empty folder: its event arrives."""
    endpoint, language = free_tcp(), setting.language.name
    gateway = setting.gateway("connect = []", f'bind = "{endpoint}"')
    folder = setting.scratch / "empty"
    folder.mkdir()
    text = (PUBLISHERS / language / "README.md").read_text().replace(_ENDPOINT, endpoint)
    _FOLLOW[language](text, folder)
    [event] = gateway.events("robots.r2", 1)
    assert event["data"] == {"x": 1.5}, event


def _run(folder: Path, *command: str, **environment: str) -> None:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert not done.returncode, f"{' '.join(command)}: {done.stdout}{done.stderr}"


def _block(text: str, kind: str) -> str:
    """Return the first block of a language."""
    found = re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)
    assert found, f"the README has no code block of the language {kind}"
    return found[1]


def _commands(text: str, name: str) -> Sequence[str]:
    """Return the indented lines that begin with a command, without their comments."""
    return [line.split(" #")[0].strip() for line in re.findall(rf"^    ({name} .*)$", text, re.MULTILINE)]


def _python(text: str, folder: Path) -> None:
    """Run the block; the package is installed in this environment, and its wheel has its own test."""
    (folder / "main.py").write_text(_block(text, "python"))
    _run(folder, sys.executable, "main.py")


def _node(text: str, folder: Path) -> None:
    [install] = _commands(text, "npm")
    _run(folder, "sh", "-c", install.replace("./publishers/node", str(PUBLISHERS / "node")) + " --silent --no-audit")
    (folder / "main.mjs").write_text(_block(text, "js"))
    _run(folder, "node", "main.mjs")


def _c(text: str, folder: Path) -> None:
    [install], [compile_] = _commands(text, "make"), _commands(text, "cc")
    prefix = folder / "local"
    _run(PUBLISHERS / "c", "sh", "-c", install.replace("/usr/local", str(prefix)))
    includes, _, body = _block(text, "c").partition("\n\n")
    (folder / "main.c").write_text(f"{includes}\n\nint main(void) {{\n{body}return 0;\n}}\n")
    _run(folder, "sh", "-c", compile_, CPATH=str(prefix / "include"), LIBRARY_PATH=str(prefix / "lib"))
    _run(folder, "./a.out")


def _go(text: str, folder: Path) -> None:
    (folder / "main.go").write_text(_GO % _block(text, "go"))
    _run(folder, "go", "mod", "init", "readme")
    for command in _commands(text, "go mod"):
        _run(folder, "sh", "-c", command.replace("PATH/TO", str(PUBLISHERS.parent)))
    _run(folder, "go", "run", ".")


def _rust(text: str, folder: Path) -> None:
    """Build with the libraries that were built for the package's own tests."""
    package = PUBLISHERS / "rust"
    shutil.copy(package / "Cargo.lock", folder)
    dependencies = re.findall(r"^    ([\w-]+ = .*?) +#", text, re.MULTILINE)
    manifest = '[package]\nname = "readme"\nversion = "0.1.0"\nedition = "2021"\n\n[dependencies]\n'
    (folder / "Cargo.toml").write_text(manifest + "\n".join(dependencies).replace("PATH/TO", str(PUBLISHERS.parent)))
    (folder / ".cargo").mkdir()
    (folder / ".cargo/config.toml").write_text(_block(text, "toml"))
    (folder / "src").mkdir()
    (folder / "src/main.rs").write_text(_RUST % _block(text, "rust"))
    same = {"CARGO_TARGET_DIR": str(package / "target"), "CARGO_PROFILE_RELEASE_DEBUG": "1"}
    _run(folder, "cargo", "run", "--quiet", "--release", **same)


def _java(text: str, folder: Path) -> None:
    """Build with the package that `mvn install` has already installed."""
    named = re.search(r"depend on ([\w.]+):([\w-]+):([\d.]+)", text)
    assert named, "the README does not name the package as `depend on GROUP:ARTIFACT:VERSION`"
    (folder / "pom.xml").write_text(_POM % named.groups())
    sources = folder / "src/main/java"
    sources.mkdir(parents=True)
    (sources / "Main.java").write_text(_JAVA % _block(text, "java"))
    _run(folder, "mvn", "--quiet", "--batch-mode", "compile", "dependency:copy-dependencies")
    _run(folder, "java", "-cp", "target/classes:target/dependency/*", "Main")


_FOLLOW: dict[str, Callable[[str, Path], None]] = {
    "python": _python,
    "node": _node,
    "c": _c,
    "go": _go,
    "rust": _rust,
    "java": _java,
}
