"""The annotated example file, made from the model so that it cannot lie."""

import json
from collections.abc import Iterator

from gateway.config.model import Config
from gateway.config.settings import Setting, sections, settings, tables


_HEAD = """\
# Configuration of the NeuroGraph gateway: every setting with its default. Leave out what you don't change.
# The environment overrides this file (GATEWAY_HISTORY_EVENTS_MAX=500), and flags override both
# (--port 9000, --set history.events_max=500). `gateway check --config FILE` says what would be done.
"""
_CHANNEL = """\
# One channel may keep more or less than the others; what is left out is as in [history].
# [channels.metrics]
# events_max = 10000

# Roles may be changed, and others added: what tokens bear in `role` or `roles`. These are there:
"""


def example() -> str:
    """A TOML file that sets everything to its default, with a sentence for each setting."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield _HEAD
    described = sections()
    within = ""
    for setting in settings():
        section, _, name = setting.key.rpartition(".")
        if section != within:
            within = section
            yield from ("", f"# {described[section]}", f"[{section}]")
        yield from _entry(name, setting)
    yield ""
    yield _CHANNEL
    for name, role in Config().roles.items():
        yield f"# [roles.{name}]"
        for setting in tables()["roles"].values():
            value = getattr(role, setting.key)
            if value:
                yield f"# {setting.key} = {json.dumps(value)}"
        yield ""


def _entry(name: str, setting: Setting) -> Iterator[str]:
    unit = f" [{setting.unit}]" if setting.unit else ""
    yield f"# {setting.doc}{unit}"
    yield f"{name} = {setting.default_toml}"
