"""Topics of any kind become names of channels, and can be read again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.protocol.channels import is_name, matches
from gateway.core.sources.errors import Unreadable
from gateway.core.sources.spec import Spec
from gateway.core.sources.topics import escape, make_naming, unescape


def name(found: bytes | None, **settings: object) -> str:
    return make_naming(Spec(**settings))(found)  # type: ignore[arg-type]  # settings of any kind


@pytest.mark.parametrize(
    ("separator", "topic", "expected"),
    [
        (".", "gaze.3d.0.", "gaze.3d.0"),
        ("/", "/robot/1/pose", "robot.1.pose"),
        ("/", "kv@host:8000@model/x", "kv%40host%3A8000%40model.x"),
        ("/", "a.b/c", "a%2Eb.c"),
        (" ", "raw start", "raw.start"),
        ("::", "a::b", "a.b"),
        (".", "küche", "k%C3%BCche"),
        (".", "$heartbeat", "%24heartbeat"),
        (".", "50%", "50%25"),
    ],
)
def test_the_separator_becomes_a_dot_and_other_bytes_are_escaped(separator: str, topic: str, expected: str) -> None:
    assert expected == name(topic.encode(), separator=separator)


@given(st.binary(min_size=1, max_size=255).filter(lambda topic: topic.strip(b"/")))
def test_every_topic_of_up_to_255_bytes_is_a_name(topic: bytes) -> None:
    assert is_name(name(topic, separator="/"))


def test_a_name_with_escapes_is_usable_with_wildcards() -> None:
    assert matches("kv%40host.*", name(b"kv@host/model", separator="/"))


@given(st.text(min_size=1, max_size=50).filter(lambda topic: topic.strip(".") == topic and ".." not in topic))
def test_people_read_the_topic_again(topic: str) -> None:
    assert topic == unescape(name(topic.encode()))


def test_escapes_that_are_not_utf8_stay_as_they_are() -> None:
    assert "%FF" == unescape("%FF")


@pytest.mark.parametrize(("text", "expected"), [("kv@h.x", "kv%40h.x"), ("kv%40h.x", "kv%40h.x"), ("5%", "5%25")])
def test_a_name_as_people_write_it_is_escaped_once(text: str, expected: str) -> None:
    assert expected == escape(text)


def test_a_message_without_topic_gets_the_fixed_one() -> None:
    assert "app.x" == name(None, topic="x", prefix="app")


def test_an_empty_topic_gets_its_own_name_or_the_fixed_one() -> None:
    assert "kv" == name(b"", empty_topic="kv", topic="t")
    assert "t" == name(b"", topic="t")


@pytest.mark.parametrize("topic", [b"", b"/", b"//"])
def test_an_empty_topic_without_a_name_is_refused_with_the_setting(topic: bytes) -> None:
    with pytest.raises(Unreadable, match="`empty_topic`"):
        name(topic, separator="/")


@pytest.mark.parametrize(
    ("topic", "expected"),
    [(b"a", "src.b"), (b"kernel.1.status", "src.jupyter.1.status"), (b"log.x.y", "src.logs"), (b"other", "src.other")],
)
def test_channels_are_renamed_by_name_or_prefix_before_the_prefix_is_added(topic: bytes, expected: str) -> None:
    rename = {"a": "b", "kernel.>": "jupyter.>", "log.>": "logs"}

    assert expected == name(topic, rename=rename, prefix="src")


def test_a_topic_that_is_too_long_is_refused() -> None:
    with pytest.raises(Unreadable, match="255 bytes"):
        name(b"x" * 256)
