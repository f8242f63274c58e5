"""The pure core: no sockets, no clock, no `async`; time, ids and secrets are arguments.

Reading order: the words (errors, channels, envelope, events, messages, frames), then the machines
(ingest, log), then the views (subscription, fanout, mailbox, session).

Three laws, held by tests/test_tidy.py: the core imports only itself, msgspec and pure standard
library; words know nothing of machines, and machines nothing of views; nothing here is `async`.
"""
