"""The licences of all packages that are locked. Only an environment with those for development has them all installed."""

from __future__ import annotations

from ops.audit import packages


def test_all_that_is_locked_has_a_licence_that_is_allowed() -> None:
    found = list(packages())

    assert [] == [one for one in found if not one.is_allowed]
    assert {"aiohttp", "pyzmq", "pytest", "typescript"} <= {one.name for one in found}
