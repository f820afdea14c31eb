"""Writing a report into a folder.

1. The same run gives the same bytes; a file is whole or absent.
2. A run whose files are not as they were stored is marked in every table and at the head of the page.
3. A run without rows, or with some, gives a report that says so; a figure that does not apply is named with the reason.
4. Only files of the report are written; nothing in the folder is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from steering.errors import unknown
from steering.files import write_file

from ..store.runs import Run
from .arm_frame import arms_frame
from .evidence import Evidence, Unavailable, gather
from .forms import in_latex, in_markdown, to_latex, to_markdown
from .page import page
from .reproduce import recipe
from .tables import Table, arm_tables, special_tables

if TYPE_CHECKING:
    from .figures import Drawing

FORMATS = ("html", "md", "latex", "csv", "svg", "png")


@dataclass(frozen=True, eq=False)
class Report:
    """What was written."""

    folder: Path
    files: tuple[Path, ...]
    """In the order of writing."""
    numbers: pd.DataFrame
    """`arms_frame`: one line per split and arm."""
    left_out: tuple[tuple[str, str], ...]
    """Figures that do not apply, each with the reason."""
    partial: str | None
    """What is missing of the run, in words."""
    doubts: str | None = None
    """What is wrong with the run's files, in words."""

    def headline(self) -> list[dict[str, Any]]:
        """The numbers as plain data, None where not defined; counts are whole numbers."""
        lines = self.numbers.to_dict("records")
        return [{k: _plain(v, k in COUNTS) for k, v in line.items()} for line in lines]


COUNTS = (
    "n",
    "items",
    "right",
    "truncated",
    "unscorable",
    "compared",
    "helped",
    "hurt",
    "unchanged",
    "missing",
    "gap_n",
)


def _plain(value: Any, count: bool) -> Any:
    return None if value is None or value != value else int(value) if count else value


def check_formats(formats: Collection[str]) -> tuple[str, ...]:
    """The formats in the order of `FORMATS`. Raises BadInput for one that there is not."""
    for name in formats:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS, "--format")
    return tuple(name for name in FORMATS if name in formats)


def write_report(run: Run, folder: Path | str, formats: Collection[str] = FORMATS) -> Report:
    """Write the report of a run: `report.html`, `tables.md`, `tables.tex`, `tables.csv`, and per figure SVG, PNG and CSV, as asked for; and
    with a page or a text, `spec.yaml` with the vectors that make the run again.

    Raises BadInput for an unknown format, and StoreError for rows that cannot be read.
    """
    wanted, place = check_formats(formats), Path(folder)
    evidence = gather(run)
    frame = arms_frame(evidence)
    tables = _tables(evidence, frame)
    drawings: list[Drawing] = []
    left_out: list[tuple[str, str]] = []
    if {"html", "svg", "png", "csv"} & set(wanted):
        drawings, left_out = draw(evidence)
    written: list[Path] = []

    def write(name: str, data: str | bytes) -> None:
        path = place / name
        write_file(path, data.encode() if isinstance(data, str) else data)
        written.append(path)

    if "html" in wanted or "md" in wanted:
        how = recipe(evidence)
        if "html" in wanted:
            write("report.html", page(evidence, {k: tuple(v) for k, v in tables.items()}, drawings, left_out, how))
        write("spec.yaml", how.spec)
        if how.sweep is not None:
            write("sweep.yaml", how.sweep)
        for name, data in how.files.items():
            write(name, data)
    every = [table for group in tables.values() for table in group]
    about = f"{evidence.manifest.name}, run {evidence.manifest.run_id}" + (
        f", {evidence.partial}" if evidence.partial else ""
    )
    if "md" in wanted:
        write("tables.md", f"## {in_markdown(about)}\n\n" + _in_markdown(every))
    if "latex" in wanted:
        write(
            "tables.tex", f"% {in_latex(about)}\n% needs \\usepackage{{booktabs}}\n\n" + "\n".join(map(to_latex, every))
        )
    if "csv" in wanted:
        write("tables.csv", in_csv(frame))
    for drawing in drawings:
        for kind, make in _FILES.items():
            if kind in wanted:
                write(f"figures/{drawing.name}.{kind}", make(drawing))
    return Report(place, tuple(written), frame, tuple(left_out), evidence.partial, evidence.doubts)


def markdown_tables(run: Run) -> str:
    """The tables of a run's report as Markdown. Raises StoreError for rows that cannot be read."""
    evidence = gather(run)
    return _in_markdown([table for group in _tables(evidence, arms_frame(evidence)).values() for table in group])


def _tables(evidence: Evidence, frame: pd.DataFrame) -> dict[str, list[Table]]:
    """By split, and under no name those of the whole run; what is doubted is said under each of them."""
    tables = {split: arm_tables(evidence, frame, split) for split in evidence.manifest.splits}
    tables[""] = special_tables(evidence)
    if not evidence.doubts:
        return tables
    return {
        name: [replace(table, notes=(*table.notes, evidence.doubts)) for table in group]
        for name, group in tables.items()
    }


def _in_markdown(tables: list[Table]) -> str:
    return "\n".join(map(to_markdown, tables))


_FILES: dict[str, Callable[[Drawing], str | bytes]] = {
    "csv": lambda drawing: in_csv(drawing.frame),
    "svg": lambda drawing: drawing.svg,
    "png": lambda drawing: drawing.png(),
}


def in_csv(frame: pd.DataFrame) -> str:
    """Comma-separated values, floats to 6 places. Text that a spreadsheet would take for a formula begins with an apostrophe."""
    safe = frame.copy()
    for name in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[name]):
            safe[name] = [
                f"'{v}" if isinstance(v, str) and v[:1] in ("=", "+", "-", "@", "\t") else v for v in safe[name]
            ]
    return safe.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def draw(evidence: Evidence) -> tuple[list[Drawing], list[tuple[str, str]]]:
    """Every figure that applies, and the others with the reason."""
    from . import figures

    drawn: list[Drawing] = []
    left_out: list[tuple[str, str]] = []

    def attempt(name: str, make: Callable[[], Drawing]) -> None:
        try:
            drawn.append(make())
        except Unavailable as reason:
            left_out.append((name, str(reason)))

    attempt("layer by dose", lambda: figures.heatmap(evidence))
    attempt("dose-response", lambda: figures.dose_response(evidence))
    for split in evidence.summary.splits:
        name = split.split
        attempt(f"paired differences, {name}", lambda split=split: figures.forest(split))  # type: ignore[misc]
        attempt(f"accuracy against tokens, {name}", lambda name=name: figures.pareto(evidence, name))  # type: ignore[misc]
        attempt(f"outcomes, {name}", lambda name=name: figures.outcomes(evidence, name))  # type: ignore[misc]
        attempt(f"items by arms, {name}", lambda name=name: figures.outcome_matrix(evidence, name))  # type: ignore[misc]
    return drawn, left_out
