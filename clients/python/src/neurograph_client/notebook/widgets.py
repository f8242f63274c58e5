"""Live widgets: they follow channels through the kernel's client, and show it in Jupyter, VS Code and marimo."""

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import unquote

import anywidget
import traitlets

from neurograph_client import BlockingClient, Columns, Event, Gap, Position
from neurograph_client.items import behind
from neurograph_client.notebook.cells import CELLS
from neurograph_client.notebook.contents import Contents, CurrentValues, Lines, Numbers
from neurograph_client.terminal.formatting import item_as_json


EVERY_SECONDS = 0.1
"""So far apart are the messages to a page."""
ALONE_SECONDS = 180.0
"""After so long without a sign of a page, a widget stops; browsers let hidden pages speak once a minute."""
_KEEP = 1_000

Item = Event[Any] | Gap
State = Literal["following", "paused", "stopped"]
ALONE = "no page has shown it for three minutes"


class _Live(anywidget.AnyWidget):
    """Follows channels, by name or pattern, until it is stopped; see `BlockingClient.events` for the options.

    `fields` are the only ones to show, named as in filters: ``data.x``. The newest `keep` events and gaps are kept for
    `items`, `to_pandas` and the page's export. It sends at most ten updates a second to the pages that show it, each
    bounded. It stops if its cell is interrupted, and if no page has shown it for three minutes; a page that shows it
    again lets it go on where it stood.
    """

    _esm = Path(__file__).parent / "widgets.js"
    _css = Path(__file__).parent / "widgets.css"
    kind = traitlets.Unicode().tag(sync=True)
    title = traitlets.Unicode().tag(sync=True)

    _kind: ClassVar[str]
    _contents: ClassVar[Callable[[Sequence[str] | None], Contents]]

    def __init__(
        self,
        client: BlockingClient,
        *channels: str,
        last: int | None = 100,
        filter: str | None = None,
        rate: float | None = None,
        fields: Sequence[str] | None = None,
        keep: int = _KEEP,
    ) -> None:
        if not channels:
            raise ValueError("name a channel")
        super().__init__(kind=self._kind, title=", ".join(map(unquote, channels)))
        self._client = client
        self._channels = channels
        self._options: dict[str, Any] = {"filter": filter, "rate": rate}
        self._last = last or None
        self._shown = type(self)._contents(fields)
        self._kept: deque[Item] = deque(maxlen=keep)
        self._positions: dict[str, Position] = {}
        self._events = self._gaps = self._missing = 0
        self._state: State = "stopped"
        self._reason = ""
        self._lock = threading.RLock()
        """Events come in the client's thread, and what pages say in the kernel's."""
        self._run: object = None
        """Stands for what was started last: what an earlier one still brings does not count."""
        self._end: Callable[[], None] = lambda: None
        self._pages: set[str] = set()
        self._page_seen = time.monotonic()
        self.on_msg(_answer)
        CELLS.made(self)
        self.start()

    # -- for the notebook's own code ------------------------------------------------------------

    @property
    def state(self) -> State:
        """``following``, ``paused`` (it follows, but the page stands still) or ``stopped``."""
        return self._state

    @property
    def reason(self) -> str:
        """Why it stopped, if it did so by itself."""
        return self._reason

    @property
    def items(self) -> list[Item]:
        """The newest events and gaps."""
        with self._lock:
            return list(self._kept)

    def to_pandas(self) -> Any:
        """Return `items` as a DataFrame of pandas."""
        return Columns(self.items).to_pandas()

    def to_polars(self) -> Any:
        """Return `items` as a DataFrame of polars."""
        return Columns(self.items).to_polars()

    def start(self) -> None:
        """Follow, from where it stood when it stopped."""
        with self._lock:
            if self._state != "stopped":
                return
            self._run = run = object()
            self._state, self._reason, self._page_seen = "following", "", time.monotonic()
            begin = {"since": dict(self._positions)} if self._positions else {"last": self._last}
        itself = weakref.ref(self)

        def take(items: list[Item]) -> None:
            live = itself()
            if live is None:
                raise StopAsyncIteration
            live._take(run, items)

        def ended(why: Exception | None) -> None:
            if (live := itself()) is not None:
                live._ended(run, why)

        # Without the lock: the client's thread may wait for it.
        try:
            end = self._client.follow(
                take, *self._channels, **begin, **self._options, every=EVERY_SECONDS, on_end=ended
            )
        except BaseException:
            self._state = "stopped"
            raise
        with self._lock:
            if self._run is run:
                self._end = end
                return
        end()

    def stop(self, reason: str = "") -> None:
        """Follow no longer."""
        with self._lock:
            if self._state == "stopped":
                return
            self._run, self._state, self._reason = None, "stopped", reason
            self._end()
            self._send_changes()

    def pause(self) -> None:
        """Let pages stand still; what comes is kept."""
        self._switch("following", "paused")

    def resume(self) -> None:
        """Let pages show what has come meanwhile, and go on."""
        self._switch("paused", "following")

    def close(self) -> None:
        """Stop, and remove it from all pages."""
        if getattr(self, "_lock", None) is not None:
            self.stop()
        super().close()

    def _switch(self, before: State, after: State) -> None:
        with self._lock:
            if self._state == before:
                self._state = after
                self._send_changes(all=True)

    # -- what comes -----------------------------------------------------------------------------

    def _take(self, run: object, items: list[Item]) -> None:
        with self._lock:
            if self._run is not run:
                return
            for item in items:
                if isinstance(item, Gap):
                    self._gaps += 1
                    self._missing += item.count or 0
                else:
                    self._events += 1
                reached = behind(self._positions.get(item.channel), item)
                if reached is not None:
                    self._positions[item.channel] = reached
            self._kept.extend(items)
            self._shown.add(items)
            if items:
                self._send_changes()
            if CELLS.is_running:
                self._page_seen = time.monotonic()
            elif time.monotonic() - self._page_seen > ALONE_SECONDS:
                self._pages.clear()
                self.stop(ALONE)

    def _ended(self, run: object, why: Exception | None) -> None:
        with self._lock:
            if self._run is run:
                self._end = lambda: None
                self.stop("the client was closed" if why is None else str(why))

    # -- pages ----------------------------------------------------------------------------------

    def _send_changes(self, *, all: bool = False) -> None:
        if not self._pages:
            return
        counts = {"events": self._events, "gaps": self._gaps, "missing": self._missing}
        update = {"type": "update", "all": all, "state": self._state, "reason": self._reason, **counts}
        if all or self._state == "following":
            update |= self._shown.changes(all=all)
        self.send(update)

    def _hear(self, message: dict[str, Any]) -> None:
        """Do what a page asks for."""
        with self._lock:
            self._page_seen = time.monotonic()
            page = str(message.get("page", ""))
        match message.get("type"):
            case "ready":
                self._pages.add(page)
                if self._state == "stopped" and self._reason == ALONE:
                    self.start()
                with self._lock:
                    self._send_changes(all=True)
            case "here":
                with self._lock:
                    self._pages.add(page)
                    self._send_changes()
            case "gone":
                self._pages.discard(page)
            case "pause":
                self.pause()
            case "resume":
                self.resume()
            case "stop":
                self.stop()
            case "start":
                self.start()
                with self._lock:
                    self._send_changes(all=True)
            case "export":
                self.send({"type": "file", "page": page, **self._exported(str(message.get("format")))})

    def _exported(self, kind: str) -> dict[str, str]:
        name = "".join(one if one.isalnum() or one in "._-" else "_" for one in self.title)[:80]
        if kind == "csv":
            return {"name": f"{name}.csv", "mime": "text/csv", "text": self.to_pandas().to_csv(index=False)}
        text = "".join(item_as_json(item) for item in self.items)
        return {"name": f"{name}.jsonl", "mime": "application/jsonl", "text": text}


def _answer(live: _Live, message: Any, _: Any) -> None:
    if isinstance(message, dict):
        live._hear(message)


class Chart(_Live):
    """Numeric fields over time, a small chart for each."""

    _kind = "chart"
    _contents = Numbers


class Values(_Live):
    """The current value of each field."""

    _kind = "values"
    _contents = CurrentValues


class Tail(_Live):
    """The newest events and gaps as lines."""

    _kind = "tail"
    _contents = Lines
