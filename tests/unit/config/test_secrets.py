"""Secret files that other users may read."""

from pathlib import Path

import pytest

from gateway.config import Config, secrets
from gateway.config.model import Auth, Bus, Tls


@pytest.mark.parametrize(("mode", "count"), [(0o600, 0), (0o400, 0), (0o640, 3), (0o604, 3)])
def test_a_secret_that_others_may_read_is_warned_of(mode: int, count: int, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch()
    path.chmod(mode)
    name = str(path)
    config = Config(auth=Auth(secret_file=name), bus=Bus(curve_key_file=name), tls=Tls(key_file=name))
    warnings = list(secrets.warnings(config))

    assert len(warnings) == count
    assert all(f"other users can read {name}" in one for one in warnings)


def test_a_secret_that_is_missing_is_not_its_concern(tmp_path: Path) -> None:
    assert not list(secrets.warnings(Config(auth=Auth(secret_file=str(tmp_path / "none")))))
