"""How much logs hold."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retention:
    """How much a log holds; `age_ns_max` of 0 sets no limit.

    `key` is the path of the member by which events replace each other, such as ``("data", "host")``:
    the log also keeps the newest event of each key, for the `keys_max` keys that changed last, and as far as those
    that are evicted do not exceed `bytes_max` a second time."""

    events_max: int = 1000
    bytes_max: int = 16 * 1024 * 1024
    age_ns_max: int = 0
    key: tuple[str, ...] = ()
    keys_max: int = 1000


class Usage:
    """How many bytes several logs hold together, and how many current values they dropped."""

    __slots__ = ("bytes", "values_dropped")

    def __init__(self) -> None:
        self.bytes = 0
        self.values_dropped = 0
