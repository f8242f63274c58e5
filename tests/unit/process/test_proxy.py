"""Which settings a proxy can use."""

from __future__ import annotations

import pytest

from gateway.config import ConfigError
from gateway.config.model import Bus, Config
from gateway.process.proxy import check


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (Config(connect=(), bind=""), "connect: there are no publishers"),
        (Config(bus=Bus(curve_key_file="gateway.key_secret")), "bus.curve_client_keys_dir: is required"),
    ],
)
def test_a_proxy_needs_publishers_and_with_curve_the_keys_of_gateways(config: Config, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        check(config)


def test_a_proxy_can_use_the_defaults() -> None:
    check(Config())
