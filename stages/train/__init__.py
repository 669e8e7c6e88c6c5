"""Train one model version."""
