"""Break runs on purpose."""
