"""Who clients are, what they may do, and what they request."""
