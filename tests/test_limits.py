"""The table of what is at a limit (docs/architecture.md): each row has a test that presses on it.

`AT_ONCE` are the limits that clients, publishers and callers of REST press on, many at the same moment, with a real
gateway. The others are pressed on one by one, mostly in the core."""

from __future__ import annotations

import re
from pathlib import Path


ROOT = Path(__file__).parents[1]

AT_ONCE: dict[str, dict[str, tuple[str, ...]]] = {
    "size of a message": {
        "integration/test_limits_at_once.py": (
            "test_publishers_that_send_too_much_at_once_lose_that_alone",
            "test_clients_that_send_too_much_at_once_wait_or_are_closed",
        )
    },
    "connections to what the gateway binds": {
        "integration/test_floods.py": ("test_connections_to_the_bus_that_say_nothing_take_no_files_from_others",)
    },
    "messages not read yet": {
        "chaos/test_chaos.py": ("test_at_the_high_water_mark_exactly_the_lost_events_are_reported",)
    },
    "messages held for replay": {
        "integration/test_limits_at_once.py": (
            "test_messages_of_many_publishers_that_are_held_at_once_stay_within_their_limit",
        )
    },
    "replay requests under way": {
        "integration/test_bus_limits_at_once.py": (
            "test_replay_requests_to_many_publishers_at_once_wait_and_lose_nothing",
        )
    },
    "publishers with heartbeats": {
        "integration/test_limits_at_once.py": (
            "test_heartbeats_of_more_publishers_at_once_than_are_remembered_forget_the_others",
        ),
        "unit/core/ingest/test_publishers.py": (
            "test_publishers_that_make_room_for_others_are_reported_as_if_they_had_fallen_silent",
        ),
    },
    "streams with sequence numbers": {
        "integration/test_limits_at_once.py": (
            "test_publishers_that_number_more_streams_at_once_than_are_remembered_lose_nothing",
        ),
        "unit/core/ingest/test_pipeline.py": ("test_more_topics_than_streams_lose_nothing_and_repeat_nothing",),
    },
    "subscriptions to clients' events on the bus": {
        "integration/test_bus_limits_at_once.py": (
            "test_more_prefixes_at_once_than_are_counted_get_their_events_all_the_same",
        ),
        "unit/bus/test_outlet.py": ("test_prefixes_beyond_the_limit_get_events_and_do_not_count",),
    },
    "topics in a heartbeat": {
        "integration/test_bus_limits_at_once.py": (
            "test_heartbeats_at_once_with_more_topics_than_there_may_be_are_rejected_alone",
        )
    },
    "rejections kept": {
        "integration/test_limits_at_once.py": ("test_publishers_that_send_too_much_at_once_lose_that_alone",)
    },
    "channels": {
        "integration/test_limits_at_once.py": (
            "test_publishers_that_open_channels_at_once_open_no_more_than_there_may_be",
        )
    },
    "all channels' histories": {
        "integration/test_limits_at_once.py": ("test_histories_that_grow_at_once_stay_within_the_limit_of_all",)
    },
    "current values": {
        "integration/test_limits_at_once.py": ("test_keys_of_many_publishers_at_once_leave_the_newest_current_values",),
        "unit/core/log/test_bounds.py": ("test_current_values_beyond_the_history_have_its_limit_of_bytes",),
        "unit/core/fanout/test_selection.py": ("test_current_values_are_limited_and_the_oldest_is_dropped",),
    },
    "epochs of a channel": {
        "integration/test_bus_limits_at_once.py": (
            "test_more_sources_of_a_channel_at_once_than_are_remembered_lose_nothing_live",
        ),
        "unit/core/log/test_sources.py": ("test_more_sources_than_are_remembered_evict_the_oldest_entries",),
        "unit/core/log/test_forgotten.py": ("test_nothing_is_missing_without_a_gap_at_gateways_that_forget_sources",),
    },
    "a client's unsent bytes": {"integration/test_floods.py": ("test_clients_that_never_read_cost_little",)},
    "a lagging client": {"integration/test_slow_clients.py": ("test_stalled_clients_do_not_grow_the_memory",)},
    "HTTP answers that are not read": {
        "integration/test_floods.py": ("test_answers_that_nobody_reads_do_not_pile_up",)
    },
    "REST requests": {
        "integration/test_limits_at_once.py": ("test_requests_at_once_are_answered_or_refused_with_a_time",)
    },
    "REST answers being sent": {
        "integration/test_limits_at_once.py": ("test_requests_at_once_are_answered_or_refused_with_a_time",)
    },
    "bodies of requests": {
        "integration/test_limits_at_once.py": ("test_bodies_at_once_take_no_more_memory_than_stated",)
    },
    "clients": {"integration/test_at_once.py": ("test_clients_that_come_at_once_get_the_places_there_are",)},
    "clients of one user": {
        "integration/test_at_once.py": ("test_clients_that_come_at_once_get_the_places_there_are",)
    },
    "open sockets": {"integration/test_floods.py": ("test_with_all_places_taken_the_gateway_still_answers",)},
    "head of a request": {
        "integration/test_floods.py": ("test_handshakes_that_come_too_slowly_are_closed_and_delay_nobody",)
    },
    "body of a request": {
        "integration/test_limits_at_once.py": (
            "test_bodies_that_are_too_large_or_never_end_are_refused_to_all_at_once",
        )
    },
    "token": {
        "integration/test_limits_at_once.py": ("test_tokens_that_are_too_long_are_refused_to_all_at_once",),
        "unit/auth/test_claims.py": ("test_a_token_may_have_8192_characters",),
    },
    "bytes not handled yet": {
        "integration/test_limits_at_once.py": (
            "test_unfinished_messages_of_many_clients_take_about_their_size",
            "test_clients_that_send_too_much_at_once_wait_or_are_closed",
        )
    },
    "frames of messages, fragments and pongs": {
        "integration/test_limits_at_once.py": ("test_unfinished_messages_of_many_clients_take_about_their_size",),
        "unit/web/sockets/test_connection.py": ("test_fragments_above_the_rate_limit_pause_reading",),
    },
    "messages per second": {
        "integration/test_limits_at_once.py": ("test_clients_that_send_too_much_at_once_wait_or_are_closed",)
    },
    "idempotency keys": {
        "integration/test_limits_at_once.py": ("test_a_key_that_many_publish_with_at_once_publishes_once",),
        "unit/core/sessions/test_broadcast.py": ("test_keys_are_forgotten_after_their_age_and_beyond_their_number",),
    },
    "subscriptions": {
        "integration/test_limits_at_once.py": ("test_clients_that_subscribe_to_too_much_at_once_are_refused",)
    },
    "a filter": {
        "integration/test_limits_at_once.py": ("test_filters_that_are_too_large_are_refused_by_many_at_once",),
        "unit/core/fanout/test_filters.py": ("test_the_size_of_a_filter_is_limited",),
    },
    "what filters take in one write": {
        "unit/core/fanout/test_budget.py": ("test_one_turn_takes_no_more_steps_than_all_views_may_take",)
    },
    "disconnected sessions": {
        "integration/test_at_once.py": ("test_clients_that_come_at_once_get_the_places_there_are",),
        "integration/test_sessions.py": ("test_remembered_sessions_are_bounded",),
    },
    "personal messages": {
        "integration/test_limits_at_once.py": ("test_personal_messages_at_once_wait_up_to_their_limit",)
    },
    "metric labels": {"integration/test_metrics.py": ("test_thousands_of_channels_make_a_bounded_number_of_series",)},
}

IN_TURN: dict[str, dict[str, tuple[str, ...]]] = {
    "events without numbers that wait for the engine": {
        "unit/core/cluster/test_lease.py": ("test_what_exceeds_the_limit_leaves_a_hole_of_its_size",)
    },
    "clients' events kept for replay on the bus": {
        "unit/core/ingest/test_outlet.py": ("test_the_oldest_messages_of_all_channels_are_dropped_beyond_the_limits",)
    },
    "a channel's history": {"unit/core/log/test_log.py": ("test_a_log_holds_the_newest_events_within_every_bound",)},
    "offsets": {"unit/core/ingest/test_pipeline.py": ("test_no_offset_is_one_that_javascript_cannot_represent",)},
    "entries waiting to be written": {"unit/web/test_write_scheduler.py": ("test_a_batch_is_bounded",)},
    "events in one REST answer": {
        "unit/web/endpoints/test_rest.py": ("test_one_answer_of_a_history_holds_so_many_bytes_and_says_what_is_next",)
    },
    "an idle HTTP connection": {"integration/test_handshake.py": ("test_an_idle_connection_is_closed_in_the_end",)},
    "what a filter looks at in an event": {
        "unit/core/fanout/test_filters.py": ("test_lists_and_maps_are_compared_up_to_a_limit",),
        "unit/core/fanout/test_budget.py": ("test_the_searches_of_a_filter_share_a_limit",),
    },
    "commands that the engine has not answered": {
        "unit/cluster/test_engine.py": ("test_commands_beyond_those_that_may_wait_fail_at_once",)
    },
    "channels that the engine numbers": {
        "unit/core/cluster/test_channels.py": (
            "test_events_of_channels_that_cannot_open_are_counted",
            "test_what_the_engine_does_not_keep_any_more_is_a_gap",
        )
    },
    "what a gateway has not read from others": {
        "unit/cluster/test_engine_limits.py": ("test_a_gateway_that_reads_nothing_has_a_bounded_inbox",)
    },
    "presence": {
        "unit/cluster/test_engine_limits.py": ("test_of_each_gateway_so_many_clients_and_wildcards_are_listed",)
    },
    "idempotency keys in the engine": {
        "unit/cluster/test_engine_limits.py": ("test_idempotency_keys_are_forgotten_after_their_time",)
    },
    "keys in the engine": {"integration/test_cluster_events.py": ("test_each_key_in_the_engine_has_a_time",)},
    "what a worker has not read": {
        "unit/workers/test_pipe.py": ("test_a_peer_that_does_not_read_is_given_up_at_the_limit",)
    },
}


def rows() -> list[str]:
    """The limits that the table names."""
    _, _, section = (ROOT / "docs/architecture.md").read_text().partition("\n## What is at a limit\n")
    table, _, _ = section.partition("\n## ")
    cells = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    return [cell for cell in cells[2:] if not cell.startswith("**")]


def test_each_limit_of_the_table_has_a_test_that_presses_on_it() -> None:
    named = [*AT_ONCE, *IN_TURN]

    assert set(rows()) == set(named)


def test_the_tests_that_press_on_limits_exist() -> None:
    wanted = {
        (file, test) for limit in (*AT_ONCE.values(), *IN_TURN.values()) for file in limit for test in limit[file]
    }
    missing = [
        f"{file}::{test}"
        for file, test in sorted(wanted)
        if not re.search(rf"^(async )?def {test}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE)
    ]

    assert [] == missing
