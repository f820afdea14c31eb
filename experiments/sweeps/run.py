"""Running a sweep: all cells on development problems in one queue, the winner on test problems.

1. Cells that share generation settings are arms of one run: their rows share prompts, batches and baseline. Other settings are runs of
   their own, with a baseline of their own.
2. A cell's score is its accuracy minus that of its own random directions, over the development splits; ties go to fewer tokens.
3. The winner is run again on the test splits beside the baseline, the prompt that asks for it, fresh random directions, its wrong sign and
   the reference. The difference between the two is what choosing among many cells is worth; whether it is real, `verdict` says.
4. Everything goes on where it stopped: rows are stored by chunk, and a finished run is not run again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from steering.engine.edit_size import measured_sizes
from steering.errors import BadInput
from steering.model.models import LoadedModel
from steering.model.prompts import encode_prompt
from steering.model.sites import Site
from steering.plan.controls import random_control, sized_alone
from steering.plan.dose import Dose
from steering.plan.plan import Intervention, Plan
from steering.vector.features import Features
from steering.vector.vectors import SteeringVector

from ..evaluation.evaluate import run_evaluation
from ..evaluation.executors import ChunkExecutor, in_process
from ..evaluation.loading import load
from ..evaluation.spec import EvalSpec, Generating
from ..statistics import directions_needed
from ..store.runs import Arm, Run, Store
from ..tasks.task import check_form, resolve_task
from .cells import CARD, Cell, axes, random_name, read_card, read_cells
from .spec import SweepSpec, cell_generation, cell_plan, cells_of
from .table import sweep_table
from .verdict import Choice, Verdict, of_choice, of_development, of_test

__all__ = ["Planned", "SweepResult", "axes", "keep_card", "plan_sweep", "read_cells", "run_sweep", "wrong_sign"]

Vectors = dict[str, SteeringVector | Features]
MEASURED = 16
"""Problems on which the size of an edit is measured for its controls."""
LEAST_ON_TEST = 39
"""Random directions beside the winner at the least: p can then be 0.025."""
UNSEEN = 1000
"""Seeds of the random directions of test runs: none that the choice has seen."""


@dataclass(frozen=True, eq=False)
class SweepResult:
    """The development runs, their table, the winner, its test run (None without test splits), and whether it is real."""

    runs: tuple[Run, ...]
    table: pd.DataFrame
    winner: Cell
    test: Run | None
    verdict: Verdict


@dataclass(frozen=True)
class Planned:
    """One development run that a sweep stands for."""

    spec: EvalSpec
    cells: tuple[Cell, ...]
    vectors: Vectors


def plan_sweep(
    spec: SweepSpec,
    folder: Path,
    n: int | None = None,
    cells: list[Cell] | None = None,
    *,
    models: dict[str, LoadedModel] | None = None,
) -> list[Planned]:
    """The development runs; `n` limits the problems per split, `cells` the combinations. Loads the model only where a control's size has to
    be measured. Raises BadInput for a cell that cannot run."""
    task = resolve_task(spec.task)
    for form in (spec.form, spec.prompted):
        if form is not None:
            check_form(task, form)
    groups: dict[str, list[Cell]] = {}
    for cell in cells_of(spec) if cells is None else cells:
        groups.setdefault(cell_generation(spec, cell).model_dump_json(), []).append(cell)
    known: Vectors = {}
    plans = {cell.name: cell_plan(spec, cell, folder, known) for members in groups.values() for cell in members}
    sizes = _sizes(spec, list(plans.values()), models) if spec.controls.random else {}
    found = []
    for number, (settings, members) in enumerate(groups.items()):
        vectors: Vectors = {}
        arms = [Arm(name="baseline", label="unsteered", role="baseline", model=spec.model, form=spec.form)]
        for cell in members:
            plan = plans[cell.name]
            arms.append(_arm(spec, cell.name, cell.label, "steered", plan))
            vectors |= plan.vectors
            for seed in range(spec.controls.random):
                control = random_control(plan, seed, sizes)
                arms.append(_arm(spec, random_name(cell, seed), f"random {seed}: {cell.label}", "control", control))
                vectors |= control.vectors
        splits = {name: min(count, n or count) for name, count in spec.splits.development.items()}
        name = spec.name + (f"-g{number}" if len(groups) > 1 else "") + (f"-n{n}" if n is not None else "")
        found.append(
            Planned(
                _evaluation(spec, name, splits, arms, Generating.model_validate_json(settings)), tuple(members), vectors
            )
        )
    return found


def _sizes(
    spec: SweepSpec, plans: list[Plan], models: dict[str, LoadedModel] | None
) -> dict[tuple[Intervention, Site], float]:
    """Measured sizes of the edits whose controls cannot be matched by the dose alone, on the first development problems."""
    if all(sized_alone(step) or isinstance(step.vector, Features) for plan in plans for step in plan.interventions):
        return {}
    models = {} if models is None else models
    if spec.model not in models:
        models[spec.model] = load(spec.model, spec.loading)
    model, task = models[spec.model], resolve_task(spec.task)
    split, count = next(iter(spec.splits.development.items()))
    prompts = [encode_prompt(model, task.prompt(item, spec.form)) for item in task.items(split, min(count, MEASURED))]
    return measured_sizes(model, prompts, plans)


def _arm(spec: SweepSpec, name: str, label: str, role: str, plan: Plan) -> Arm:
    return Arm(name=name, label=label, role=role, model=spec.model, form=spec.form, plan=plan.to_dict())  # type: ignore[arg-type]


def _evaluation(
    spec: SweepSpec, name: str, splits: dict[str, int], arms: list[Arm], generation: Generating
) -> EvalSpec:
    return EvalSpec(
        name=name, task=spec.task, splits=splits, arms=tuple(arms), generation=generation,
        loading=spec.loading, rows_per_chunk=spec.rows_per_chunk,
        rows_per_batch=spec.rows_per_batch,
        batch_invariant=spec.batch_invariant,
    )  # fmt: skip


def run_sweep(
    spec: SweepSpec,
    store: Store,
    folder: Path = Path(),
    *,
    models: dict[str, LoadedModel] | None = None,
    executor: ChunkExecutor = in_process,
    on_rows: Callable[[str, int, int], None] | None = None,
) -> SweepResult:
    """Run or resume a sweep; `on_rows(run, done, total)` reports progress. Raises as `run_evaluation`."""
    models = {} if models is None else models

    def evaluate(planned: Planned, choice: Choice | None = None) -> Run:
        def report(done: int, total: int) -> None:
            if on_rows is not None:
                on_rows(planned.spec.name, done, total)

        run = run_evaluation(planned.spec, store, planned.vectors, models=models, on_rows=report, executor=executor)
        keep_card(
            run, spec, planned.cells, **({} if choice is None else {"choice": kept_choice(run, choice).to_dict()})
        )
        return run

    runs: list[Run] = []
    cells = cells_of(spec)
    among = len(cells)
    for n in spec.search.rungs[:-1] if spec.search.kind == "halving" else ():
        rung = [evaluate(planned) for planned in plan_sweep(spec, folder, n, cells, models=models)]
        runs += rung
        ranked = pd.concat([sweep_table(run, read_cells(run)) for run in rung]).sort_values(
            ["score", "tokens"], ascending=[False, True]
        )
        kept = set(ranked["cell"].head(max(1, round(spec.search.keep * len(ranked)))))
        cells = [cell for cell in cells if cell.name in kept]
    last = spec.search.rungs[-1] if spec.search.kind == "halving" else None
    final = [evaluate(planned) for planned in plan_sweep(spec, folder, last, cells, models=models)]
    table = pd.concat([sweep_table(run, read_cells(run)) for run in final], ignore_index=True)
    best = table.sort_values(["score", "tokens", "cell"], ascending=[False, True, True]).iloc[0]["cell"]
    winner = next(cell for cell in cells if cell.name == best)
    choice = of_choice(final, winner.name, among, halving=spec.search.kind == "halving")
    test = evaluate(_test(spec, winner, folder, choice, models), choice) if spec.splits.test else None
    return SweepResult((*runs, *final), table, winner, test, of_test(test) if test else of_development(choice))


def keep_card(run: Run, spec: SweepSpec, cells: Sequence[Cell], **facts: Any) -> None:
    """Store with a run which sweep it is of, its cells, and of a test run the `choice`; `result` names a run in which another program
    tested the cell that it had `chosen`."""
    card = {"sweep": spec.model_dump(mode="json"), "cells": [cell.model_dump(mode="json") for cell in cells], **facts}
    run.keep(CARD, (json.dumps(card, indent=1, sort_keys=True) + "\n").encode())


def directions_on_test(spec: SweepSpec, choice: Choice) -> int:
    """Random directions beside the winner: as asked for, else 39 where pseudo-sweeps account for the choice, else as many as a p of 0.05
    needs after the choice among the sweep's cells."""
    asked = spec.controls.random_on_test
    if asked is not None:
        return asked
    return LEAST_ON_TEST if choice.p is not None else max(LEAST_ON_TEST, directions_needed(choice.cells))


def kept_choice(run: Run, choice: Choice) -> Choice:
    """The choice that a test run's card keeps: another sweep may have chosen the same cell before, among more cells or less clearly."""
    try:
        stored = read_card(run).get("choice")
    except BadInput:
        return choice
    if not stored:
        return choice
    return max(Choice(**stored), choice, key=lambda c: (c.cells, 1.0 if c.p is None else c.p))


def _test(spec: SweepSpec, winner: Cell, folder: Path, choice: Choice, models: dict[str, LoadedModel]) -> Planned:
    """The winner beside everything that it must beat."""
    plan = cell_plan(spec, winner, folder, {})
    arms = [Arm(name="baseline", label="unsteered", role="baseline", model=spec.model, form=spec.form)]
    if spec.prompted is not None:
        label = f"prompted ({spec.prompted})"
        arms.append(Arm(name="prompted", label=label, role="prompt", model=spec.model, form=spec.prompted))
    arms.append(_arm(spec, winner.name, winner.label, "steered", plan))
    vectors: Vectors = dict(plan.vectors)
    drawn = directions_on_test(spec, choice)
    sizes = _sizes(spec, [plan], models) if drawn else {}
    for seed in range(drawn):
        control = random_control(plan, UNSEEN + seed, sizes)
        arms.append(_arm(spec, random_name(winner, UNSEEN + seed), f"random {seed}", "control", control))
        vectors |= control.vectors
    opposite = wrong_sign(plan)
    if opposite is not None:
        arms.append(_arm(spec, f"{winner.name}-wrong-sign", "wrong sign", "control", opposite))
    if spec.reference is not None:
        arms.append(Arm(name="reference", label="reference", role="reference", model=spec.reference, form=spec.form))
    return Planned(
        _evaluation(spec, f"{spec.name}-test", dict(spec.splits.test), arms, cell_generation(spec, winner)),
        (winner,),
        vectors,
    )


def wrong_sign(plan: Plan) -> Plan | None:
    """The plan with every added dose negated, or None where it adds nothing."""
    steps = [
        replace(step, dose=Dose(-step.dose.amount, step.dose.unit, step.dose.schedule))
        if step.operation == "add" and step.dose is not None
        else step
        for step in plan.interventions
    ]
    return Plan(tuple(steps)) if any(a is not b for a, b in zip(steps, plan.interventions, strict=True)) else None
