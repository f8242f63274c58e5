"""Whether the shell runs a cell just now, and what was made in it."""

import weakref
from asyncio import CancelledError
from typing import Any, Protocol

from IPython.core.getipython import get_ipython


class Stoppable(Protocol):
    """Something that an interrupted cell leaves behind."""

    def stop(self, reason: str) -> None:
        """End it."""


class Cells:
    """Watches the cells of a shell; outside IPython none ever runs.

    While one runs, nothing that a page says is read: a page that is silent then may be there.
    """

    def __init__(self) -> None:
        self._made: weakref.WeakSet[Stoppable] = weakref.WeakSet()
        self._shell: Any = None
        self.is_running = False

    def made(self, one: Stoppable) -> None:
        """Note that something was made, in the cell that runs now if one does."""
        shell = get_ipython()
        if shell is None:
            return
        if shell is not self._shell:
            self._shell = shell
            self.is_running = True
            shell.events.register("pre_run_cell", self._begin)
            shell.events.register("post_run_cell", self._end)
        if self.is_running:
            self._made.add(one)

    def _begin(self, _: Any) -> None:
        self.is_running = True

    def _end(self, result: Any) -> None:
        self.is_running = False
        if isinstance(result.error_in_exec, KeyboardInterrupt | CancelledError):  # the latter where it awaited
            for one in self._made:
                one.stop("the cell was interrupted")
        self._made.clear()


CELLS = Cells()
