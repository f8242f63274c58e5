"""Rejections are all counted; the newest of each endpoint are kept, with what people need to mend them."""

from __future__ import annotations

from gateway.core.ingest.ingest import Ingest
from gateway.core.ingest.rejections import Rejection
from tests.support.core import make_hub


def reject(ingest: Ingest, *frames: bytes, link: int = 0) -> Rejection:
    ingest.recovery.publishers.link = link
    found = ingest.accept(frames, now_ns=0)
    assert isinstance(found, Rejection)
    return found


def test_a_flood_at_one_endpoint_hides_no_rejection_of_another() -> None:
    ingest = make_hub().pipeline.ingest
    reject(ingest, b"quiet", b"x", link=1)
    for number in range(50):
        reject(ingest, b"loud", b"x%d" % number)
    reject(ingest, b"quiet", b"y", link=1)
    newest = ingest.rejections.newest

    assert [("quiet", b"y"), ("loud", b"x49")] == [(one.topic, one.payload) for one in newest[:2]]
    assert (1, 1, b"x") == (newest[-1].number, newest[-1].link, newest[-1].payload)
    assert 12 == len(newest)
    assert 52 == ingest.rejections.counts.total()


def test_what_is_kept_of_a_message_is_bounded() -> None:
    found = reject(make_hub().pipeline.ingest, b"a" * 5000, b"x" * 5000, *[b"\xff" * 5000] * 20)

    assert [256] * 8 == [len(begin) for begin in found.begins]
    assert 1024 == len(found.payload)
    assert len(found.topic) < 300
    assert len(found.frames) < 1500


def test_a_message_that_was_held_is_counted_for_the_endpoint_of_its_publisher() -> None:
    hub = make_hub()
    ingest = hub.pipeline.ingest
    heartbeat = b'{"incarnation":"0000000000000007","interval":1,"name":"core"}'
    hub.pipeline.receive([[b"$heartbeat", heartbeat]], now_ns=0, link=2)
    envelope = b"NGE1" + bytes(4) + (7).to_bytes(8) + (1).to_bytes(8) + (1).to_bytes(8)
    found = reject(ingest, b"a", b"not JSON", envelope, link=5)

    assert (2, "core") == (found.link, found.publisher)
