"""Behaviours and entropy of stored rows: labels by whom the task names or anew, differences by hand, pairs without a value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.evaluation.evaluate import run_evaluation
from experiments.evaluation.spec import EvalSpec, Generating
from experiments.pair.problem import split_problems
from experiments.store.runs import Arm, Run, Store
from experiments.studies.row_behaviours import _line, moved
from experiments.tasks.labellers import Labeller, labeller_named
from experiments.tasks.task import resolve_task
from probes.labels import BehaviourLabel
from steering.errors import BadInput
from tests.experiments.command_line import Steer, command


@pytest.fixture
def steer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Steer:
    return command(monkeypatch, capsys)


def task(place: Path, **more: Any) -> dict[str, Any]:
    """A data set of built-in questions, so that the built-in base writes texts of several sentences."""
    lines = [
        json.dumps({"q": p.prompt("bare").removesuffix(" ?"), "a": str(p.answer)})
        for p in split_problems("standard-dev", 6)
    ]
    (place / "own.jsonl").write_text("\n".join(lines))
    return {
        "dataset": str(place / "own.jsonl"), "question": "q", "answer": "a", "grader": "numeric",
        "forms": {"bare": "{question} ?", "cot": "{question} ? think first"}, **more,
    }  # fmt: skip


def made(place: Path, **more: Any) -> Run:
    arms = (
        Arm(name="base", label="base", role="baseline", model="builtin:base", form="bare"),
        Arm(name="cot", label="cot", role="prompt", model="builtin:base", form="cot"),
    )
    spec = EvalSpec(
        name="own", task=task(place, **more), splits={"test": 6}, arms=arms, generation=Generating(max_new_tokens=60)
    )
    return run_evaluation(spec, Store(place / "runs"))


def test_rows_carry_the_labels_of_the_labeller_that_their_task_names(tmp_path: Path) -> None:
    rows = made(tmp_path, labels="lexicon").table().to_pylist()
    spans = [span for row in rows for span in row["labels"]]
    assert spans and {span["detector"] for span in spans} == {"lexicon"}
    for row in rows:
        assert all(0 <= span["start"] < span["end"] <= len(row["token_ids"]) for span in row["labels"])
    assert not any(row["labels"] for row in made(tmp_path).table().to_pylist()), "nobody labels unless asked"


def test_another_labeller_is_another_row(tmp_path: Path) -> None:
    keys = [
        set(made(tmp_path, **more).table(columns=["key"]).column("key").to_pylist())
        for more in ({}, {"labels": "lexicon"})
    ]
    assert not keys[0] & keys[1]


def test_a_labeller_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="say lexicon"):
        resolve_task(task(tmp_path, labels="lexikon"))
    with pytest.raises(BadInput, match="say lexicon"):
        labeller_named(str(tmp_path / "none.joblib"))


def test_differences_are_those_done_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(tmp_path)
    rows = run.table().to_pylist()
    with pytest.raises(BadInput, match="--by lexicon"):
        moved(run)

    def kind(text: str) -> int:
        return sum(map(ord, text)) % 3

    def thirds(text: str) -> tuple[BehaviourLabel, ...]:
        """No label, one, or two."""
        names = ([], ["even"], ["even", "odd"])[kind(text)]
        return tuple(BehaviourLabel(i, i + 1, name, "counting", 1.0) for i, name in enumerate(names))

    found = {one.measure: one for one in moved(run, Labeller("counting", thirds))}
    by_arm = {arm: {r["item"]: r for r in rows if r["arm"] == arm} for arm in ("base", "cot")}
    entropy = {arm: {i: np.mean(r["entropy"]) for i, r in own.items()} for arm, own in by_arm.items()}
    assert found["entropy"].difference == pytest.approx(
        np.mean([entropy["cot"][i] - entropy["base"][i] for i in entropy["base"]])
    )
    assert found["entropy"].by == "model" and found["entropy"].controls == 0 and found["entropy"].rank_p is None
    every = np.concatenate([r["entropy"] for r in by_arm["base"].values()])
    above = {
        arm: [np.mean(np.array(r["entropy"]) > np.quantile(every, 0.8)) for r in own.values()]
        for arm, own in by_arm.items()
    }
    assert found["uncertain"].value == pytest.approx(np.mean(above["cot"]))
    assert found["uncertain"].baseline == pytest.approx(np.mean(above["base"]))

    def share(row: dict[str, Any]) -> float | None:
        return (None, 0.0, 0.5)[kind(row["text"])]

    pairs = [(share(by_arm["base"][i]), share(by_arm["cot"][i])) for i in by_arm["base"]]
    whole = [(a, b) for a, b in pairs if a is not None and b is not None]
    assert found["odd"].by == "counting" and found["odd"].pairs == len(whole) > 0
    assert found["odd"].difference == pytest.approx(np.mean([b - a for a, b in whole]))
    assert found["odd"].left_out == sum((a is None) != (b is None) for a, b in pairs)


def test_an_arm_is_ranked_among_its_controls_and_pairs_without_a_value_are_counted() -> None:
    before: dict[tuple[str, int], float] = {("a", 0): 0.2, ("b", 0): 0.4, ("c", 0): 0.9}
    after = {("a", 0): 0.5, ("b", 0): 0.5, ("d", 0): 0.1}
    weaker, stronger = {p: v + 0.01 for p, v in before.items()}, {p: v + 0.6 for p, v in before.items()}
    line = _line(
        "test",
        "arm",
        "deduction",
        "lexicon",
        {"base": before, "arm": after, "one": weaker, "two": stronger, "none": {}},
    )
    assert line.difference == pytest.approx(0.2) and (line.pairs, line.left_out, line.controls) == (2, 2, 2)
    assert line.rank_p == pytest.approx(2 / 3)
    lowered = {pair: value - 0.1 for pair, value in before.items()}
    line = _line(
        "test", "arm", "deduction", "lexicon", {"base": before, "arm": lowered, "one": weaker, "two": stronger}
    )
    assert line.rank_p == pytest.approx(1 / 3), "on the side that it has: no control lowers as much"
    none = _line("test", "arm", "deduction", "lexicon", {"base": before, "arm": {("d", 0): 0.1}})
    assert (none.pairs, none.left_out, none.value, none.interval) == (0, 4, None, None), "said, not left out"
    few = _line("test", "arm", "entropy", "model", {"base": before, "arm": {pair: v + 1 for pair, v in before.items()}})
    assert few.interval is None, "a bootstrap over three items is no interval"


def test_the_command_names_who_labelled(tmp_path: Path, steer: Steer) -> None:
    run = made(tmp_path, labels="lexicon").folder.name
    code, out, _ = steer("runs", "behaviours", run, "--runs", tmp_path / "runs")
    assert code == 0 and "by lexicon" in " ".join(out.split()) and "entropy" in out
    code, out, _ = steer("runs", "behaviours", run, "--runs", tmp_path / "runs", "--by", "lexicon", "--json")
    lines = json.loads(out)
    assert code == 0 and {line["measure"] for line in lines} >= {"entropy", "uncertain"}
    code, out, error = steer("runs", "behaviours", run, "--runs", tmp_path / "runs", "--by", "lexikon")
    assert (code, out) == (2, "") and "say lexicon" in error
