"""Tables and numbers of the results page."""

from collections.abc import Sequence

from anymae.benchmark.statistics import Difference, summarise
from anymae.benchmark.summary import Values


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def show(values: Values, digits: int = 4) -> str:
    """Write mean and deviation."""
    if not values:
        return ""
    found = summarise(values)
    deviation = "" if found.deviation is None else f" ± {found.deviation:.{digits}f}"
    return f"{found.mean:.{digits}f}{deviation}"


def show_difference(found: Difference | None) -> str:
    """Write a difference and its interval, bold where that excludes zero."""
    if found is None:
        return ""
    # Adding 0.0 to what rounds to -0 leaves 0.
    mean = round(found.mean, 4) + 0.0
    text = f"{mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
    return text if found.verdict == "undecided" else f"**{text}**"


def from_to(counts: Sequence[int]) -> str:
    """Write a count, or the least and the most over seeds."""
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
