"""Channels' logs: numbered, bounded, encoded once."""
