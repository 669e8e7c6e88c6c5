"""The pipeline beside what a user would pick instead."""
