"""Draw the plots."""
