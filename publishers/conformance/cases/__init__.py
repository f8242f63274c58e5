"""The cases that the publishers of all languages must pass; a case raises AssertionError if it fails.

A case is a function of a `Setting`; its docstring is its row in the table of README.md.
"""

from collections.abc import Callable

from publishers.conformance.cases import connections, events, losses, several
from publishers.conformance.processes import Setting
from publishers.conformance.readmes import readme


CASES: list[Callable[[Setting], None]] = [
    events.connect,
    events.bind,
    events.example,
    readme,
    events.values,
    events.binary,
    events.refusals,
    events.envelopes,
    losses.heartbeats,
    losses.topics_in_heartbeats,
    losses.welcome,
    losses.replay,
    losses.replay_is_bounded,
    losses.gateway_restarts,
    losses.gateway_restarts_bind,
    losses.publisher_restarts,
    losses.high_water_mark,
    several.several_gateways,
    several.several_gateways_curve,
    connections.curve_connect,
    connections.curve_bind,
    connections.curve_mismatch,
    connections.shutdown,
    connections.foreign_port,
    connections.foreign_answer_while_closing,
]
