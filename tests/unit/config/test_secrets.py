"""Files with secrets that other users may read."""

from pathlib import Path

import pytest

from gateway.config import Config, load, secrets
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


def test_a_secret_that_cannot_be_looked_at_is_not_its_concern_and_hides_no_other(tmp_path: Path) -> None:
    """Whoever reads it says why it cannot be read."""
    long, other = tmp_path / ("x" * 300), tmp_path / "secret"
    other.touch(0o644)
    config = Config(auth=Auth(secret_file=str(long)), tls=Tls(key_file=str(other)))

    assert ["tls.key_file"] == [one.partition(":")[0] for one in secrets.warnings(config)]


SECRET = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "environ", "warned"),
    [
        (f'[auth]\nsecret = "{SECRET}"', {}, "auth.secret"),
        (f'[auth]\nsecret = "{SECRET}"', {"GATEWAY_AUTH_SECRET": SECRET[::-1]}, ""),
        ("", {"GATEWAY_AUTH_SECRET": SECRET}, ""),
        ('[cluster]\nurl = "redis://:word@127.0.0.1"', {}, "cluster.url"),
        ('[cluster]\nurl = "redis+sentinel://127.0.0.1/main?sentinel_password=word"', {}, "cluster.url"),
        ('[cluster]\nurl = "redis://127.0.0.1"', {}, ""),
    ],
)
def test_a_configuration_file_with_a_secret_that_others_may_read_is_warned_of(
    text: str, environ: dict[str, str], warned: str, tmp_path: Path
) -> None:
    """Only if the secret that is used comes from it, and not if its user alone may read it."""
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    file.chmod(0o644)
    expected = [f"{warned}: other users can read {file} (mode …44): chmod 600 {file}"] if warned else []
    assert expected == list(secrets.warnings(load(file, environ, {})))

    file.chmod(0o600)
    assert not list(secrets.warnings(load(file, environ, {})))
