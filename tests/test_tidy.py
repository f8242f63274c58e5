"""The shape of the code is tested too: which way imports point, and where each library lives."""

from __future__ import annotations

import ast
import functools
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gateway.metrics.table import names


ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gateway"

FLOORS = [
    {"core"},
    {"config", "runtime"},
    {"metrics"},
    {"auth", "wiring"},
    {"cluster"},
    {"bus", "web"},
    {"workers"},
    {"process"},
    {"cli"},
    {"__main__"},
]
"""An import goes down, or sideways inside one folder."""

FLOORS_OF = {
    "core": [{"protocol"}, {"log", "sources"}, {"ingest"}, {"fanout"}, {"sessions"}, {"cluster"}],
    "web": [
        *(
            {"problems", "proxy_site", "write_scheduler"},
            {"access", "request_limit", "sockets"},
            {"context"},
            {"authentication", "query"},
            {"admission"},
        ),
        *({"endpoints"}, {"routes"}, {"app"}, {"edge"}),
    ],
}
"""The same of the folders and files in a folder."""

CORE_MAY_IMPORT = {
    *("gateway", "msgspec", "collections", "dataclasses", "enum", "functools", "hashlib", "itertools"),
    *(
        "base64",
        "bisect",
        "codecs",
        "contextlib",
        "datetime",
        "difflib",
        "json",
        "math",
        "operator",
        "re",
        "struct",
        "types",
        "typing",
        "zlib",
    ),
}

HOMES = {
    "zmq": ["bus"],
    "aiohttp": ["auth", "web", "workers"],
    "jwt": ["auth"],
    "cryptography": ["auth", "web"],
    "prometheus_client": ["metrics"],
    "uvloop": ["runtime"],
    "psutil": ["runtime"],
    "redis": ["cluster"],
    "structlog": ["runtime"],
    "click": ["cli"],
}
"""Each library is used in one place."""

LINES_MAX = 500
LONGER: dict[str, str] = {}
"""Files above the limit, each with the reason."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """The folder or file below ``gateway/`` that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def imports(source: str) -> tuple[str, ...]:
    """Every module that a source imports, wherever in it."""
    return tuple(_imports(source))


def _imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name the whole way"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(name: str, floors: list[set[str]]) -> int:
    return next((n for n, rooms in enumerate(floors) if name in rooms), -1)


def upward(source: str, here: str, floors: list[set[str]], prefix: str) -> list[str]:
    """The imports of a source that go up, or sideways into another room."""
    wrong = []
    for name in imports(source):
        if not name.startswith(prefix):
            continue
        there = name.removeprefix(prefix).split(".")[0]
        level = floor(there, floors)
        if level >= 0 and there != here and level >= floor(here, floors):
            wrong.append(name)
    return wrong


def foreign(source: str, allowed: set[str]) -> list[str]:
    return [name for name in imports(source) if name.split(".")[0] not in allowed]


def asynchronous(source: str) -> bool:
    kinds = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    return any(isinstance(node, kinds) for node in ast.walk(ast.parse(source)))


def test_imports_point_one_way() -> None:
    wrong = {}
    for path in modules():
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        for depth, floors in enumerate((FLOORS, FLOORS_OF.get(parts[0], []))):
            here = parts[depth] if depth < len(parts) else "__init__"
            if floors and here != "__init__":
                assert floor(here, floors) >= 0, f"{here} has no floor"
                wrong[path, depth] = upward(path.read_text(), here, floors, ".".join(("gateway", *parts[:depth], "")))

    assert len(wrong) > 100
    assert {} == {where: names for where, names in wrong.items() if names}


def test_the_core_is_pure() -> None:
    texts = {path: path.read_text() for path in (PACKAGE / "core").rglob("*.py")}

    assert len(texts) > 50
    assert {} == {path: names for path, text in texts.items() if (names := foreign(text, CORE_MAY_IMPORT))}
    assert [] == [path for path, text in texts.items() if asynchronous(text)]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Some modules that import each other in a circle, or none."""
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> list[str]:
        if name in way:
            return way[way.index(name) :]
        if name in done:
            return []
        found = next((c for one in sorted(graph.get(name, ())) if (c := visit(one, [*way, name]))), [])
        done.add(name)
        return found

    return next((c for name in sorted(graph) if (c := visit(name, []))), [])


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): set(imports(path.read_text()))
        for path in modules()
        if path.name != "__init__.py"
    }
    assert [] == circle({name: found & names.keys() for name, found in names.items()})


def test_every_library_has_one_home() -> None:
    strays = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in modules()
        for name in imports(path.read_text())
        if room(path) not in HOMES.get(name.split(".")[0], [room(path)])
    ]
    assert strays == []


def test_the_gateway_and_the_packages_beside_it_do_not_import_each_other() -> None:
    """They meet in entry points; `publish` also uses the gateway's own check of events, `replay` and `bench` a publisher."""
    packages = {
        PACKAGE: ("neurograph_client", "neurograph_publisher"),
        ROOT / "clients/python/src": ("gateway", "neurograph_publisher"),
        ROOT / "publishers/python/src": ("gateway",),
    }
    crossing = {
        (str(path.relative_to(ROOT)), name)
        for folder, others in packages.items()
        for path in folder.rglob("*.py")
        for name in imports(path.read_text())
        if name.split(".")[0] in others
    }
    publish = "publishers/python/src/neurograph_publisher/terminal.py"
    check = "gateway.cli.event_check"
    publishing = {
        (f"clients/python/src/neurograph_client/terminal/{command}.py", name)
        for command in ("bench", "replay")
        for name in ("neurograph_publisher", "neurograph_publisher.Publisher")
    }
    assert {(publish, check), (publish, f"{check}.EventCheck"), *publishing} == crossing


GONE = {
    "access": "door knock knocks",
    "admission, or connect request": "arrival arrivals arrive arrives",
    "welcome": "greet greets greeting greetings",
    "slot": "seat seats",
    "session store": "mailbox mailboxes",
    "heartbeat": "pulse",
    "token deadline": "terms",
    "write scheduler, batching or conflation": "pace pacer",
    "recovery, or repair": "joiner joining gate gates",
    "lost, or missing range": "owed",
    "receive queue, or parser": "inbound",
    "permissions": "rights",
    "rate limit": "quota quotas allowance allowances",
    "supervisor": "crew",
    "parent client": "lobby",
    "clients": "register",
    "messages, or pipe": "wire",
    "proxy": "forward forwards",
    "metrics sum": "totals",
    "channel view": "lens lenses sight sights",
    "selection, or matches": "sieve sieves verdict verdicts",
    "latest only": "brief",
    "flush": "hurry",
    "detached": "apart",
    "remote, or reported": "told",
    "session state": "portable",
    "subscription starts": "plan plans",
    "conflated": "left_out",
    "writer": "way ways",
    "epoch, or incarnation": "life lives",
    "last_disconnect": "last_end",
    "connection_count": "connects",
}
"""Names that were replaced, each by the word of docs/glossary.md or of its area."""

OTHERS = {
    "register": "of atexit, selectors, pollers and prometheus_client",
    "register_channel": "of mcap",
    "register_magic_function": "of IPython",
    "register_schema": "of mcap",
    "SCM_RIGHTS": "of the kernel",
    "wire": "the format on the wire, in publishers that have a module for it",
    "NEUROGRAPH_WIRE_H": "the same",
}
"""Names in other people's interfaces, and words that mean something else there."""

IDENTIFIERS = {".py": None, **dict.fromkeys((".ts", ".js", ".mjs", ".c", ".h", ".rs"), r"//[^\n]*|/\*.*?\*/")}
"""The languages whose identifiers are looked at, and what a comment looks like in them."""


def words(identifier: str) -> str:
    """An identifier's words, each between underscores: `_left_out_` for `leftOut`."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", identifier).lower()
    return f"_{parts.strip('_')}_"


def identifiers(path: Path) -> set[str]:
    """The names in a source, and that of the file; a test's name is a sentence, and left out."""
    comments = IDENTIFIERS[path.suffix]
    text = path.read_text()
    if comments is None:
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        found = {token.string for token in tokens if token.type == tokenize.NAME}
    else:
        strings = r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`"
        code = re.sub(f"{comments}|{strings}", " ", text, flags=re.DOTALL)
        found = set(re.findall(r"[A-Za-z_]\w*", code))
    return {name for name in {*found, path.stem} if not name.startswith("test_")}


def sources() -> list[Path]:
    """All sources of the gateway, the clients and the publishers, as git would keep them."""
    made = {"node_modules", "dist", "build", "target", "static"}
    return [
        path
        for folder in ("gateway", "clients", "publishers")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in IDENTIFIERS and path.is_file() and not made & set(path.parts)
    ]


def gone(names: set[str]) -> dict[str, str]:
    """Those of some names that use a word that was replaced, each with the word instead."""
    return {name: instead for name in sorted(names - OTHERS.keys()) if (instead := replaced(name)) is not None}


@functools.cache
def replaced(name: str) -> str | None:
    """The word instead of one in a name that was replaced."""
    used = words(name)
    return next((instead for instead, old in GONE.items() if any(f"_{word}_" in used for word in old.split())), None)


@pytest.mark.long
def test_names_that_were_replaced_are_gone() -> None:
    found = {str(path.relative_to(ROOT)): gone(identifiers(path)) for path in sources()}

    assert {} == {path: names for path, names in found.items() if names}


def test_the_glossary_is_short_and_has_no_name_that_is_gone() -> None:
    text = (ROOT / "docs/glossary.md").read_text()
    defined = re.findall(r"^\| (?!word \|)([a-z ]+) \| ([A-Z].*\.) \|$", text, re.MULTILINE)

    assert 0 < len(defined) <= 40
    assert len(re.findall(r"^\| [a-z]", text, re.MULTILINE)) == len(defined) + text.count("| word |")
    assert {} == gone({word.replace(" ", "_") for word, _ in defined})
    assert [] == [word for word, meaning in defined if meaning.count(". ")], "one sentence each"


def declared(requirements: list[str]) -> set[str]:
    """The names of the packages in a list of requirements."""
    return {canonicalize_name(Requirement(one).name) for one in requirements}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    needed = declared([*groups["run"], *groups["cluster"]])
    package_of = packages_distributions()
    modules_imported = {name.split(".")[0] for path in modules() for name in imports(path.read_text())} - {
        "gateway",
        *sys.stdlib_module_names,
    }
    imported = {canonicalize_name(package_of.get(name, [name])[0]) for name in modules_imported}

    assert set() == imported - needed
    assert set() == needed - imported


def test_no_file_outgrows_its_idea() -> None:
    long = {str(path.relative_to(ROOT)) for path in modules() if len(path.read_text().splitlines()) > LINES_MAX}
    assert set(LONGER) == long


def test_the_checks_find_what_they_look_for() -> None:
    assert upward("import gateway.web.app", "core", FLOORS, "gateway.") == ["gateway.web.app"]
    assert upward("from gateway import workers", "web", FLOORS, "gateway.") == ["gateway.workers"]
    assert upward("from gateway.web import x", "bus", FLOORS, "gateway.")
    assert upward("from gateway.core import log", "web", FLOORS, "gateway.") == []
    assert foreign("import asyncio", CORE_MAY_IMPORT) == ["asyncio"]
    assert asynchronous("async def x(): ...")
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert {"_left_out_", "_told_"} == {words("leftOut"), words("_told")}
    assert {"newLife": "epoch, or incarnation"} == gone({"newLife", "lifetime", "register"})
    assert list(log_messages("log.info('a'); audit.log(1, 'b'); log.error(x)")) == ["a", "b", ""]


def test_every_metric_is_in_the_documentation() -> None:
    text = (ROOT / "docs/monitor.md").read_text()

    assert [] == [name for name in names() if f"`{name}`" not in text]


LEVELS = {"debug", "info", "warning", "error", "exception"}


def log_messages(source: str) -> Iterator[str]:
    """The message of each call that writes to the log; "" where it is no constant."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log" | "audit"), attr=method), args=[found, *_]) if (
                method in LEVELS
            ):
                pass
            case ast.Call(func=ast.Attribute(attr="log" | "_log"), args=[_, found, *_]):
                pass
            case _:
                continue
        match found:
            case ast.Constant(value=str(message)):
                yield message
            case ast.Name(id="message"):  # passed on by a method `_log`, whose calls are found
                pass
            case _:
                yield ""


def test_every_log_message_is_in_the_documentation() -> None:
    """One table says what each means and what to do about it."""
    found = {message for path in modules() for message in log_messages(path.read_text())}
    text = (ROOT / "docs/monitor.md").read_text()
    section = text[text.index("## Log messages") :]
    table = re.findall(r"^\| `(\w+)` \|", section.split("\n#", 1)[0], re.MULTILINE)

    assert [] == [message for message in found if not re.fullmatch(r"[a-z]+(_[a-z]+)*", message)]
    assert sorted(found) == sorted(table)


def test_what_the_security_document_says_is_tested_is() -> None:
    text = (ROOT / "docs/security.md").read_text()
    named = re.findall(r"`(\w+(?:/\w+)*\.py)::(\w+)`", text)

    assert len(named) > 20
    assert [] == [(path, name) for path, name in named if f"def {name}(" not in (ROOT / path).read_text()]
