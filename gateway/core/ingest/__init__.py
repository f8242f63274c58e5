"""The bus side: validation, order, loss, replay."""
