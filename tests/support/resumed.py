"""Let coverage see what coroutines do after an exception that one of them caught, on Python 3.11.

There a task throws the exception of what it awaited into the outermost coroutine. If an inner one catches it, Python
3.11 lets the outer ones go on without an event for a tracer, which then takes their lines for another frame's. If the
task just continues instead, what it awaits raises the same exception, at the innermost place.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any


def trace_resumed_coroutines() -> None:
    """To be called before event loops are imported that keep the class of tasks; nothing is done without coverage."""
    if sys.version_info >= (3, 12) or "coverage" not in sys.modules:
        return

    class Task(asyncio.tasks._PyTask):  # type: ignore[name-defined,misc]
        def _Task__wakeup(self, _future: Any) -> None:
            self._Task__step()

    asyncio.Task = asyncio.tasks.Task = Task  # type: ignore[misc]
