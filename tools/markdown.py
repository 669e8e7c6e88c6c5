"""Markdown that the tools and benchmarks write."""


def table(head: list, *rows: list) -> str:
    """A Markdown table."""
    first, *others = (f"| {' | '.join(map(str, row))} |" for row in (head, *rows))
    return "\n".join([first, "|" + "---|" * len(head), *others])


def page(*blocks: str) -> str:
    """Paragraphs, lists and tables, with an empty line between them and a line end behind the last."""
    return "\n\n".join(blocks) + "\n"
