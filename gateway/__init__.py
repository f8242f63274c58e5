"""NeuroGraph gateway: events from a ZeroMQ bus to WebSocket clients.

The way of an event, and where to read about each step:

    bus       receives what publishers send, drains all that is there
    core      ingest validates it, log numbers it, fanout joins it per cohort, session speaks to clients
    engine    the seam between ingest and fan-out: append, read, follow
    web       WebSocket and HTTP; one write per client and tick
    service   the only place where these meet

Every reader is a cursor into a channel's log; see docs/architecture.md.
"""

__version__ = "0.1.0"
