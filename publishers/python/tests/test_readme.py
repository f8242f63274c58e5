"""The README's examples, run as they stand against a bus."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from neurograph_publisher.system_metrics import Sampler

from tests.conftest import Connect, Launch
from tests.support.waiting import eventually

from .bus import Bus


README = (Path(__file__).parents[1] / "README.md").read_text()
FIRST, ANSWERING, PLAIN, LOGGING = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(example: str, bus: Bus) -> dict[str, object]:
    names: dict[str, object] = {}
    code = example.replace("tcp://127.0.0.1:5556", bus.endpoint)
    thread = threading.Thread(target=exec, args=(code, names), daemon=True)
    thread.start()
    while thread.is_alive():
        bus.socket.poll(10)
    return names


def test_the_first_example_publishes_three_events(bus: Bus) -> None:
    run(FIRST, bus)

    assert [bus.read()[0] for _ in range(3)] == ["metrics", "logs", "robots.r2"]


def test_the_logging_example_logs(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    names = run(LOGGING, bus)
    _, event, _ = bus.read()
    names["publisher"].close()  # type: ignore[attr-defined]  # what the example calls so

    assert event["data"]["message"] == "low on memory"
    assert event["data"]["correlation_id"] == "job-7"


@pytest.mark.parametrize("example", [ANSWERING, PLAIN], ids=["library", "plain"])
async def test_the_answering_examples_answer_a_client(example: str, launch: Launch, connect: Connect) -> None:
    with tempfile.TemporaryDirectory(prefix="ng-") as folder:
        gateway = await launch(settings={"bus.publish": f"ipc://{folder}/out"})
        code = example.replace("tcp://127.0.0.1:5557", f"ipc://{folder}/out")
        code = code.replace("tcp://127.0.0.1:5556", gateway.bus_in)
        core = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
        client = await connect(to=gateway)
        request = {"type": "publish", "channel": "core.commands", "event": {"event_type": "t", "data": 7}}

        async def answers() -> list[dict[str, object]]:
            await client.send({**request, "request_id": "r1"})
            return client.channel("$personal").events

        try:
            [answer, *_] = await eventually(answers, every=0.1)
        finally:
            core.kill()
            await core.wait()

    assert ("reply", "r1", {"done": 7}) == (answer["event_type"], answer["request_id"], answer["data"])


def test_every_figure_of_this_machine_is_documented() -> None:
    assert [name for name in Sampler().sample() if f"`{name}`" not in README] == []
