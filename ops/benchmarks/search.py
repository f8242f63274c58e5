"""The highest rate that a server sustains."""

from collections.abc import Callable

from ops.benchmarks.servers import Server
from ops.benchmarks.stage import OTHERS_MAX, Run, Stage


STEP = 1.1
"""Rates are powers of this, which is the precision of the result."""
_LEAP = 4
_EXPONENT_MAX = 140

Judge = Callable[[Run], bool]


class Search:
    """Searches the highest rate at which all events arrive, with latencies below a bound.

    `prepare` prepares a stage, and `count` returns the number of events for a rate and a time. After a rate at
    which events are missing, the server has a backlog: the next rate uses a new server. A rate at which other
    processes used the CPUs is measured again, at most `tries` times.
    """

    def __init__(
        self,
        server: Server,
        prepare: Callable[[Stage], object],
        *,
        seconds: float,
        tries: int,
        open_stage: Callable[[Server], Stage] = Stage,
        count: Callable[[float], int] = round,
        complete: Judge = lambda run: run.complete,
    ) -> None:
        self._server = server
        self._prepare = prepare
        self._seconds = seconds
        self._tries = tries
        self._open_stage = open_stage
        self._count = count
        self._complete = complete
        self._stage: Stage | None = None
        self._runs: dict[int, Run] = {}

    def highest(self, p99_ms: float, *, start: float) -> Run | None:
        """Return the run at the highest sustained rate, None if there is none."""
        verdicts: dict[int, bool] = {}

        def holds(exponent: int) -> bool:
            if exponent not in verdicts:
                verdicts[exponent] = self._holds(exponent, p99_ms)
            return verdicts[exponent]

        low = exponent_of(start)
        while low > 0 and not holds(low):
            low -= _LEAP
        high = low + _LEAP
        while high < _EXPONENT_MAX and holds(high):
            low, high = high, high + _LEAP
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if holds(middle) else (low, middle)
        return self._runs[low] if verdicts.get(low) else None

    def end(self) -> None:
        if self._stage is not None:
            self._stage.__exit__(None, None, None)
            self._stage = None

    def _holds(self, exponent: int, p99_ms: float) -> bool:
        run = self._runs.get(exponent)
        for _ in range(self._tries):
            if run is None:
                run = self._runs[exponent] = self._run(STEP**exponent)
            if self._is_good(run, p99_ms):
                return True
            if run.others < OTHERS_MAX:
                return False
            run = None  # other processes used the CPU: the run says nothing about the server
        return False

    def _is_good(self, run: Run, p99_ms: float) -> bool:
        return run.on_time and self._complete(run) and run.taken.p99_ms < p99_ms

    def _run(self, rate: float) -> Run:
        if self._stage is None:
            self._stage = self._open_stage(self._server).__enter__()
            self._prepare(self._stage)
        run = self._stage.measure(rate, self._count(rate * self._seconds))
        if not self._complete(run):
            self.end()
        return run


def exponent_of(rate: float) -> int:
    """Return the exponent of the power of STEP that is next to a rate."""
    exponent = 0
    while STEP ** (exponent + 0.5) < rate:
        exponent += 1
    return exponent
