"""What the widgets' script draws in a page and sends to the kernel, in a headless Chromium."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import neurograph_client
from neurograph_client import Event, Gap
from neurograph_client.notebook.contents import Contents, CurrentValues, Lines, Numbers

from tests.support.browser import Page, page
from tests.support.waiting import eventually


FOLDER = Path(neurograph_client.__file__).parent / "notebook"
HOSTILE = "<img src=x onerror=document.title='hacked'>"

MODEL = """
globalThis.said = [];
globalThis.hear = undefined;
const model = {
  get: (name) => ({ kind: KIND, title: "robots.*" })[name],
  send: (message) => said.push(message),
  on: (name, act) => { globalThis.hear = act; },
  off: () => { globalThis.hear = undefined; },
};
const style = document.createElement("style");
style.textContent = CSS_TEXT;
document.head.append(style);
const url = URL.createObjectURL(new Blob([SCRIPT], { type: "text/javascript" }));
const { default: widget } = await import(url);
globalThis.gone = widget.render({ model, el: document.body });
"""
"""The model that a notebook gives the script: see anywidget's front-end modules (AFM)."""


@asynccontextmanager
async def shown(kind: str) -> AsyncIterator[Page]:
    """Open a page that shows a widget."""
    code = MODEL.replace("KIND", json.dumps(kind))
    for name, file in {"SCRIPT": "widgets.js", "CSS_TEXT": "widgets.css"}.items():
        code = code.replace(name, json.dumps((FOLDER / file).read_text()))
    async with page("about:blank") as opened:
        await opened.evaluate(code)
        yield opened


async def update(opened: Page, contents: Contents, *, all: bool = False, **more: Any) -> None:
    """Send the page an update, as the kernel does."""
    counts = {"state": "following", "reason": "", "events": 1234, "gaps": 0, "missing": 0}
    message = {"type": "update", "all": all, **counts, **contents.changes(all=all), **more}
    await opened.evaluate(f"hear({json.dumps(message)})")


async def text(opened: Page, selector: str) -> list[str]:
    found: list[str] = await opened.evaluate(
        f"[...document.querySelectorAll({selector!r})].map((one) => one.textContent)"
    )
    return found


def event(data: Any, channel: str = "robots.r2", second: int = 0) -> Event[Any]:
    return Event(channel, "e", 1, "moved", f"1970-01-01T00:00:{second:02}Z", data, {})


async def test_a_chart_draws_a_line_for_each_channel_and_a_panel_for_each_field() -> None:
    numbers = Numbers()
    numbers.add([event({"x": n, "load": n / 2}, f"robots.r{n % 2}", n) for n in range(10)])
    async with shown("chart") as opened:
        await update(opened, numbers, all=True)

        async def lines() -> bool:
            return bool(await opened.evaluate("document.querySelectorAll('path').length === 4"))

        await eventually(lines)
        assert ["data.x", "data.load"] == await text(opened, ".ng-field")
        assert ["robots.r0 8robots.r1 9", "robots.r0 4robots.r1 4.5"] == await text(opened, ".ng-number")
        assert ["0 to 9", "0 to 4.5"] == await text(opened, ".ng-range")
        numbers.add([event({"x": 5_940_000}, "robots.r1", 11)])
        await update(opened, numbers)

        async def grown() -> bool:
            return "0 to 5.94M" in await text(opened, ".ng-range")

        await eventually(grown)


async def test_values_are_a_sorted_table_and_text_is_never_markup() -> None:
    values = CurrentValues()
    values.add([event({"x": 1, "name": HOSTILE}, "robots.r2"), event({"x": 2}, HOSTILE)])
    async with shown("values") as opened:
        await update(opened, values, all=True)
        values.add([event({"x": 3}, second=5)])
        await update(opened, values)
        rows = await text(opened, "tbody tr")

        assert 3 == len(rows)
        assert "robots.r2data.x300:00:05.000" == rows[-1]
        assert "" == await opened.evaluate("document.title")
        assert 0 == await opened.evaluate("document.querySelectorAll('img').length")


async def test_a_tail_keeps_the_newest_lines_in_view_unless_it_is_scrolled() -> None:
    lines = Lines()
    async with shown("tail") as opened:
        lines.add([event({"n": n}) for n in range(300)])
        lines.add([Gap("robots.r2", "e", 2, 4, 3, "evicted")])
        await update(opened, lines, all=True, gaps=1, missing=3)
        at_end = "(() => { const t = document.querySelector('.ng-tail'); return t.scrollHeight - t.scrollTop - t.clientHeight < 8 })()"

        assert 200 == len(await text(opened, ".ng-tail > div"))
        assert "gap: 3 events" in (await text(opened, ".ng-gap"))[0]
        assert "1,234 events, 1 gaps (3 missing)" in (await text(opened, ".ng-status"))[0]
        assert await opened.evaluate(at_end)

        async def stands_still() -> bool:
            await opened.evaluate("document.querySelector('.ng-tail').scrollTop = 10")
            await opened.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
            lines.add([event({"n": 301})])
            await update(opened, lines)
            return not await opened.evaluate(at_end)

        await eventually(stands_still)


async def test_buttons_send_what_was_clicked_to_the_kernel() -> None:
    async with shown("chart") as opened:
        clicked = "document.querySelectorAll('button').forEach((one) => one.click())"
        await opened.evaluate(clicked)
        await update(opened, Numbers(), state="paused")
        await opened.evaluate(clicked)
        await update(opened, Numbers(), state="stopped", reason="the cell was interrupted")
        await opened.evaluate(clicked)
        await opened.evaluate("gone()")
        said = [(one["type"], one.get("format")) for one in await opened.evaluate("said") if one["type"] != "here"]

        saved = [("export", "csv"), ("export", "json")]
        first = [("ready", None), ("pause", None), ("stop", None), *saved]
        assert [*first, ("resume", None), ("stop", None), *saved, ("start", None), *saved, ("gone", None)] == said
        assert "stopped: the cell was interrupted" in (await text(opened, ".ng-status"))[0]
        assert 1 == len({one["page"] for one in await opened.evaluate("said")})
