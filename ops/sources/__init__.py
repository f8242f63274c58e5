"""The table of publishers in docs/decoders.md: what they send, the settings that read it, what clients get.

Usage: make sources
"""
