"""The client's types of events and its codes are generated from the gateway's declarations."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from neurograph_client import METRICS, models
from neurograph_client.connection import may_reconnect

from gateway.core.protocol import errors
from gateway.core.protocol.events import STANDARD


ROOT = Path(__file__).parents[1]


def test_models_and_codes_are_those_of_the_gateway() -> None:
    """If this fails, run `make models`."""
    spec = importlib.util.spec_from_file_location("generate_models", ROOT / "generate_models.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)

    texts = generator.modules()
    assert texts == {path: path.read_text() for path in texts}


def test_each_standard_channel_has_a_name_with_a_type() -> None:
    named = {value for name, value in vars(models).items() if name.isupper()}

    assert named == set(STANDARD)
    assert METRICS == "metrics"


def test_close_codes_have_the_same_advice_as_in_the_gateway() -> None:
    """So a client without a `closing` message decides by the same rule whether to reconnect."""
    advice = {code: code.reconnect for code in errors.CloseCode}

    assert advice == {code: may_reconnect(code) for code in errors.CloseCode}
