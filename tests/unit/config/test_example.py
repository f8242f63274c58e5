"""The annotated example: complete, true, and in step with the file in ops/."""

import subprocess
import sys
from pathlib import Path

from gateway.config import Config, example, load, settings


IN_OPS = Path(__file__).parents[3] / "ops" / "gateway.example.toml"


def test_the_example_in_ops_is_the_generated_one() -> None:
    """If this fails: make settings."""
    assert example() == IN_OPS.read_text(encoding="utf-8")


def test_python_without_docstrings_writes_the_same_example() -> None:
    code = "from gateway.config import example; print(example(), end='')"
    written = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=True)

    assert example() == written.stdout


def test_the_example_changes_nothing() -> None:
    assert Config() == load(IN_OPS, {}, {})


def test_the_example_explains_every_setting() -> None:
    assert [] == [setting.key for setting in settings() if f"# {setting.doc}" not in example()]


def test_a_setting_has_a_sentence_and_a_quantity_has_a_unit() -> None:
    for setting in settings():
        assert setting.doc.endswith("."), setting.key
        quantity = isinstance(setting.default, int | float) and not isinstance(setting.default, bool)
        assert bool(setting.unit) == (quantity and setting.key != "port"), setting.key


def test_the_channel_in_the_example_may_be_uncommented(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(example().replace("# [channels", "[channels").replace("# events_max =", "events_max ="))

    assert 10000 == load(path, {}, {}).channels["metrics"].events_max
