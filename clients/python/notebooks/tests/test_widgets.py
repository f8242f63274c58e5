"""Live widgets in a real kernel; the test takes the part of the page."""

from __future__ import annotations

from typing import Any

from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.waiting import eventually

from .kernel import Kernel


async def follows(gateway: Gateway, channel: str) -> bool:
    """Whether a client subscribes to a channel."""
    clients = (await gateway.get_json("/api/v1/websocket/status"))["clients"]
    return any(channel in one["channels"] for one in clients)


async def lonely(gateway: Gateway, channel: str) -> bool:
    return not await follows(gateway, channel)


async def shown(kernel: Kernel, gateway: Gateway, kind: str, channel: str) -> str:
    """Make a widget for a channel, and show it in a page; return its comm id."""
    await kernel.run(f"%ng_connect {gateway.url}")
    made = await kernel.run(f"from neurograph_client.notebook import *\nw = {kind}(ng, {channel!r})\nw")
    assert "application/vnd.jupyter.widget-view+json" in made.data[0]
    comm = kernel.widget()
    kernel.say(comm, "ready")
    await eventually(lambda: kernel.heard(comm))
    return comm


def numbers(updates: list[dict[str, Any]], field: str) -> list[float]:
    """Return the values of a field as a page would draw them after these updates."""
    found: list[float] = []
    for update in updates:
        if update["all"]:
            found = []
        found += [value for name, _, points in update.get("series", []) if name == field for _, value in points]
    return found


async def test_a_chart_gets_held_and_new_events(kernel: Kernel, gateway: Gateway, bus: Publisher, channel: str) -> None:
    bus.send_numbered(channel, range(1, 51))
    await gateway.holds(channel, 50)
    comm = await shown(kernel, gateway, "Chart", channel)
    await eventually(lambda: len(numbers(kernel.heard(comm), "data.n")) == 50)
    bus.send_numbered(channel, range(51, 101))
    await eventually(lambda: len(numbers(kernel.heard(comm), "data.n")) == 100)

    assert [*range(1, 101)] == numbers(kernel.heard(comm), "data.n")
    assert "[100]\n" == (await kernel.run("print([len(w.to_pandas())])")).text


async def test_many_events_make_few_and_bounded_updates(
    kernel: Kernel, gateway: Gateway, bus: Publisher, channel: str
) -> None:
    comm = await shown(kernel, gateway, "Chart", channel)
    await eventually(lambda: follows(gateway, channel))
    for number in range(10):
        bus.send_numbered(channel, range(1 + 1000 * number, 1001 + 1000 * number))
    await eventually(lambda: kernel.heard(comm)[-1]["events"] + kernel.heard(comm)[-1]["missing"] == 10_000)
    updates = kernel.heard(comm)

    assert 10_000 == numbers(updates, "data.n")[-1]
    assert max(len(points) for one in updates for _, _, points in one.get("series", [])) <= 600
    assert len(updates) < 100


async def test_a_paused_view_does_not_change_until_it_continues(
    kernel: Kernel, gateway: Gateway, bus: Publisher, channel: str
) -> None:
    comm = await shown(kernel, gateway, "Values", channel)
    await eventually(lambda: follows(gateway, channel))
    kernel.say(comm, "pause")
    await eventually(lambda: kernel.heard(comm)[-1]["state"] == "paused")
    bus.send_numbered(channel, range(1, 8))
    await eventually(lambda: kernel.heard(comm)[-1]["events"] == 7)
    assert "values" not in kernel.heard(comm)[-1]

    kernel.say(comm, "resume")
    await eventually(lambda: kernel.heard(comm)[-1]["state"] == "following")
    assert [[channel, "data.n", "7"]] == [one[:3] for one in kernel.heard(comm)[-1]["values"]]


async def test_a_stopped_widget_unsubscribes_and_resumes_from_its_position(
    kernel: Kernel, gateway: Gateway, bus: Publisher, channel: str
) -> None:
    comm = await shown(kernel, gateway, "Tail", channel)
    await eventually(lambda: follows(gateway, channel))
    bus.send_numbered(channel, range(1, 4))
    await eventually(lambda: kernel.heard(comm)[-1]["events"] == 3)
    kernel.say(comm, "stop")
    await eventually(lambda: kernel.heard(comm)[-1]["state"] == "stopped")
    await eventually(lambda: lonely(gateway, channel))
    bus.send_numbered(channel, range(4, 7))
    await gateway.holds(channel, 6)
    kernel.say(comm, "start")
    await eventually(lambda: kernel.heard(comm)[-1]["events"] == 6)

    kernel.say(comm, "ready")
    await eventually(lambda: kernel.heard(comm)[-1]["all"])
    assert [f"n={n}" for n in range(1, 7)] == [line[-1].split()[0] for line in kernel.heard(comm)[-1]["lines"]]


async def test_a_page_exports_the_events_that_are_kept(
    kernel: Kernel, gateway: Gateway, bus: Publisher, channel: str
) -> None:
    bus.send_numbered(channel, range(1, 4))
    await gateway.holds(channel, 3)
    comm = await shown(kernel, gateway, "Chart", channel)
    await eventually(lambda: kernel.heard(comm)[-1]["events"] == 3)
    for kind in ("csv", "json"):
        kernel.say(comm, "export", format=kind)
    await eventually(lambda: len(kernel.heard(comm, "file")) == 2)
    csv, lines = kernel.heard(comm, "file")

    assert (f"{channel}.csv", 4, True) == (csv["name"], len(csv["text"].splitlines()), "data.n" in csv["text"])
    assert (f"{channel}.jsonl", 3) == (lines["name"], len(lines["text"].splitlines()))


async def test_an_interrupted_cell_stops_its_widgets(kernel: Kernel, gateway: Gateway, channel: str) -> None:
    await kernel.run(f"%ng_connect {gateway.url}")
    await kernel.run("from neurograph_client.notebook import *")
    await kernel.run(f"earlier = Tail(ng, {channel + '.earlier'!r})")
    cell = kernel.start(f"import time\nw = Tail(ng, {channel!r})\nprint('made')\ntime.sleep(600)")
    await eventually(lambda: cell.text)
    await eventually(lambda: follows(gateway, channel))
    await kernel.interrupt()
    await eventually(lambda: cell.is_over)
    await eventually(lambda: lonely(gateway, channel))

    said = await kernel.run("print(w.state, w.reason, earlier.state, sep=', ')")
    assert "stopped, the cell was interrupted, following\n" == said.text


async def test_a_widget_is_updated_while_a_cell_runs(
    kernel: Kernel, gateway: Gateway, bus: Publisher, channel: str
) -> None:
    comm = await shown(kernel, gateway, "Values", channel)
    await eventually(lambda: follows(gateway, channel))
    cell = kernel.start("import time\nprint('running')\ntime.sleep(600)")
    await eventually(lambda: cell.text)
    bus.send_numbered(channel, range(1, 6))
    await eventually(lambda: kernel.heard(comm)[-1]["events"] == 5)
    assert not cell.is_over
    await kernel.interrupt()
    await eventually(lambda: cell.is_over)
    assert "following\n" == (await kernel.run("print(w.state)")).text


async def test_a_widget_that_no_page_shows_stops_until_a_page_shows_it(
    kernel: Kernel, gateway: Gateway, channel: str
) -> None:
    comm = await shown(kernel, gateway, "Tail", channel)
    await eventually(lambda: follows(gateway, channel))
    kernel.say(comm, "gone")
    await kernel.run("from neurograph_client.notebook import widgets\nwidgets.ALONE_SECONDS = 0.1")
    await eventually(lambda: lonely(gateway, channel))
    assert "stopped no page has shown it for three minutes\n" == (await kernel.run("print(w.state, w.reason)")).text

    await kernel.run("widgets.ALONE_SECONDS = 600")
    kernel.say(comm, "ready")
    await eventually(lambda: follows(gateway, channel))


async def test_a_widget_says_why_it_stopped(kernel: Kernel, gateway: Gateway, channel: str) -> None:
    comm = await shown(kernel, gateway, "Tail", channel)
    await kernel.run("ng.close()")
    await eventually(lambda: kernel.heard(comm)[-1]["reason"] == "the client was closed")
    await kernel.run(f"%ng_connect {gateway.url}")
    await kernel.run(f"v = Tail(ng, {channel!r}, filter='data.x >')")
    await eventually(lambda: is_stopped(kernel, "v"))
    assert "filter" in (await kernel.run("print(v.reason)")).text


async def is_stopped(kernel: Kernel, name: str) -> bool:
    return (await kernel.run(f"print({name}.state)")).text == "stopped\n"


async def test_a_closed_widget_unsubscribes(kernel: Kernel, gateway: Gateway, channel: str) -> None:
    await shown(kernel, gateway, "Chart", channel)
    await eventually(lambda: follows(gateway, channel))
    await kernel.run("w.close()")
    await eventually(lambda: lonely(gateway, channel))
