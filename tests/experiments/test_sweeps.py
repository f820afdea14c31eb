"""Sweeps: what a file stands for, wrong files, controls, halving, and resuming anywhere, on any executor, to the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from experiments.commands.cli import main
from experiments.evaluation.executors import WorkerFailed, on_ray, processes
from experiments.store.runs import Run, Store
from experiments.sweeps.estimate import estimate
from experiments.sweeps.run import axes, plan_sweep, read_cells, run_sweep, wrong_sign
from experiments.sweeps.spec import SweepSpec, cell_plan, cells_of, random_control
from experiments.sweeps.table import sweep_table
from steering.model.sites import Site
from steering.vector.vectors import Provenance, SteeringVector

STEER = [sys.executable, "-m", "experiments.commands.cli"]
SPEC: dict[str, Any] = {
    "name": "small", "model": "builtin:base", "plan": "add ones-$layer.safetensors ${dose}v on last_prompt",
    "vary": {"layer": [0, 1], "dose": [-1, 0.5]}, "splits": {"development": {"standard-dev": 6}, "test": {"standard-test": 4}},
    "generation": {"max_new_tokens": 12}, "rows_per_chunk": 16, "rows_per_batch": 6,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

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


def test_a_sweep_chooses_on_development_and_reports_on_test(folder: Path, tmp_path: Path) -> None:
    result = run_sweep(spec(prompted="think", reference="builtin:thinking"), Store(tmp_path), folder)
    (run,) = result.runs
    assert read_cells(run) == cells_of(spec()) and len(result.table) == 4
    best = result.table.sort_values(["score", "tokens", "cell"], ascending=[False, True, True]).iloc[0]
    assert result.winner.name == best["cell"]
    rows = run.table().to_pandas()
    for line in result.table.to_dict("records"):
        own = rows[rows["arm"] == line["cell"]].set_index("item")["correct"].astype(float)
        base = rows[rows["arm"] == "baseline"].set_index("item")["correct"].astype(float)
        other = rows[rows["arm"] == f"{line['cell']}-random-0"].set_index("item")["correct"].astype(float)
        assert line["difference"] == pytest.approx((own - base).mean()) and line["over_control"] == pytest.approx(
            (own - other).mean()
        )
        assert line["p_holm"] >= line["p"]
    assert result.test is not None
    assert {a.role for a in result.test.manifest.arms} == {"baseline", "prompt", "steered", "control", "reference"}
    assert sum(a.role == "control" for a in result.test.manifest.arms) == 6  # five random directions and the wrong sign
    seen = {v["name"] for v in run.manifest.facts["vectors"].values()}
    assert not any(
        v["name"] in seen for v in result.test.manifest.facts["vectors"].values() if v["name"].startswith("random")
    )


def test_a_planted_cell_is_found_and_called_real() -> None:
    """A table of made-up rows: one cell helps, one helps as its random direction does, one does nothing."""
    rng = random.Random(0)
    items = [f"i{n:03d}" for n in range(80)]
    right = {
        "baseline": [rng.random() < 0.2 for _ in items], "cell-000": [rng.random() < 0.7 for _ in items],
        "cell-000-random-0": [rng.random() < 0.2 for _ in items], "cell-001": [rng.random() < 0.7 for _ in items],
        "cell-001-random-0": [rng.random() < 0.7 for _ in items],
    }  # fmt: skip
    right["cell-002"], right["cell-002-random-0"] = right["baseline"], right["baseline"]
    frame = pd.DataFrame(
        [
            {
                "arm": arm,
                "split": "s",
                "item": i,
                "seed": 0,
                "correct": c,
                "truncated": False,
                "token_ids": [1],
                "edit_ratio": [0.0, 0.5],
            }
            for arm, values in right.items()
            for i, c in zip(items, values, strict=True)
        ]
    )

    class Fake:
        def table(self, columns: list[str]) -> Any:
            return type("T", (), {"to_pandas": lambda _: frame})()

        manifest = type("M", (), {"baseline": type("B", (), {"name": "baseline"})})

    cells = cells_of(spec(vary={"layer": [0, 1, 2], "dose": [1]}))
    table = sweep_table(Fake(), cells).set_index("cell")  # type: ignore[arg-type]
    assert table["real"].tolist() == [True, False, False]
    assert table.loc["cell-001", "p_holm"] < 0.05, "it differs from the unsteered arm, and only the control tells"
    assert table["score"].idxmax() == "cell-000"


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
    assert (found.runs, found.cells, found.arms, found.rows) == (2, 8, 18, 108)
    assert found.most_tokens == 108 * 12 >= found.tokens > 0 and found.disk_mib > 0 and found.memory_mib > 3.4


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
    assert "real after correction" in steer("sweep", "show", done["runs"][0], "--runs", tmp_path)


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
