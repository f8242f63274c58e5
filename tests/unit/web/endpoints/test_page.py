"""The page at / leads everywhere, loads nothing, and is JSON for programs."""

from __future__ import annotations

import base64
import hashlib
import re

from gateway import __version__
from tests.unit.web.conftest import Site


async def test_every_link_of_the_page_is_served(site: Site) -> None:
    page = await site.get("/")
    links = re.findall(r'href="([^"]+)"', page.body.decode())

    assert len(links) >= 8
    for link in links:
        assert (await site.get(link)).status == 200, link


async def test_the_page_says_what_runs_and_how_to_try_it(site: Site) -> None:
    page = (await site.get("/")).body.decode()

    assert __version__ in page
    assert "new WebSocket(" in page
    assert "&quot;subscribe&quot;" in page


async def test_the_policy_allows_the_pages_own_style_and_nothing_else(site: Site) -> None:
    answer = await site.get("/")
    policy = answer.headers["Content-Security-Policy"]
    text = answer.body.decode()
    [style] = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()

    assert "default-src 'none'" in policy
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script|<img|<link|style=|https?://", text)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_programs_get_json(site: Site) -> None:
    answer = await site.get("/", headers={"Accept": "application/json"})

    assert (answer.json["name"], answer.json["version"]) == ("neurograph-gateway", __version__)
    assert "/openapi.json" in answer.json["links"]
    assert answer.headers["Cache-Control"] == "no-store"


async def test_caches_keep_the_forms_of_the_page_apart(site: Site) -> None:
    for accept in ("text/html", "application/json"):
        assert (await site.get("/", headers={"Accept": accept})).headers["Vary"] == "Accept, Origin"


async def test_browsers_that_also_take_json_get_the_page(site: Site) -> None:
    accept = "text/html,application/xhtml+xml,application/json;q=0.9,*/*;q=0.8"

    answer = await site.get("/", headers={"Accept": accept})
    assert answer.headers["Content-Type"].startswith("text/html")
