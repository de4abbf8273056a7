"""Tables in Markdown, a line at a time: what is printed while a benchmark goes on, and pasted into a page."""


def heading(*cells: str) -> str:
    """The names of the columns, and the line under them."""
    return f"{line(*cells)}\n{line(*('---' for _ in cells))}"


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def ratio(more: float, less: float) -> str:
    """How many times as much *more* is, or a dash where there is nothing to compare with."""
    return f"{more / less:.1f} x" if less > 0 else "-"
