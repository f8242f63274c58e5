"""The table of publishers in docs/decoders.md: their messages, the settings that decode them, and the events of clients.

Usage: make sources
"""
