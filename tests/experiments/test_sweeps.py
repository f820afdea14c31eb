"""Sweeps: what a file stands for, wrong files, controls, halving, and resuming anywhere, on any executor, to the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from experiments.commands.cli import main
from experiments.evaluation.executors import WorkerFailed, on_ray, processes
from experiments.store.runs import Run, Store
from experiments.studies.readings import training_problems
from experiments.sweeps.estimate import estimate
from experiments.sweeps.run import axes, plan_sweep, read_cells, run_sweep, wrong_sign
from experiments.sweeps.spec import SweepSpec, cell_plan, cells_of
from experiments.sweeps.table import sweep_table
from experiments.sweeps.verdict import of_test
from steering.engine.edit_size import edit_size, measured_sizes
from steering.errors import BadInput
from steering.model.models import load_model
from steering.model.prompts import encode_prompt
from steering.model.sites import Site
from steering.plan.controls import random_control
from steering.plan.expression import parse_plan
from steering.plan.plan import Plan
from steering.vector.vectors import Provenance, SteeringVector, random_like
from tests.steer_process import KilledAfterWriting, SteerProcess

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
    words = ["sweep", "run", folder / "sweep.yaml", "--runs", tmp_path / "cut"]
    rng, stored = random.Random(1), 0
    for _ in range(3):
        died = SteerProcess(*words, first=KilledAfterWriting(rng.random() * 0.2)).done()
        assert died.returncode == -signal.SIGKILL, died.stderr
        before, stored = stored, len(list((tmp_path / "cut").glob("*/rows/*.parquet")))
        assert stored == before + 1
    last = SteerProcess(*words).done()
    assert last.returncode == 0, last.stderr
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
    assert len(json.loads(steer("sweep", "run", file, "--dry-run", "--json"))["cells"]) == 4
    assert "cell-003\tlayer 1, dose 0.5" in steer("sweep", "run", file, "--dry-run", "--runs", tmp_path)
    assert not list(tmp_path.glob("*/run.json")), "a dry run stores nothing"
    many = steer("sweep", "plan", file, "--devices", "1,8", "--tokens-per-second", "10").splitlines()
    assert [line.split("\t")[0] for line in many if "busy" in line] == ["1 device", "8 devices"]
    assert all("(at most " in line for line in many if "busy" in line)
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


def test_names_are_filled_in_inside_a_plan_file_too(folder: Path, tmp_path: Path) -> None:
    spec = {**SPEC, "plan": "steps-$layer.yaml", "vary": {"layer": (1, 2), "dose": (0.5, 2)}}
    for layer in (1, 2):
        step = {"operation": "add", "vector": str(folder / f"ones-{layer}.safetensors"), "span": "last_prompt"}
        text = yaml.safe_dump({"interventions": [{**step, "dose": {"amount": "AMOUNT", "unit": "vector"}}]})
        (tmp_path / f"steps-{layer}.yaml").write_text(text.replace("AMOUNT", "$dose"))
    made = SweepSpec.model_validate(spec)
    plans = [cell_plan(made, cell, tmp_path, {}) for cell in cells_of(made)]
    found = [(plan.interventions[0].vector.site.layer, plan.interventions[0].dose.amount) for plan in plans]  # type: ignore[union-attr]
    assert found == [(1, 0.5), (1, 2.0), (2, 0.5), (2, 2.0)]
    more = SweepSpec.model_validate({**spec, "vary": {**spec["vary"], "seed": (0,)}})
    with pytest.raises(BadInput, match=r"vary.seed is neither in the plan file .*steps-1.yaml nor in its name"):
        cell_plan(more, cells_of(more)[0], tmp_path, {})
    less = SweepSpec.model_validate({**spec, "vary": {"layer": (1,)}})
    with pytest.raises(BadInput, match=r"steps-1.yaml has \$dose, but vary lacks it; it has layer"):
        cell_plan(less, cells_of(less)[0], tmp_path, {})
    with pytest.raises(BadInput, match="No plan file at"):
        cell_plan(made, cells_of(made)[0], folder, {})
    (tmp_path / "steps-1.yaml").write_text("# costs $5 and $dose\n" + text.replace("AMOUNT", "$dose"))
    with pytest.raises(BadInput, match=r"steps-1.yaml has a `\$` that begins no name .* write \$\$ for a dollar sign"):
        cell_plan(made, cells_of(made)[0], tmp_path, {})


def test_an_actor_of_several_gpus_spreads_its_models(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.evaluation import executors, loading

    asked: list[dict[str, Any]] = []
    base = load_model("builtin:base")

    def loaded(name: str, **arguments: Any) -> Any:
        asked.append({key: value for key, value in arguments.items() if key.startswith("device")})
        return base

    monkeypatch.setattr(loading, "load_model", loaded)
    result = run_sweep(spec(), Store(tmp_path / "runs"), folder)
    (run, *_) = result.runs
    place = executors.location(run.folder)
    asked.clear()
    for device in (loading.SPREAD, "cuda", None):
        executors.Worker(place, 1, device)
    assert asked == [{"device_map": "auto"}, {"device": "cuda"}, {"device": None, "device_map": None}]
    for wrong in (1.5, -1):
        with pytest.raises(BadInput, match="a share of one GPU, or whole ones"):
            on_ray(2, gpus=wrong)


def test_the_gpus_of_an_actor_choose_its_device(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ray is told, and what the actor is given, for each number of GPUs; no actor runs."""
    import ray

    result = run_sweep(spec(), Store(tmp_path / "runs"), folder)
    (run, *_) = result.runs
    told: list[tuple[float, str | None]] = []

    class Stopped(Exception):
        pass

    def remote(num_cpus: float, num_gpus: float) -> Any:
        def actor(kind: Any) -> Any:
            class Actor:
                @staticmethod
                def remote(place: str, threads: int | None, device: str | None) -> Any:
                    told.append((num_gpus, device))
                    raise Stopped

            return Actor

        return actor

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "remote", remote)
    for gpus in (0, 0.5, 1, 2):
        with pytest.raises(Stopped):
            list(on_ray(1, gpus=gpus)(run, None, None, {0: []}))  # type: ignore[arg-type]
    assert told == [(0, None), (0.5, "cuda"), (1, "cuda"), (2, "all")]
