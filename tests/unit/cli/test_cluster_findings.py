"""What the doctor says of a cluster's engine and gateways."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from gateway.cli.cluster_findings import engine_findings, gateway_findings
from gateway.cli.findings import Finding
from gateway.cluster.redis_client import Watch
from gateway.cluster.survey import Listed, Server, Survey
from gateway.core.cluster.members import Heard, Member


GOOD: dict[str, Any] = {
    "redis_version": "7.0.15",
    "maxmemory_policy": "noeviction",
    "maxmemory": 0,
    "used_memory": 2**20,
    "aof_enabled": 1,
    "min_slaves_good_slaves": 1,
    "master_link_status": "up",
}
SETTINGS = {"save": "", "min-replicas-max-lag": "2"}
WATCHES = tuple(Watch(name, primary=("p", 1), others=2, quorum=2) for name in "xyz")


def server(name: str = "p", *, without: str = "", problem: str = "", **info: Any) -> Server:
    found = {key: value for key, value in {**GOOD, **info}.items() if key != without}
    return Server(name, found, SETTINGS, problem)


def of_engine(
    *servers: Server, watches: tuple[Watch, ...] = (), ping: float = 0.001, ahead: float = 0.0
) -> dict[str, Finding]:
    survey = Survey(servers, watches, ping, ahead, ())
    return {one.check: one for one in engine_findings(survey, timeout_seconds=1.0)}


def listed(name: str, *publishers: str, version: str = "1", ahead: float = 0.0) -> Listed:
    member = Member(id=name, name=name, version=version, started=0.0, clients=0, lag_seconds=0.0, recovering=0)
    return Listed(member, Heard(sent=100.0 + ahead, publishers={one: one for one in publishers}), 100.0)


def of_gateways(*found: Listed, again: tuple[Listed, ...] | None = None, one: bool = False) -> dict[str, Finding]:
    findings = gateway_findings(found, found if again is None else again, numbers_for_all=one)
    return {one.check: one for one in findings}


def states(findings: dict[str, Finding]) -> dict[str, str]:
    return {check: one.state for check, one in findings.items() if one.state != "ok"}


def test_an_engine_as_the_documents_say_gets_no_remark() -> None:
    found = of_engine(server(), server("r"), server("s"), watches=WATCHES)

    assert states(found) == {}
    assert found.keys() == {"engine", "memory", "data", "sentinels", "replicas", "failover", "clock"}


@pytest.mark.parametrize(
    ("check", "state", "info"),
    [
        ("engine", "problem", {"redis_version": "6.0.16"}),
        ("memory", "problem", {"maxmemory_policy": "allkeys-lru", "maxmemory": 2**30}),
        ("memory", "warning", {"maxmemory_policy": "allkeys-lru"}),
        ("memory", "warning", {"maxmemory": 2**20}),
        ("data", "warning", {"aof_enabled": 0}),
        ("data", "problem", {"aof_last_write_status": "err"}),
    ],
)
def test_what_is_wrong_with_the_engine_is_named_with_a_remedy(check: str, state: str, info: dict[str, Any]) -> None:
    found = of_engine(server(**info))

    assert states(found) == {check: state}
    assert found[check].remedy


def test_an_engine_that_is_slow_for_its_deadline_is_named() -> None:
    assert states(of_engine(server(), ping=0.3)) == {"engine": "warning"}


def test_the_version_of_a_valkey_is_its_own() -> None:
    assert "Valkey 8.1.0" in of_engine(server(redis_version="7.2.4", valkey_version="8.1.0"))["engine"].text


def test_a_user_that_may_not_ask_for_settings_gets_no_verdict_on_snapshots() -> None:
    found = of_engine(Server("p", {**GOOD, "aof_enabled": 0}, {}))

    assert states(found) == {"data": "note"}


def test_a_replica_without_min_replicas_to_write_is_named() -> None:
    found = of_engine(server(), server("s"), server("r", without="min_slaves_good_slaves"), watches=WATCHES)

    assert states(found) == {"failover": "warning"}
    assert found["failover"].text.startswith("r would take writes")


def test_one_replica_alone_takes_no_writes_after_a_failover() -> None:
    found = of_engine(server(), server("r"), watches=WATCHES)

    assert states(found) == {"replicas": "warning"}
    assert "has only r" in found["replicas"].text


def test_what_can_be_read_is_said_where_the_engine_takes_no_writes() -> None:
    survey = Survey((server(), Server("r", {}, {}, "refused")), WATCHES, problem="NOREPLICAS", advice="start one")
    found = {one.check: one for one in engine_findings(survey, timeout_seconds=1.0)}

    assert states(found) == {"engine": "problem", "replicas": "warning"}
    assert "r: refused" in found["replicas"].text


def test_a_sentinel_and_a_replica_that_are_silent_are_named() -> None:
    watches = (*WATCHES[:2], Watch("z", problem="refused"))
    found = of_engine(server(), server("r", problem="refused"), watches=watches)

    assert states(found) == {"sentinels": "warning", "replicas": "warning"}
    assert "z (refused)" in found["sentinels"].text
    assert "r: refused" in found["replicas"].text


def test_gateways_that_are_alike_get_no_remark() -> None:
    found = of_gateways(listed("a", "core"), listed("b", "core"))

    assert states(found) == {}
    assert "2 report themselves: a (1), b (1)" in found["gateways"].text


def test_a_gateway_that_lacks_a_publisher_of_the_others_is_named() -> None:
    found = of_gateways(listed("a", "core", "robot"), listed("b", "core"))

    assert states(found) == {"publishers": "problem"}
    assert "b does not hear robot" in found["publishers"].text
    assert "numbering" in of_gateways(listed("a", "core"), listed("b"), one=True)["publishers"].text


def test_a_publisher_that_has_just_come_or_gone_is_no_difference() -> None:
    """The gateways report one after the other."""
    later = (listed("a", "core", "new"), listed("b", "core", "new"))

    assert states(of_gateways(listed("a", "core", "new"), listed("b", "core"), again=later)) == {}


def test_versions_and_clocks_that_differ_are_named() -> None:
    found = of_gateways(listed("a", "core"), listed("b", "core", version="2", ahead=-5.0))

    assert states(found) == {"gateways": "warning", "clock": "warning"}
    assert "the clock of b is 5.0 s behind the engine's" in found["clock"].text


def test_a_gateway_that_does_not_report_what_it_hears_is_not_compared() -> None:
    found = of_gateways(listed("a", "core"), Listed(listed("b").member, None, 0.0))

    assert states(found) == {}


def test_an_engine_that_keeps_snapshots_is_said_to_lose_what_came_after_the_last_one() -> None:
    found = of_engine(Server("p", {**GOOD, "aof_enabled": 0}, {**SETTINGS, "save": "3600 1"}))

    assert states(found) == {}
    assert "up to its last snapshot" in found["data"].text


@pytest.mark.parametrize(("others", "quorum"), [(1, 2), (2, 1), (4, 2)])
def test_sentinels_that_are_too_few_or_decide_without_a_majority_are_named(others: int, quorum: int) -> None:
    watches = tuple(Watch(name, primary=("p", 1), others=others, quorum=quorum) for name in "xyz")
    found = of_engine(server(), server("r"), server("s"), watches=watches)

    assert states(found) == {"sentinels": "warning"}
    assert "with a quorum of 2" in found["sentinels"].remedy


def test_a_server_without_replicas_behind_sentinels_is_named() -> None:
    found = of_engine(server(), watches=WATCHES)

    assert states(found) == {"replicas": "warning"}
    assert found["replicas"].text == "p has no replica, so nothing takes its place"


def test_a_server_that_would_take_writes_for_long_after_being_replaced_is_named() -> None:
    slow = Server("r", GOOD, {**SETTINGS, "min-replicas-max-lag": "60"})
    found = of_engine(server(), slow, server("s"), watches=WATCHES)

    assert states(found) == {"failover": "warning"}
    assert found["failover"].text.startswith("r would take writes for long")


def test_gateways_that_are_not_ready_or_have_the_same_name_are_named() -> None:
    one, other = listed("a", "core"), listed("b", "core")
    found = of_gateways(one, replace(other, member=structs.replace(other.member, name="a", ready=False)))

    assert states(found) == {"names": "note"}
    assert found["gateways"].text.endswith("; not ready: a")
    assert "several have the name a" in found["names"].text


def test_of_many_gateways_that_lack_publishers_some_are_named_and_the_others_counted() -> None:
    gateways = [listed("whole", "core"), *(listed(f"g{n:02}") for n in range(20))]
    findings = [one for one in gateway_findings(gateways, gateways, numbers_for_all=False) if one.check == "publishers"]
    *named, rest = findings

    assert {"problem"} == {one.state for one in findings}
    assert [f"g{n:02}" for n in range(len(named))] == [one.text.partition(" ")[0] for one in named]
    assert rest.text == f"{20 - len(named)} further gateways lack publishers"
