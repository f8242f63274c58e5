"""The magics, in a real kernel with a real gateway."""

from __future__ import annotations

import pytest

from tests.conftest import Launch
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.waiting import eventually

from .kernel import Kernel


async def connections(gateway: Gateway) -> int:
    found: int = (await gateway.get_json("/api/v1/websocket/status"))["connections"]
    return found


async def test_magics_connect_query_and_publish(kernel: Kernel, gateway: Gateway, channel: str) -> None:
    said = await kernel.run(f"%ng_connect {gateway.url}")
    assert f"connected to {gateway.url}; ng is the client\n" == said.text

    assert (
        ":1; clients that follow it: 0\n" in (await kernel.run(f'%ng_publish {channel} {{"x": 1.5, "ok": true}}')).text
    )
    await kernel.run("speed = 2.5")
    await kernel.run(f"%ng_publish --type moved {channel} dict(x=speed, name='a b')")

    assert "ready" in (await kernel.run("%ng_status")).html
    assert channel in (await kernel.run("%ng_channels test.*")).html
    shown = await kernel.run(f"ng.history({channel!r}, last=2)")
    assert "{&quot;x&quot;:2.5,&quot;name&quot;:&quot;a b&quot;}" in shown.html
    assert "moved" in shown.html


async def test_a_query_is_a_dataframe(kernel: Kernel, gateway: Gateway, bus: Publisher, channel: str) -> None:
    bus.send_numbered(channel, range(1, 1101))
    await gateway.holds(channel, 1000)
    await kernel.run(f"%ng_connect {gateway.url}")

    await kernel.run(f"df = %ng_query {channel} --filter 'data.n > 1090' --last 50")
    said = await kernel.run("print(list(df['data.n']), df['time'].dtype)")
    assert "[1091, 1092, 1093, 1094, 1095, 1096, 1097, 1098, 1099, 1100] datetime64[ns, UTC]\n" == said.text
    said = await kernel.run(
        f"pl = %ng_query {channel} --polars --last 3\nprint(pl['data.n'].to_list(), pl['time'].dtype)"
    )
    assert "[1098, 1099, 1100] Datetime(time_unit='ns', time_zone='UTC')\n" == said.text


async def test_an_error_is_one_line(kernel: Kernel, gateway: Gateway) -> None:
    for line, said in {
        "%ng_status": "UsageError: there is no connection: %ng_connect http://127.0.0.1:8000",
        "%ng_connect ftp://127.0.0.1": "ftp://127.0.0.1",
        "%ng_tail": "the following arguments are required: CHANNEL; %ng_tail --help",
        "%ng_query metrics --last many": "'many' is not a number of events",
        "%ng_query 'metrics": "quote what has blanks",
        "%ng_publish robots.r2": "give a channel and data",
        "%ng_live pie metrics": "invalid choice: 'pie'",
    }.items():
        outcome = await kernel.run(line)
        assert said in outcome.text + outcome.error
        assert "Traceback" not in outcome.error
    assert "--filter CEL" in (await kernel.run("%ng_tail --help")).text
    await kernel.run(f"%ng_connect {gateway.url}")
    refused = await kernel.run("%ng_query metrics --filter 'data.x >'")
    assert "filter" in refused.text + refused.error


async def test_a_tail_ends_after_a_count(kernel: Kernel, gateway: Gateway, bus: Publisher, channel: str) -> None:
    bus.send_numbered(channel, range(1, 11))
    await gateway.holds(channel, 10)
    await kernel.run(f"%ng_connect {gateway.url}")

    said = await kernel.run(f"%ng_tail {channel} --last 10 --count 3")
    assert "n=3" in said.text
    assert "n=4" not in said.text
    assert said.text.endswith("ended after 3 events; --count N prints more\n")
    said = await kernel.run(f"%ng_tail {channel} --last 10 --timeout 0.2")
    assert said.text.endswith("ended after 10 events, as nothing came for 0.2 s\n")


async def test_an_interrupted_tail_unsubscribes(kernel: Kernel, gateway: Gateway, bus: Publisher, channel: str) -> None:
    await kernel.run(f"%ng_connect {gateway.url}")
    tail = kernel.start(f"%ng_tail {channel}")
    await eventually(lambda: gateway_follows(gateway, channel))
    bus.send_numbered(channel, range(1, 3))
    await eventually(lambda: "n=2" in tail.text)
    await kernel.interrupt()
    await eventually(lambda: tail.is_over)

    assert ("interrupted after 2 events\n", "") == (tail.text[-27:], tail.error)
    assert "[]\n" == (await kernel.run("print(ng.subscriptions())")).text


async def gateway_follows(gateway: Gateway, channel: str) -> bool:
    """Whether a client subscribes to a channel."""
    clients = (await gateway.get_json("/api/v1/websocket/status"))["clients"]
    return any(channel in one["channels"] for one in clients)


LOOPS = {
    "a plain loop": "import neurograph_client\nfor item in neurograph_client.connect(URL).events(NAME): pass",
    "an asynchronous loop": (
        "import neurograph_client\nasync with neurograph_client.Client(URL) as client:\n"
        "    async for item in client.subscribe(NAME): pass"
    ),
}


@pytest.mark.parametrize("code", LOOPS.values(), ids=LOOPS)
async def test_an_interrupted_loop_leaves_no_connection(
    launch: Launch, kernel: Kernel, channel: str, code: str
) -> None:
    gateway = await launch()
    loop = kernel.start(code.replace("URL", repr(gateway.url)).replace("NAME", repr(channel)))
    await eventually(lambda: gateway_follows(gateway, channel))
    await kernel.interrupt()
    # IPython interrupts an `await` only when its event loop wakes up, whatever the `await` waits for.
    await gateway.broadcast({"channel": channel, "event": {"data": 1}})
    await eventually(lambda: loop.is_over)
    await eventually(lambda: is_alone(gateway))


async def is_alone(gateway: Gateway) -> bool:
    return await connections(gateway) == 0


async def test_a_kernel_that_restarts_or_ends_closes_its_connections(launch: Launch, kernel: Kernel) -> None:
    gateway = await launch()
    code = f"%load_ext neurograph\n%ng_connect {gateway.url}\n%ng_live chart metrics"
    await kernel.run(code)
    assert 1 == await connections(gateway)
    await kernel.restart()
    await eventually(lambda: is_alone(gateway))
    await kernel.run(code)
    assert 1 == await connections(gateway)
    await kernel.run("%unload_ext neurograph")
    assert 0 == await connections(gateway)
    await kernel.run(code)
    await kernel.shut_down()
    await eventually(lambda: is_alone(gateway))
