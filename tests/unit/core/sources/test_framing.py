"""Which frame of a message is what, and what is refused with the setting that would help."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from gateway.core.sources.errors import Unreadable
from gateway.core.sources.framing import Parts, make_framing
from gateway.core.sources.spec import Spec


def parts(message: Sequence[bytes], **settings: object) -> list[Parts]:
    return list(make_framing(Spec(**settings))(message))  # type: ignore[arg-type]  # settings of any kind


def unreadable(message: Sequence[bytes], **settings: object) -> str:
    with pytest.raises(Unreadable) as caught:
        parts(message, **settings)
    return f"{caught.value.reason}: {caught.value.detail}"


def test_two_frames_are_topic_and_payload() -> None:
    assert [Parts(b"t", b"1")] == parts([b"t", b"1"])


def test_frames_are_named_in_the_order_in_which_they_come() -> None:
    assert [Parts(b"t", b"1", b"n")] == parts([b"t", b"n", b"1"], frames=("topic", "sequence", "payload"))


def test_other_names_are_members_and_a_dash_is_ignored() -> None:
    found = parts([b"t", b"x", b"h", b"1"], frames=("topic", "-", "header", "payload"))

    assert [Parts(b"t", b"1", members=(("header", b"h"),))] == found


@pytest.mark.parametrize(("choice", "expected"), [("ignore", ()), ("members", [b"m", b"n"])])
def test_more_frames_are_ignored_or_kept_by_choice(choice: str, expected: Sequence[bytes]) -> None:
    assert [Parts(b"t", b"1", more=expected)] == parts([b"t", b"1", b"m", b"n"], more_frames=choice)


def test_with_a_fixed_topic_a_message_may_come_without_the_frame_of_the_topic() -> None:
    assert [Parts(None, b"1")] == parts([b"1"], topic="t")
    assert [Parts(b"k", b"1")] == parts([b"k", b"1"], topic="t")


@pytest.mark.parametrize("frames", [[], [b"t"], [b"t", b"1", b"x"]])
def test_another_number_of_frames_is_refused(frames: list[bytes]) -> None:
    assert unreadable(frames).startswith(f"frame_count: the message has {len(frames)} frames, this source expects 2")


def test_a_single_frame_that_is_refused_names_the_setting_for_single_frames() -> None:
    assert 'framing = "single"' in unreadable([b'metrics {"a":1}'])


@pytest.mark.parametrize(
    ("split", "frame", "expected"),
    [
        (" ", b"10001 72 40", (b"10001", b"72 40")),
        (":", b"json-x:[1:2]", (b"json-x", b"[1:2]")),
        ("\t", b"a b\tc", (b"a b", b"c")),
        ("json", b'app{"a":1}', (b"app", b'{"a":1}')),
        ("json", b"a/b [1]", (b"a/b", b"[1]")),
    ],
)
def test_a_single_frame_is_split_at_the_first_separator(
    split: str, frame: bytes, expected: tuple[bytes, bytes]
) -> None:
    assert [Parts(*expected)] == parts([frame], framing="single", split=split)


@pytest.mark.parametrize("frame", [b'{"a":1}', b"sshd[12]: started", b"text", b""])
def test_a_single_frame_without_topic_before_json_is_all_payload(frame: bytes) -> None:
    assert [Parts(None, frame)] == parts([frame], framing="single", split="json", topic="t")


def test_a_single_frame_without_separator_and_fixed_topic_is_refused() -> None:
    assert "has no ':' behind a topic; set `split`" in unreadable([b"abc"], framing="single", split=":")


def test_a_single_frame_without_split_is_all_payload() -> None:
    assert [Parts(None, b"a b")] == parts([b"a b"], framing="single", topic="t")


def decode_lines(frames: Sequence[bytes]) -> Iterable[tuple[str, bytes]]:
    for line in frames[0].splitlines():
        topic, _, payload = line.partition(b"=")
        yield topic.decode(), payload


def test_a_decoder_of_another_package_finds_topics_and_payloads() -> None:
    framing = make_framing(Spec(decoder="lines"), decode_lines)

    assert [Parts(b"a", b"1"), Parts(b"b", b"2")] == list(framing([b"a=1\nb=2"]))


@pytest.mark.parametrize("frames", [[], [b"\xff=1"]])
def test_a_decoder_that_raises_does_not_stop_the_gateway(frames: list[bytes]) -> None:
    with pytest.raises(Unreadable) as caught:
        list(make_framing(Spec(decoder="lines"), decode_lines)(frames))

    assert ("decoder_failed", True) == (caught.value.reason, "'lines' failed: " in caught.value.detail)


@pytest.mark.parametrize("returned", [[("t", 5)], [("t", None)], [5], None])
def test_a_decoder_that_returns_something_else_is_reported(returned: object) -> None:
    with pytest.raises(Unreadable, match="decoder"):
        list(make_framing(Spec(decoder="x"), lambda _: returned)([b""]))  # type: ignore[arg-type,return-value]  # wrong
