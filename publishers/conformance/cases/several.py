"""Cases about a publisher that connects to several gateways."""

from functools import partial
from typing import Any

from publishers.conformance.cases.connections import curve_of, keys_of
from publishers.conformance.processes import Driver, Gateway, Setting, until
from tests.support.addresses import free_tcp


def _all_have(gateways: list[Gateway], driver: Driver, count: int) -> None:
    """Check that each gateway has this many events, with the publisher's numbers, and no gap."""
    for gateway in gateways:
        events = gateway.events("r", count)
        found = [(one["type"], one["offset"], one["data"]) for one in events]
        assert found == [("event", n + 1, n) for n in range(count)], f"a gap, or events out of order: {found[:20]}"
        assert {one["epoch"] for one in events if "epoch" in one} == {driver.opened["incarnation"]}
        assert gateway.get("publishers")["lost"] == 0


def _heard(gateway: Gateway) -> Any:
    return gateway.get("publishers")["publishers"]


def _publish_to_two(setting: Setting, *settings: str, **options: Any) -> None:
    endpoints = [free_tcp() for _ in range(3)]
    gateways = [setting.gateway("connect = []", f'bind = "{one}"', *settings) for one in endpoints[:2]]
    # No gateway listens at the third endpoint, which must not affect the others.
    driver = setting.driver(connect=endpoints, replay=1000, **options)
    for gateway in gateways:
        until(partial(_heard, gateway), "a heartbeat of the publisher at each gateway")

    def publish(numbers: range) -> None:
        for n in numbers:
            assert driver.ask("publish", topic="r", data=n), "dropped"

    assert driver.ask("wait", seconds=0.1) is False, (
        "wait_for_subscribers returned before all endpoints had a subscriber"
    )
    publish(range(100))
    _all_have(gateways, driver, 100)
    gateways[1].kill()
    publish(range(100, 200))
    _all_have(gateways[:1], driver, 200)
    gateways[1].start()
    publish(range(200, 300))
    _all_have(gateways, driver, 300)


def several_gateways(setting: Setting) -> None:
    """Connected to several gateways: each gets all events with the same numbers, and one that restarts gets what it missed."""
    _publish_to_two(setting)


def several_gateways_curve(setting: Setting) -> None:
    """The same over CURVE, with one key for all gateways."""
    keys = keys_of(setting)
    _publish_to_two(
        setting,
        "[bus]",
        f'curve_key_file = "{keys}/gateway.key_secret"',
        f'curve_client_keys_dir = "{keys}/known-core"',
        curve=curve_of(keys, "core", "gateway.key"),
    )
