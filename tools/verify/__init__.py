"""Rerun a commit and compare."""
