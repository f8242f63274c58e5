"""Python's logging on the logs channel."""

from __future__ import annotations

import logging
import os

import pytest
from neurograph_publisher import GatewayLogHandler, Publisher

from .bus import Bus


def test_log_records_arrive_on_the_logs_channel(bus: Bus, publisher: Publisher) -> None:
    logger = logging.getLogger("core.loop")
    handler = GatewayLogHandler(publisher, service="core")
    logger.addHandler(handler)
    try:
        try:
            raise ValueError("boom")
        except ValueError:
            logger.exception("failed with %d", 7, extra={"correlation_id": "job"})
    finally:
        logger.removeHandler(handler)
    topic, event, _ = bus.read()

    assert topic == "logs"
    assert event["event_type"] == "log.error"
    data = event["data"]
    assert (data["level"], data["message"], data["service"]) == ("error", "failed with 7", "core")
    assert (data["correlation_id"], data["logger"]) == ("job", "core.loop")
    assert "ValueError: boom" in data["exception"]


def test_a_handler_never_raises_into_the_application(capsys: pytest.CaptureFixture[str], bus: Bus) -> None:
    publisher = Publisher(connect=bus.endpoint)
    publisher.close()
    logger = logging.getLogger("core.closed")
    handler = GatewayLogHandler(publisher)
    logger.addHandler(handler)
    logger.warning("nobody hears this")
    logger.removeHandler(handler)

    assert "PublisherError" in capsys.readouterr().err


def test_the_publishers_own_log_records_are_not_published(bus: Bus, publisher: Publisher) -> None:
    handler = GatewayLogHandler(publisher)
    for name in ["zmq.auth", "neurograph_publisher.publisher", "core"]:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.error("from %s", name)
        logger.removeHandler(handler)

    assert bus.read()[1]["data"]["message"] == "from core"


def test_lone_surrogates_are_escaped(bus: Bus, publisher: Publisher) -> None:
    logger = logging.getLogger("core.files")
    logger.propagate = False  # reports of tests cannot hold such text
    handler = GatewayLogHandler(publisher)
    logger.addHandler(handler)
    try:
        logger.error("cannot read %s", b"caf\xe9".decode(errors="surrogateescape"), extra={"correlation_id": "\ud800"})
    finally:
        logger.removeHandler(handler)
    data = bus.read()[1]["data"]

    assert (data["message"], data["correlation_id"]) == (r"cannot read caf\udce9", r"\ud800")


def test_a_forked_process_logs_through_a_publisher_of_its_own(bus: Bus, publisher: Publisher) -> None:
    logger = logging.getLogger("core.forked")
    handler = GatewayLogHandler(publisher)
    logger.addHandler(handler)
    try:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                own = publisher.for_this_process()
                handler._publisher = own
                if own is not publisher and own.wait_for_subscriber(60):
                    logger.error("from the child")
                    own.close()
                    status = 0
            finally:
                os._exit(status)
        said = bus.read()[1]["data"]["message"]  # while this waits, ZeroMQ subscribes at the child
        _, status = os.waitpid(child, 0)
        logger.error("from the parent")
    finally:
        logger.removeHandler(handler)

    assert (said, status) == ("from the child", 0)
    assert bus.read()[1]["data"]["message"] == "from the parent"
