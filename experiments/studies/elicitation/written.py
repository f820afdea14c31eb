"""A card's findings as Markdown, as its page of the documentation has them."""

from __future__ import annotations

from collections.abc import Sequence

from .findings import Findings, Point, Table


def markdown(found: Findings) -> str:
    """Points, tables and sentences; equal findings give equal text."""
    parts = [f"{found.pair[0]} on {found.task}, preset {found.preset}."]
    for setting in dict.fromkeys(point.setting for point in found.points):
        lines = [_arm(point) for point in found.points if point.setting == setting]
        heads = ("arm", "n", "right %", "tokens", "over the base", "over its control", "cut", "no answer")
        parts += [f"**{setting}**", _table(heads, lines)]
    for table in found.tables:
        parts += table_parts(table)
    parts.append("\n".join(f"* {sentence}" for sentence in found.said))
    return "\n\n".join(parts) + "\n"


def table_parts(table: Table) -> list[str]:
    """Paragraphs of one table."""
    return [f"**{table.title}**", _table(table.heads, table.lines), *table.notes]


def _arm(point: Point) -> tuple[object, ...]:
    return (
        point.label,
        point.n,
        f"{100 * point.accuracy:.1f} ({100 * point.low:.1f} to {100 * point.high:.1f})",
        f"{point.tokens:.0f}",
        signed(point.difference, point.difference_low, point.difference_high),
        signed(point.over_control, point.over_control_low, point.over_control_high),
        point.truncated,
        point.unscorable,
    )


def signed(value: float | None, low: float | None, high: float | None) -> str:
    """A difference in points with its interval; empty where there is none."""
    if value is None or low is None or high is None:
        return ""
    return f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _table(heads: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    rows = [
        list(heads),
        ["---"] * len(heads),
        *(["" if cell is None else str(cell) for cell in line] for line in lines),
    ]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
