"""What a cluster's engine and its gateways are like, for `gateway doctor`."""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from gateway.cli.findings import Finding, Report, State
from gateway.config.model import Cluster


if TYPE_CHECKING:
    from gateway.cluster.redis_client import Watch
    from gateway.cluster.survey import Listed, Server, Survey


_VERSION_MIN = (6, 2)
_CLOCK_SECONDS_MAX = 1.0
_SLOW_SHARE = 0.05
"""A part of `cluster.timeout_seconds`; an engine that needs so long will be taken for down when it is busy."""
_FULL_SHARE = 0.9
_LAG_SECONDS_MAX = 2
_SHOWN_MAX = 5

_GUARD = "set min-replicas-to-write 1 and min-replicas-max-lag 2 on all servers (docs/cluster.md, With Sentinel)"


async def examine(settings: Cluster, report: Report) -> None:
    """Report what is found at `cluster.url`. Raises ConfigError: the password's file cannot be read, or redis is missing."""
    from gateway import cluster  # here, so that it works without redis where no cluster is configured

    cluster.require()
    from gateway.cluster.survey import read_gateways, survey

    found = await survey(settings)
    for finding in engine_findings(found, timeout_seconds=settings.timeout_seconds):
        report(finding)
    if found.problem:
        return
    again: tuple[Listed, ...] = ()
    if differences(found.gateways):  # the gateways report one after the other, so it may be over soon
        await asyncio.sleep(settings.ttl_seconds / 2)
        again = await read_gateways(settings)
    for finding in gateway_findings(found.gateways, again, numbers_for_all=settings.numbering == "one"):
        report(finding)


# -- the engine ----------------------------------------------------------------------------------


def engine_findings(found: "Survey", *, timeout_seconds: float) -> Iterator[Finding]:
    """Say what the engine is like: its answers, memory, data, replicas, Sentinels and clock."""
    if found.problem:
        yield Finding("engine", "problem", found.problem, found.advice)
    else:
        primary = found.servers[0]
        yield _answers(primary, found.ping_seconds, timeout_seconds)
        if not primary.problem:
            yield _memory(primary)
            yield _persistence(primary, has_replicas=len(found.servers) > 1)
    if found.watches:
        yield _sentinels(found.watches)
    if found.watches and found.servers:
        yield _replicas(found.servers)
        yield _guard(found.servers)
    if not found.problem:
        yield _clock("the engine's clock", "this machine's", found.ahead_seconds)


def _answers(primary: "Server", seconds: float, timeout_seconds: float) -> Finding:
    info = primary.info
    if primary.problem:
        return Finding(
            "engine", "warning", f"it answers, but not {primary.name}: {primary.problem}", "run it once more"
        )
    kind, version = ("Valkey", info["valkey_version"]) if "valkey_version" in info else ("Redis", info["redis_version"])
    text = f"{kind} {version} at {primary.name} answers within {seconds * 1000:.1f} ms"
    numbers = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if numbers < _VERSION_MIN:
        return Finding("engine", "problem", f"{text}, and is too old", "use Redis 6.2 or later, or Valkey")
    if seconds > _SLOW_SHARE * timeout_seconds:
        remedy = "let it be nearer and less busy, or raise cluster.timeout_seconds, after which it counts as down"
        return Finding("engine", "warning", f"{text}, of the {timeout_seconds:g} s that it may take", remedy)
    return Finding("engine", "ok", text)


def _memory(primary: "Server") -> Finding:
    info = primary.info
    policy, limit, used = info.get("maxmemory_policy", "noeviction"), info.get("maxmemory", 0), info["used_memory"]
    room = f"{used / 2**20:.0f} MiB of {limit / 2**20:.0f} MiB are used" if limit else "there is no limit (maxmemory)"
    if policy != "noeviction":
        silently = "it evicts keys silently when it is full" if limit else "it would evict keys silently with a limit"
        remedy = "set maxmemory-policy noeviction: a full server then refuses writes, which is reported"
        state: State = "problem" if limit else "warning"
        return Finding("memory", state, f"{silently} (maxmemory-policy is {policy}); {room}", remedy)
    if limit and used > _FULL_SHARE * limit:
        return Finding("memory", "warning", f"{room}: soon it refuses writes", "raise maxmemory, or free memory")
    return Finding("memory", "ok", f"it evicts nothing (maxmemory-policy is noeviction); {room}")


def _persistence(primary: "Server", *, has_replicas: bool) -> Finding:
    info, settings = primary.info, primary.settings
    if info.get("aof_last_write_status", "ok") != "ok" or info.get("rdb_last_bgsave_status", "ok") != "ok":
        return Finding("data", "problem", "it could not write its data to disk", "see the log of Redis; free the disk")
    if info.get("aof_enabled"):
        return Finding("data", "ok", "it keeps its data across a restart (appendonly yes)")
    if settings.get("save"):
        text = "it keeps its data across a restart up to its last snapshot (save)"
        return Finding("data", "ok", text)
    if "save" not in settings:
        text = "appendonly is off; this user may not ask whether it takes snapshots (CONFIG GET save)"
        return Finding("data", "note", text, "look at `save` in its configuration: without both, a restart loses all")
    text = "it keeps nothing across a restart: sessions of disconnected clients and channels' events are lost then"
    if has_replicas:
        text += ", on its replicas, too, if it is back before it is replaced"
    return Finding("data", "warning", text, "set appendonly yes on all servers")


def _sentinels(watches: "tuple[Watch, ...]") -> Finding:
    silent = [one for one in watches if one.problem]
    asked = len(watches)
    quorum = max(one.quorum for one in watches)
    known = max((1 + one.others for one in watches if not one.problem), default=0)
    text = f"{asked - len(silent)} of {asked} Sentinels of cluster.url answer; they know {known}, with a quorum of {quorum}"
    if silent:
        names = ", ".join(f"{one.sentinel} ({one.problem})" for one in silent)
        remedy = "start them, or correct cluster.url; a failover needs more than half of them"
        return Finding("sentinels", "warning", f"{text}; silent: {names}", remedy)
    if known < 3 or quorum <= known // 2:
        remedy = (
            "run three on three machines, with a quorum of 2: otherwise one of them decides, or its loss prevents it"
        )
        return Finding("sentinels", "warning", text, remedy)
    return Finding("sentinels", "ok", text)


def _replicas(servers: "tuple[Server, ...]") -> Finding:
    primary, *replicas = servers
    if not replicas:
        text = f"{primary.name} has no replica, so nothing takes its place"
        return Finding("replicas", "warning", text, "start two with `replicaof`")
    silent = [one for one in replicas if one.problem]
    unlinked = [one for one in replicas if not one.problem and one.info.get("master_link_status") != "up"]
    if silent or unlinked:
        named = [f"{one.name}: {one.problem}" for one in silent]
        named += [f"{one.name} is not connected to its primary server" for one in unlinked]
        return Finding(
            "replicas", "warning", "; ".join(named), "start them, or let Sentinel forget them (SENTINEL RESET)"
        )
    if len(replicas) == 1 and "min_slaves_good_slaves" in replicas[0].info:
        text = (
            f"{primary.name} has only {replicas[0].name}: after a failover that takes no writes while it has no replica"
        )
        return Finding("replicas", "warning", text, "start a second one with `replicaof`")
    return Finding("replicas", "ok", f"{primary.name} has {', '.join(one.name for one in replicas)}")


def _guard(servers: "tuple[Server, ...]") -> Finding:
    """Look whether a primary server that was replaced stops taking writes."""
    known = [one for one in servers if not one.problem]
    # INFO has this line only if both settings are above 0; CONFIG needs a permission that the gateway does not.
    open_ = [one.name for one in known if "min_slaves_good_slaves" not in one.info]
    slow = [one.name for one in known if int(one.settings.get("min-replicas-max-lag", 0)) > _LAG_SECONDS_MAX]
    if open_:
        text = f"{', '.join(open_)} would take writes after being replaced, which are lost (min-replicas-to-write is 0)"
        return Finding("failover", "warning", text, _GUARD)
    if slow:
        lag = f"min-replicas-max-lag is above {_LAG_SECONDS_MAX}"
        text = f"{', '.join(slow)} would take writes for long after being replaced, which are lost ({lag})"
        return Finding("failover", "warning", text, _GUARD)
    return Finding("failover", "ok", "a server that was replaced takes no writes (min-replicas-to-write)")


def _clock(what: str, than: str, ahead: float) -> Finding:
    if abs(ahead) <= _CLOCK_SECONDS_MAX:
        return Finding("clock", "ok", f"{what} differs from {than} by {abs(ahead) * 1000:.0f} ms")
    side = "ahead of" if ahead > 0 else "behind"
    return Finding("clock", "warning", f"{what} is {abs(ahead):.1f} s {side} {than}", "synchronize the clocks with NTP")


# -- the gateways --------------------------------------------------------------------------------


def gateway_findings(
    found: "Collection[Listed]", again: "Collection[Listed]", *, numbers_for_all: bool
) -> Iterator[Finding]:
    """Say which gateways there are, and how they differ; `again` is what they reported a little later."""
    if not found:
        text = "no gateway has reported itself"
        yield Finding("gateways", "note", text, "start them with the same cluster.url and cluster.prefix")
        return
    named = [f"{one.member.name} ({one.member.version})" for one in found]
    text = f"{len(found)} report themselves: {_some(named)}"
    if unready := [one.member.name for one in found if not one.member.ready]:
        text += f"; not ready: {_some(unready)}"
    if len({one.member.version for one in found}) > 1:
        yield Finding("gateways", "warning", f"{text}; their versions differ", "finish the upgrade")
    else:
        yield Finding("gateways", "ok", text)
    if doubles := {
        one.member.name for one in found if sum(one.member.name == other.member.name for other in found) > 1
    }:
        text = f"several have the name {_some(sorted(doubles))}, or one was just started again"
        yield Finding("names", "note", text, "give each a cluster.name of its own")
    yield from _clocks(found)
    yield from _publishers(found, again, numbers_for_all=numbers_for_all)


def _clocks(found: "Collection[Listed]") -> Iterator[Finding]:
    ahead = {one.member.name: one.heard.sent - one.at for one in found if one.heard is not None}
    wrong = {name: seconds for name, seconds in ahead.items() if abs(seconds) > _CLOCK_SECONDS_MAX}
    for name, seconds in list(wrong.items())[:_SHOWN_MAX]:
        yield _clock(f"the clock of {name}", "the engine's", seconds)
    if ahead and not wrong:
        most = max(map(abs, ahead.values())) * 1000
        yield Finding("clock", "ok", f"the gateways' clocks differ from the engine's by at most {most:.0f} ms")


def differences(found: "Collection[Listed]") -> Mapping[str, Mapping[str, str]]:
    """Return which publishers each gateway does not hear that others hear: their names by incarnation, by gateway's id."""
    heard = {one.member.id: one.heard.publishers for one in found if one.heard is not None}
    together = {incarnation: name for publishers in heard.values() for incarnation, name in publishers.items()}
    missing = {
        id_: {incarnation: name for incarnation, name in together.items() if incarnation not in publishers}
        for id_, publishers in heard.items()
    }
    return {id_: publishers for id_, publishers in missing.items() if publishers}


def _publishers(
    found: "Collection[Listed]", again: "Collection[Listed]", *, numbers_for_all: bool
) -> Iterator[Finding]:
    reporting = [one for one in found if one.heard is not None]
    before, after = differences(found), differences(again)
    names = {one.member.id: one.member.name for one in found}
    lasting = {
        id_: {incarnation: name for incarnation, name in missing.items() if incarnation in after.get(id_, {})}
        for id_, missing in before.items()
    }
    lasting = {id_: missing for id_, missing in lasting.items() if missing}
    for id_, missing in list(lasting.items())[:_SHOWN_MAX]:
        publishers = _some([name or incarnation for incarnation, name in missing.items()])
        text = f"{names[id_]} does not hear {publishers}, which other gateways hear: its clients lack those events"
        remedy = f"give {names[id_]} the same endpoints as the others, or let the publishers connect to it, too"
        if numbers_for_all:
            text += '; with cluster.numbering = "one" all do while it has the lease'
        yield Finding("publishers", "problem", text, remedy)
    if len(lasting) > _SHOWN_MAX:
        yield Finding("publishers", "problem", f"{len(lasting) - _SHOWN_MAX} further gateways lack publishers")
    if lasting or not reporting:
        return
    count = max(len(one.heard.publishers) for one in reporting if one.heard is not None)
    if count:
        yield Finding("publishers", "ok", f"each gateway hears the same publishers with heartbeats: {count}")
    else:
        text = "no gateway hears a publisher that sends heartbeats, so it is not known whether they hear the same"
        yield Finding("publishers", "note", text, "publish with one of the packages in publishers/")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN_MAX} more" if len(names) > _SHOWN_MAX else ""
    return ", ".join(names[:_SHOWN_MAX]) + more
