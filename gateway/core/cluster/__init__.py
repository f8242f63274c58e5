"""What several gateways decide as one, without the engine that they share."""
