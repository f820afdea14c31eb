"""`steer sweep`: what a sweep stands for and takes, running it, and its table."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from ..progress import paper, progress, warning
from .options import RUNS, DryRunOption, JsonOption, RunsOption, TrackOption

if TYPE_CHECKING:
    from ..store.runs import Run
    from ..sweeps.estimate import Estimate
    from ..sweeps.scale import Scaled
    from ..sweeps.spec import SweepSpec

sweep_app = typer.Typer(
    help="Many settings of a plan, with controls; the winner again on other problems.", no_args_is_help=True
)
SpecArgument = Annotated[Path, typer.Argument(help="YAML file of the sweep (docs/sweeps.md).")]
SetsOption = Annotated[list[str] | None, typer.Option("--set", help="Override one key: --set controls.random=3")]


@sweep_app.command("plan")
def plan(
    spec: SpecArgument,
    sets: SetsOption = None,
    devices: Annotated[
        str, typer.Option(help="Numbers of devices, such as 1,8,64: how long the development run takes on as many.")
    ] = "",
    tokens_per_second: Annotated[
        float | None,
        typer.Option(help="What one device writes, for --devices; by default what the trial wrote on this machine."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The cells of a sweep, and what it takes: rows, tokens, time, memory, disk. Runs a short trial and stores nothing."""
    from dataclasses import asdict

    from ..statistics import directions_needed
    from ..sweeps.estimate import estimate, time_text
    from ..sweeps.run import LEAST_ON_TEST, plan_sweep
    from ..sweeps.spec import cells_of, load_sweep

    parsed = load_sweep(spec, sets or [])
    first = parsed.search.rungs[0] if parsed.search.kind == "halving" else None
    found = estimate(parsed, plan_sweep(parsed, spec.parent, first))
    cells = cells_of(parsed)
    many_devices = _on_devices(found, parsed, devices, tokens_per_second)
    if as_json:
        facts = {"estimate": asdict(found), "cells": [c.model_dump() for c in cells]}
        print(
            json.dumps(
                facts | {"devices": [asdict(one) | {"most_seconds": most.seconds} for one, most in many_devices]},
                indent=1,
            )
        )
        return
    for cell in cells:
        print(f"{cell.name}\t{cell.label}")
    print(found.sentence + (" (first rung)" if first else ""))
    for one, most in many_devices:
        print(
            f"{one.devices} device{'s' * (one.devices > 1)}\t{time_text(one.seconds)} (at most {time_text(most.seconds)})\t"
            f"{one.busy:.0%} busy\t{one.chunks:,} files of rows"
        )
    asked = sum(parsed.splits.test.values())
    if asked:
        drawn = parsed.controls.random_on_test
        many = (
            f"{drawn}"
            if drawn is not None
            else f"{LEAST_ON_TEST} or, without pseudo-sweeps, {directions_needed(len(cells))}"
        )
        print(
            f"Then, not counted above, the best cell on {asked} test problems, beside the unsteered arm, its other controls and {many} "
            "random directions."
        )


def _on_devices(found: Estimate, spec: SweepSpec, text: str, rate: float | None) -> list[tuple[Scaled, Scaled]]:
    """How long the development run takes on each of these numbers of devices, at the trial's lengths and where every row runs to its limit.
    Raises BadInput for what is no number."""
    from steering.errors import BadInput

    from ..sweeps.scale import scaled

    counts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdigit() for part in counts):
        raise BadInput(f"--devices {text!r}: give numbers, such as 1,8,64.")
    if not counts:
        if rate is not None:
            raise BadInput("--tokens-per-second says what one of --devices writes: give both, or neither.")
        return []
    devices, own = list(dict.fromkeys(map(int, counts))), found.tokens / found.seconds if rate is None else rate
    longest = (round(found.most_tokens / found.rows),)

    def on(lengths: tuple[int, ...]) -> list[Scaled]:
        return scaled(found.rows, lengths, rows_per_chunk=spec.rows_per_chunk, tokens_per_second=own, devices=devices)

    return list(zip(on(found.lengths), on(longest), strict=True))


@sweep_app.command("run")
def run(
    spec: SpecArgument,
    runs: RunsOption = RUNS,
    sets: SetsOption = None,
    workers: Annotated[int, typer.Option(help="Worker processes; 0 runs in this one.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads of each worker process.")] = 1,
    ray: Annotated[int, typer.Option(help="Actors on a Ray cluster; 0 uses none.")] = 0,
    gpus: Annotated[
        float, typer.Option(help="GPUs that each Ray actor asks for; of several, models are spread over them.")
    ] = 0,
    address: Annotated[
        str | None, typer.Option(help="Address of a running Ray cluster; without one, Ray is started here.")
    ] = None,
    track: TrackOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run or resume a sweep. Interrupted or partly failed, it goes on where it stopped when it is called again."""
    from steering.errors import BadInput

    from ..evaluation.executors import in_process, on_ray, processes
    from ..store.runs import Store
    from ..store.trackers import check_tracker
    from ..store.trackers import track as send
    from ..sweeps.run import run_sweep
    from ..sweeps.spec import load_sweep

    check_tracker(track)
    if dry_run:
        plan(spec, sets, as_json=as_json)
        return
    if workers and ray:
        raise BadInput("Give --workers or --ray, not both.")
    executor = processes(workers, threads) if workers else in_process
    if ray:
        executor = on_ray(ray, gpus=gpus, address=address)
    parsed = load_sweep(spec, sets or [])
    with progress("sweeping") as report:
        result = run_sweep(
            parsed, Store(runs), spec.parent, executor=executor, on_rows=lambda _, done, total: report(done, total)
        )
    for finished in (*result.runs, *([result.test] if result.test else [])):
        send(track, finished)
    for said in dict.fromkeys(
        said for finished in result.runs for said in finished.manifest.facts.get("questions", ())
    ):
        warning(said)
    names = [r.manifest.run_id for r in result.runs]
    test = result.test.manifest.run_id if result.test else None
    if as_json:
        document = {
            "runs": names,
            "test": test,
            "winner": result.winner.model_dump(),
            "cells": json.loads(result.table.to_json(orient="records")),
            "verdict": asdict(result.verdict),
            "summary": result.test.summary() if result.test else None,
        }
        print(json.dumps(document, indent=1, sort_keys=True))
        return
    console = paper()
    console.print(_table(result.table))
    console.print(f"Best on development problems: {result.winner.name} ({result.winner.label}).", highlight=False)
    console.print(result.verdict.sentence, highlight=False)
    if result.test is not None:
        from ..evaluation.sentences import render_table
        from ..evaluation.summarise import summarise

        summary = summarise(result.test.table(), result.test.manifest)
        for split in summary.splits:
            console.print(render_table(summary, split.split))
    stored = ", ".join(names + ([test] if test else []))
    console.print(f"Stored as {stored} in {runs}.", highlight=False)


@sweep_app.command("show")
def show(run: str, runs: RunsOption = RUNS, as_json: JsonOption = False) -> None:
    """The table of a sweep's run, and what may be said of its best cell."""
    from ..store.runs import Store
    from ..sweeps.cells import is_test, read_cells, test_run
    from ..sweeps.table import sweep_table
    from ..sweeps.verdict import of_test

    opened = Store(runs).open(run)
    table = sweep_table(opened, read_cells(opened))
    if as_json:
        print(table.to_json(orient="records", indent=1))
        return
    console = paper()
    console.print(_table(table))
    tested = opened if is_test(opened) else test_run(Store(runs), opened)
    if tested is not None:
        console.print(of_test(tested).sentence, highlight=False)
    else:
        console.print(
            _untested(opened),
            highlight=False,
        )


def _untested(run: Run) -> str:
    """What is said of a sweep without a test run of its own."""
    from ..sweeps.cells import read_card

    card = read_card(run)
    if "result" in card:
        return (
            f"{card['chosen']} of these cells was tested on problems that did not choose it, in run {card['result']}."
        )
    return "The best cell is described, not tested: no finished test run of this sweep is in the store."


def _table(cells: pd.DataFrame) -> Table:
    """The cells, best first."""
    first, last = list(cells.columns).index("cell") + 1, list(cells.columns).index("n")
    settings = list(cells.columns[first:last])
    few = int(cells["directions"].min()) if "directions" in cells else 0
    table = Table(
        title=f"{len(cells)} cells, {int(cells['n'].iloc[0])} problems and {few} random directions each", title_justify="left",
        box=SIMPLE_HEAD, padding=0,
    )  # fmt: skip
    for name in settings:
        table.add_column(name)
    for name in ("right %", "vs unsteered", "vs random", "as good", "rank p", "tokens", "edit"):
        table.add_column(name, justify="right")
    for line in cells.sort_values(["score", "tokens"], ascending=[False, True]).to_dict("records"):
        table.add_row(
            *(_short(line[name]) for name in settings),
            f"{100 * line['accuracy']:.1f}",
            _points(line, "difference", "low", "high"),
            _points(line, "over_control", "over_control_low", "over_control_high"),
            f"{line['as_good']:.0f}/{line['directions']:.0f}" if line.get("directions", 0) > 0 else "none",
            f"{line['rank_p']:.2g}" if line.get("directions", 0) > 0 else "",
            f"{line['tokens']:.0f}",
            ""
            if line["edit"] != line["edit"]
            else f"{line['edit']:.2f}{'' if line.get('matched', True) else ' not matched'}",
        )
    return table


def _short(value: Any) -> str:
    return Path(value).stem if isinstance(value, str) and value.endswith(".safetensors") else str(value)


def _points(line: dict[str, Any], name: str, low: str, high: str) -> str:
    if name not in line or line[name] != line[name]:
        return ""
    return f"{100 * line[name]:+.1f} ({100 * line[low]:+.0f} to {100 * line[high]:+.0f})"
