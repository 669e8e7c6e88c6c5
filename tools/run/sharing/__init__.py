"""Exchange results with a remote, and mend the cache."""
