"""The table of routes is what is served, and what the documents and the page say is served."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.web.authentication import Access
from gateway.web.endpoints.schemas import Route, openapi_document
from gateway.web.routes import ROUTES
from tests.unit.web.conftest import Site


PROTOCOL = Path(__file__).parents[3] / "docs/protocol.md"


def row(route: Route) -> str:
    """The line of the table in docs/protocol.md for a route."""
    query = "&".join(f"{one.name}=" for one in route.query)
    address = f"{route.method} {route.path}{'?' if query else ''}{query}"
    return f"| `{address}` | {route.access.value} | {route.summary} |"


def test_the_table_in_the_documentation_has_each_route_and_no_other() -> None:
    _, _, part = PROTOCOL.read_text().partition("\n## 3. HTTP\n")
    documented = [line for line in part.splitlines() if line.startswith(("| `GET", "| `POST", "| `DELETE"))]

    assert [row(route) for route in ROUTES] == documented


async def test_each_route_is_served_and_no_other(site: Site) -> None:
    app = site.client.server.app  # type: ignore[attr-defined]  # a TestServer, as built
    served = {(route.method, route.resource.canonical) for route in app.router.routes() if route.method != "HEAD"}

    health = {("OPTIONS", "/healthz"), ("OPTIONS", "/readyz")}
    assert {(route.method, path) for route in ROUTES for path in (route.path, *route.aliases)} == served - health


def test_each_route_is_in_the_openapi_document_but_the_page_and_the_websocket() -> None:
    documented = {(method.upper(), path) for path, item in openapi_document(ROUTES)["paths"].items() for method in item}

    assert {(route.method, route.path) for route in ROUTES} - documented == {
        ("GET", path) for path in ("/", "/icon.svg", "/embed.js", "/event-stream.js", "/assets/{name}", "/ws")
    }


async def test_the_page_links_to_all_that_a_browser_can_open(site: Site) -> None:
    links = (await site.get("/", headers={"Accept": "application/json"})).json["links"]

    assert "/api/v1/websocket/channels/metrics/presence" in links
    assert {route.example for route in ROUTES if route.example} == set(links)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_route_for_subscribers_names_the_channel(route: Route) -> None:
    """Otherwise there is nothing to have the permission for."""
    if route.access is Access.SUBSCRIBER:
        assert "{channel}" in route.path
