"""The gateways of a cluster, as they report themselves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
from msgspec import Struct

from gateway.core.cluster.lease import Lease


class Member(Struct, frozen=True, kw_only=True):
    """A gateway of a cluster. `lag_seconds` is how late it came to read from the bus since its last report."""

    id: str
    name: str
    version: str
    started: float
    """Unix time."""
    clients: int
    lag_seconds: float
    recovering: int
    """Streams whose missing messages it waits for."""
    ready: bool = True
    """Whether clients can connect to it."""


class Heard(Struct, frozen=True, kw_only=True):
    """What a gateway hears on the bus, for whoever compares the gateways."""

    sent: float
    """Unix time by the gateway's clock."""
    publishers: dict[str, str]
    """The names of the publishers whose heartbeats come, by incarnation; "" if one has none."""


@dataclass(frozen=True, slots=True)
class OwnFigures:
    """What changes in a gateway's report of itself."""

    name: str
    clients: int
    recovering: int
    ready: bool


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Member).decode
decode_heard = msgspec.json.Decoder(Heard).decode


class Members:
    """The other gateways, as the engine listed them last. After `ttl_ns` without a list, none is known."""

    def __init__(self, *, ttl_ns: int) -> None:
        self._ttl_ns = ttl_ns
        self._listed: list[Member] = []
        self._listed_ns = 0

    def take(self, reports: Iterable[bytes], *, now_ns: int) -> None:
        """Take over what the engine holds; a report that cannot be read is left out."""
        found = []
        for report in reports:
            try:
                found.append(decode(report))
            except msgspec.MsgspecError:
                continue
        self._listed, self._listed_ns = found, now_ns

    def with_own(self, own: Member, *, now_ns: int) -> list[Member]:
        """Return all gateways that are known, sorted by name, with this one as it is now."""
        current = self._listed if now_ns < self._listed_ns + self._ttl_ns else []
        others = [one for one in current if one.id != own.id]
        return sorted((own, *others), key=lambda one: (one.name, one.id))


EVENT_OUTCOMES = ("appended", "missing", "refused")


@dataclass(frozen=True, slots=True)
class ClusterState:
    """A cluster as one gateway sees it."""

    own_id: str
    members: tuple[Member, ...]
    problem: str
    """Why the engine is down; empty if it is up."""
    advice: str
    failures: int
    """How often the engine went down."""
    commands: int
    """How many commands this gateway has sent to it."""
    events: Mapping[str, int]
    """Events that it numbered, by what became of them here (`EVENT_OUTCOMES`)."""
    lease: Lease | None
    """Who numbers for whom; None if each gateway does it for itself."""

    @property
    def degraded(self) -> list[str]:
        """What works less well now, for readiness."""
        if not self.problem:
            return []
        return [f"the cluster's engine is down: {self.problem}; {self.advice}".removesuffix("; ")]
