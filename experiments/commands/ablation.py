"""`steer ablate`: edit latents and measure, beside matched latents and random directions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ..progress import paper, progress
from .asking import FIND_START, TaskOption
from .options import RUNS, JsonOption, RunsOption
from .sae_options import SaeOption, StatisticsOption, model_of, opened
from .saes import say_origin


def ablate(
    latents: Annotated[
        list[str], typer.Option(help="A latent, or several edited together: 12 or 12,40. May be given several times.")
    ],
    sae: SaeOption = "builtin:base",
    statistics: StatisticsOption = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Hub id, folder, or a built-in model; by default builtin:thinking for the autoencoders of the built-in pair, else the one "
            "that the autoencoder's card names."
        ),
    ] = None,
    operation: Annotated[
        list[str] | None, typer.Option(help="ablate, mean, 'clamp 2p', 'scale 0.5f', 'raise 15f', ...")
    ] = None,
    scope: Annotated[list[str] | None, typer.Option(help="Spans: all, generated, last_prompt, ...")] = None,
    task: TaskOption = FIND_START,
    form: Annotated[str, typer.Option(help="Prompt form of the task.")] = "bare",
    split: Annotated[list[str] | None, typer.Option(help="Splits of the task.")] = None,
    n: Annotated[int, typer.Option(help="Items per split.")] = 200,
    controls: Annotated[int, typer.Option(help="Matched latents per target.")] = 4,
    directions: Annotated[int, typer.Option(help="Random directions of equal edit size per target.")] = 20,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens per text.")] = 360,
    seed: Annotated[int, typer.Option(help="Seed of the controls.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the run.")] = "ablation",
    runs: RunsOption = RUNS,
    figure: Annotated[Path | None, typer.Option(help="Write the forest plot to this HTML file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Edit latents, measure against the unsteered model and against matched controls."""
    from steering.errors import BadInput, unknown
    from steering.model.models import load_model
    from steering.model.sources import BUILTINS

    from ..evaluation.spec import Generating
    from ..evaluation.spec_files import located_task
    from ..report.figures.ablations import forest
    from ..store.runs import Store
    from ..studies.ablation import AblationSpec, run_ablation
    from ..studies.effects import effects
    from ..tasks.remarks import say
    from ..tasks.task import resolve_task
    from .prompts import task_of

    try:
        groups = tuple(tuple(int(number) for number in text.split(",")) for text in latents)
    except ValueError as error:
        raise BadInput(
            f"--latents {' '.join(latents)}: write numbers, as in --latents 12 or --latents 12,40."
        ) from error
    model = model or ("builtin:thinking" if sae in BUILTINS else model_of(sae, None))
    given, folder = task_of(task)
    found_task = resolve_task(given, folder)
    wanted = split or (["standard-test"] if task == FIND_START else [found_task.splits[0]])
    if form not in found_task.forms:
        raise unknown("prompt form", form, found_task.forms, where=f"task {found_task.name}")
    spec = AblationSpec(
        name=name, model=model, task=located_task(given, folder), form=form, splits=dict.fromkeys(wanted, n), features=groups,
        operations=tuple(operation or ["ablate"]), scopes=tuple(scope or ["all"]), controls=controls, directions=directions,
        generation=Generating(max_new_tokens=max_new_tokens), seed=seed,
    )  # fmt: skip
    models = {model: load_model(model)}
    say(found_task, {part: found_task.items(part, n) for part in wanted}, [(models[model], form)])
    dictionary, found = opened(sae, statistics, models[model])
    say_origin(dictionary, models[model])
    with progress("ablation") as report:
        run = run_ablation(spec, Store(runs), dictionary, found, models=models, on_rows=report)
    table = effects(run)
    if figure is not None:
        forest(table).write_html(figure, include_plotlyjs=True)
    if as_json:
        print(
            json.dumps({"run": run.manifest.run_id, "effects": json.loads(table.to_json(orient="records"))}, indent=1)
        )
        return
    paper().print(effects_table(table))


def effects_table(table: Any) -> Table:
    """The table of `effects` for a terminal: targets and splices, a target's controls as a distribution."""
    shown = Table(title="Change of accuracy against the unsteered arm, paired, in points")
    words = ("latents", "operation", "scope", "arm", "split")
    numbers = ("n", "accuracy", "change", "95 %", "p (Holm)", "over matched latents", "over random directions")
    for column in (*words, *numbers):
        shown.add_column(column, justify="left" if column in words else "right", overflow="fold")
    for line in table[~table["kind"].isin(("control", "direction"))].to_dict("records"):
        shown.add_row(
            line["latents"], line["operation"], line["scope"], line["arm"].rsplit("|", 1)[-1], line["split"], str(line["n"]),
            f"{line['accuracy']:.1%}", f"{100 * line['difference']:+.1f}", f"{100 * line['low']:+.1f} to {100 * line['high']:+.1f}",
            f"{line['p_holm']:.2g}" if line["kind"] == "target" else "", _over(line, "against"), _over(line, "against_direction"),
        )  # fmt: skip
    return shown


def _over(line: dict[str, Any], key: str) -> str:
    """Points over the mean of controls, their interval, and how many of them do as much; nothing where there are none."""
    value = line.get(key)
    if value is None or value != value:
        return "none" if line["kind"] == "target" else ""
    return (
        f"{100 * value:+.1f} ({100 * line[f'{key}_low']:+.1f} to {100 * line[f'{key}_high']:+.1f})\n"
        f"{line[f'{key}_as_good']:.0f} of {line[f'{key}_count']:.0f} do as much"
    )
