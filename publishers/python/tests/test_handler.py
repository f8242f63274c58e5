"""Python's logging on the logs channel."""

from __future__ import annotations

import logging

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


def test_what_the_publisher_logs_about_itself_goes_no_further(bus: Bus, publisher: Publisher) -> None:
    handler = GatewayLogHandler(publisher)
    for name in ["zmq.auth", "neurograph_publisher.publisher", "core"]:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.error("from %s", name)
        logger.removeHandler(handler)

    assert bus.read()[1]["data"]["message"] == "from core"
