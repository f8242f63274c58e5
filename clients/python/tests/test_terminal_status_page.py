"""The tables that `gateway status` makes of the gateway's JSON."""

from __future__ import annotations

from typing import Any

from neurograph_client.terminal.status_page import page


def document(*, time: float, offset: int, epoch: str = "e1", **status: Any) -> dict[str, Any]:
    channel = {
        "name": "notes",
        "events": 1500,
        "bytes": 5 * 1024 * 1024,
        "subscribers": 2,
        "position": {"epoch": epoch, "offset": offset},
    }
    publisher = {"incarnation": "ab", "name": "core", "stale": True, "silent_seconds": 90061.0}
    return {
        "time": time,
        "status": {
            "version": "1.0",
            "ready": True,
            "uptime_seconds": 3725.0,
            "bus_state": "stale",
            "bus": [],
            "connections": 1,
            "lagging": 0,
            "subscriptions": 3,
            "sessions_remembered": 0,
            "rejected": {},
            "clients": [],
            **status,
        },
        "channels": {"channels": [channel]},
        "publishers": {
            "publishers": [publisher],
            "topics": [{"incarnation": "ab", "lost": 3}, {"incarnation": "cd", "lost": 5}],
        },
    }


def test_a_page_shows_the_state_of_the_gateway() -> None:
    text = page(document(time=0, offset=7, rejected={"oversized": 2}), None, colour=False)

    assert "gateway 1.0  ready  up 1:02:05  bus stale" in text
    assert "1 client, 0 lagging, 3 subscriptions, 0 remembered sessions" in text
    assert "rejected 2: oversized 2" in text


def test_columns_are_aligned() -> None:
    lines = page(document(time=0, offset=7), None, colour=False).splitlines()
    head = next(n for n, line in enumerate(lines) if line.startswith("CHANNEL"))

    assert "CHANNEL  EVENTS       SIZE  SUBSCRIBERS  POSITION" == lines[head]
    assert "notes     1,500  5,120 KiB            2  e1:7" == lines[head + 1]


def test_a_publisher_without_heartbeats_is_stale_and_its_losses_are_counted() -> None:
    lines = page(document(time=0, offset=7), None, colour=False).splitlines()

    words = ["core", "stale", "1", "day,", "1:01:01", "ago", "1", "3"]
    assert words in [line.split() for line in lines]


def test_rates_count_events_since_the_last_refresh() -> None:
    before = document(time=0, offset=7)

    assert "2.5/s" in page(document(time=4, offset=17), before, colour=False)
    assert "/s" not in page(document(time=4, offset=17, epoch="e2"), before, colour=False)


def test_a_truncated_table_says_how_many_rows_are_missing() -> None:
    client = {
        "client_id": "c",
        "user_id": None,
        "address": "127.0.0.1",
        "connected_seconds": 1,
        "lag": 0,
        "channels": ["x" * 1000],
    }
    text = page(document(time=0, offset=7, clients=[client] * 100), None, colour=False)

    assert "… and 70 more" in text
    assert all(len(line) < 200 for line in text.splitlines())


def test_tables_that_the_token_may_not_see_are_left_out() -> None:
    found = {**document(time=0, offset=7), "channels": None, "publishers": None}

    assert "CHANNEL" not in page(found, None, colour=False)


def test_tables_are_not_truncated_outside_a_terminal() -> None:
    link = {"endpoint": "tcp://" + "x" * 80, "mode": "bind", "state": "listening", "peers": 0}
    link |= {"events": 0, "heartbeats": 0, "rejected": 0, "last_event_seconds": None}
    text = page(document(time=0, offset=7, bus=[link] * 100, connections=0), None, colour=False, whole=True)

    assert text.count(f"{link['endpoint']}  bind  listening") == 100
    assert "…" not in text


def test_a_page_says_why_the_gateway_is_not_ready() -> None:
    text = page(document(time=0, offset=7, ready=False, reasons=["draining"]), None, colour=False)

    assert "not ready (draining)" in text


def test_clients_that_the_gateway_does_not_list_are_counted() -> None:
    text = page(document(time=0, offset=7, connections=150), None, colour=False, whole=True)

    assert "… and 150 clients that the gateway does not list here" in text


def test_the_problem_of_an_endpoint_is_shown_in_full_below_the_table() -> None:
    problem = "Nobody can be reached there: connection refused. Start the publisher, or correct the address."
    link = {"endpoint": "tcp://10.0.0.1:5555", "mode": "connect", "state": "connecting", "peers": 0, "problem": problem}
    link |= {"events": 0, "heartbeats": 0, "rejected": 0, "last_event_seconds": None}
    lines = page(document(time=0, offset=7, bus=[link]), None, colour=False).splitlines()

    assert f"tcp://10.0.0.1:5555: {problem}" in lines
    assert all(len(line) < 100 for line in lines if problem not in line)
