"""The pure core: no sockets, no clock, no `async`; time, ids and secrets are arguments.

Reading order: the words (errors, channels, envelope, events, messages, frames, cel, filters), then
the machines (numbering, log; sequences, publishers, joiner, ingest; views), then what readers see
(pacing, cohorts, backlog, fanout, session, mailbox, hub).

Three laws, held by tests/test_tidy.py: the core imports only itself, msgspec and pure standard
library; words know nothing of machines, and machines nothing of views; nothing here is `async`.
"""
