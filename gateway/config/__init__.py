"""The configuration: one typed model, from which parsing, help, the example file and docs are derived.

    model     every setting: default, limits, unit, description
    settings  the same one by one, and the annotated example file
    load      a TOML file < the environment < flags -> `Config`, or a `ConfigError` that lists all problems
    checks    checks that need more than one setting

A setting is named by its key path (``clients.heartbeat_seconds``) in messages, files and flags."""

from gateway.config.errors import ConfigError, Problem
from gateway.config.load import load
from gateway.config.model import Config, History, Role
from gateway.config.settings import Setting, example, settings


__all__ = ["Config", "ConfigError", "History", "Problem", "Role", "Setting", "example", "load", "settings"]
