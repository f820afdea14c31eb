"""`steer demo`: the main job on the built-in pair, or three directions in a language model."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .options import RUNS, JsonOption, RunsOption

PROBLEMS, DEVELOPMENT = 200, 48


def demo(
    runs: RunsOption = RUNS,
    model: Annotated[
        str | None,
        typer.Option(help="A language model instead of the built-in pair: smollm2, or any other causal model (docs/language.md)."),
    ] = None,
    n: Annotated[int | None, typer.Option(help=f"Test problems per split, of the pair.  [default: {PROBLEMS}]")] = None,
    n_dev: Annotated[
        int | None, typer.Option(help=f"Development problems for the choice of layer and dose, of the pair.  [default: {DEVELOPMENT}]")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="With --model: one layer, fewer prompts: about a third of the time.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="With --model: folder of the page; by default reports/language-MODEL.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="With --model: worker processes of one thread each; 0 runs in this one. By default two, or one per core."),
    ] = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """The main job on the built-in pair: extract, choose on development problems, report on test problems. With --model, the same on a
    language model: its language, its sentiment, and whether it works step by step."""
    from steering.errors import BadInput

    if model is None:
        if quick or output is not None or workers is not None:
            raise BadInput(
                "--quick, --output and --workers belong to a language model; add --model smollm2, or leave them out."
            )
        _pair(runs, PROBLEMS if n is None else n, DEVELOPMENT if n_dev is None else n_dev, as_json)
        return
    if n is not None or n_dev is not None:
        raise BadInput(
            "--n and --n-dev belong to the built-in pair; the demo of a language model takes --quick instead."
        )
    _language(runs, model, quick, output, workers, as_json)


def _pair(runs: str, n: int, n_dev: int, as_json: bool) -> None:
    from ..store.runs import Store
    from ..studies.behaviours import behaviour_table
    from ..studies.demo import run_demo
    from .runs import print_tables

    choice, run, behaviours = run_demo(Store(runs), n=n, n_dev=n_dev)
    if as_json:
        chosen = {
            "vector": choice.vector.name,
            "site": str(choice.vector.site),
            "dose": choice.dose,
            "tried": choice.tried,
        }
        document = {
            "choice": chosen,
            "run": run.manifest.run_id,
            "summary": run.summary(),
            "behaviours": behaviours.summary(),
        }
        print(json.dumps(document, indent=1, sort_keys=True))
        return
    console = Console()
    print_tables(run, console)
    console.print(
        f"The setting was chosen among {choice.tried} on development problems; ranks among random directions are not corrected for that "
        f"(steer sweep does it, by whole pseudo-sweeps).",
        highlight=False,
    )
    console.print(behaviour_table(behaviours))
    console.print(
        f"Stored as {run.folder} and {behaviours.folder}. Look at them: steer app --runs {runs}", highlight=False
    )


def _language(runs: str, model: str, quick: bool, output: Path | None, workers: int | None, as_json: bool) -> None:
    from ..evaluation.executors import in_process, processes
    from ..report.language import write_language
    from ..report.language_tables import overview
    from ..store.runs import Store
    from ..studies.language.run import run_language
    from ..studies.language.spec import LanguageSpec
    from ..studies.language.spec import quick as quick_spec

    spec = quick_spec(model) if quick else LanguageSpec(model=model)
    many = min(2, os.cpu_count() or 1) if workers is None else workers
    findings = run_language(spec, Store(runs), executor=processes(many) if many else in_process)
    command = f"steer demo --model {shlex.quote(model)}{' --quick' if quick else ''} --runs {shlex.quote(runs)}"
    folder = output or Path("reports") / f"language-{Path(model).name or model}"
    written = write_language(findings, spec, command, folder)
    if as_json:
        document: dict[str, Any] = {
            one.direction.name: {
                "development": one.development.manifest.run_id, "test": one.test.manifest.run_id, "winner": one.sweep.winner.model_dump(),
                "verdict": asdict(one.sweep.verdict), "grader_error": [asdict(e) for e in one.error], "quality": one.quality,
                "damage": one.damage, "probe": one.probe, "summary": one.test.summary(),
            }
            for one in findings
        }  # fmt: skip
        print(json.dumps({"page": str(written[0]), "directions": document}, indent=1, sort_keys=True))
        return
    found = overview(findings)
    table = Table(
        title=found.title,
        title_justify="left",
        caption=found.notes[0],
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=0,
    )
    for number, column in enumerate(found.columns):
        head = column.replace("unsteered", "un-\nsteered").replace(" ", "\n")
        table.add_column(head, justify="left" if number < 2 else "right", min_width=9 if number == 0 else None)
    for row in found.rows:
        table.add_row(*(Text(cell.text.replace(" (", "\n(")) for cell in row))
    console = Console()
    console.print(table)
    for one in findings:
        console.print(f"{one.direction.title}: {one.sweep.verdict.sentence}", highlight=False, markup=False)
    console.print(f"Page: {written[0]}. Runs: steer app --runs {runs}", highlight=False, markup=False, soft_wrap=True)
