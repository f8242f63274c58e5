"""The arguments of magics."""

from __future__ import annotations

import pytest
from neurograph_client.notebook.arguments import PARSERS, ArgumentsError, HelpRequested, parse, parse_publish


def test_options_and_channels_are_read_as_in_a_shell() -> None:
    given = parse("ng_query", "metrics 'robots.*' --filter 'data.x > 1' --last 50 --polars")

    assert (["metrics", "robots.*"], "data.x > 1", 50, True) == (given.channels, given.filter, given.last, given.polars)


@pytest.mark.parametrize(
    ("line", "channel", "data", "event_type"),
    [
        ('robots.r2 {"x": 1.5}', "robots.r2", '{"x": 1.5}', None),
        ("robots.r2 'it''s  two'", "robots.r2", "'it''s  two'", None),
        ("--type moved robots.r2 [1, 2]", "robots.r2", "[1, 2]", "moved"),
        ("--type=moved robots.r2 -1", "robots.r2", "-1", "moved"),
    ],
)
def test_data_is_published_exactly_as_written(line: str, channel: str, data: str, event_type: str | None) -> None:
    assert (channel, data, event_type) == parse_publish(line)


@pytest.mark.parametrize("line", ["", "robots.r2", "--type moved", "--type moved robots.r2"])
def test_an_event_without_data_is_an_error_that_shows_how(line: str) -> None:
    with pytest.raises(ArgumentsError, match="give a channel and data, as in %ng_publish"):
        parse_publish(line)


def test_errors_name_the_magic_and_its_help() -> None:
    with pytest.raises(ArgumentsError, match=r"%ng_tail: .*CHANNEL.*%ng_tail --help"):
        parse("ng_tail", "")
    with pytest.raises(ArgumentsError, match="--colour"):
        parse_publish("--colour robots.r2 1")
    with pytest.raises(ArgumentsError, match="quote what has blanks"):
        parse("ng_query", "metrics --filter 'data.x")


@pytest.mark.parametrize("name", PARSERS)
def test_every_magic_has_help(name: str) -> None:
    with pytest.raises(HelpRequested, match=f"usage: %{name}"):
        parse(name, "--help")
