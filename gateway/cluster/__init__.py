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

from importlib.util import find_spec
from typing import TYPE_CHECKING

from gateway.config.errors import ConfigError, Problem


if TYPE_CHECKING:
    from gateway.cluster.cluster import Cluster


def require() -> None:
    """Raises ConfigError: the library that a cluster needs is not installed."""
    if find_spec("redis") is None:
        remedy = "install it: pip install 'neurograph-gateway[cluster]'"
        raise ConfigError([Problem("cluster.url", "needs the package redis, which is not installed", remedy)])


def load() -> "type[Cluster]":
    """Return the class of a gateway's part in its cluster. Raises ConfigError: redis is not installed."""
    require()
    from gateway.cluster.cluster import Cluster  # not before it is known that redis is installed

    return Cluster
