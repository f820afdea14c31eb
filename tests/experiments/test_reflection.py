"""Reflection: candidates that a text states, results that it checks, and what stopping elsewhere costs, on cases done by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.pair.verifier import verify
from experiments.store.runs import Arm
from experiments.studies.elicitation.asked import Elicit, Setting
from experiments.studies.elicitation.named import card_named
from experiments.studies.elicitation.reflection import CHECKING, ReflectionOptions, four_ways
from experiments.studies.elicitation.run import options_of
from experiments.studies.elicitation.stated import Checked, Reflected, Stated, checked, stated
from experiments.studies.elicitation.stopping import Stopping, _at, stopping
from experiments.tasks.findstart import FindStart
from experiments.tasks.task import resolve_task
from steering.errors import BadInput
from steering.model.models import LoadedModel, load_model
from steering.vector.vectors import SteeringVector, random_like


@pytest.fixture(scope="module")
def base() -> LoadedModel:
    return load_model("builtin:base")


def ids_of(model: LoadedModel, text: str) -> tuple[int, ...]:
    return tuple(model.tokenizer(text, add_special_tokens=False)["input_ids"])


def test_checked_results_are_judged_by_their_own_arithmetic() -> None:
    text = (
        "let us try 12 ; 12 + 1 = 13 ; check 12 + 1 = 13 ok ; 13 * 3 = 38 ; wait check 13 * 3 = 39 ; "
        "39 - 40 = 98 ; hmm check 39 - 40 = 98 ok ; 98 + 2 = 0 ; wait check 98 + 2 = 1 ; 1 + 5 = 6 ; 6 + 7 = 13 ; check 6 + 8 = 14 ok ;"
    )
    assert checked(text) == (Checked(True, True), Checked(False, True), Checked(False, False), Checked(True, False))
    assert four_ways([(one.before, one.after) for one in checked(text)]) == (1, 1, 1, 1)
    assert checked("12 + 1 = 13 ; 13 + 1 = 14 ;") == ()


def test_candidates_of_the_built_in_task_are_those_whose_goal_is_said_to_be_reached(base: LoadedModel) -> None:
    task = FindStart()
    item = task.items("standard-test", 1)[0]
    wrong = next(c for c in item.data.candidates if str(c) != item.gold)
    goal = item.data.goal
    text = f"let us try {wrong} ; goal {goal} yes ; not {wrong} try {item.gold} ; goal {goal} no back ; so answer {item.gold}"
    found = stated(base, task, item, ids_of(base, text))
    assert [(one.answer, one.right) for one in found] == [(str(wrong), False), (item.gold, True)]
    assert found[0].end < found[1].end <= len(ids_of(base, text))
    assert [one.answer for one in stated(base, task, item, ids_of(base, f"answer {wrong}"))] == [str(wrong)]
    assert stated(base, task, item, ()) == () and not verify(item.data, text).trace_ok


def test_candidates_of_mathematics_are_boxes_conclusions_and_equations(base: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text(
        json.dumps({"question": "Six boxes of three pens and four more?", "answer": "22"})
    )
    task = resolve_task({"dataset": str(tmp_path / "one.jsonl"), "splits": {"test": "one.jsonl"}, "grader": "math"})
    item = task.items("test", 1)[0]

    def of(text: str) -> list[tuple[str, bool]]:
        from experiments.studies.elicitation.stated import _read
        from experiments.studies.elicitation.steps import Step

        parts = text.split("|")
        return [
            (one.answer, one.right)
            for one in _read(task, item, [Step(n, n + 1, p, "", p) for n, p in enumerate(parts)])
        ]

    said = of(
        "There are 6 boxes of 3 pens.|6 * 3 = 18.|The answer is 18.|Wait, 4 more.|18 + 4 = 22.|So it is \\boxed{22}."
    )
    assert said == [("18", False), ("18", False), ("22", True), ("22", True)]
    assert of("There are 6 boxes and 3 pens in 4 rooms.") == []


def test_a_stop_elsewhere_is_answered_at_the_nearest_end_of_a_step() -> None:
    text = Reflected("q", 10, True, "1", (Stated(1, 8, "1", True),), (), True, (), (4, 8, 10), tuple(range(10)))
    right = [False, True, False, True]
    assert [_at(text, right, share) for share in (0.0, 0.35, 0.75, 1.0)] == [False, True, False, True]
    assert not _at(Reflected("q", 10, False, "2", (), (), None, (), (4, 10), tuple(range(10))), [True] * 3, 1.0)


def test_behaviour_counts_checks_and_where_they_are_not_known_candidates_behind_the_first() -> None:
    one = Stated(0, 1, "1", True)
    assert Reflected("q", 2, True, "1", (one, one, one), None, True, (), (2,), (1, 2)).behaviour == 2
    assert Reflected("q", 2, True, "1", (one, one), (Checked(True, True),), True, (), (2,), (1, 2)).behaviour == 1
    assert Reflected("q", 2, True, "1", (one, one), (), True, (), (2,), (1, 2)).behaviour == 0, "nothing was checked"


class Made:
    """A workroom whose parts are given."""

    def __init__(self, model: LoadedModel, right: list[list[bool]]):
        self.asked, self._model, self._right = Elicit(), model, right

    def model(self, name: str) -> LoadedModel:
        return self._model

    def part(self, name: str, facts: object, make: object) -> list[list[bool]]:
        return self._right


@pytest.mark.parametrize("marked", [True, False])
def test_a_planted_stop_is_told_from_stops_elsewhere_and_an_idle_one_is_not(base: LoadedModel, marked: bool) -> None:
    """Answers are right from the first candidate's step on alone (marked), or everywhere."""
    items = FindStart().items("standard-test", 24)
    texts, right = [], []
    for number, item in enumerate(items):
        ends, first = tuple(range(10, 101, 10)), number % 9
        candidate = Stated(first, ends[first], item.gold, True)
        ids = tuple(ids_of(base, "try 12 ; " * 40)[:100])
        texts.append(Reflected(item.id, 100, True, item.gold, (candidate,), (), True, ids[:5], ends, ids))
        right.append([not marked or place == first + 1 for place in range(11)])
    setting = Setting(name="x", split="standard-test", form="think")
    arm = Arm(name="base", label="base", role="baseline", model="builtin:base", form="think")
    tables, said = stopping(Made(base, right), setting, [arm], {"base": texts}, Stopping(24, 0.0, 99, None))  # type: ignore[arg-type]
    (line,) = tables[0].lines
    assert line[2:4] == ("100.0", "100.0") and line[-1] == (0.01 if marked else 1.0)
    left = 1 - sum(10 * (n % 9 + 1) for n in range(24)) / 2400
    assert line[5] == f"{100 * left:.1f}"
    assert f"leaves out {100 * left:.1f} % of the tokens and changes accuracy by +0.0 points" in said[-1]
    assert len(tables[1].lines[0]) == len(tables[1].heads) and len(line) == len(tables[0].heads)


def test_texts_that_cannot_be_stopped_are_said(base: LoadedModel) -> None:
    item = FindStart().items("standard-test", 1)[0]
    empty = Reflected(item.id, 0, False, None, (), (), None, (5, 6), (), ())
    setting = Setting(name="x", split="standard-test", form="think")
    arm = Arm(name="base", label="base", role="baseline", model="builtin:base", form="think")
    tables, said = stopping(Made(base, []), setting, [arm], {"base": [empty]}, Stopping(1, 0.0, 9, None))  # type: ignore[arg-type]
    assert said == ["x: base: 1 texts are not stopped anywhere: they are empty, or no answer fits behind them."]
    assert len(tables[0].lines[0]) == len(tables[0].heads)


def test_a_vector_is_known_by_its_bytes(tmp_path: Path) -> None:
    vector = SteeringVector.load(CHECKING)
    path = tmp_path / "v.safetensors"
    digests = []
    for seed in (0, 1):
        random_like(vector, seed).save(path)
        digests.append(ReflectionOptions(n=1, file=str(path)).digest)
    assert None not in digests and digests[0] != digests[1]
    with pytest.raises(BadInput, match="No vector file"):
        options_of(card_named("reflection"), "quick", {"file": str(tmp_path / "missing.safetensors")})
