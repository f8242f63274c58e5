"""A worker's logs, which follow those of its parent.

If a log cannot be followed, because a message cannot be read or applied, the worker drops what comes for it
and asks the parent for the whole log. Then its readers read on from where they are: what the log still holds,
and a gap for the rest. If the log itself cannot be applied, its readers get a gap for all that it held, and
then what comes next. Other logs are not affected."""

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.core.fanout.fanout import Fanout
from gateway.core.log.log import LogState
from gateway.core.log.logs import Logs
from gateway.core.log.sources import ORIGIN, Cursor, Entry
from gateway.workers.pipe import Unreadable


@dataclass(slots=True, eq=False, repr=False)
class Replica:
    """Applies what the parent sends of its logs; no method raises.

    `ask` is called to request logs again: their names, None for all, and whether to leave out their entries.
    `on_failure` is called with each error and a word for what failed."""

    _logs: Logs
    _fanout: Fanout
    ask: Callable[[list[str] | None, bool], object]
    on_failure: Callable[[str, Exception], object]
    _filled: set[str] | None = field(default_factory=set)
    """The logs that have come since the worker started; None once all have."""
    _awaited: dict[str, Cursor] = field(default_factory=dict)
    """The logs that were requested again, and the places up to which their readers got everything."""
    _asked_again: set[str] = field(default_factory=set)
    """Those of them that could not be applied whole either."""

    @property
    def awaited(self) -> int:
        return len(self._awaited)

    def load(self, state: LogState) -> None:
        """Replace a log; its readers read on in it."""
        name = state.name
        after = self._awaited.get(name, self._newest(name))
        try:
            self._logs.load_state(state)
            if self._filled is None:
                self._fanout.read_again(name, after)
        except Exception as error:
            self.on_failure("Log", error)
            self._fail_again(name)
        else:
            self._awaited.pop(name, None)
            self._asked_again.discard(name)
        if self._filled is not None:
            self._filled.add(name)

    def finish_filling(self) -> None:
        self._filled = None

    def append(self, entries: list[Entry]) -> None:
        """Hold and deliver the next entries; not those of logs that have yet to come whole."""
        filled, awaited = self._filled, self._awaited
        if filled is not None or awaited:
            wanted = {one.channel for one in entries if filled is None or one.channel in filled} - awaited.keys()
            entries = [entry for entry in entries if entry.channel in wanted]
        if not entries:
            return
        try:
            failed = self._logs.replicate(entries)
        except Exception as error:  # the logs have them, but they could not be written
            self.on_failure("Entries", error)
            return
        for name, reason in failed.items():
            self.on_failure("Entries", reason)
            self._request(name)

    def evict(self, now_ns: int) -> None:
        for name, log in self._logs.by_name.items():
            try:
                log.evict(now_ns=now_ns)
            except Exception as error:
                self.on_failure("Evict", error)
                self._request(name)

    def close(self, name: str, epoch: str) -> None:
        self._awaited.pop(name, None)
        self._asked_again.discard(name)
        self._logs.close(name, epoch=epoch)

    def on_unreadable(self, message: Unreadable) -> None:
        """Do without a message that cannot be read."""
        self.on_failure(message.kind, ValueError(message.reason))
        match message:
            case Unreadable(kind="Log", fields=[[str(name), *_], *_]):
                self._fail_again(name)
            case Unreadable(kind="Entries", fields=[list(entries), *_]) if all(map(_names_channel, entries)):
                for name in dict.fromkeys(entry[0] for entry in entries):
                    self._request(name)
            case Unreadable(kind="Evict"):
                pass  # the next one evicts what this one would have evicted
            case _:
                self._request_all()

    def tick(self) -> None:
        """Request again what could not be applied; to be called now and then."""
        if self._asked_again:
            self.ask(sorted(self._asked_again), True)

    def _newest(self, name: str) -> Cursor:
        log = self._logs.by_name.get(name)
        return ORIGIN if log is None else log.newest

    def _request(self, name: str) -> None:
        if name not in self._awaited:
            self._awaited[name] = self._newest(name)
            self.ask([name], False)

    def _fail_again(self, name: str) -> None:
        """Request a log without its entries; one that fails even so is requested at the next `tick`."""
        self._awaited.setdefault(name, self._newest(name))
        if name not in self._asked_again:
            self._asked_again.add(name)
            self.ask([name], True)

    def _request_all(self) -> None:
        for name in self._logs.by_name:
            self._awaited.setdefault(name, self._newest(name))
        self.ask(None, False)


def _names_channel(entry: object) -> bool:
    return isinstance(entry, list) and bool(entry) and isinstance(entry[0], str)
