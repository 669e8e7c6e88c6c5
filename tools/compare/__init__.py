"""Compare with another revision."""
