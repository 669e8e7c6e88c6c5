"""Markdown that the tools and benchmarks write."""


def table(head: list, *rows: list) -> list[str]:
    """Lines of a Markdown table."""
    first, *others = (f"| {' | '.join(map(str, row))} |" for row in (head, *rows))
    return [first, "|" + "---|" * len(head), *others]
