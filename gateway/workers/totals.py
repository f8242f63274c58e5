"""The metrics of several processes as those of one gateway."""

from collections import defaultdict
from collections.abc import Iterable

from gateway.metrics import MOSTS, Extra, Key
from gateway.workers.process import Process


class Totals:
    """Adds up what the workers report; what one has counted stays counted when it is gone."""

    def __init__(self) -> None:
        self._gone: defaultdict[Key, float] = defaultdict(float)

    def retire(self, process: Process) -> None:
        """Keep the counts of a worker that has ended, as it last reported them."""
        for key, value in _samples(process):
            if key[1].endswith(("_total", "_bucket", "_sum", "_count")):
                self._gone[key] += value

    def of(self, processes: Iterable[Process]) -> Extra:
        """Return what all workers come to, by metric."""
        sums = self._gone.copy()
        for process in processes:
            for key, value in _samples(process):
                sums[key] = max(sums[key], value) if key[0] in MOSTS else sums[key] + value
        extra: defaultdict[str, dict[Key, float]] = defaultdict(dict)
        for key, value in sums.items():
            extra[key[0]][key] = value
        return extra


def _samples(process: Process) -> Iterable[tuple[Key, float]]:
    if process.report is None:
        return
    for metric, name, labels, value in process.report.samples:
        yield (metric, name, tuple(sorted(labels.items()))), value
