"""What every process of the gateway has: clock, log, tasks, and what it asks of its system."""
