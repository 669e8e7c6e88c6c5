"""Put all results on one page."""
