"""A misspelt parameter of an address is an error that suggests the right one."""

from __future__ import annotations

import pytest

from tests.unit.web.conftest import API, Site


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/events?chanels=a", "chanels: no such parameter; did you mean `channels`?"),
        ("/events?channels=a&lst=1", "lst: no such parameter; did you mean `last`?"),
        ("/events?last=1", "last: has no effect without `channels`; name them, as in ?channels=metrics&last=…"),
        ("/events?channels=a&channels=b", "channels: is given 2 times; give it once, with commas between the names"),
        (f"{API}/channels/robots/events?limt=1", "limt: no such parameter; did you mean `limit`?"),
        (f"{API}/channels/robots/events?x=1", "x: no such parameter; expected `since`, `limit`"),
        (f"{API}/channels/robots/events?limit=1&limit=2", "limit: is given 2 times; give it once"),
        (f"{API}/channels?limit=1", "limit: no such parameter; this address has none"),
        (f"{API}/status?ofset=1", "ofset: no such parameter; did you mean `offset`?"),
    ],
)
async def test_a_misspelt_parameter_is_an_error_that_suggests_the_right_one(site: Site, path: str, detail: str) -> None:
    answer = await site.get(path)

    assert (400, "invalid_field", detail) == (answer.status, answer.json["code"], answer.json["detail"])


async def test_health_and_metrics_ignore_parameters(site: Site) -> None:
    """Machines add some of their own."""
    assert [200, 200] == [(await site.get(path)).status for path in ("/healthz?x=1", "/metrics?x=1")]


async def test_a_token_in_an_address_is_an_error_where_it_is_not_read(site: Site) -> None:
    ignored = await site.get(f"{API}/channels?token=s3cret")
    site.context.verifier = object()  # type: ignore[assignment]  # authentication is on; no token gets as far as it
    refused = await site.get(f"{API}/channels?token=s3cret")

    assert 200 == ignored.status
    assert (401, "unauthorized") == (refused.status, refused.json["code"])
    assert "auth.query_token" in refused.json["detail"]
    assert "s3cret" not in refused.json["detail"]
