"""Names in messages."""

from collections.abc import Iterable


def first_few(names: Iterable[str], most: int = 3) -> str:
    """The first few of the names in their order, each once, and how many more there are."""
    names = sorted(set(names))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def on_one_line(text: str) -> str:
    """`text` without what does not print, so that no name of a file can look like another line."""
    return "".join(character if character.isprintable() else "?" for character in text)
