"""The lease: which gateway of the cluster numbers the events of the bus that come without numbers."""

import asyncio
from collections.abc import Sequence

from gateway.cluster.engine import Engine
from gateway.cluster.events import ClusterEvents
from gateway.cluster.scripts import script
from gateway.core.cluster.lease import Lease, Waiting
from gateway.core.ingest.pipeline import Pipeline
from gateway.core.protocol.errors import RequestError
from gateway.core.protocol.events import Event
from gateway.runtime import clock
from gateway.runtime.logs import logger
from gateway.runtime.tasks import Tasks


log = logger("gateway.cluster")

_LEASE = script("lease")
_TOGETHER = 500


class ClusterNumbering:
    """Takes the lease when no other gateway has it, and then has the engine number what this gateway hears."""

    def __init__(
        self, engine: Engine, events: ClusterEvents, pipeline: Pipeline, tasks: Tasks, *, ttl_seconds: float
    ) -> None:
        self.lease = Lease(now_ns=clock.now_ns())
        self._engine = engine
        self._events = events
        self._pipeline = pipeline
        self._tasks = tasks
        self._ttl_ms = round(ttl_seconds * 1000)
        self._wake = asyncio.Event()
        self._anew = True
        """Whether the lease is to be taken anew: it may be this gateway's, but not all that it sent may be numbered."""
        engine.on_up.append(lambda _changed: self._tasks.start(self._renew()))
        engine.on_down.append(self._fail)
        pipeline.divert = self._divert
        pipeline.logs.on_closed.append(self.lease.forget)

    def renew(self) -> None:
        """Keep or take the lease, and append here what has waited for too long; to be called a few times in its time."""
        self._pipeline.logs.append(self.lease.expire(now_ns=clock.now_ns()))
        if self._engine.up:
            self._tasks.start(self._renew())

    async def keep_sending(self) -> None:
        """Have the engine number what waits, whenever this gateway has the lease."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.send_all()

    async def finish(self) -> None:
        """Have the engine number what is left, after `keep_sending` was cancelled."""
        self.lease.confirm()  # it was sent, and the engine does what is sent
        await self.send_all()

    async def send_all(self) -> None:
        """Have the engine number all that waits, as long as this gateway has the lease."""
        while self.lease.to_send:
            fence, sent = self.lease.fence, self.lease.send(_TOGETHER)
            try:
                await self._send(sent, fence)
            except RequestError:
                self._fail()
                await self._renew()

    async def _send(self, sent: Sequence[Waiting], fence: int) -> None:
        refused: list[Waiting] = []
        outcome, lacking = await self._events.append(sent, fence=fence)
        if outcome == "full":
            for one in sent:  # one channel at a time: some may have room
                outcome, lacks = await self._events.append([one], fence=fence)
                lacking |= lacks
                if outcome == "fenced":
                    break
                if outcome == "full":
                    refused.append(one)
        self._events.channels.counts["refused"] += len(refused)
        if outcome == "fenced":
            log.warning("cluster_lease_refused", fence=fence)
            self.lease.refuse()
        else:
            self.lease.confirm(refused=refused, lacking=lacking)

    def _fail(self) -> None:
        self.lease.lose(now_ns=clock.now_ns())
        self._anew = True

    async def _renew(self) -> None:
        lease, anew, self._anew = self.lease, self._anew, False
        try:
            reply = await self._engine.run(_LEASE, self._ttl_ms, int(anew))
        except RequestError:  # the engine says what is wrong
            self._anew = True
            return
        assert isinstance(reply, list)
        before, fence = lease.state, int(reply[0])
        if reply[1]:
            lease.hold(fence)
            self._wake.set()
        else:
            lease.follow()
        if lease.state != before:
            log.info("cluster_lease_changed", state=lease.state, fence=fence)

    def _divert(self, events: Sequence[Event]) -> list[Event]:
        here = self.lease.take(events)
        if self.lease.to_send:
            self._wake.set()
        return here
