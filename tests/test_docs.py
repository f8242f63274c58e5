"""The documents say what the code does: every path, link, setting, metric and command in them exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.config.settings import settings
from gateway.metrics.table import names
from ops import graph, trace
from ops import settings as reference
from publishers.conformance import tables
from publishers.conformance.cases import CASES
from publishers.conformance.languages import LANGUAGES


ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("clients/*.md")], key=lambda path: str(path)
)
PACKAGES = (
    sorted(ROOT.glob("clients/*/*.md")) + sorted(ROOT.glob("publishers/*.md")) + sorted(ROOT.glob("publishers/*/*.md"))
)
ARCHITECTURE = ROOT / "docs/architecture.md"

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@pytest.mark.long
def test_the_drawing_of_the_imports_is_up_to_date() -> None:
    """If this fails, draw it again: make graph."""
    assert graph.picture() == graph.TARGET.read_text()


def test_the_tables_of_all_settings_are_up_to_date() -> None:
    """If this fails: make settings."""
    assert reference.document() == reference.DOCUMENT.read_text()


def test_every_package_is_in_the_architecture() -> None:
    """Each folder has a row with a sentence, each file beside the folders is named."""
    text = ARCHITECTURE.read_text()
    folders = {path.parent for path in graph.PACKAGE.rglob("*.py")} - {graph.PACKAGE}
    rows = [f"| `{path.relative_to(graph.PACKAGE)}/` |" for path in sorted(folders)]
    files = [f"`{path.name}`" for path in graph.PACKAGE.glob("*.py") if path.stem[0] != "_"]

    # A folder that holds only other folders needs none.
    rows.remove("| `core/` |")
    assert [] == [name for name in [*rows, *files] if name not in text]


async def test_the_paths_in_the_architecture_are_those_that_run() -> None:
    """Its lists name the files that run code, and count them; see `make trace`."""
    text = ARCHITECTURE.read_text()
    for act, files in (await trace.trace()).items():
        title, _, rest = text.partition(f"### {act.capitalize()}: ")[2].partition("\n")
        steps = "".join(re.findall(r"^(?:\d+\.|  ) .*\n", rest.partition("\n#")[0], re.MULTILINE))

        listed = {*re.findall(r"`([\w/]+\.py)`", steps)}
        assert set() == set(files) - listed, act
        # On a busy machine one repetition may do without what a delay or a batch brings along.
        assert len(listed - set(files)) <= 1, act
        assert f"{len(listed)} files" == title, act


def test_the_tables_of_the_publishers_are_those_of_their_conformance() -> None:
    """Each language has a row with its library; each case has one that says which languages offer it. `--write` writes it."""
    offered = {one.name: dict.fromkeys({case.__name__ for case in CASES} - {*one.lacks}, "") for one in LANGUAGES}
    text = tables.README.read_text()

    assert tables.results(offered) in text
    rows = re.findall(r"^\| \[(\w+)\]\(\1/\) \| (\S+)", text, re.MULTILINE)
    # That of Go is its own.
    assert [(one.name, one.library.replace("none", "ZMTP")) for one in LANGUAGES] == rows


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    return {slug(line) for line in re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)}


@pytest.mark.parametrize("document", [*DOCUMENTS, *PACKAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert [] == broken


@each_document
def test_every_file_that_is_named_exists(document: Path) -> None:
    """A path counts from the root, from the document or from gateway/; a mere name is any file's."""
    bases = [ROOT, document.parent, graph.PACKAGE]
    files = {path.name for folder in ("gateway", "tests", "ops") for path in (ROOT / folder).rglob("*.*")}
    found = re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.\w+|\w+\.py)(?:::\w+)?`", document.read_text())
    ours = [name for name in found if not name.startswith("build/") and name not in files]
    assert [] == [name for name in ours if not any((base / name).exists() for base in bases)]


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if path.name != "CHANGELOG.md"], ids=lambda p: p.name)
def test_every_setting_that_is_named_exists(document: Path) -> None:
    """The changelog also names settings that are gone."""
    known = {one.key for one in settings()}
    sections = {key.split(".")[0] for key in known if "." in key}
    found = re.findall(r"`([a-z_]+)\.([a-z_]+)`", document.read_text())
    ours = [f"{section}.{name}" for section, name in found if section in sections]
    files = {"py", "md"}
    assert [] == [key for key in ours if key not in known and key.split(".")[1] not in files]


@each_document
def test_every_metric_that_is_named_exists(document: Path) -> None:
    found = re.findall(r"\bneurograph_gateway_\w*[a-z]\b", document.read_text())
    assert [] == [name for name in found if name not in names()]


@each_document
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    text = document.read_text()
    commands = re.findall(r"(?:`|^    )make ((?:[a-z-]+ ?)+)", text, re.MULTILINE)
    named = {word for command in commands for word in command.split(" #")[0].split()}
    assert [] == sorted(named - set(targets))
