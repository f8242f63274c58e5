"""Which texts are names and patterns, and which names a pattern matches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.protocol.channels import is_name, is_pattern, is_topic, matches


_segment = st.text("abcXYZ019_-", min_size=1, max_size=5)
_names = st.lists(_segment, min_size=1, max_size=4).map(".".join)


@pytest.mark.parametrize("text", ["metrics", "a.b-c.D_1", "x" * 255, "kv%40host%3A80", "%C3%A4" * 127 + "x"])
def test_a_name_is_segments_joined_by_dots(text: str) -> None:
    assert is_name(text)
    assert is_pattern(text)


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", "a b", "a\n", "ä", "$everyone", "x" * 256, "a/b", "*", "%c3", "%4"]
)
def test_other_texts_are_not_names(text: str) -> None:
    assert not is_name(text)


@pytest.mark.parametrize("text", ["a%40b", "x" * 129, "a..b", "a/b"])
def test_a_topic_without_a_source_is_a_name_without_escapes_of_at_most_128_bytes(text: str) -> None:
    assert is_topic("x" * 128)
    assert not is_topic(text)


@pytest.mark.parametrize("text", ["*", ">", "logs.*", "*.error", "logs.>", "*.*.>", "a.*.b"])
def test_wildcards_make_patterns(text: str) -> None:
    assert is_pattern(text)


@pytest.mark.parametrize("text", [">.a", "a.>.b", "a*", "**", "a.>>", "$*", "", "*\n"])
def test_wildcards_are_whole_segments_and_the_arrow_is_the_last(text: str) -> None:
    assert not is_pattern(text)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("metrics", "metrics", True),
        ("metrics", "metrics2", False),
        ("logs.*", "logs.error", True),
        ("logs.*", "logs", False),
        ("logs.*", "logs.a.b", False),
        ("logs.>", "logs.a.b", True),
        ("logs.>", "logs", False),
        ("*", "logs", True),
        ("*", "logs.a", False),
        (">", "logs.a", True),
        ("*.error", "logs.error", True),
        (">", "$everyone", False),
        ("*", "$personal", False),
        ("kv%40host.*", "kv%40host.m", True),
    ],
)
def test_a_star_is_one_segment_and_the_arrow_one_or_more(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


@given(_names)
def test_every_name_matches_itself_the_arrow_and_as_many_stars_as_it_has_segments(name: str) -> None:
    assert matches(name, name)
    assert matches(">", name)
    assert matches(".".join("*" for _ in name.split(".")), name)
