"""Reflection: candidates that a text states, results that it checks, and what stopping elsewhere costs, on cases done by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.pair.verifier import verify
from experiments.studies.elicitation.reflection import four_ways
from experiments.studies.elicitation.stated import Checked, Reflected, Stated, checked, stated
from experiments.studies.elicitation.stopping import _at
from experiments.tasks.findstart import FindStart
from experiments.tasks.task import resolve_task
from steering.model.models import LoadedModel, load_model


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
