"""What the tests use: a real gateway process, real publishers, two kinds of WebSocket client."""

import pytest


# Before the modules are imported: their assertions, too, are to say what they compared.
pytest.register_assert_rewrite("tests.support.gateway", "tests.support.raw", "tests.support.ws")
