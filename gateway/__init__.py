"""NeuroGraph gateway: events from a ZeroMQ bus to WebSocket clients.

An event crosses the packages in this order:

    bus            reads what publishers send
    core/ingest    validates it, and puts each publisher's messages in order
    core/log       numbers it and encodes it once
    core/fanout    joins it with others for all readers of the same view
    web/sockets    writes it to clients, many with one system call

Every reader is a cursor into a channel's log; see docs/architecture.md."""

__version__ = "0.1.0"
