"""Recordings of events: files that hold each event once, in order, or the gap where events are missing.

`files` writes and reads one file, MCAP (https://mcap.dev) or JSON lines; `parts` makes a recording of several
files that goes on where it stopped, also after its process was killed. They need `neurograph-client[terminal]`.
"""
