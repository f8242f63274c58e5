"""A gateway under load, and what each panel of the dashboard has to show of it."""

from __future__ import annotations

import asyncio
import json
import math
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType

from tests.alerts.prometheus import ROOT, Prometheus, Target
from tests.support import ws
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.tokens import SETTINGS, bearer, token
from tests.support.waiting import eventually


INSTANCE = "load"
_CHANNELS = ("load.a", "load.b")
_CLIENTS = 3
_CONNECTIONS_MAX = 100
_MISSING = 7
_ROUND_SECONDS = 0.1
_EXTRAPOLATED = 0.05
"""How much of a range Prometheus may add at its ends."""
_MAY_BE_EMPTY = ("> 0", "certificate_expiry")


@dataclass(frozen=True)
class Expected:
    """What one expression of a panel returns, for the series with these labels."""

    panel: str
    expression: int
    labels: dict[str, str]
    value: float
    is_rate: bool = True


class Load:
    """Publishes events on two channels, some bad, some missing, to clients of one of them; and counts all.

    Use it as an async context manager; the load begins with `begin`."""

    def __init__(self) -> None:
        settings = {**SETTINGS, "clients.connections_max": _CONNECTIONS_MAX}
        self.gateway = Gateway(settings=settings)
        self._stack = AsyncExitStack()
        self._rounds = 0

    @property
    def target(self) -> Target:
        return Target(INSTANCE, self.gateway.port, token=self.gateway.token)

    async def __aenter__(self) -> Load:
        self.gateway.token = token("monitor", seconds=3600)
        await self._stack.enter_async_context(self.gateway)
        self._bus = await self._stack.enter_async_context(Publisher(self.gateway.bus_in))
        for name in _CHANNELS:  # a channel's series begin with its first event, which is no increase
            self._bus.send(name, {"n": 0}, enveloped=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def begin(self) -> None:
        self._began = time.time()
        headers = bearer(token("admin", seconds=3600))
        clients = [await ws.connect(self.gateway.url, "load.a", headers=headers) for _ in range(_CLIENTS)]
        for client in clients:
            self._stack.push_async_callback(client.close)
        await clients[0].subscribe("load.b")
        await clients[0].refused({"type": "subscribe", "channels": ["a b"]})
        self._publishing = asyncio.create_task(self._publish())
        self._stack.callback(self._publishing.cancel)

    async def _publish(self) -> None:
        while True:
            self._rounds += 1
            self._bus.send_numbered("load.a", range(10), enveloped=True)
            self._bus.send_numbered("load.b", range(5), enveloped=True)
            self._bus.send_payload("load.b", b"{")
            if self._rounds == 1:
                self._bus.sequences["load.b"] += _MISSING
            await asyncio.sleep(_ROUND_SECONDS)

    async def faults(self, prometheus: Prometheus) -> tuple[int, list[str]]:
        """End the load; return how many values were compared, and which panels do not show what was done."""
        self._publishing.cancel()
        received = 15 * self._rounds + len(_CHANNELS)

        total = f'sum(neurograph_gateway_events_received_total{{instance="{INSTANCE}"}})'

        async def seen() -> float | None:
            now = time.time()
            found = await prometheus.query(total, at=now)
            return now if found and found[0][1] == received else None

        seen_at = await eventually(seen, saying=f"Prometheus has seen {received} events")
        assert seen_at is not None
        seconds = math.ceil(seen_at - self._began) + 3 * prometheus.interval
        faults = []
        shown: dict[tuple[str, int], list[tuple[dict[str, str], float]]] = {}
        for panel in json.loads((ROOT / "ops/grafana/dashboards/gateway.json").read_text())["panels"]:
            for number, target in enumerate(panel["targets"]):
                expression = target["expr"].replace("$instance", INSTANCE).replace("$__rate_interval", f"{seconds}s")
                found = shown[panel["title"], number] = await prometheus.query(expression, at=seen_at)
                if not found and not any(part in expression for part in _MAY_BE_EMPTY):
                    faults.append(f"{panel['title']}: {expression} returns nothing")
        for one in self._expected():
            found = shown[one.panel, one.expression]
            value = sum(value for labels, value in found if one.labels.items() <= labels.items())
            value *= seconds if one.is_rate else 1
            if not math.isclose(one.value, value, rel_tol=_EXTRAPOLATED if one.is_rate else 1e-9):
                faults.append(f"{one.panel}: shows {value:,.2f} of {one.labels}, not {one.value:,}")
        return len(self._expected()), faults

    async def alerts(self, prometheus: Prometheus) -> set[str]:
        """Return the alerts that have fired for this gateway since it was under load for some seconds."""
        seconds = max(int(time.time() - self._began) - 10, 1)
        fired = f'ALERTS{{alertstate="firing", instance="{INSTANCE}"}}[{seconds}s]'
        return {labels["alertname"] for labels, _ in await prometheus.query(f"count_over_time({fired})")}

    def _expected(self) -> list[Expected]:
        a, b, bad = 10 * self._rounds, 5 * self._rounds, self._rounds
        endpoint = {"endpoint": self.gateway.bus_in}
        return [
            Expected("Gateways ready", 0, {}, 1, is_rate=False),
            Expected("Connections", 0, {}, _CLIENTS, is_rate=False),
            Expected("Events received", 0, {}, a + b),
            Expected("Events delivered", 0, {}, _CLIENTS * a + b),
            Expected("Events received by channel", 0, {"channel": "load.a"}, a),
            Expected("Events received by channel", 0, {"channel": "load.b"}, b),
            Expected("Events and bytes delivered", 0, {}, _CLIENTS * a + b),
            Expected("Missing events", 0, {}, _MISSING),
            Expected("Missing events", 1, {}, 0),
            Expected("Missing events", 3, {"reason": "invalid_json"}, bad),
            Expected("Bus by endpoint", 0, endpoint, a + b),
            Expected("Bus by endpoint", 2, endpoint, bad),
            Expected("Bus by endpoint", 3, endpoint, 1, is_rate=False),
            Expected("Connections by kind", 0, {"kind": "websocket"}, _CLIENTS, is_rate=False),
            Expected("Opened and closed", 0, {}, _CLIENTS),
            Expected("Messages and errors of clients", 0, {"type": "subscribe"}, 2),
            Expected("Messages and errors of clients", 1, {"code": "invalid_channel"}, 1),
            Expected("Subscriptions", 0, {"channel": "load.a"}, _CLIENTS, is_rate=False),
            Expected("Subscriptions", 0, {"channel": "load.b"}, 1, is_rate=False),
            Expected(
                "Part of limits used",
                0,
                {"setting": "clients.connections_max"},
                _CLIENTS / _CONNECTIONS_MAX,
                is_rate=False,
            ),
        ]
