"""A short attack; `make fuzz` has a long one."""

from __future__ import annotations

import os
import random

import pytest

from tests.fuzz.siege import siege
from tests.support.gateway import allow_many_files
from tests.support.sizes import full


CONNECTIONS = full(2_000, 250)
KEPT_BYTES_MAX = 32 * 1024 * 1024


@pytest.mark.timeout(900)
async def test_what_is_malformed_harms_nobody() -> None:
    """Every message is answered, a client beside it loses nothing, nothing fails and nothing stays."""
    allow_many_files()
    seed = int(os.environ.get("FUZZ_SEED", random.randrange(1_000_000)))
    print(f"again: FUZZ_SEED={seed}, or make fuzz SEED={seed} CONNECTIONS={CONNECTIONS}")
    outcome = await siege(seed, range(CONNECTIONS))
    heard = outcome.account.heard

    assert [] == outcome.faults
    assert outcome.before.tasks == outcome.after.tasks
    assert outcome.before.files == outcome.after.files
    assert outcome.after.bytes - outcome.before.bytes < KEPT_BYTES_MAX
    assert outcome.account.sent >= 10 * CONNECTIONS
    assert outcome.published == outcome.delivered > 100
    errors = ("invalid_json", "invalid_field", "invalid_channel", "invalid_filter", "unauthorized")
    said = [f"error {word}" for word in (*errors, "unknown_type", "too_many_subscriptions")]
    ends = [f"closed {code}" for code in (1002, 1007, 1009)]
    for one in (*said, *ends, "HTTP 400", "Subscribed", "EventMessage", "Gap"):
        assert heard[one], (one, heard)
