"""The dashboard at / is what clients/dashboard was built into, loads only its own files, and is JSON for programs."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import pytest

from gateway import __version__
from tests.unit.web.conftest import Site


ROOT = Path(__file__).parents[4]
SOURCES = ROOT / "clients/dashboard"
CONFIGURATIONS = ("vite.config.ts", "vite.embed.config.ts", "vite.stream.config.ts")
BUILT = ROOT / "gateway/web/static"
BYTES_MAX = 150 * 1024
"""What a browser may have to load in all, compressed."""


def names() -> list[str]:
    """The files that the page loads."""
    return re.findall(r'(?:src|href)="\./((?:assets/|icon)[^"]+)"', (BUILT / "index.html").read_text())


async def test_every_link_of_the_page_is_served(site: Site) -> None:
    page = (await site.get("/")).body.decode()
    links = re.findall(r'(?:href|src)="\.(/[^"]+)"', page)

    assert len(links) >= 11
    for link in links:
        assert (await site.get(link)).status == 200, link


async def test_the_policy_allows_the_pages_own_files_and_nothing_else(site: Site) -> None:
    answer = await site.get("/")
    policy = answer.headers["Content-Security-Policy"]

    assert policy.startswith("default-src 'none'; ")
    assert set(re.findall(r"(?:script|style|img|connect)-src ([^;]+)", policy)) == {"'self'"}
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


async def test_the_page_has_nothing_inline_and_names_no_host(site: Site) -> None:
    """Its addresses are relative: it works behind a proxy that adds a prefix."""
    page = (await site.get("/")).body.decode()

    assert not re.search(r"<style|style=|<script[^>]*>[^<]|https?://|(?:href|src)=\"/", page)
    for name in names():
        text = (await site.get(f"/{name}")).body.decode()
        found = {address.rstrip("/") for address in re.findall(r"https?://[\w./-]+", text)}
        assert {one for one in found if "www.w3.org" not in one} == set()  # names of XML, not addresses


async def test_the_files_are_small_typed_and_asked_for_again(site: Site) -> None:
    sizes = 0
    kinds = {"svg": "image/svg+xml", "js": "text/javascript", "css": "text/css"}
    for name in names():
        answer = await site.get(f"/{name}")
        again = await site.get(f"/{name}", headers={"If-None-Match": answer.headers["ETag"]})
        sizes += len(gzip.compress(answer.body))

        assert answer.headers["Content-Type"].startswith(kinds[name.rpartition(".")[2]])
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.body == (BUILT / name).read_bytes()
        assert (again.status, again.body) == (304, b"")
    assert 0 < sizes < BYTES_MAX


async def test_the_script_for_other_pages_is_small_and_alone(site: Site) -> None:
    answer = await site.get("/embed.js")

    assert answer.headers["Content-Type"].startswith("text/javascript")
    assert len(gzip.compress(answer.body)) <= 30 * 1024
    assert not re.search(rb"import[ (]", answer.body)


async def test_the_module_of_event_streams_is_small_and_alone(site: Site) -> None:
    answer = await site.get("/event-stream.js")

    assert answer.headers["Content-Type"].startswith("text/javascript")
    assert len(gzip.compress(answer.body)) < 2 * 1024
    assert not re.search(rb"import[ (]", answer.body)
    assert re.search(rb"export {.*EventStream }", answer.body)


@pytest.mark.parametrize("name", ["nothing.js", "index.html", "..%2Findex.html", "%2E%2E%2Fpage.py", "sources.sha256"])
async def test_no_other_file_is_served(site: Site, name: str) -> None:
    assert (await site.get(f"/assets/{name}")).status == 404


def test_the_built_page_is_that_of_the_sources() -> None:
    """`make dashboard` builds it, and compares all of it; without Node.js this says whether that was forgotten."""
    files = [path for folder in ("src", "public") for path in (SOURCES / folder).rglob("*") if path.is_file()]
    files += [SOURCES / name for name in ("index.html", "package-lock.json", *CONFIGURATIONS)]
    digest = hashlib.sha256()
    for name, path in sorted((str(path.relative_to(SOURCES)), path) for path in files):
        digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")

    assert (BUILT / "sources.sha256").read_text().strip() == digest.hexdigest(), "run: make dashboard"


def test_the_lock_file_names_no_host() -> None:
    assert not re.search(r"resolved|https?://(?!.*fund)", _without_funding((SOURCES / "package-lock.json").read_text()))


def _without_funding(text: str) -> str:
    """A lock file without the pages on which its packages ask for money."""
    return re.sub(r'"funding": (\{.*?\}|\[.*?\]|".*?")', "", text, flags=re.DOTALL)


async def test_programs_get_json(site: Site) -> None:
    answer = await site.get("/", headers={"Accept": "application/json"})

    assert (answer.json["name"], answer.json["version"]) == ("neurograph-gateway", __version__)
    assert "/openapi.json" in answer.json["links"]
    assert answer.headers["Cache-Control"] == "no-store"


async def test_caches_keep_the_forms_of_the_page_apart(site: Site) -> None:
    for accept in ("text/html", "application/json"):
        assert (await site.get("/", headers={"Accept": accept})).headers["Vary"].startswith("Accept, ")


async def test_browsers_that_also_take_json_get_the_page(site: Site) -> None:
    accept = "text/html,application/xhtml+xml,application/json;q=0.9,*/*;q=0.8"

    answer = await site.get("/", headers={"Accept": accept})
    assert answer.headers["Content-Type"].startswith("text/html")
