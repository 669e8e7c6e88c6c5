"""Fetch the outside files."""
