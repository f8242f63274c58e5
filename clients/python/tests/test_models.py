"""The types of events have one source: the gateway's models."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from neurograph_client import METRICS, models

from gateway.core.protocol.events import STANDARD


ROOT = Path(__file__).parents[1]


def test_the_models_are_those_of_the_gateway() -> None:
    """If this fails, `make models` writes them anew."""
    spec = importlib.util.spec_from_file_location("generate_models", ROOT / "generate_models.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)

    assert generator.TARGET.read_text() == generator.models()


def test_each_standard_channel_has_a_name_with_a_type() -> None:
    named = {value for name, value in vars(models).items() if name.isupper()}

    assert named == set(STANDARD)
    assert METRICS == "metrics"
