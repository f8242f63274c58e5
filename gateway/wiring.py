"""Builds the core from the configuration."""

import hashlib
import secrets
from collections.abc import Callable
from importlib.metadata import entry_points

from gateway import __version__
from gateway.config.errors import ConfigError, Problem
from gateway.config.model import ChannelHistory, Clients, Config
from gateway.config.model import Source as SourceSettings
from gateway.core.fanout.fanout import Fanout
from gateway.core.ingest.ingest import Ingest
from gateway.core.ingest.interest import Interest
from gateway.core.ingest.pipeline import Pipeline
from gateway.core.ingest.recovery import Recovery
from gateway.core.ingest.streams import Streams
from gateway.core.log.logs import Logs
from gateway.core.log.retention import Retention
from gateway.core.protocol import messages
from gateway.core.protocol.envelope import GROUP_BITS
from gateway.core.protocol.events import STANDARD
from gateway.core.sessions.hub import Hub, Welcome
from gateway.core.sessions.observer import Observer
from gateway.core.sessions.permissions import Grants, Policy
from gateway.core.sessions.rate_limit import ClientLimits, RateLimit
from gateway.core.sessions.store import SessionLimits, SessionStore
from gateway.core.sources.framing import Decoder
from gateway.core.sources.source import Source
from gateway.runtime import clock


DECODERS = "gateway.decoders"
"""The entry points of packages that add decoders; each names a function as docs/decoders.md describes."""


def build_source(config: Config, settings: SourceSettings) -> Source:
    """Return what reads the messages of one endpoint.
    Raises ConfigError: no installed package has its decoder, or the decoder cannot be imported."""
    return Source(
        settings,
        bytes_max=config.ingest.payload_bytes_max,
        new_incarnation=lambda: secrets.randbits(64),
        decoder=load_decoder(settings.decoder) if settings.decoder else None,
        name=settings.preset or settings.endpoint,
    )


def load_decoder(name: str) -> Decoder:
    """Return a decoder of an installed package.
    Raises ConfigError: there is none of this name, or it cannot be imported."""
    known = {entry.name: entry for entry in entry_points(group=DECODERS)}
    if name not in known:
        has = f"expected one of {', '.join(known)}" if known else f"no installed package has a {DECODERS} entry point"
        raise ConfigError([Problem("bus.sources.decoder", f"{name!r} is not a decoder", has)])
    try:
        decoder: Decoder = known[name].load()
    except Exception as error:  # whatever another package's import raises
        reason = f"{name!r} cannot be imported: {error!r}"
        raise ConfigError([Problem("bus.sources.decoder", reason, "mend or remove the package")]) from error
    return decoder


_FRAMES_PER_MESSAGE = 64
"""Clients may send their messages in so many fragments, on average."""


def build_logs(config: Config, *, epoch: str | None = None, total_bytes_max: int = 0) -> Logs:
    """Return the channels' logs, with an epoch of their own unless one is given; replicas need no total limit."""
    return Logs(
        epoch=epoch or secrets.token_hex(4),
        channels_max=config.ingest.channels_max,
        total_bytes_max=total_bytes_max,
        retention=_retention(config.history),
        retentions={name: _retention(own) for name, own in config.channels.items()},
    )


def reload_core(config: Config, hub: Hub, policy: Policy, *, in_worker: bool, elsewhere: bool) -> None:
    """Apply another configuration to the logs and sessions of a process; see `Hub.set_policy` for `elsewhere`."""
    retentions = {name: _retention(own) for name, own in config.channels.items()}
    hub.logs.set_retention(_retention(config.history), retentions)
    hub.store.set_limits(**_session_limits(config, remember=not in_worker))
    hub.set_limits(_limits(config.clients), _welcome(config))
    hub.set_policy(policy, now_ns=clock.now_ns(), elsewhere=elsewhere)


def build_pipeline(config: Config, logs: Logs) -> Pipeline:
    recovery = Recovery(
        streams=Streams(streams_max=config.ingest.streams_max),
        started_ns=clock.now_ns(),
        history=logs.history,
        admit=logs.admit,
        reached=logs.reached,
        is_numbered=logs.is_numbered,
        interest=Interest(
            everything=not config.history.on_demand,
            always=[name for name, own in config.channels.items() if not own.on_demand],
            idle_ns=round(config.bus.on_demand_idle_seconds * 1e9),
        ),
    )
    ingest = Ingest(
        payload_bytes_max=config.ingest.payload_bytes_max,
        nesting_max=config.ingest.nesting_max,
        rejections_max=config.ingest.rejections_max,
        admit=logs.admit,
        recovery=recovery,
        untyped=[name for name in STANDARD if not config.channels.get(name, config.history).typed],
        own_group=_own_group(config),
    )
    return Pipeline(ingest=ingest, logs=logs)


def _own_group(config: Config) -> int:
    """Return the number of this gateway's cluster on the bus; of one that stands alone, a random one."""
    if not config.cluster.url:
        return secrets.randbits(GROUP_BITS)
    digest = hashlib.sha256(config.cluster.prefix.encode()).digest()
    return int.from_bytes(digest) % (1 << GROUP_BITS)


def build_hub(
    config: Config,
    logs: Logs,
    fanout: Fanout,
    observer: Observer,
    *,
    bus_state: Callable[[], messages.BusState],
    remember: bool = True,
) -> Hub:
    """Return the hub of a process, which remembers disconnected sessions unless its parent does."""
    return Hub(
        logs=logs,
        fanout=fanout,
        observer=observer,
        bus_state=bus_state,
        store=SessionStore(epoch=logs.epoch, **_session_limits(config, remember=remember)),
        welcome=_welcome(config),
        limits=_limits(config.clients),
    )


def _session_limits(config: Config, *, remember: bool) -> SessionLimits:
    return {
        "ttl_ns": round(config.sessions.ttl_seconds * 1e9),
        "messages_max": config.sessions.messages_max,
        "disconnected_max": config.sessions.disconnected_max if remember else 0,
    }


def _welcome(config: Config) -> Welcome:
    return Welcome(
        server=messages.Server("neurograph-gateway", __version__),
        heartbeat_seconds=config.clients.heartbeat_seconds,
        session_ttl_seconds=config.sessions.ttl_seconds,
        message_bytes_max=config.clients.message_bytes_max,
    )


def _limits(clients: Clients) -> ClientLimits:
    return ClientLimits(
        subscriptions_max=clients.subscriptions_max,
        wildcards_max=clients.wildcards_max,
        rates={
            "messages": RateLimit(clients.messages_burst, clients.messages_per_second),
            "subscribes": RateLimit(clients.subscribes_burst, clients.subscribes_per_second),
            "publishes": RateLimit(clients.publishes_burst, clients.publishes_per_second),
            "pings": RateLimit(clients.pings_burst, clients.pings_per_second),
            "frames": RateLimit(
                clients.messages_burst * _FRAMES_PER_MESSAGE, clients.messages_per_second * _FRAMES_PER_MESSAGE
            ),
        },
    )


def build_policy(config: Config) -> Policy:
    """Return what the configured roles permit, and which role needs no token."""
    roles = {
        name: Grants(role.subscribe, role.publish, role.presence, role.admin) for name, role in config.roles.items()
    }
    return Policy(roles, unauthenticated_role=None if config.auth.required else config.auth.unauthenticated_role)


def _retention(settings: ChannelHistory) -> Retention:
    return Retention(
        events_max=settings.events_max,
        bytes_max=settings.bytes_max,
        age_ns_max=round(settings.age_seconds_max * 1e9),
        key=tuple(settings.key.split(".")) if settings.key else (),
        keys_max=settings.keys_max,
    )
