"""`steer attribute`: at which layer a direction acts, by exact and attribution patching, and whether the choice holds on test problems."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ..progress import paper, progress
from .asking import (
    FIND_START,
    DevelopmentOption,
    ReadOption,
    TaskOption,
    TestOption,
    TokensOption,
    TwoFormsOption,
    asking_of,
    check_counts,
)
from .labels import print_json
from .options import RUNS, JsonOption, RunsOption

if TYPE_CHECKING:
    from ..studies.layer_choice import LayerChoice, Sweep

BASE_MODEL, THINKING_MODEL = "builtin:base", "builtin:thinking"
WRITERS = 6
"""Parts shown of what writes the direction."""


def attribute(
    contrast: Annotated[
        str, typer.Option(help="checkpoint: thinking minus base; mode: the reasoning form minus the direct one.")
    ] = "checkpoint",
    dose: Annotated[float, typer.Option(help="Multiple of each layer's own vector.")] = 1.0,
    n: Annotated[
        int | None, typer.Option(help="Test problems per difficulty of the built-in task; 200 by default.")
    ] = None,
    n_dev: Annotated[
        int | None,
        typer.Option(help="Development problems per difficulty of the built-in task, for the choice; 48 by default."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="The base: hub id, folder, .gguf file, smollm2, builtin:base.")
    ] = BASE_MODEL,
    thinking: Annotated[str, typer.Option(help="Thinking model of the checkpoint contrast.")] = THINKING_MODEL,
    task: TaskOption = FIND_START,
    forms: TwoFormsOption = "",
    read: ReadOption = "",
    development: DevelopmentOption = "",
    test: TestOption = "",
    max_new_tokens: TokensOption = 360,
    runs: RunsOption = RUNS,
    as_json: JsonOption = False,
) -> None:
    """Choose the layer of a direction by patching on development questions, and sweep all layers on test questions."""
    from steering.errors import BadInput, unknown
    from steering.model.models import load_model

    from ..store.runs import Store
    from ..studies.layer_choice import CONTRASTS, builtin_asking, run_layer_choice

    if contrast not in CONTRASTS:
        raise unknown("contrast", contrast, CONTRASTS)
    check_counts(task, n=n, n_dev=n_dev)
    asking = builtin_asking(n or 200, n_dev or 48)
    if task != FIND_START:
        needs = ("--read", "--dev", "--test")
        asking = asking_of(task, forms, read, development, test, max_new_tokens, needs=needs)
    elif any((forms, read, development, test)):
        raise BadInput("--forms, --read, --dev and --test belong to another task: give --task too.")
    pair = [model, thinking] if contrast == "checkpoint" else [model]
    models = {name: load_model(name) for name in pair}
    asking.say(list(models.values()))
    with progress("test problems, layer by layer") as report:
        choice, sweep, writers = run_layer_choice(
            Store(runs), models, contrast=contrast, dose=dose, asking=asking, model=model,
            thinking=thinking if contrast == "checkpoint" else None, on_rows=report,
        )  # fmt: skip
    if as_json:
        print_json(facts(choice, sweep, writers))
        return
    console = paper()
    console.print(layers_table(choice, sweep))
    for line in sentences(choice, sweep):
        console.print(line, highlight=False)
    console.print(writers_table(writers, sweep.chosen, asking.reasoning, asking.direct))
    console.print(f"Stored as {sweep.run.folder}.", highlight=False)


def writers_table(writers: Any, layer: int, reasoning: str, direct: str) -> Table:
    """The parts of the model that write most along the direction, in the two prompt forms, by their names."""
    shown = Table(title=f"What writes the direction at layer {layer}: form {reasoning} against form {direct}")
    for column in ("part", reasoning, direct, "difference"):
        shown.add_column(column, justify="left" if column == "part" else "right")
    for line in writers.head(WRITERS).itertuples():
        head = f".{line.head}" if line.head >= 0 else ""
        part = line.component if line.layer < 0 else f"{line.component} {line.layer}{head}"
        shown.add_row(
            part, f"{line.contribution_reasoning:+.2f}", f"{line.contribution_direct:+.2f}", f"{line.difference:+.2f}"
        )
    return shown


def layers_table(choice: LayerChoice, sweep: Sweep) -> Table:
    """Each layer: what both methods say, accuracy on test problems, and the chosen layer's lead over it."""
    shown = Table(
        title=f"{choice.contrast} at dose {choice.dose:g}: effect on the log-odds of starting to reason (nats), and accuracy"
    )
    for column in ("layer", "norm", "exact", "attributed", "accuracy", "chosen minus this", "95 %", "p (Holm)"):
        shown.add_column(column, justify="right")
    for line in choice.layers.itertuples():
        lead = sweep.against.get(line.layer)
        cells = ["", "", "chosen"]
        if lead is not None:
            ends = f"{100 * lead.interval.low:+.1f} to {100 * lead.interval.high:+.1f}"
            cells = [f"{100 * lead.difference:+.1f}", ends, f"{sweep.adjusted[line.layer]:.2g}"]
        accuracy = f"{sweep.accuracy[f'layer_{line.layer}']:.1%}"
        shown.add_row(
            str(line.layer), f"{line.norm:.1f}", f"{line.exact:+.2f}", f"{line.attributed:+.2f}", accuracy, *cells
        )
    return shown


def sentences(choice: LayerChoice, sweep: Sweep) -> list[str]:
    """Agreement of the methods, and the comparison that was fixed beforehand."""
    found = []
    for agreement in choice.agreement:
        ends = ""
        if agreement.interval is not None:
            ends = f" ({agreement.interval.low:.2f} to {agreement.interval.high:.2f})"
        over = "within a problem, mean" if agreement.over == "problems" else f"over {agreement.over}"
        rho = (
            "not defined, as one of the two does not vary"
            if math.isnan(agreement.rho)
            else f"{agreement.rho:.2f}{ends}"
        )
        found.append(f"Spearman {over}: {rho}, n = {agreement.n}.")
    same, problems, interval = choice.same_layer
    found.append(
        f"Both name the same layer on {same} of {problems} problems ({interval.low:.0%} to {interval.high:.0%})."
    )
    lead = sweep.against[sweep.worst]
    found.append(
        f"Ranked first on development problems: layer {sweep.chosen}; last: layer {sweep.worst}. On {lead.n} test problems the first "
        f"leads by {100 * lead.difference:+.1f} points ({100 * lead.interval.low:+.1f} to {100 * lead.interval.high:+.1f}, "
        f"{lead.test} p = {lead.p:.2g}); unsteered base {sweep.accuracy['base_bare']:.1%}."
    )
    return found


def facts(choice: LayerChoice, sweep: Sweep, writers: Any) -> dict[str, Any]:
    """Everything as one JSON document."""
    same, problems, interval = choice.same_layer
    return {
        "contrast": choice.contrast,
        "dose": choice.dose,
        "starts": list(choice.starts),
        "layers": choice.layers.to_dict("records"),
        "cells": choice.cells.to_dict("records"),
        "agreement": [
            {"over": a.over, "rho": a.rho, "n": a.n, "interval": None if a.interval is None else vars(a.interval)}
            for a in choice.agreement
        ],
        "same_layer": {"problems": same, "of": problems, "interval": vars(interval)},
        "chosen": {"exact": choice.ranked()[0], "attributed": choice.ranked("attributed")[0], "last": sweep.worst},
        "accuracy": sweep.accuracy,
        "against": {
            str(layer): {
                "difference": d.difference, "interval": vars(d.interval), "n": d.n, "helped": d.helped, "hurt": d.hurt, "p": d.p,
                "p_holm": sweep.adjusted[layer],
            }
            for layer, d in sweep.against.items()
        },
        "writers": writers.to_dict("records"),
        "run": sweep.run.manifest.run_id,
    }  # fmt: skip
