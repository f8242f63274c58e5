"""The configuration: one typed model, from which loading, help, the example and the docs come.

    model     every setting: default, limits, unit, one sentence
    settings  the same one by one
    sources   a TOML file < the environment < flags, as one flat table of key -> value and origin
    load      that table -> `Config`, or a `ConfigError` that names everything that is wrong
    checks    what one value cannot know about another
    example   the annotated file

A setting is named by its key path (``clients.heartbeat_seconds``), in messages as in files and flags.
"""

from gateway.config.errors import ConfigError, Problem
from gateway.config.example import example
from gateway.config.load import load
from gateway.config.model import Config, History, Role
from gateway.config.settings import Setting, settings


__all__ = [
    "Config",
    "ConfigError",
    "History",
    "Problem",
    "Role",
    "Setting",
    "example",
    "load",
    "settings",
]
