"""Several gateways as one, by means of a Redis or Valkey that all of them use: the engine.

    redis_client  makes connections, and says what an error means and what to do
    scripts       what is done in the engine in one step
    cluster       one gateway's part in its cluster
    clients       the clients of all gateways: presence, and how many a user has
    sessions      sessions, and personal messages, wherever their clients are
    numbering     the lease of the gateway that numbers for all what comes from the bus without numbers
    events        what clients publish on channels, and messages to everyone
    engine        one connection for commands, one for following streams; whether the engine is available

Only `redis_client` imports redis. So it is imported only if a cluster is configured."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from gateway.config.errors import ConfigError, Problem
from gateway.config.model import Cluster as Settings
from gateway.core.cluster.members import OwnFigures
from gateway.core.ingest.pipeline import Pipeline
from gateway.core.sessions.broadcast import Broadcaster
from gateway.core.sessions.hub import Hub


if TYPE_CHECKING:
    from gateway.cluster.cluster import Cluster


def require() -> None:
    """Raises ConfigError: the library that a cluster needs is not installed."""
    if find_spec("redis") is None:
        remedy = "install it: pip install 'neurograph-gateway[cluster]'"
        raise ConfigError([Problem("cluster.url", "needs the package redis, which is not installed", remedy)])


def join(
    settings: Settings,
    hub: Hub,
    pipeline: Pipeline,
    broadcaster: Broadcaster,
    *,
    own: Callable[[], OwnFigures],
    away_seconds: float,
) -> "Cluster":
    """Return this gateway's part in a cluster, not started yet.
    Raises ConfigError: redis is not installed, or the file with the engine's password cannot be read."""
    require()
    from gateway.cluster.cluster import Cluster  # not before it is known that redis is installed

    return Cluster(settings, hub, pipeline, broadcaster, own=own, away_seconds=away_seconds)
