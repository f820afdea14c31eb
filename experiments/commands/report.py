"""`steer report`: a run as one page, tables and figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..progress import talk
from .options import RUNS, JsonOption, RunsOption


def report(
    run: Annotated[str, typer.Argument(help="Id of the run.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write into; by default reports/RUN.")
    ] = None,
    runs: RunsOption = RUNS,
    formats: Annotated[
        str, typer.Option("--format", help="What to write, comma-separated: html, md, latex, csv, svg, png.")
    ] = "html,md,latex,csv,svg,png",
    as_json: JsonOption = False,
) -> None:
    """Write a run's page, tables and figures into a folder (docs/reports.md). A partial run gives a report that says so."""
    from ..report import write_report
    from ..report.writing import check_formats
    from ..store.runs import Store

    wanted = check_formats([name.strip() for name in formats.split(",") if name.strip()])
    opened = Store(runs).open(run)
    found = write_report(opened, output or Path("reports") / run, wanted)
    if found.doubts:
        talk().print(found.doubts, style="red", highlight=False, soft_wrap=True, markup=False)
    if found.partial:
        talk().print(found.partial, style="yellow", highlight=False, markup=False)
    if as_json:
        document = {
            "run": run,
            "partial": found.partial,
            "doubts": found.doubts,
            "files": [str(path) for path in found.files],
            "left_out": dict(found.left_out),
            "arms": found.headline(),
        }
        print(json.dumps(document, indent=1, sort_keys=True))
        return
    for name, reason in found.left_out:
        talk().print(f"left out: {name}: {reason}", highlight=False, markup=False)
    for path in found.files:
        print(path)
