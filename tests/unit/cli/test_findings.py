"""What a sample of messages says about its publishers."""

from __future__ import annotations

import json

from gateway.cli.findings import Finding, Message, examine
from gateway.cli.http_findings import endpoint_finding
from gateway.config import Config
from gateway.config.sources import Endpoint
from gateway.core.protocol.envelope import Envelope


SECOND = 1_000_000_000
BEAT = {"incarnation": "0000000000000007", "interval": 1.0, "name": "core", "sequences": {"a": 3}}


def numbered(sequence: int, *, sent_ns: int = SECOND) -> Message:
    return SECOND, [b"a", b"{}", Envelope(7, sequence, sent_ns).pack()]


def found(*messages: Message) -> dict[str, Finding]:
    endpoint = Endpoint("", "connect")
    findings = examine(messages, config=Config(), received=len(messages), seconds=1.0, endpoint=endpoint)
    return {finding.check: finding for finding in findings}


def states(*messages: Message) -> dict[str, str]:
    return {check: finding.state for check, finding in found(*messages).items()}


def test_a_publisher_that_does_all_right_gets_no_remark() -> None:
    beat: Message = (SECOND, [b"$heartbeat", json.dumps(BEAT).encode()])

    assert {state for check, state in states(numbered(1), numbered(2), beat).items() if check != "frames"} == {"ok"}


def test_a_rejected_message_is_shown_with_its_reason_and_a_remedy() -> None:
    valid = found((0, [b"robot/1/pose", b"{}"]))["valid"]

    assert valid.state == "problem"
    assert "1 of 1 messages are rejected (bad_topic)" in valid.text
    assert "'/'" in valid.remedy


def test_an_event_that_does_not_fit_its_channel_is_named() -> None:
    valid = found((0, [b"metrics", b'{"cpu": 1}']))["valid"]

    assert "invalid_event" in valid.text
    assert "metrics is a typed channel" in valid.remedy


def test_lost_and_repeated_numbers_are_counted() -> None:
    assert "2 messages were lost" in found(numbered(1), numbered(4))["gaps"].text
    assert states(numbered(1), numbered(1))["gaps"] == "problem"
    assert states(numbered(1), numbered(2))["gaps"] == "ok"


def test_a_clock_that_differs_is_named() -> None:
    assert "59.0 s ahead" in found(numbered(1, sent_ns=60 * SECOND))["clock"].text
    assert states(numbered(1))["clock"] == "ok"


def test_a_heartbeat_that_is_not_valid_is_named() -> None:
    heartbeats = found((0, [b"$heartbeat", b"{}"]))["heartbeats"]

    assert heartbeats.state == "problem"
    assert "incarnation" in heartbeats.text


def test_the_state_of_a_running_gateways_endpoint_is_judged() -> None:
    state = {
        "endpoint": "tcp://x:1",
        "mode": "bind",
        "peers": 0,
        "received": 0,
        "last_event_seconds": None,
        "problem": "",
    }
    connected = {**state, "peers": 1, "received": 2, "last_event_seconds": 1.0}

    assert endpoint_finding(state).state == "warning"
    assert endpoint_finding({**state, "problem": "It is a PUSH."}).state == "problem"
    assert endpoint_finding(connected).state == "ok"
    assert "another peer was refused" in endpoint_finding({**connected, "problem": "It is a PUSH."}).text
