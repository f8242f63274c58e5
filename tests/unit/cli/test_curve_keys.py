"""Keys of CURVE on the command line: made, checked, and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import run_here
from tests.support.curve import Ring, binding


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring(tmp_path)


def settings(values: dict[str, object]) -> list[str]:
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def test_keys_are_made_once_and_the_secret_one_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    made = run_here("keys", folder, "--name", "core")
    before = (folder / "core.key_secret").read_text()
    again = run_here("keys", folder, "--name", "core")

    assert made.returncode == 0
    assert (folder / "core.key_secret").stat().st_mode & 0o777 == 0o600
    assert Ring(folder).texts("core")[1] not in made.stdout + made.stderr
    assert again.returncode == 1
    assert "exists already" in again.stderr
    assert (folder / "core.key_secret").read_text() == before


def test_a_pair_of_which_half_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "core.key_secret").write_text("precious")

    assert run_here("keys", tmp_path, "--name", "core").returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["core.key_secret"]
    assert (tmp_path / "core.key_secret").read_text() == "precious"


@pytest.mark.parametrize("name", ["../core", "", ".hidden", "a\nb"])
def test_a_pair_has_a_name_that_files_can_have(tmp_path: Path, name: str) -> None:
    assert run_here("keys", tmp_path / "keys", "--name", name).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_bind_beyond_this_machine_needs_curve_or_the_flag(ring: Ring) -> None:
    bind = ["--bind", "tcp://*:5556"]
    plain = run_here("check", *bind)
    meant = run_here("check", *bind, "--insecure-allow-remote")
    secured = run_here("check", *bind, *settings(binding(ring, "core")))

    assert (plain.returncode, meant.returncode, secured.returncode) == (2, 0, 0)
    assert "bind: 'tcp://*:5556' can be reached from other machines" in plain.stderr


def test_a_key_that_cannot_be_used_is_named_by_check_and_at_the_start(ring: Ring) -> None:
    garbage = ring.folder / "garbage"
    garbage.write_text('curve\n  public-key = "hush"\n  secret-key = "hush"\n')
    whole = {**binding(ring, "core"), "bus.curve_server_key_file": ring.public("core")}
    assert run_here("check", *settings(whole)).returncode == 0
    listing = ring.listing("spoilt", "core")
    (listing / "broken.key").write_text("hush")
    for key, value, reason in (
        ("bus.curve_key_file", ring.folder / "nowhere", "is not a file"),
        ("bus.curve_key_file", ring.public("core"), "holds a public key only"),
        ("bus.curve_key_file", garbage, "holds no CURVE key"),
        ("bus.curve_server_key_file", garbage, "holds no CURVE key"),
        ("bus.curve_server_key_file", ring.folder, "is not a file"),
        ("bus.curve_client_keys_dir", ring.folder / "nowhere", "there is no folder"),
        ("bus.curve_client_keys_dir", listing, "broken.key holds no CURVE key"),
    ):
        given = settings({**whole, key: value})
        checked = run_here("check", *given)
        served = run_here("serve", "--port", 0, *given)

        assert checked.returncode == 2, key
        assert served.returncode != 0
        for output in (checked.stderr, served.stderr):
            assert f"{key}: " in output
            assert reason in output
            assert "hush" not in output
            assert "Traceback" not in output


def test_check_warns_of_a_secret_that_others_may_read_and_of_an_empty_list(ring: Ring) -> None:
    given = settings(binding(ring))
    ring.secret("gateway").chmod(0o640)
    checked = run_here("check", *given)

    assert checked.returncode == 0
    assert "warning: bus.curve_key_file: other users can read" in checked.stderr
    assert "warning: bus.curve_client_keys_dir: there is no *.key" in checked.stderr
