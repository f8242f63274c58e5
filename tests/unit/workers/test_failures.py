"""A message between processes that fails costs its client the connection, and nobody else anything."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config.model import Config
from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.events import ClientChange
from gateway.core.sessions.observer import LocalObserver
from gateway.web.edge import Edge
from gateway.workers import child as child_module
from gateway.workers import messages
from gateway.workers.child import Child
from gateway.workers.pipe import Pipe, Unreadable
from gateway.workers.supervisor import Supervisor
from gateway.workers.worker import Worker
from tests.support.core import Core, make_hub, open_identity
from tests.support.waiting import eventually


class Parent:
    """A parent, and the other end of its pipe to one worker."""

    def __init__(self) -> None:
        config = Config(workers=2)
        self.hub: Core = make_hub()
        self.supervisor = Supervisor(config)
        self.hub.observer = self.supervisor.observer(LocalObserver(self.hub.logs, self.hub.fanout))
        self.edge = Edge(config, self.hub, pipeline=self.hub.pipeline)
        self.supervisor.attach(self.edge.context, self.edge.application)
        self.child = self._child()
        self.answers: list[messages.ToWorker | Unreadable] = []
        self.worker: Pipe[messages.ToWorker] = Pipe(
            messages.to_worker, on_messages=self.answers.extend, on_lost=lambda: None
        )

    def _child(self) -> Child:
        return Child(
            unread_bytes_max=10**6,
            on_messages=self.supervisor._on_messages,
            on_lost=lambda _: None,
            on_socket=socket.socket.close,
        )

    async def open(self) -> None:
        ours, theirs = socket.socketpair()
        await self.child.pipe.open(ours)
        await self.worker.open(theirs)

    async def close(self) -> None:
        self.child.close()
        self.worker.close()
        await self.supervisor.stop()
        await self.edge.close()

    async def ask(self, message: messages.Message) -> messages.ToWorker | Unreadable:
        """Send a message as the worker; return the answer."""
        self.worker.send(message)
        await eventually(lambda: self.answers)
        return self.answers.pop(0)

    async def admit(self, name: str, session: str | None = None) -> messages.ToWorker | Unreadable:
        return await self.ask(
            messages.Admit(7, name, f"secret of {name}", open_identity(), session, "10.0.0.1", "websocket")
        )

    @property
    def places(self) -> int:
        return len(self.hub.sessions) + len(self.edge.context.connected_clients())


@pytest.fixture
async def parent() -> AsyncIterator[Parent]:
    made = Parent()
    await made.open()
    yield made
    await made.close()


async def disconnect(parent: Parent, name: str) -> None:
    change = ClientChange("client.disconnected", code=1006, seconds=0.0)
    parent.worker.send(messages.Changed(name, change, [], [], {}))
    await eventually(lambda: parent.places == 0)


async def test_a_client_whose_admission_fails_is_refused_and_leaves_nothing_behind(parent: Parent) -> None:
    await parent.admit("ann")
    session = parent.hub.sessions["ann"]
    await disconnect(parent, "ann")
    session.known = {"$everyone": object()}  # type: ignore[dict-item]  # it cannot be sent

    assert await parent.admit("bob", "secret of ann") == messages.Refused(7, CloseCode.INTERNAL, 0.0)
    assert parent.places == 0
    assert parent.hub.store.of_client("ann") is None
    assert isinstance(await parent.admit("eve"), messages.Admitted)


async def test_a_client_that_its_worker_cannot_connect_leaves_nothing_behind(parent: Parent) -> None:
    """Nor does one that resumes, whose worker does not know as whom."""
    await parent.admit("ann")
    await disconnect(parent, "ann")
    answer = await parent.admit("bob", "secret of ann")
    assert isinstance(answer, messages.Admitted)
    assert answer.session is not None
    parent.worker.send(messages.Failed("secret of bob"))
    await eventually(lambda: parent.places == 0)

    assert parent.hub.store.of_client("ann") is None


async def test_a_takeover_that_fails_refuses_the_client(parent: Parent) -> None:
    await parent.admit("ann")
    parent.hub.sessions["ann"].known = {"$everyone": object()}  # type: ignore[dict-item]
    asked = await parent.admit("bob", "secret of ann")
    assert isinstance(asked, messages.Release)

    assert await parent.ask(messages.Released(asked.number)) == messages.Refused(7, CloseCode.INTERNAL, 0.0)
    assert parent.places == 0


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (["Admit", 7, "ann"], messages.Refused(7, CloseCode.INTERNAL, 0.0)),
        (["Identify", 7, "ann", []], messages.Identified(7, False)),
    ],
)
async def test_what_the_parent_cannot_read_is_answered(
    parent: Parent, message: list[object], answer: messages.Message
) -> None:
    body = messages.encode(message)
    parent.worker.write(len(body).to_bytes(4) + body)
    await eventually(lambda: parent.answers)

    assert parent.answers.pop(0) == answer
    assert isinstance(await parent.admit("eve"), messages.Admitted)


async def test_a_request_whose_answer_cannot_be_read_ends(parent: Parent) -> None:
    asked = asyncio.create_task(parent.child.requests.ask(messages.Report, within=None))
    await eventually(lambda: parent.answers)
    body = messages.encode(["Reported", 1, "many"])
    parent.worker.write(len(body).to_bytes(4) + body)

    assert await asked is None


async def test_no_worker_is_started_from_a_package_that_was_upgraded(
    parent: Parent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers of the version that runs serve on."""
    module = tmp_path / "module.py"
    module.write_text("VERSION = 1")
    monkeypatch.setattr(child_module, "PACKAGE", tmp_path)
    supervisor = Supervisor(Config(workers=2))
    module.write_text("VERSION = 2")
    await supervisor._replace(0.0)

    assert "restart the gateway" in supervisor.unready()[0]
    parent.child.ready = True
    supervisor._children.append(parent.child)
    assert supervisor.unready() == []
    supervisor._children.clear()
    supervisor._tasks.cancel()


@pytest.mark.parametrize(
    "request_", [messages.Resend(["metrics", "no channel"], empty=False), messages.Resend(None, empty=True)]
)
async def test_a_worker_gets_logs_again_that_it_asks_for(parent: Parent, request_: messages.Resend) -> None:
    names = ["metrics"] if request_.names else list(parent.hub.logs.by_name)
    parent.worker.send(request_)
    await eventually(lambda: len(parent.answers) == len(names))

    assert names == [one.state.name for one in parent.answers if isinstance(one, messages.Log)]


class WorkerEnd:
    """A worker without clients, and the parent's end of its pipe."""

    def __init__(self) -> None:
        self.received: list[messages.ToParent | Unreadable] = []
        self._parent = Pipe(messages.to_parent, on_messages=self.received.extend, on_lost=lambda: None)
        self._pipe: Pipe[messages.ToWorker] = Pipe(
            messages.to_worker, on_messages=lambda found: self.worker.on_messages(found), on_lost=lambda: None
        )
        self.parent_sockets, self._sockets = socket.socketpair()

    async def open(self) -> None:
        ours, theirs = socket.socketpair()
        self.worker = Worker(messages.Start(Config(workers=2), "epoch"), self._pipe, self._sockets)
        await self._pipe.open(ours)
        await self._parent.open(theirs)
        await self.worker.start()

    async def close(self) -> None:
        await self.worker.stop()
        self._pipe.close()
        self._parent.close()
        for one in (self.parent_sockets, self._sockets):
            one.close()

    def get(self, *message: object) -> None:
        """Have the worker receive this, which may be no message."""
        body = messages.encode(list(message))
        self._parent.write(len(body).to_bytes(4) + body)

    async def answer(self) -> messages.ToParent | Unreadable:
        await eventually(lambda: self.received)
        return self.received.pop(0)


@pytest.fixture
async def worker() -> AsyncIterator[WorkerEnd]:
    made = WorkerEnd()
    await made.open()
    yield made
    await made.close()


async def test_a_worker_answers_what_it_cannot_read(worker: WorkerEnd) -> None:
    """Else the parent would wait for it, or replace the worker."""
    worker.get("Release", 7, [])
    assert await worker.answer() == messages.Released(7)

    worker.get("Report", 8, "more", "than", {})
    worker.get("Report", "not a number")
    worker.get("Report", 9)
    answers = [await worker.answer() for _ in range(3)]
    assert [8, 0, 9] == [one.number for one in answers if isinstance(one, messages.Reported)]


async def test_a_parent_that_ends_before_it_has_taken_a_connection_causes_no_error(
    worker: WorkerEnd, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker.worker._send_socket(theirs)
    worker.parent_sockets.close()
    worker.get("Report", 1)
    await worker.answer()

    assert [] == caplog.records


async def test_a_worker_asks_again_for_logs_that_it_cannot_read(worker: WorkerEnd) -> None:
    worker.get("Log", "no log")

    assert isinstance(await worker.answer(), messages.Resend)


async def test_a_worker_that_sends_before_it_reports_runs(parent: Parent) -> None:
    """What it sends may be behind much else, in either direction."""
    within = 0.05
    runs = asyncio.create_task(parent.supervisor._runs(parent.child, within=within))
    await eventually(lambda: parent.answers)
    asked = parent.answers.pop(0)
    assert isinstance(asked, messages.Report)
    until = asyncio.get_running_loop().time() + 5 * within
    while asyncio.get_running_loop().time() < until:
        parent.worker.send(messages.Failed("nobody's"))
        await asyncio.sleep(0)
    parent.worker.send(messages.Reported(asked.number, 3, [], {}))

    assert await runs
    assert parent.child.load == 3


async def test_a_worker_that_shows_no_sign_does_not_run(parent: Parent) -> None:
    assert not await parent.supervisor._runs(parent.child, within=0.1)
