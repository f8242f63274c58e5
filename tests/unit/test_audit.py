"""What this project depends on."""

from __future__ import annotations

import pytest

from ops.audit import Package, packages


def test_all_that_is_locked_has_a_licence_that_is_allowed() -> None:
    found = list(packages())

    assert [] == [one for one in found if not one.is_allowed]
    assert {"aiohttp", "pyzmq", "pytest", "typescript"} <= {one.name for one in found}


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 AND MIT", True),
        ("GPL-3.0-only OR MIT", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("GPL-3.0-only", False),
        ("GPL-3.0-only AND MIT", False),
        ("GPL-3.0-only AND (Apache-2.0 OR MIT)", False),
        ("(GPL-3.0-only OR (MIT AND LicenseRef-mine)) AND MIT", False),
        ("", False),
        (None, False),
    ],
)
def test_a_licence_is_met_with_allowed_ones_alone(licence: str | None, allowed: bool) -> None:
    assert allowed == Package("it", "1", licence).is_allowed
