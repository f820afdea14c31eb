"""`steer import`: published answers as runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..progress import progress, talk
from .options import RUNS, RunsOption

import_app = typer.Typer(help="Published results as stored runs.", no_args_is_help=True)


@import_app.callback()
def _group() -> None:
    """Published results as stored runs."""


@import_app.command("hybrid-results")
def hybrid_results(
    files: Annotated[list[Path], typer.Argument(help="Files of per-problem answers (hybrid_answers_*.json).")],
    runs: RunsOption = RUNS,
    name: Annotated[str, typer.Option(help="First part of the run's id.")] = "published",
    timeout: Annotated[float, typer.Option(help="Seconds that comparing one answer may take.")] = 5.0,
    tolerance: Annotated[float, typer.Option(help="Points by which grades may differ before it is said.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Grade published answers anew, store them as a run, and compare with the published accuracies."""
    from ..evaluation.published_answers import import_answers
    from ..evaluation.sentences import render_table
    from ..evaluation.summarise import summarise
    from ..store.runs import Store
    from ..tasks.graders.mathematics import MathGrader

    with progress("grading") as report:
        run, agreements = import_answers(
            Store(runs), files, grader=MathGrader(timeout=timeout), name=name, on_rows=report
        )
    if as_json:
        found = [{**asdict(a), "difference": a.difference, "attainable": a.attainable} for a in agreements]
        print(json.dumps({"run": run.manifest.run_id, "agreement": found, "summary": run.summary()}, indent=1))
        return
    console = Console()
    summary = summarise(run.table(), run.manifest)
    for split in summary.splits:
        console.print(render_table(summary, split.split))
    table = Table(title=Text("graded here and as published"), title_justify="left")
    for heading in ("arm", "n", "graded %", "95 %", "published %", "points", "no answer", "break off", "in thinking"):
        table.add_column(heading, justify="left" if heading == "arm" else "right")
    for a in agreements:
        low, high = (f"{100 * b:.1f}" for b in (a.interval.low, a.interval.high))
        table.add_row(
            Text(a.arm), str(a.n), f"{100 * a.graded:.1f}", f"{low} to {high}", f"{100 * a.published:.1f}",
            f"{100 * a.difference:+.1f}", str(a.unscorable), f"{a.cut} ({a.cut_without_answer} without answer)",
            f"{a.unclosed} ({a.lenient} right there)",
        )  # fmt: skip
    console.print(table)
    for a in agreements:
        if abs(100 * a.difference) > tolerance:
            why = "" if a.attainable else " More texts were counted right than end with an answer."
            talk().print(
                f"{a.arm}: {100 * a.difference:+.1f} points from the published accuracy; {a.cut_without_answer} of {a.n} texts "
                f"break off without an answer.{why}",
                style="yellow", highlight=False,
            )  # fmt: skip
    print(run.manifest.run_id)
