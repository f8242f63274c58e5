"""The pure core: no sockets, no clock, no `async`; time, ids and secrets are arguments.

Five packages, in the order in which they import each other: `protocol` (the words on the wire),
`log` (numbered, bounded, encoded once), `ingest` (the bus side: order, loss, replay), `fanout`
(what each reader sees), `sessions` (who clients are and what they request).

tests/test_tidy.py holds the rules: the core imports only itself, msgspec and pure standard library,
a package imports only those before it, and nothing here is `async`."""
