"""What a misspelt name may have meant."""

import pytest

from gateway.core.protocol.suggestions import did_you_mean, similar_channels


@pytest.mark.parametrize(
    "name", ["metric", "metricss", "mtrics", "metrisc", "metrucs", "Metrics", "METRICS", "netrics", "metrixs"]
)
def test_a_channel_one_edit_away_is_similar(name: str) -> None:
    assert ["metrics"] == list(similar_channels(name, ["logs", "metrics", "robots.r2"]))


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("metrics", "metrics"),
        ("metr", "metrics"),
        ("hosts.h1", "hosts.h2"),
        ("robots17", "robots18"),
        ("robots9", "robots10"),
        ("arm.l", "arm.r"),
        ("robot.arms", "robots.arm"),
        ("abcd.efgh", "abcd"),
        ("abdc.efgh", "abcd.efhg"),
        ("", "abcd"),
    ],
)
def test_other_channels_are_not(name: str, other: str) -> None:
    assert [] == list(similar_channels(name, [other]))


def test_a_near_name_is_suggested() -> None:
    assert "; did you mean `channels`?" == did_you_mean("chanels", ["last", "channels"])
    assert "" == did_you_mean("x", ["last", "channels"])
