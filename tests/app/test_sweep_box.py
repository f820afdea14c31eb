"""From chosen cells to the next sweep: the plans are those of the cells, doses lie in between, and what no file says is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from streamlit.testing.v1 import AppTest

from app.jobs.admission import admitted_command
from app.jobs.job import Job
from app.library import OpenRun, open_run
from app.sweep_box import _write, next_sweep
from experiments.store.runs import Store
from experiments.sweeps.run import run_sweep
from experiments.sweeps.spec import SweepSpec, cell_plan, cells_of, load_sweep
from steering.errors import BadInput
from tests.app.test_library_pages import jobs, show
from tests.experiments.test_sweeps import folder, spec

__all__ = ["folder", "jobs"]
Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def swept(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> OpenRun:
    root = tmp_path_factory.mktemp("swept")
    asked = spec(splits={"development": {"standard-dev": 2}}, controls={"random": 1})
    run = run_sweep(asked, Store(root), folder).runs[0]
    return open_run(root, run.manifest.run_id)


def planned(run: OpenRun, cell: str) -> Any:
    return next(arm.plan for arm in run.manifest.arms if arm.name == cell)


def read(tmp_path: Path, run: OpenRun, names: list[str], finer: bool) -> tuple[SweepSpec, dict[tuple[int, float], Any]]:
    found = next_sweep(run, names, finer)
    path = tmp_path / f"{found.facts['name']}.yaml"
    _write(found, path)
    made = load_sweep(path, [])
    plans = {
        (c.settings["layer"], c.settings["dose"]): cell_plan(made, c, tmp_path, {}).to_dict() for c in cells_of(made)
    }
    return made, plans  # type: ignore[return-value]


def test_a_box_gives_the_cells_and_the_doses_between_them(swept: OpenRun, tmp_path: Path) -> None:
    made, plans = read(tmp_path, swept, ["cell-000", "cell-001", "cell-002", "cell-003"], True)
    assert made.vary == {"layer": (0, 1), "dose": (-1.0, -0.25, 0.5)}
    for cell, place in (("cell-000", (0, -1.0)), ("cell-003", (1, 0.5))):
        (own,), (stored,) = plans[place]["interventions"], planned(swept, cell)["interventions"]
        assert {k: own[k] for k in ("vector", "site", "span", "operation")} == {
            k: stored[k] for k in ("vector", "site", "span", "operation")
        }
        assert own["dose"]["amount"] == stored["dose"]["amount"] and own["dose"]["unit"] == stored["dose"]["unit"]
    assert made.controls.random == 19 and made.splits.test == {"standard-test": 200} and made.model == "builtin:base"


def test_one_cell_is_tested_as_it_is(swept: OpenRun, tmp_path: Path) -> None:
    made, plans = read(tmp_path, swept, ["cell-002"], False)
    assert made.vary == {"layer": (1,), "dose": (-1.0,)} and len(plans) == 1
    assert next_sweep(swept, ["cell-002"], False) == next_sweep(swept, ["cell-002"], False)


def test_cells_that_no_such_file_says_are_refused(folder: Path, tmp_path: Path) -> None:
    asked = spec(
        name="other", plan="ablate ones-$layer.safetensors on last_prompt", vary={"layer": [0, 1]},
        splits={"development": {"standard-dev": 1}}, controls={"random": 0},
    )  # fmt: skip
    run = run_sweep(asked, Store(tmp_path), folder).runs[0]
    with pytest.raises(BadInput, match="more than one addition"):
        next_sweep(open_run(tmp_path, run.manifest.run_id), ["cell-000"], False)


def test_the_page_offers_a_finer_sweep_and_a_test_as_jobs(swept: OpenRun, monkeypatch: Patch, jobs: list[Job]) -> None:
    app: AppTest = show("sweeps", swept.root, monkeypatch, run=swept.manifest.run_id)
    assert not app.exception and [b.key for b in app.button if b.key.startswith("swp_next_")] == ["swp_next_False"]
    points = [{"customdata": name} for name in ("cell-000", "cell-001")]
    app.session_state["swp_grid_score"] = {
        "selection": {"points": points, "point_indices": [0, 1], "box": [{}], "lasso": []}
    }
    app.run()
    assert not app.exception
    app.button(key="swp_next_True").click().run()
    assert not app.exception and len(jobs) == 1
    words = list(jobs[0].request)
    assert words[:2] == ["sweep", "run"] and admitted_command(words, swept.root)
    facts = yaml.safe_load(Path(words[2]).read_text())
    assert facts["vary"] == {"layer": [0], "dose": [-1.0, -0.25, 0.5]}
