"""The user's images: find, read, decode."""
