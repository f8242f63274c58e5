"""Several gateways as one, by means of a Redis or Valkey that all of them use: the engine.

    redis_client  makes connections, and says what an error means and what to do
    scripts       what is done in the engine in one step
    engine        one connection for commands, one for following streams; whether the engine is available

Only `redis_client` imports redis. Import `engine` behind `require`, and only if a cluster is configured."""

from importlib.util import find_spec

from gateway.config.errors import ConfigError, Problem


def require() -> None:
    """Raises ConfigError: the library that a cluster needs is not installed."""
    if find_spec("redis") is None:
        remedy = "install it: pip install 'neurograph-gateway[cluster]'"
        raise ConfigError([Problem("cluster.url", "needs the package redis, which is not installed", remedy)])
