"""What is served at each address."""
