"""Figures of several rounds, and their medians."""

from collections.abc import Sequence
from statistics import median

import msgspec


class Result(msgspec.Struct, frozen=True):
    """What a server did in one round of a scenario; `error` says why there are no figures."""

    scenario: str
    server: str
    round: int
    figures: dict[str, float] = {}
    error: str = ""


class Results:
    """All results so far, in the order they came."""

    def __init__(self, results: Sequence[Result] = ()) -> None:
        self.all = list(results)

    def servers(self, scenario: str) -> list[str]:
        """Return the servers; the others are compared with the first."""
        return list(dict.fromkeys(one.server for one in self.all if one.scenario == scenario))

    def error(self, scenario: str, server: str) -> str:
        """Return why a server has no figures, if it has none."""
        rounds = self._rounds(scenario, server).values()
        return "" if any(one.figures for one in rounds) else next(one.error for one in rounds)

    def median(self, scenario: str, server: str, figure: str) -> float | None:
        """Return the median of a figure over the rounds."""
        rounds = self._rounds(scenario, server).values()
        values = [one.figures[figure] for one in rounds if figure in one.figures]
        return median(values) if values else None

    def ratio(self, scenario: str, server: str, figure: str) -> float | None:
        """Return a figure relative to the first server's: the median of each round's ratio."""
        first = self._rounds(scenario, self.servers(scenario)[0])
        ratios = [
            one.figures[figure] / first[number].figures[figure]
            for number, one in self._rounds(scenario, server).items()
            if figure in one.figures and number in first and first[number].figures.get(figure)
        ]
        return median(ratios) if ratios else None

    def _rounds(self, scenario: str, server: str) -> dict[int, Result]:
        named = (scenario, server)
        return {one.round: one for one in self.all if (one.scenario, one.server) == named}
