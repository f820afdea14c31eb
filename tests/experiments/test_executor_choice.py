"""Where the rows of a card run: over the cores where they are many and any process finds their small models, else here; the same rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.evaluation.evaluate import run_evaluation
from experiments.evaluation.executors import MANY, for_rows, in_process
from experiments.evaluation.spec import EvalSpec, Generating
from experiments.store.runs import Arm, Store
from steering.model.models import load_model


def test_many_rows_of_small_named_models_are_spread_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.evaluation.executors.os.cpu_count", lambda: 2)
    base = load_model("builtin:base")
    assert for_rows(MANY, {"builtin:base": base}) is not in_process
    assert for_rows(MANY - 1, {"builtin:base": base}) is in_process
    assert for_rows(MANY, {"builtin:base": base, "made-here": base}) is in_process
    monkeypatch.setattr("experiments.evaluation.executors.SMALL", 1000)
    assert for_rows(MANY, {"builtin:base": base}) is in_process
    monkeypatch.setattr("experiments.evaluation.executors.os.cpu_count", lambda: 1)
    assert for_rows(MANY, {"builtin:base": base}) is in_process


@pytest.mark.slow
def test_the_rows_have_the_same_bytes_either_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.evaluation.executors.os.cpu_count", lambda: 2)
    arms = (Arm(name="base", label="base", role="baseline", model="builtin:base", form="bare"),)
    spec = EvalSpec(
        name="two", splits={"standard-test": 40}, arms=arms, generation=Generating(max_new_tokens=24), rows_per_chunk=16
    )
    stored = []
    for name, executor in (
        ("here", in_process),
        ("spread", for_rows(MANY, {"builtin:base": load_model("builtin:base")})),
    ):
        run = run_evaluation(spec, Store(tmp_path / name), {}, executor=executor)
        stored.append({path.name: path.read_bytes() for path in run.shards()})
    assert stored[0] == stored[1] and len(stored[0]) == 3
