"""Sources: how to read what publishers send that nobody wrote for this gateway.

A source turns each message of one endpoint into messages as docs/protocol.md describes them, which ingest
then takes like any other. Its steps are one file each, in this order:

    framing      frames -> topic, payload, sequence number, further members
    compression  zlib and gzip
    payload      JSON, text, MessagePack or bytes -> JSON
    topics       the topic -> a channel's name
    sequence     the publisher's own numbers -> envelopes, so that losses are noticed

`spec` has the settings of all steps, `presets` settings for known software, `source` puts the steps
together, and `suggest` finds settings for messages of an unknown publisher."""
