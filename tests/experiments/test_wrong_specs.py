"""Wrong evaluation specs end with exit code 2 and one screen that says what to write instead; trackers are refused before anything runs."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.commands.cli import main
from experiments.evaluation.summarise import summarise
from experiments.evaluation.summary import to_json
from experiments.store.trackers import metrics, track
from steering.errors import BadInput
from steering.model.sites import Site
from steering.vector.vectors import SteeringVector
from tests.experiments.fake_run import make_fake_run
from tests.tiny import vector

ARM = {"name": "base", "label": "base", "role": "baseline", "model": "builtin:base", "form": "bare"}
SPEC: dict[str, Any] = {
    "name": "small",
    "splits": {"standard-test": 2},
    "arms": [ARM],
    "generation": {"max_new_tokens": 4},
}


def step(**changes: Any) -> dict[str, Any]:
    """A plan with one intervention, changed."""
    own = {
        "operation": "add",
        "vector": "v.safetensors",
        "span": "last_prompt",
        "dose": {"amount": 1, "unit": "vector"},
    }
    return {"interventions": [own | changes]}


def arm(**changes: Any) -> list[dict[str, Any]]:
    return [ARM | {"name": "steered", "role": "steered"} | changes, ARM]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": "Small Run"}, "name: String should match pattern"),
    ({"nam": "x"}, "nam: there is no such key. Did you mean 'name'?"),
    ({"splits": {"standard-tset": 2}}, "Did you mean 'standard-test'"),
    ({"splits": {"standard-test": "many"}}, "splits.standard-test"),
    ({"splits": {"standard-test": 0}}, "at least one item"),
    ({"splits": {}}, "at least one arm and one split"),
    ({"arms": []}, "at least one arm and one split"),
    ({"arms": [{**ARM, "role": "base"}]}, "Did you mean 'baseline'?"),
    ({"arms": [{**ARM, "model": "builtin:bse"}]}, "Did you mean 'builtin:base'"),
    ({"arms": [{**ARM, "form": "quik"}]}, "Did you mean 'quick'"),
    ({"arms": [{k: v for k, v in ARM.items() if k != "model"}]}, "arms.0.model: this key is needed"),
    ({"arms": [{**ARM, "modell": "x"}]}, "arms.0.modell: there is no such key. Did you mean 'model'?"),
    ({"arms": arm(plan=step(vector="w.safetensors"))}, "arms.0.plan.interventions.0.vector"),
    ({"arms": arm(plan=step(operation="ad"))}, "Did you mean 'add'"),
    ({"arms": arm(plan=step(span="last_promt"))}, "Did you mean 'last_prompt'"),
    ({"arms": arm(plan=step(dose={"amount": 1, "unit": "vectr"}))}, "Did you mean 'vector'"),
    ({"arms": arm(plan=step(spans="all"))}, "arms.0.plan"),
    ({"generation": {"max_new_tokens": -1}}, "generation.max_new_tokens"),
    ({"generation": {"temperature": -0.5}}, "generation.temperature"),
    ({"generation": {"max_new_token": 4}}, "Did you mean 'max_new_tokens'?"),
    ({"generation": {"max_new_tokens": 4000}}, "exceed the context"),
    ({"rows_per_batch": 0}, "rows_per_batch"),
    ({"task": "gsm8"}, "gsm8"),
    ({"task": {"dataset": "questions.jsonl"}}, "questions.jsonl"),
    ({"task": {"dataset": "v.csv", "grader": "maths"}}, "Did you mean 'math'"),
    ({"loading": {"dtype": "bf16"}}, "Did you mean 'bfloat16'?"),
    ({"loading": {"device": "cpu", "device_map": "auto"}}, "device or device_map"),
    ({"loading": {"quantisation": "8bit"}}, "Did you mean 'quantization'?"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    SteeringVector("v", Site(1), vector(1, width=128).direction, vector(1).provenance).save(tmp_path / "v.safetensors")
    (tmp_path / "v.csv").write_text("question,answer\nWhat is 1+1?,2\n")
    return tmp_path


@pytest.mark.parametrize(("changes", "said"), WRONG, ids=[f"{next(iter(c))}-{n}" for n, (c, _) in enumerate(WRONG)])
def test_wrong_evaluation_specs_are_refused_with_the_fix(
    changes: dict[str, Any],
    said: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC | changes))
    monkeypatch.setattr(sys, "argv", ["steer", "eval", str(folder / "spec.yaml"), "--runs", str(folder / "none")])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert ended.value.code == 2, told.err
    assert said in told.err and len(told.err.splitlines()) < 12 and "Traceback" not in told.err
    assert told.out == "" and not list(folder.rglob("*.parquet"))


def test_the_right_spec_runs(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC | {"arms": arm(plan=step())}))
    monkeypatch.setattr(
        sys, "argv", ["steer", "eval", str(folder / "spec.yaml"), "--runs", str(folder / "runs"), "--json"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None), capsys.readouterr().err


class Tracked:
    """A tracker's package that remembers what it was sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def module(self, name: str) -> types.ModuleType:
        made = types.ModuleType(name)
        made.__spec__ = types.SimpleNamespace(name=name)  # type: ignore[assignment]
        session = types.SimpleNamespace(finish=lambda: self.sent.append("finished"))
        made.init = lambda **given: (self.sent.append(given), session)[1]  # type: ignore[attr-defined]
        made.log = self.sent.append  # type: ignore[attr-defined]
        return made


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_gets_summaries_with_intervals(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, tracked = make_fake_run(tmp_path), Tracked()
    run.write_summary(json.loads(to_json(summarise(run.table(), run.manifest))))
    monkeypatch.setitem(sys.modules, name, tracked.module(name))
    track(name, run)
    begun, numbers, end = tracked.sent
    assert begun["name"] == run.manifest.run_id and begun["config"]["spec"] == run.manifest.spec and end == "finished"
    split = run.summary()["splits"][0]
    for one in split["arms"]:
        head = f"{split['split']}/{one['name']}"
        assert numbers[f"{head}/accuracy"] == one["accuracy"]["value"] and numbers[f"{head}/n"] == one["n"]
        assert numbers[f"{head}/accuracy_low"] <= numbers[f"{head}/accuracy"] <= numbers[f"{head}/accuracy_high"]
    assert numbers == metrics(run) and all(isinstance(value, int | float) for value in numbers.values())


def test_a_tracker_that_is_not_there_is_refused(tmp_path: Path) -> None:
    run = make_fake_run(tmp_path)
    with pytest.raises(BadInput, match="Did you mean 'wandb'"):
        track("wandbb", run)
    track(None, run)
