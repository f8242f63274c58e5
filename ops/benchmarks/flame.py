"""Measure where the gateway spends its time: ``python -m ops.benchmarks.flame`` writes docs/flame-*.svg and two tables.

A sampling profiler (py-spy) samples the running gateway, including native code.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from ops.benchmarks import report
from ops.benchmarks.machine import cpus
from ops.benchmarks.programs import MADE, ROOT, NotHere
from ops.benchmarks.scenarios import NAP
from ops.benchmarks.servers import gateway
from ops.benchmarks.stage import Stage


SECONDS = 8
WIDTH, ROW, LEAST = 1180, 17, 1.5

Stacks = Mapping[tuple[str, ...], int]

PHASES: Mapping[str, Sequence[str]] = {
    "the kernel's send": ("syscall (libc", "__libc_send", "send (libc", "write (libc", "writev (libc", "sendmsg"),
    "io_uring and uvloop, around it": ("IoUring.", "RingWriter.", "UVStream", "write (loop.c"),
    "fan-out": ("Fanout.", "Cohort.", "Selection.", "Matches."),
    "validation of events": ("Ingest._fields",),
    "log and numbering": ("Logs.", "ChannelLog.", "Epochs."),
    "envelopes, order, repair": ("Ingest.", "Recovery.", "Streams."),
    "the bus: libzmq and pyzmq": ("recv_multipart", "zmq"),
    "counting, for the metrics": ("(gateway/metrics/",),
    "the loop around these": ("Hub.", "Service._tick"),
    "everything else": ("",),
}
"""A sample counts for the first phase that has one of its frames."""


@dataclass
class Node:
    """A function in one call stack: samples in it, and in what it called."""

    name: str
    samples: int = 0
    below: dict[str, "Node"] = field(default_factory=dict)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.benchmarks.flame", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write tables and plots into docs/")
    given = parser.parse_args()
    shares = {}
    try:
        os.sched_setaffinity(0, {cpus()[1]})
        for name, clients, rate in (("s1", 1000, 200), ("ingest", 10, 20_000)):
            stacks = profile(clients, rate)
            shares[f"{clients:,} clients, {rate:,} events/s"] = phases(stacks)
            if given.write:
                (ROOT / f"docs/flame-{name}.svg").write_text(draw(stacks))
    except NotHere as why:
        print(why, file=sys.stderr)
        return 1
    lines = [["% of the time in", *shares], ["---"] * (1 + len(shares))]
    lines += [[phase, *(f"{of[phase]:.1f}" for of in shares.values())] for phase in PHASES]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    print(table)
    if given.write:
        report.write("profile", table)
    return 0


def profile(clients: int, rate: int) -> Stacks:
    """Sample the gateway under a steady load; idle time is not counted.

    Raises:
        NotHere: py-spy is not installed.
    """
    profiler = shutil.which("py-spy", path=f"{MADE}/venv/bin:{os.environ.get('PATH', '')}")
    if profiler is None:
        raise NotHere("py-spy is not installed; ops/benchmarks/peers/get.sh build/benchmarks installs it")
    with tempfile.TemporaryDirectory() as folder, Stage(gateway()) as stage:
        stage.connect(clients)
        stage.nap(NAP)
        target = Path(folder) / "stacks"
        command = [profiler, "record", "--native", "--format", "raw", "--rate", "250"]
        command += ["--duration", str(SECONDS), "--pid", str(stage.process.pid), "-o", str(target)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            stage.measure(rate, rate * (SECONDS + 1), max_ms=20_000)
        return dict(_read(target.read_text()))


def _read(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [one for one in stack.split(";") if not one.startswith(("0x", "Py_", "_Py"))]
        inside = next((n for n, one in enumerate(frames) if one.startswith("uv_run")), 0)
        ours = (n for n, one in enumerate(frames) if n > inside and "(gateway/" in one)
        yield tuple(frames[next(ours, inside) :]), int(count)


def phases(stacks: Stacks) -> dict[str, float]:
    """Return how many percent of the samples count for each phase."""
    shares = dict.fromkeys(PHASES, 0.0)
    total = sum(stacks.values())
    for stack, count in stacks.items():
        whole = ";".join(stack)
        phase = next(p for p, words in PHASES.items() if any(word in whole for word in words))
        shares[phase] += 100 * count / total
    return shares


def draw(stacks: Stacks) -> str:
    """Return the samples as a flame graph (SVG): callers below, width is time."""
    root = Node("all")
    for stack, count in stacks.items():
        node = root
        node.samples += count
        for frame in stack:
            name = frame.partition(" (")[0]
            if name != node.name:  # one bar for a function and those that were inlined into it
                node = node.below.setdefault(name, Node(name))
                node.samples += count
    bars = list(_bars(root, 0, 0.0, WIDTH / max(root.samples, 1)))
    height = ROW * (1 + max(depth for depth, _, _, _ in bars)) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
        f' height="{height}"><style>text{{font:11px system-ui,sans-serif;fill:#1f2328}}</style>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for depth, x, width, node in bars:
        y = height - ROW * (depth + 1) - 5
        share = 100 * node.samples / root.samples
        name = node.name[: max(int(width / 7), 0)]
        parts.append(
            f'<g><title>{escape(node.name)}: {share:.1f} %</title><rect x="{x:.1f}" y="{y}"'
            f' width="{max(width - 0.5, 0.5):.1f}" height="{ROW - 1}" rx="1" fill="{_colour(node)}"/>'
            f'<text x="{x + 3:.1f}" y="{y + 12}">{escape(name) if width > 24 else ""}</text></g>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _bars(node: Node, depth: int, x: float, scale: float) -> Iterator[tuple[int, float, float, Node]]:
    yield depth, x, node.samples * scale, node
    for one in sorted(node.below.values(), key=lambda one: one.name):
        if one.samples * scale >= LEAST:
            yield from _bars(one, depth + 1, x, scale)
        x += one.samples * scale


def _colour(node: Node) -> str:
    return f"hsl({18 + zlib.crc32(node.name.encode()) % 34},88%,{68 + len(node.name) % 9}%)"


if __name__ == "__main__":
    sys.exit(main())
