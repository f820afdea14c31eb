"""Every place that takes a plan takes one line or a file; every place that takes a prompt form refuses one that the task lacks, before a
model runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from experiments.pair.problem import FORM_SUFFIX
from experiments.store.runs import Store
from experiments.studies.hybrid.spec import HybridSpec
from experiments.studies.readings import training_problems
from steering.errors import BadInput
from steering.model.models import load_model
from steering.model.sites import Site
from steering.plan.plan import Plan
from steering.plan.source import read_plan
from steering.vector.vectors import Provenance, SteeringVector
from tests.experiments.command_line import command

Steer = Callable[..., tuple[int, str, str]]
BASE = {"name": "base", "label": "base", "role": "baseline", "model": "builtin:base", "form": "bare"}
LINE = "add wait.safetensors 1v on last_prompt"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a vector and plan files, away from the working directory."""
    import torch

    folder, elsewhere = tmp_path / "specs", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    direction = torch.randn(load_model("builtin:base").d_model, generator=torch.Generator().manual_seed(0))
    SteeringVector("wait", Site(2), direction, Provenance("random", "none")).save(folder / "wait.safetensors")
    step = {"operation": "add", "vector": "wait.safetensors", "span": "last_prompt", "dose": "1v"}
    (folder / "plan.yaml").write_text(yaml.safe_dump({"interventions": [step]}))
    (folder / "plan.json").write_text(json.dumps({"interventions": [step]}))
    return folder


@pytest.fixture
def steer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Steer:
    return command(monkeypatch, capsys)


def digest(folder: Path) -> str:
    return read_plan(LINE, folder=folder).digest


@pytest.mark.parametrize("given", [LINE, "plan.yaml", "plan.json"])
def test_a_plan_is_one_line_a_file_or_a_mapping_with_vectors_beside_it(given: str, place: Path) -> None:
    made = read_plan(given, folder=place)
    (step,) = made.interventions
    assert step.operation == "add" and str(step.span) == "last_prompt" and step.vector.name == "wait"
    assert made.digest == digest(place) == read_plan(made.to_dict(), made.vectors).digest
    named = {"w": step.vector}
    assert read_plan("add w 1v on last_prompt", named).digest == made.digest, "a name of the caller's"
    assert read_plan(made.to_dict(), named).digest == made.digest, "a digest"


@pytest.mark.parametrize("given", [LINE, "plan.yaml", yaml.safe_load("{interventions: []}")])
def test_an_arm_of_an_evaluation_takes_a_plan_in_every_form(given: Any, place: Path, steer: Steer) -> None:
    given = yaml.safe_load((place / "plan.yaml").read_text()) if isinstance(given, dict) else given
    arms = [BASE, BASE | {"name": "steered", "role": "steered", "plan": given}]
    spec = {"name": "x", "splits": {"standard-test": 2}, "arms": arms, "generation": {"max_new_tokens": 4}}
    (place / "eval.yaml").write_text(yaml.safe_dump(spec))
    code, _, error = steer("eval", place / "eval.yaml", "--json")
    assert code == 0, error
    (entry,) = Store("runs").list()
    run = Store("runs").open(entry.run_id)
    arm = next(arm for arm in run.manifest.arms if arm.name == "steered")
    vector = SteeringVector.load(place / "wait.safetensors")
    assert Plan.from_dict(arm.plan or {}, {vector.digest: vector}).digest == digest(place)
    assert sum(run.table(columns=["edits_fired"], arms=["steered"])["edits_fired"].to_pylist()) == 2
    # an override is a plan too
    code, out, error = steer(
        "eval", place / "eval.yaml", "--json", "--set", "arms.1.plan=add wait.safetensors 2v on all"
    )
    assert code == 0 and len(Store("runs").list()) == 2, error


def test_plans_of_the_command_line_are_arms_beside_the_baseline(place: Path, steer: Steer) -> None:
    line = f"add {place / 'wait.safetensors'} 1v on last_prompt"
    small = ["--n", 1, "--json", "--set", "generation.max_new_tokens=4"]
    code, out, error = steer("eval", *small, "--plan", line, "--plan", place / "plan.yaml")
    assert code == 0, error
    run = Store("runs").open(json.loads(out)["run"])
    arms = {arm.name: arm for arm in run.manifest.arms}
    one, two = arms["steered-1"], arms["steered-2"]
    assert one.plan == two.plan and one.plan and one.model == "builtin:base" and one.form == "bare"
    assert one.label == line and one.role == "steered" and "base_bare" in arms
    code, out, error = steer("eval", *small, "--plan", "add w 1v", "--vector", f"w={place / 'wait.safetensors'}")
    assert code == 0 and "steered" in {a.name for a in Store("runs").open(json.loads(out)["run"]).manifest.arms}, error


def test_a_sweep_and_forks_take_plan_files(place: Path, steer: Steer) -> None:
    sweep = {
        "name": "x", "model": "builtin:base", "plan": "${which}.yaml", "vary": {"which": ["plan"]},
        "splits": {"development": {"standard-dev": 2}}, "generation": {"max_new_tokens": 4}, "controls": {"random": 0},
    }  # fmt: skip
    (place / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    code, out, error = steer("sweep", "run", place / "sweep.yaml", "--json")
    assert code == 0, error
    code, out, error = steer("probe", "forks", "--problems", 2, "--plan", place / "plan.yaml", "--json")
    assert code == 0 and json.loads(out)["shift"] is not None, error


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("add wait.safetensors 1v on last_promt", "arms.1.plan: .*Did you mean 'last_prompt'"),
        ("ad wait.safetensors 1v", "arms.1.plan: .*Did you mean 'add'"),
        ("add gone.safetensors 1v", "arms.1.plan: .*gone.safetensors"),
        ("gone.yaml", "arms.1.plan: No plan file at gone.yaml"),
        ("bad.yaml", "arms.1.plan: .*bad.yaml: .*Did you mean 'span'"),
        ("", "arms.1.plan: The plan is empty"),
        (7, "arms.1.plan: "),
    ],
)
def test_a_plan_that_cannot_be_read_is_refused_where_it_stands(plan: Any, said: str, place: Path, steer: Steer) -> None:
    step = {"operation": "add", "vector": "wait.safetensors", "spn": "all", "dose": "1v", "span": "all"}
    (place / "bad.yaml").write_text(yaml.safe_dump({"interventions": [step]}))
    spec = {
        "name": "x",
        "splits": {"standard-test": 2},
        "arms": [BASE, BASE | {"name": "s", "role": "steered", "plan": plan}],
    }
    (place / "eval.yaml").write_text(yaml.safe_dump(spec))
    code, out, error = steer("eval", place / "eval.yaml")
    import re

    assert (code, out) == (2, "") and re.search(said, error), error
    assert "Traceback" not in error and not Path("runs").exists()


def test_two_arms_of_one_name_and_a_spec_without_a_baseline_are_refused(place: Path, steer: Steer) -> None:
    arms = [BASE, BASE | {"name": "steered", "role": "steered", "plan": LINE}]
    spec = {"name": "x", "splits": {"standard-test": 2}, "arms": arms}
    (place / "eval.yaml").write_text(yaml.safe_dump(spec))
    code, _, error = steer("eval", place / "eval.yaml", "--plan", place / "plan.yaml")
    assert code == 2 and "makes an arm 'steered'" in error
    (place / "eval.yaml").write_text(yaml.safe_dump(spec | {"arms": [BASE | {"role": "prompt"}]}))
    code, _, error = steer("eval", place / "eval.yaml", "--plan", place / "plan.yaml")
    assert code == 2 and "no arm of the spec is one" in error


# ---- prompt forms ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["form", "thinking_form"])
def test_a_hybrid_refuses_a_form_that_there_is_not(field: str, tmp_path: Path, steer: Steer) -> None:
    with pytest.raises(ValidationError, match="Unknown prompt form 'chat'"):
        HybridSpec.model_validate({field: "chat"})
    code, out, error = steer("hybrid", "--set", f"{field}=chat", "--runs", tmp_path / "runs")
    assert (code, out) == (2, "") and "Valid: bare, quick, think" in error and "Traceback" not in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("layers=[99]", "4 layers, 0 to 3"),
        ("sizes=[]", "sizes"),
        ("seeds=[]", "seeds"),
        ("steering_layer=9", "4 layers, 0 to 3"),
    ],
)
def test_a_hybrid_that_cannot_be_made_is_refused_before_a_text_is_written(
    change: str, said: str, tmp_path: Path, steer: Steer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "experiments.studies.hybrid.run.greedy_traces", lambda *a, **k: pytest.fail("texts were written")
    )
    code, out, error = steer("hybrid", "--set", change, "--runs", tmp_path / "runs")
    assert (code, out) == (2, "") and said in error and "Traceback" not in error


@pytest.mark.parametrize("change", ["form=chat", "prompted=chat"])
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_sweep_refuses_a_form_that_there_is_not_before_a_row(
    verb: str, change: str, place: Path, steer: Steer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.evaluation.records.generate", lambda *a, **k: pytest.fail("a row was generated"))
    sweep = {
        "name": "x", "model": "builtin:base", "plan": "add wait.safetensors ${dose}v", "vary": {"dose": [1]},
        "splits": {"development": {"standard-dev": 2}, "test": {"standard-test": 2}},
    }  # fmt: skip
    (place / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    code, out, error = steer("sweep", verb, place / "sweep.yaml", "--set", change)
    assert (code, out) == (2, "") and "Unknown prompt form 'chat'" in error and "Valid: bare, quick, think" in error


@pytest.mark.parametrize(
    "words",
    [
        ("eval", "--n", 1, "--set", "arms.0.form=chat"),
        ("prompt", "--form", "chat"),
        ("extract", "x.safetensors", "--forms", "chat"),
        ("extract", "x.safetensors", "--contrast", "mode", "--forms", "think,chat"),
        ("probe", "forks", "--form", "chat", "--problems", 1),
        ("ablate", "--latents", "1", "--form", "chat", "--n", 1),
    ],
    ids=lambda words: " ".join(map(str, words[:2])),
)
def test_every_verb_with_a_form_says_which_there_are(words: tuple[Any, ...], place: Path, steer: Steer) -> None:
    code, out, error = steer(*words)
    assert (code, out) == (2, "") and "Unknown prompt form 'chat'" in error and "Traceback" not in error
    assert all(form in error for form in FORM_SUFFIX)


def test_a_problem_refuses_a_form_as_everything_does() -> None:
    with pytest.raises(BadInput, match="Did you mean 'think'"):
        training_problems(1)[0].prompt("thinks")  # type: ignore[arg-type]
