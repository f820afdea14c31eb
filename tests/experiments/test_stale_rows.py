"""The stale-result trap: what a row depends on is in its key, and what it does not depend on is not."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.evaluation.evaluate import run_evaluation
from experiments.evaluation.rows import Parts, chunks_of
from experiments.evaluation.spec import EvalSpec, Generating
from experiments.pair.problem import split_problems
from experiments.store.runs import Arm, Store
from experiments.tasks.task import resolve_task
from steering.model.models import LoadedModel, load_model
from steering.model.sites import Site
from steering.model.sources import BUILTINS
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import Provenance, SteeringVector


def vector(seed: int) -> SteeringVector:
    return SteeringVector(
        "v", Site(1), torch.randn(128, generator=torch.Generator().manual_seed(seed)), Provenance("test", "none")
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "problems.jsonl"
    problems = split_problems("standard-test", 4)
    path.write_text("".join(json.dumps({"q": p.prompt("bare"), "a": str(p.answer)}) + "\n" for p in problems))
    return path


def task_of(data: Path, grader: Any = "exact", **forms: str) -> dict[str, Any]:
    templates = {"bare": "{question}", "think": "{question} think first", **forms}
    return {
        "dataset": str(data), "question": "q", "answer": "a", "grader": grader,
        "forms": {name: {"template": template} for name, template in templates.items()},
    }  # fmt: skip


def keys(
    task: dict[str, Any] | str, seed: int = 0, model: LoadedModel | None = None, dose: float = 1.0, **generation: Any
) -> dict[str, set[str]]:
    """Row keys by arm."""
    v = vector(seed)
    plan = Plan((Intervention("add", v, Span("all"), Dose(dose)),))
    arms = (
        Arm(name="base", label="base", role="baseline", model="builtin:base", form="bare"),
        Arm(name="think", label="think", role="prompt", model="builtin:base", form="think"),
        Arm(name="steered", label="steered", role="steered", model="builtin:base", form="bare", plan=plan.to_dict()),
    )
    split = "standard-test" if isinstance(task, str) else "test"
    settings = Generating(**{"max_new_tokens": 8, **generation})
    spec = EvalSpec(name="small", task=task, splits={split: 3}, arms=arms, generation=settings)
    models = {"builtin:base": model or load_model("builtin:base")}
    found: dict[str, set[str]] = {}
    for chunk in chunks_of(spec, Parts(resolve_task(task), models, {v.digest: v}, {})):
        for row in chunk:
            found.setdefault(row.arm.name, set()).add(row.key)
    return found


def other_weights(model: LoadedModel) -> LoadedModel:
    changed = load_model("builtin:base")
    with torch.no_grad():
        next(changed.model.parameters())[0, 0] += 1e-3
    return changed


def other_template(model: LoadedModel) -> LoadedModel:
    changed = load_model("builtin:base")
    changed.tokenizer.chat_template = "{{ messages }}"
    return changed


def other_ends(model: LoadedModel) -> LoadedModel:
    model.model.generation_config.eos_token_id = [*sorted(model.eos_ids), 9]
    model.__dict__.pop("eos_ids")
    return model


CHANGES: dict[str, tuple[Callable[[Path], dict[str, set[str]]], set[str]]] = {
    "vector": (lambda data: keys(task_of(data), seed=1), {"steered"}),
    "dose": (lambda data: keys(task_of(data), dose=2.0), {"steered"}),
    "max_new_tokens": (lambda data: keys(task_of(data), max_new_tokens=9), {"base", "think", "steered"}),
    "temperature": (lambda data: keys(task_of(data), temperature=0.5), {"base", "think", "steered"}),
    "seed": (lambda data: keys(task_of(data), seeds=(1,)), {"base", "think", "steered"}),
    "grader": (lambda data: keys(task_of(data, "numeric")), {"base", "think", "steered"}),
    "template of one form": (lambda data: keys(task_of(data, think="{question} be quick")), {"think"}),
    "a form that no arm uses": (lambda data: keys(task_of(data, other="never {question}")), set()),
    "weights": (lambda data: keys(task_of(data), model=other_weights(load_model("builtin:base"))), {"base", "think", "steered"}),
    "ids that end a text": (lambda data: keys(task_of(data), model=other_ends(load_model("builtin:base"))), {"base", "think", "steered"}),
    "chat template": (lambda data: keys(task_of(data), model=other_template(load_model("builtin:base"))), {"base", "think", "steered"}),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_exactly_the_rows_that_a_change_touches_get_other_keys(change: str, data: Path) -> None:
    before = keys(task_of(data))
    after, touched = CHANGES[change][0](data), CHANGES[change][1]
    for arm in before:
        assert len(before[arm]) == 3
        if arm in touched:
            assert not before[arm] & after[arm]
        else:
            assert before[arm] == after[arm]


def test_sampled_rows_are_named_by_the_way_they_are_drawn_and_greedy_ones_are_not(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy, sampled = keys(task_of(data)), keys(task_of(data), temperature=0.5)
    monkeypatch.setattr("experiments.evaluation.rows.DRAW", "another way")
    assert keys(task_of(data)) == greedy
    assert all(not own & sampled[arm] for arm, own in keys(task_of(data), temperature=0.5).items())


def test_another_end_in_a_folders_generation_config_is_another_row(data: Path, tmp_path: Path) -> None:
    folder, found = tmp_path / "model", []
    shutil.copytree(BUILTINS["builtin:base"], folder)
    arms = (Arm(name="base", label="base", role="baseline", model=str(folder), form="bare"),)
    for ends in (2, [2], [2, 9], [2, 10]):
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
        spec = EvalSpec(
            name="ends", task=task_of(data), splits={"test": 2}, arms=arms, generation=Generating(max_new_tokens=4)
        )
        parts = Parts(resolve_task(spec.task), {str(folder): load_model(str(folder))}, {}, {})
        found.append([row.key for chunk in chunks_of(spec, parts) for row in chunk])
    assert found[0] == found[1], "the same end, written in another way"
    assert len({tuple(keys) for keys in found}) == 3


def test_a_second_seed_keeps_the_rows_of_the_first(data: Path) -> None:
    before, after = keys(task_of(data)), keys(task_of(data), seeds=(0, 1))
    assert all(before[arm] < after[arm] and len(after[arm]) == 6 for arm in before)


def test_where_a_file_lies_is_no_part_of_its_rows(data: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.jsonl"
    moved.write_text(data.read_text())
    assert keys(task_of(moved)) == keys(task_of(data))
    lines = data.read_text().splitlines()
    corrected = json.loads(lines[0]) | {"a": "999"}
    moved.write_text("\n".join([json.dumps(corrected), *lines[1:]]))
    before, after = keys(task_of(data))["base"], keys(task_of(moved))["base"]
    assert len(before & after) == 2, "a corrected answer is another item, and only that one"


def test_the_built_in_task_keeps_its_keys() -> None:
    """Stored rows of the built-in task stay valid: their keys hash its name, as they always have."""
    import hashlib

    from experiments.evaluation.rows import ROW_VERSION

    model, spec_settings = load_model("builtin:base"), Generating(max_new_tokens=8).model_dump(exclude={"seeds"})
    ids = model.tokenizer(split_problems("standard-test", 1)[0].prompt("bare"))["input_ids"]
    facts = [
        ROW_VERSION, model.fingerprint, model.tokenizer_fingerprint, None, spec_settings, "find-start", "base",
        "standard-test/00000", ids, 0,
    ]  # fmt: skip
    assert hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32] in keys("find-start")["base"]


def test_a_data_set_is_evaluated_graded_and_stored(data: Path, tmp_path: Path) -> None:
    arms = (
        Arm(name="base", label="base", role="baseline", model="builtin:thinking", form="bare"),
        Arm(name="think", label="think", role="prompt", model="builtin:thinking", form="think"),
    )
    task = copy.deepcopy(task_of(data, {"name": "numeric"}))
    spec = EvalSpec(name="data", task=task, splits={"test": 4}, arms=arms, generation=Generating(max_new_tokens=200))
    rows = run_evaluation(spec, Store(tmp_path)).table().to_pandas()
    right = rows[rows["arm"] == "base"]
    assert right["correct"].mean() >= 0.75, "the thinking model answers problems of its own task"
    assert (right["answer"] == right["gold"]).tolist() == right["correct"].tolist()
    assert rows["prompt"].iloc[0] == split_problems("standard-test", 1)[0].prompt("bare")
