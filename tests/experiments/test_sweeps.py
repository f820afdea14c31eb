"""Sweeps: what a file stands for, wrong files, controls, halving, and resuming anywhere, on any executor, to the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from experiments.commands.cli import main
from experiments.evaluation.executors import WorkerFailed, on_ray, processes
from experiments.statistics import directions_needed
from experiments.store.runs import Run, Store
from experiments.studies.readings import training_problems
from experiments.sweeps.cells import Cell
from experiments.sweeps.estimate import estimate
from experiments.sweeps.run import axes, kept_choice, plan_sweep, read_cells, run_sweep, wrong_sign
from experiments.sweeps.spec import SweepSpec, cell_plan, cells_of
from experiments.sweeps.table import sweep_table
from experiments.sweeps.verdict import Choice, of_choice, of_test
from steering.engine.edit_size import edit_size, measured_sizes
from steering.errors import BadInput
from steering.model.models import load_model
from steering.model.prompts import encode_prompt
from steering.model.sites import Site
from steering.plan.controls import random_control
from steering.plan.expression import parse_plan
from steering.plan.plan import Plan
from steering.vector.vectors import Provenance, SteeringVector, random_like

STEER = [sys.executable, "-m", "experiments.commands.cli"]
BUILT_IN = Path(__file__).parents[2] / "steering" / "builtin" / "vectors"
SPEC: dict[str, Any] = {
    "name": "small", "model": "builtin:base", "plan": "add ones-$layer.safetensors ${dose}v on last_prompt",
    "vary": {"layer": [0, 1], "dose": [-1, 0.5]}, "splits": {"development": {"standard-dev": 6}, "test": {"standard-test": 4}},
    "generation": {"max_new_tokens": 12}, "rows_per_chunk": 16, "rows_per_batch": 6, "controls": {"random": 2, "random_on_test": 3},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("vectors")
    for layer in range(4):
        direction = torch.randn(128, generator=torch.Generator().manual_seed(layer))
        SteeringVector(f"ones-{layer}", Site(layer), direction, Provenance("test", "none")).save(
            place / f"ones-{layer}.safetensors"
        )
    (place / "sweep.yaml").write_text(yaml.safe_dump(SPEC, sort_keys=False))
    return place


def spec(**changes: Any) -> SweepSpec:
    return SweepSpec.model_validate({**SPEC, **changes})


def contents(run: Run) -> dict[str, bytes]:
    rows = {path.name: path.read_bytes() for path in run.shards()}
    return {
        **rows,
        "summary": (run.folder / "summary.json").read_bytes(),
        "card": (run.folder / "sweep.json").read_bytes(),
    }


def test_a_grid_is_every_combination_in_order(folder: Path) -> None:
    cells = cells_of(spec())
    assert [c.settings for c in cells] == [{"layer": a, "dose": b} for a in (0, 1) for b in (-1, 0.5)]
    assert [c.name for c in cells] == ["cell-000", "cell-001", "cell-002", "cell-003"]
    plan = cell_plan(spec(), cells[3], folder, {})
    (step,) = plan.interventions
    assert step.sites == (Site(1),) and step.dose is not None and step.dose.amount == 0.5
    drawn = spec(search={"kind": "random", "n": 3, "seed": 1})
    assert len(cells_of(drawn)) == 3 and cells_of(drawn) == cells_of(drawn)
    assert {json.dumps(c.settings) for c in cells_of(drawn)} <= {json.dumps(c.settings) for c in cells}
    listed = spec(search={"kind": "list", "cells": [{"layer": 1, "dose": 9}]})
    assert [c.settings for c in cells_of(listed)] == [{"layer": 1, "dose": 9}]
    assert axes(cells) == {"layer": [0, 1], "dose": [-1, 0.5]}


def test_controls_have_the_norm_and_nothing_else_of_the_vector(folder: Path) -> None:
    plan = cell_plan(spec(), cells_of(spec())[0], folder, {})
    control = random_control(plan, 3)
    (mine,), (theirs,) = plan.interventions, control.interventions
    assert isinstance(mine.vector, SteeringVector) and isinstance(theirs.vector, SteeringVector)
    assert theirs.vector.norm == pytest.approx(mine.vector.norm) and theirs.vector.digest != mine.vector.digest
    assert (mine.span, mine.dose, mine.sites) == (theirs.span, theirs.dose, theirs.sites)
    opposite = wrong_sign(plan)
    assert opposite is not None and opposite.interventions[0].dose.amount == 1.0  # type: ignore[union-attr]


def test_every_vector_and_seed_draws_a_direction_of_its_own(folder: Path) -> None:
    """The doses of one vector share their random direction, so that direction k of all cells is one pseudo-sweep; other vectors do not."""
    drawn = {}
    for cell in cells_of(spec()):
        plan = cell_plan(spec(), cell, folder, {})
        for seed in range(3):
            (step,) = random_control(plan, seed).interventions
            assert isinstance(step.vector, SteeringVector)
            drawn[cell.name, seed] = step.vector.direction / step.vector.norm
    names = [cell.name for cell in cells_of(spec())]
    for seed in range(3):
        assert torch.equal(drawn[names[0], seed], drawn[names[1], seed]), "one layer, two doses"
        assert abs(float(drawn[names[0], seed] @ drawn[names[2], seed])) < 0.5, "two layers have two vectors"
        assert abs(float(drawn[names[0], seed] @ drawn[names[0], (seed + 1) % 3])) < 0.5


def test_controls_of_an_ablation_are_matched_in_the_size_that_it_is_measured_to_have(folder: Path) -> None:
    model = load_model("builtin:base")
    prompts = [encode_prompt(model, problem.prompt("bare")) for problem in training_problems(8)]
    known = {"v": SteeringVector.load(BUILT_IN / "think-first.safetensors")}
    for text in ("ablate v on last_prompt", "clamp v 30 on last_prompt", "add v 3v on last_prompt keep-norm"):
        plan = parse_plan(text, known)
        with pytest.raises(BadInput, match="measure it first"):
            random_control(plan, 0)
        sizes = measured_sizes(model, prompts, [plan])
        own = edit_size(model, prompts, plan)
        theirs = [edit_size(model, prompts, random_control(plan, seed, sizes)) for seed in range(3)]
        assert own > 0 and theirs == pytest.approx([own] * 3, rel=0.05), text
    plan = parse_plan("ablate v on last_prompt", known)
    unmatched = Plan(tuple(replace(step, vector=random_like(known["v"], 0)) for step in plan.interventions))
    assert edit_size(model, prompts, unmatched) < 0.5 * edit_size(model, prompts, plan), (
        "the same operation along a random direction moves next to nothing, or this proves nothing"
    )


def test_a_sweep_chooses_on_development_and_reports_on_test(folder: Path, tmp_path: Path) -> None:
    asked = spec(prompted="think", reference="builtin:thinking", controls={"random": 2})
    result = run_sweep(asked, Store(tmp_path), folder)
    (run,) = result.runs
    assert read_cells(run) == cells_of(spec()) and len(result.table) == 4
    best = result.table.sort_values(["score", "tokens", "cell"], ascending=[False, True, True]).iloc[0]
    assert result.winner.name == best["cell"]
    rows = run.table().to_pandas()
    for line in result.table.to_dict("records"):
        own = rows[rows["arm"] == line["cell"]].set_index("item")["correct"].astype(float)
        base = rows[rows["arm"] == "baseline"].set_index("item")["correct"].astype(float)
        others = [
            rows[rows["arm"] == f"{line['cell']}-random-{seed}"].set_index("item")["correct"].astype(float)
            for seed in range(2)
        ]
        mean = sum(others) / 2
        assert line["difference"] == pytest.approx((own - base).mean())
        assert line["over_control"] == pytest.approx((own - mean).mean()) and line["directions"] == 2
        assert line["as_good"] == sum(other.mean() >= own.mean() for other in others)
        assert line["rank_p"] == pytest.approx((1 + line["as_good"]) / 3) and line["matched"]
    assert result.test is not None
    assert {a.role for a in result.test.manifest.arms} == {"baseline", "prompt", "steered", "control", "reference"}
    assert (
        sum(a.role == "control" for a in result.test.manifest.arms) == 79
    )  # for the best of four directions, and the wrong sign
    seen = {v["name"] for v in run.manifest.facts["vectors"].values()}
    assert not any(
        v["name"] in seen for v in result.test.manifest.facts["vectors"].values() if v["name"].startswith("random")
    )
    assert result.verdict == of_test(result.test) and result.verdict.directions == 78
    choice = result.verdict.choice
    assert choice is not None and (choice.cells, choice.p, choice.pseudo_sweeps) == (4, None, 2)
    assert "2 random directions beside a cell make 2 pseudo-sweeps" in choice.why


def rows_of(right: dict[str, list[bool]], edits: dict[str, float] | None = None) -> pd.DataFrame:
    """Made-up rows: arms by item, each edited once with the size given (0.5)."""
    return pd.DataFrame(
        [
            {
                "arm": arm, "split": "s", "item": f"i{n:03d}", "seed": 0, "correct": c, "truncated": False, "token_ids": [1],
                "edit_ratio": [0.0, (edits or {}).get(arm, 0.5)], "edits_planned": 1,
            }
            for arm, values in right.items()
            for n, c in enumerate(values)
        ]
    )  # fmt: skip


class FakeRun:
    """A stored sweep of made-up rows."""

    def __init__(
        self, frame: pd.DataFrame, cells: list[Cell], folder: Path, choice: Choice | None = None, items: int = 80
    ):
        folder.mkdir(exist_ok=True)
        self.frame, self.folder = frame, folder
        step = {"operation": "add", "site": "blocks.0.hook_resid_post", "span": "last_prompt"}
        arms = [
            SimpleNamespace(name=name, plan=None if name == "baseline" else {"interventions": [step]})
            for name in dict.fromkeys(frame["arm"])
        ]
        self.manifest = SimpleNamespace(
            baseline=SimpleNamespace(name="baseline"), run_id="fake", arms=arms, splits={"s": items}, status="complete"
        )
        card: dict[str, Any] = {"sweep": {}, "cells": [c.model_dump(mode="json") for c in cells]}
        if choice is not None:
            card["choice"] = choice.to_dict()
        (folder / "sweep.json").write_text(json.dumps(card))

    def table(self, columns: list[str]) -> Any:
        return type("T", (), {"to_pandas": lambda _: self.frame[columns].copy()})()


def coins(rng: random.Random, p: float, n: int = 80) -> list[bool]:
    return [rng.random() < p for _ in range(n)]


def test_cells_are_described_against_the_distribution_of_their_directions(tmp_path: Path) -> None:
    """One cell helps, one helps as many of its random directions do, one does nothing."""
    rng = random.Random(0)
    right = {
        "baseline": coins(rng, 0.2),
        "cell-000": coins(rng, 0.7),
        "cell-001": coins(rng, 0.7),
        "cell-002": coins(rng, 0.2),
    }
    for seed in range(20):
        right[f"cell-000-random-{seed}"] = coins(rng, 0.2)
        right[f"cell-001-random-{seed}"] = coins(rng, 0.8 if seed % 3 == 0 else 0.2)
        right[f"cell-002-random-{seed}"] = coins(rng, 0.2)
    cells = cells_of(spec(vary={"layer": [0, 1, 2], "dose": [1]}))
    run = FakeRun(rows_of(right, {"cell-002": 0.9}), cells, tmp_path)
    table = sweep_table(run, cells).set_index("cell")  # type: ignore[arg-type]
    assert table.loc["cell-000", "rank_p"] == pytest.approx(1 / 21) and table.loc["cell-000", "as_good"] == 0
    assert table.loc["cell-001", "as_good"] >= 3 and table.loc["cell-001", "p"] < 0.001, "only the distribution tells"
    wide, narrow = (
        table.loc[c, "over_control_high"] - table.loc[c, "over_control_low"] for c in ("cell-001", "cell-000")
    )
    assert wide > 1.2 * narrow, "directions that differ are a source of variance"
    assert table["score"].idxmax() == "cell-000" and "real" not in table
    assert table["matched"].tolist() == [True, True, False], "edits are compared as they were measured"
    found = of_choice([run], "cell-000", 3)  # type: ignore[list-item]
    assert found.pseudo_sweeps == 20 and found.p is not None and found.p > 0.05, (
        "random directions of another cell do as much: the best of the grid is no more than that"
    )
    assert of_choice([run], "cell-000", 3, halving=True).p is None  # type: ignore[list-item]


def test_a_cell_wins_nothing_by_controls_that_do_damage(tmp_path: Path) -> None:
    rng = random.Random(2)
    right = {"baseline": coins(rng, 0.5), "cell-000": coins(rng, 0.5), "cell-001": coins(rng, 0.62)}
    right |= {f"cell-000-random-{seed}": coins(rng, 0.05) for seed in range(39)}
    right |= {f"cell-001-random-{seed}": coins(rng, 0.5) for seed in range(39)}
    cells = cells_of(spec(vary={"layer": [0, 1], "dose": [1]}))
    table = sweep_table(FakeRun(rows_of(right), cells, tmp_path), cells).set_index("cell")  # type: ignore[arg-type]
    assert table.loc["cell-000", "over_control"] > 0.3 and table["score"].idxmax() == "cell-001"
    alone = {arm: values for arm, values in right.items() if not arm.startswith("cell-001")}
    found = of_test(FakeRun(rows_of(alone), cells[:1], tmp_path / "test", CHOSEN))  # type: ignore[arg-type]
    assert found.real is False and "not better than the unsteered arm" in found.sentence


CHOSEN = Choice("cell-000", 24, 0.048, 20, "+40.0 points, where random sweeps have +0.0 to +10.0")


def test_a_planted_winner_is_real_on_test_problems_and_one_of_many_draws_is_not(tmp_path: Path) -> None:
    rng = random.Random(1)
    cells = cells_of(spec(vary={"layer": [0], "dose": [1]}))
    right = {"baseline": coins(rng, 0.2), "cell-000": coins(rng, 0.75)}
    right |= {f"cell-000-random-{1000 + seed}": coins(rng, 0.2) for seed in range(39)}

    def judged(name: str, rows: pd.DataFrame, choice: Choice | None = CHOSEN, items: int = 80) -> Any:
        return of_test(FakeRun(rows, cells, tmp_path / name, choice, items))  # type: ignore[arg-type]

    assert judged("real", rows_of(right)).real is True
    lucky = judged("lucky", rows_of(right), replace(CHOSEN, p=0.3))
    assert lucky.real is False and "no better than random ones" in lucky.sentence and lucky.p == 0.3
    without = replace(CHOSEN, p=None, pseudo_sweeps=1, why="1 random direction makes 1 pseudo-sweep")
    few = judged("few", rows_of(right), without)
    assert few.real is None and f"{directions_needed(24)} would do" in few.sentence
    assert judged("one", rows_of(right), replace(without, cells=1)).real is True
    assert judged("older", rows_of(right), None).real is None
    size = judged("size", rows_of(right, {"cell-000": 0.8}))
    assert size.real is False and "differ in size (0.80 against 0.50" in size.sentence
    uneven = {f"cell-000-random-{1000 + seed}": 0.1 if seed % 2 else 0.9 for seed in range(39)}
    spread = judged("spread", rows_of(right, uneven | {"cell-000": 0.51}))
    assert spread.real is False and "controls have other edits" in spread.sentence, "equal on average only"
    drawn = right | {f"cell-000-random-{1000 + seed}": coins(rng, 0.8) for seed in range(4)}
    assert judged("draws", rows_of(drawn)).real is False
    part = judged("part", rows_of(right), items=200)
    assert part.real is None and "not whole (80 of 200 problems" in part.sentence
    lone = rows_of({arm: values for arm, values in right.items() if "random" not in arm})
    assert judged("none", lone).real is None


def test_a_test_run_keeps_the_choice_among_more_cells_and_the_less_clear_one(tmp_path: Path) -> None:
    cells = cells_of(spec(vary={"layer": [0], "dose": [1]}))
    stored = FakeRun(rows_of({"baseline": [True]}), cells, tmp_path / "a", CHOSEN)
    few, clear = replace(CHOSEN, cells=1, p=None), replace(CHOSEN, p=0.01)
    assert kept_choice(stored, few) == CHOSEN and kept_choice(stored, clear) == CHOSEN  # type: ignore[arg-type]
    more = replace(CHOSEN, cells=48, p=0.01)
    assert kept_choice(stored, more) == more  # type: ignore[arg-type]
    fresh = FakeRun(rows_of({"baseline": [True]}), cells, tmp_path / "b")
    assert kept_choice(fresh, few) == few  # type: ignore[arg-type]


def test_halving_spends_problems_on_the_better_cells(folder: Path, tmp_path: Path) -> None:
    search = {"kind": "halving", "rungs": [2, 4], "keep": 0.5}
    result = run_sweep(spec(search=search, splits={"development": {"standard-dev": 6}}), Store(tmp_path), folder)
    first, last = result.runs
    assert first.manifest.splits == {"standard-dev": 2} and last.manifest.splits == {"standard-dev": 4}
    assert len(read_cells(first)) == 4 and len(read_cells(last)) == 2 and result.test is None
    table = sweep_table(first, read_cells(first)).sort_values(["score", "tokens"], ascending=[False, True])
    assert {c.name for c in read_cells(last)} == set(table["cell"].head(2))


def test_generation_settings_are_varied_in_runs_of_their_own(folder: Path) -> None:
    varied = spec(vary={**SPEC["vary"], "generation.temperature": [0.0, 1.0]})
    planned = plan_sweep(varied, folder)
    assert [p.spec.generation.temperature for p in planned] == [0.0, 1.0]
    assert all(len(p.cells) == 4 for p in planned) and len({p.spec.name for p in planned}) == 2
    found = estimate(varied, planned)
    assert (found.runs, found.cells, found.arms, found.rows) == (2, 8, 26, 156)
    assert found.most_tokens == 156 * 12 >= found.tokens > 0 and found.disk_mib > 0 and found.memory_mib > 3.4


@pytest.mark.slow
def test_three_kills_leave_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    whole = run_sweep(spec(), Store(tmp_path / "whole"), folder)
    command = [*STEER, "sweep", "run", str(folder / "sweep.yaml"), "--runs", str(tmp_path / "cut")]
    rng, kills, seen = random.Random(1), 0, 0
    while kills < 3:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            found = len(list((tmp_path / "cut").glob("*/rows/*.parquet")))
            if found > seen:
                time.sleep(rng.random() * 0.2)
                break
            time.sleep(0.02)
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills, seen = kills + 1, len(list((tmp_path / "cut").glob("*/rows/*.parquet")))
    assert kills == 3, "the sweep ended before it was killed three times"
    subprocess.run(command, check=True, capture_output=True)
    for run in (*whole.runs, whole.test):
        assert run is not None
        again = Store(tmp_path / "cut").open(run.manifest.run_id)
        assert contents(again) == contents(run)
        keys = again.table(columns=["key"])["key"].to_pylist()
        assert len(keys) == len(set(keys)) == run.manifest.rows_expected


class Killer:
    """Ends the first worker that has begun a chunk, once."""

    def __init__(self) -> None:
        self.done = False

    def __call__(self, done: int, total: int) -> None:
        import multiprocessing

        if not self.done and done:
            children = multiprocessing.active_children()
            assert children
            os.kill(children[0].pid, signal.SIGKILL)  # type: ignore[arg-type]
            self.done = True


@pytest.mark.slow
def test_worker_processes_give_the_same_bytes_and_one_may_die(folder: Path, tmp_path: Path) -> None:
    here = run_sweep(spec(), Store(tmp_path / "here"), folder)
    killer = Killer()
    there = run_sweep(
        spec(),
        Store(tmp_path / "there"),
        folder,
        executor=processes(2),
        on_rows=lambda _, done, total: killer(done, total),
    )
    assert killer.done
    for mine, theirs in zip((*here.runs, here.test), (*there.runs, there.test), strict=True):
        assert mine is not None and theirs is not None and contents(mine) == contents(theirs)


@pytest.mark.slow
def test_a_chunk_that_ends_every_worker_stops_the_sweep_and_keeps_the_rest(folder: Path, tmp_path: Path) -> None:
    (planned,) = plan_sweep(spec(), folder)
    from experiments.evaluation.evaluate import run_evaluation

    def torn(run: Run, *rest: Any) -> Any:
        for path in (run.folder / "vectors").glob("*.safetensors"):
            path.write_bytes(b"torn")
        return processes(1)(run, *rest)

    with pytest.raises(WorkerFailed, match="corrupt or cut short"):
        run_evaluation(planned.spec, Store(tmp_path), planned.vectors, executor=torn)
    assert Store(tmp_path).list()[0].manifest.status == "interrupted"  # type: ignore[union-attr]


@pytest.mark.slow
def test_two_ray_nodes_give_the_same_bytes_and_one_may_die(folder: Path, tmp_path: Path) -> None:
    import ray
    from ray.cluster_utils import Cluster

    here = run_sweep(spec(), Store(tmp_path / "here"), folder)
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False},
    )
    second = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    killed: list[bool] = []

    def halfway(name: str, done: int, total: int) -> None:
        if not killed and done * 2 >= total:
            cluster.remove_node(second, allow_graceful=False)
            cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
            killed.append(True)

    try:
        ray.init(cluster.address, log_to_driver=False)
        there = run_sweep(spec(), Store(tmp_path / "there"), folder, executor=on_ray(2), on_rows=halfway)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert killed
    for mine, theirs in zip((*here.runs, here.test), (*there.runs, there.test), strict=True):
        assert mine is not None and theirs is not None and contents(mine) == contents(theirs)


def test_the_commands_plan_run_and_show(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def steer(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["steer", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    file = folder / "sweep.yaml"
    planned = json.loads(steer("sweep", "plan", file, "--json"))
    assert planned["estimate"]["cells"] == len(planned["cells"]) == 4
    assert "cell-003\tlayer 1, dose 0.5" in steer("sweep", "plan", file)
    done = json.loads(steer("sweep", "run", file, "--runs", tmp_path, "--json"))
    shown = json.loads(steer("sweep", "show", done["runs"][0], "--runs", tmp_path, "--json"))
    assert shown == done["cells"]
    assert done["winner"]["name"] in done["summary"]["splits"][0]["arms"][1]["name"]
    assert "described, not tested" in steer("sweep", "show", done["runs"][0], "--runs", tmp_path)


WRONG: list[tuple[str, Any, str]] = [
    ("name", "Bad Name", "name"),
    ("plan", "add ones-$layer.safetensors ${dose}v on nowhere", "Unknown span"),
    ("plan", "add ones-$layer.safetensors on last_prompt", "vary.dose is not in the plan"),
    ("plan", "add ones-$layer.safetensors ${dose}v at blocks.$site.hook_resid_post", "the plan has $site"),
    ("plan", "ad ones-$layer.safetensors ${dose}v", "Did you mean 'add'"),
    ("vary", {"layer": [], "dose": [1]}, "vary.layer needs at least one value"),
    ("vary", {"layer": [1, 1], "dose": [1]}, "none twice"),
    ("vary", {"layer": [1], "dose": [1], "generation.heat": [1]}, "no such generation setting"),
    ("vary", {"layer": [9], "dose": [1]}, "No vector file"),
    ("splits", {"development": {}}, "at least one development split"),
    ("splits", {"development": {"standard-dev": 0}}, "splits.development.standard-dev"),
    (
        "splits",
        {"development": {"standard-dev": 2}, "test": {"standard-dev": 2}},
        "both a development and a test split",
    ),
    ("splits", {"development": {"standard": 2}}, "Unknown split"),
    ("search", {"kind": "random"}, "needs n"),
    ("search", {"kind": "grid", "n": 3}, "takes no n"),
    ("search", {"kind": "halving", "rungs": [4, 2]}, "must grow"),
    ("search", {"kind": "list", "cells": [{"layer": 1}]}, "Unknown key 'dose'"),
    ("search", {"kind": "bayes"}, "search.kind"),
    ("controls", {"random": -1}, "controls.random"),
    ("generation", {"max_new_tokens": 0}, "generation.max_new_tokens"),
    ("generation", {"max_new_tokens": 9999}, "exceed the context"),
    ("model", "builtin:bass", "Did you mean 'builtin:base'"),
    ("task", "find-stat", "Did you mean 'find-start'"),
    ("form", "bear", "Unknown prompt form"),
    ("rows_per_chunk", 0, "rows_per_chunk"),
    ("colour", "red", "colour"),
]


@pytest.mark.parametrize(("key", "value", "said"), WRONG, ids=[f"{k}-{n}" for n, (k, _, _) in enumerate(WRONG)])
def test_wrong_files_are_refused_with_what_is_wrong(
    key: str,
    value: Any,
    said: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = folder / "wrong.yaml"
    file.write_text(yaml.safe_dump({**SPEC, key: value}))
    monkeypatch.setattr(sys, "argv", ["steer", "sweep", "run", str(file), "--runs", str(tmp_path / "none")])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    assert ended.value.code == 2, captured.err
    assert said in captured.err and len(captured.err.splitlines()) < 12
    assert captured.out == "" and not list(tmp_path.rglob("*.parquet"))
