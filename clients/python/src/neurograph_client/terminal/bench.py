"""`gateway bench`: how many events a gateway passes on here, and how long each takes."""

import asyncio
import math
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import click

from neurograph_client import Client, ClientError, Event, Subscription
from neurograph_client.terminal import output
from neurograph_client.terminal.options import Gateway, bus_option, gateway_options
from neurograph_client.terminal.sizes import read_size, size
from neurograph_client.terminal.tail import new_client


_TURN_SECONDS = 0.005
_GRACE_SECONDS = 10.0
_BARS = 40


@click.command()
@click.option("--publishers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that publish.")
@click.option("--subscribers", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Clients.")
@click.option(
    "--rate", type=click.FloatRange(min=1), default=1000, show_default=True, help="Events/s of all publishers."
)
@click.option(
    "--size", "size_bytes", type=read_size, default="128B", show_default=True, help="Size of each event's text."
)
@click.option("--seconds", type=click.FloatRange(min=0.1), default=10, show_default=True, help="How long to publish.")
@click.option("--channel", default="bench", show_default=True, help="Each publisher has CHANNEL.0, CHANNEL.1, ….")
@bus_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@gateway_options
def bench(
    gateway: Gateway,
    publishers: int,
    subscribers: int,
    rate: float,
    size_bytes: int,
    seconds: float,
    channel: str,
    bus: str,
    as_json: bool,
) -> None:
    """Publish at a rate, follow with clients, and print deliveries per second and how long events took.

    Publishers are processes; all subscribers are in one more, in Python, which holds some 100,000 deliveries per
    second: the figures are those of this tool and the gateway together. An event's time is from `publish` to the
    client's code, by this machine's clock, so both have to run here.

    The exit status is 0; 1 if events are missing, or there is no gateway.

    \b
    gateway bench --subscribers 100 --rate 500
    """
    with output.clean_exit():
        try:
            found = asyncio.run(
                _Bench(gateway, [f"{channel}.{n}" for n in range(publishers)], subscribers).run(
                    bus, rate / publishers, size_bytes, seconds
                )
            )
        except ClientError as error:
            raise output.CommandError(gateway.explain(error)) from None
        figures = found.figures(size_bytes)
        output.write(output.json_line(figures) if as_json else found.text(figures))
        if figures["missing"]:
            raise SystemExit(1)


class _Result:
    """What arrived, and how long it took."""

    def __init__(self, subscribers: int) -> None:
        self._subscribers = subscribers
        self.published = 0
        self.delivered = 0
        self.seconds = 0.0
        self.latencies: Counter[int] = Counter()
        """Deliveries by their time in tenths of a millisecond."""

    def figures(self, size_bytes: int) -> dict[str, float]:
        return {
            "published": self.published,
            "delivered": self.delivered,
            "missing": self.published * self._subscribers - self.delivered,
            "deliveries_per_second": round(self.delivered / self.seconds, 1),
            "bytes_per_second": round(self.delivered / self.seconds * size_bytes),
            **{f"p{share:g}_ms": self._percentile(share) for share in (50, 90, 99, 99.9)},
        }

    def text(self, figures: dict[str, float]) -> str:
        lines = [
            f"published {self.published:,} events, delivered {self.delivered:,}, missing {figures['missing']:,.0f}",
            f"{figures['deliveries_per_second']:,.0f} deliveries/s, {size(figures['bytes_per_second'])}/s of payload",
            "  ".join(
                f"{name.removesuffix('_ms')} {value:.1f} ms"
                for name, value in figures.items()
                if name[0] == "p" and name[1].isdigit()
            ),
            "",
        ]
        bands: Counter[int] = Counter()
        for tenths, count in self.latencies.items():
            bands[max(0, math.ceil(math.log2(max(tenths, 1) / 5)))] += count
        most = max(bands.values(), default=1)
        for band in range(max(bands, default=-1) + 1):
            bar = "█" * round(_BARS * bands[band] / most)
            lines.append(f"{'<=':>4} {0.5 * 2**band:>8,.1f} ms  {bands[band]:>10,}  {bar}".rstrip())
        return "\n".join(lines) + "\n"

    def _percentile(self, share: float) -> float:
        wanted = self.delivered * share / 100
        for tenths in sorted(self.latencies):
            wanted -= self.latencies[tenths]
            if wanted <= 0:
                return tenths / 10
        return math.nan


class _Bench:
    def __init__(self, gateway: Gateway, channels: list[str], subscribers: int) -> None:
        self._gateway = gateway
        self._channels = channels
        self._subscribers = subscribers
        self._result = _Result(subscribers)

    async def run(self, bus: str, rate: float, size_bytes: int, seconds: float) -> _Result:
        async with AsyncExitStack() as stack:
            subscriptions = []
            for _ in range(self._subscribers):
                client: Client = await stack.enter_async_context(new_client(self._gateway))
                subscriptions.append(await stack.enter_async_context(client.subscribe(*self._channels)))
            following = [asyncio.create_task(self._follow(one)) for one in subscriptions]
            with _publishers(self._channels, bus, rate, size_bytes, seconds) as numbers:
                began = time.monotonic()
                await asyncio.to_thread(self._wait_published, numbers)
                await self._wait_delivered()
                self._result.seconds = time.monotonic() - began
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
        return self._result

    async def _follow(self, subscription: Subscription[Any]) -> None:
        result = self._result
        while True:
            items = await subscription.take_all()
            now = time.time_ns()
            for item in items:
                if isinstance(item, Event):
                    result.delivered += 1
                    result.latencies[max(0, (now - item.data["sent_ns"]) // 100_000)] += 1

    def _wait_published(self, numbers: "multiprocessing.SimpleQueue[int | str]") -> None:
        for _ in self._channels:
            number = numbers.get()
            if isinstance(number, str):
                raise output.CommandError(number)
            self._result.published += number

    async def _wait_delivered(self) -> None:
        """Wait until all has arrived, or nothing has for some time."""
        last, since = -1, time.monotonic()
        while self._result.delivered < self._result.published * self._subscribers:
            if self._result.delivered != last:
                last, since = self._result.delivered, time.monotonic()
            elif time.monotonic() - since > _GRACE_SECONDS:
                return
            await asyncio.sleep(_TURN_SECONDS)


@contextmanager
def _publishers(
    channels: list[str], bus: str, rate: float, size_bytes: int, seconds: float
) -> "Iterator[multiprocessing.SimpleQueue[int | str]]":
    """Start a publishing process for each channel; each puts into the queue how many events it has published."""
    context = multiprocessing.get_context("spawn")
    numbers: multiprocessing.SimpleQueue[int | str] = context.SimpleQueue()
    started = [
        context.Process(target=publish, args=(channel, bus, rate, size_bytes, seconds, numbers)) for channel in channels
    ]
    for process in started:
        process.start()
    try:
        yield numbers
    finally:
        for process in started:
            process.terminate()
            process.join()


def publish(
    channel: str,
    bus: str,
    rate: float,
    size_bytes: int,
    seconds: float,
    numbers: "multiprocessing.SimpleQueue[int | str]",
) -> None:
    """Publish at a rate for some seconds; what a publishing process runs."""
    from neurograph_publisher import Publisher

    text = "x" * size_bytes
    terminal = sys.stderr.isatty() and channel.endswith(".0")
    with Publisher(connect=bus, name=f"gateway-bench:{os.getpid()}", linger_seconds=_GRACE_SECONDS) as publisher:
        if not publisher.wait_for_subscriber(_GRACE_SECONDS):
            numbers.put(f"no gateway at {bus} subscribed within {_GRACE_SECONDS:g} s")
            return
        sent, began = 0, time.monotonic()
        while (elapsed := time.monotonic() - began) < seconds:
            while sent < elapsed * rate:
                publisher.publish(channel, {"sent_ns": time.time_ns(), "text": text})
                sent += 1
            if terminal:
                done = int(_BARS * elapsed / seconds)
                click.echo(f"\r[{'█' * done}{'·' * (_BARS - done)}] {elapsed:.0f} of {seconds:g} s", nl=False, err=True)
            time.sleep(_TURN_SECONDS)
        if terminal:
            click.echo("\r\x1b[K", nl=False, err=True)
        numbers.put(sent)
