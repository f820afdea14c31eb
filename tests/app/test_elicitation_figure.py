"""The figure of the page Elicitation: labels that do not overlap, and points that stand on the same questions."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from app.elicitation_figure import by_split, front_of, pareto
from app.label_places import Mark, placed
from experiments.studies.elicitation.findings import Point


def test_labels_overlap_neither_each_other_nor_marks() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        marks = [
            Mark(float(x), float(y), float(y) - 0.1, min(1.0, float(y) + 0.1), f"an arm of {n} words")
            for n, (x, y) in enumerate(rng.uniform(0.3, 0.7, (8, 2)))
        ]
        places = placed(marks)
        boxes = {n: mark.at(place) for n, (mark, place) in enumerate(zip(marks, places, strict=True)) if place}
        assert len(boxes) > 2
        assert not any(one.meets(two) for one, two in combinations(boxes.values(), 2))
        assert not any(
            box.meets(own) for n, box in boxes.items() for m, mark in enumerate(marks) if m != n for own in mark.boxes
        )


def test_a_label_without_room_is_left_to_the_hover() -> None:
    here = Mark(0.5, 0.5, 0.4, 0.6, "x" * 60)
    assert placed([here, Mark(0.5, 0.5, 0.4, 0.6)]) == [None, None], "marks that lie on each other leave no room"
    assert placed([Mark(0.5, 0.5, 0.4, 0.6, "x" * 200)]) == [None], "wider than the plot"
    assert placed([Mark(0.99, 0.5, 0.4, 0.6, "some words")]) == ["middle left"]


def point(arm: str, accuracy: float, tokens: float, n: int = 60, split: str = "standard-test") -> Point:
    return Point(
        setting="bare prompts", arm=arm, label=arm, role="steered", n=n, accuracy=accuracy, low=max(0.0, accuracy - 0.1),
        high=min(1.0, accuracy + 0.1), tokens=tokens, truncated=0, unscorable=0, run="r", split=split,
    )  # fmt: skip


def test_points_on_other_questions_stand_in_another_figure() -> None:
    points = [point("a", 0.2, 3), point("b", 0.9, 90), point("wide", 0.3, 50, split="test")]
    assert {split: [p.arm for p in own] for split, own in by_split(points).items()} == {
        "standard-test": ["a", "b"],
        "test": ["wide"],
    }


def test_points_on_fewer_questions_are_faint_and_on_no_front() -> None:
    points = [point("a", 0.2, 3), point("b", 0.9, 90), point("few", 1.0, 2, n=5), point("nothing", 0.0, 1)]
    assert [p.arm for p in front_of(points)] == ["a", "b"], "fewer questions, and nothing right, beat nobody"
    figure, words = pareto(points)
    faint = {text for trace in figure.data if trace.opacity < 1 for text in trace.hovertext}
    assert len(faint) == 1 and "n = 5" in next(iter(faint))
    assert "the first 60 questions of standard-test, some (faint) on the first 5 of them alone" in words
    assert "nothing (" not in words and "few (" not in words
    assert {text for trace in figure.data for text in trace.text} == {"", "a", "b"}
    silent = pareto([point("nothing", 0.0, 1), point("neither", 0.0, 2)])[1]
    assert "no front" in silent


def test_marks_that_lie_on_each_other_are_named_once() -> None:
    figure, _ = pareto([point("a", 0.2, 3), point("c", 0.2, 3), point("b", 0.9, 90)])
    assert {text for trace in figure.data for text in trace.text} == {"", "a (and 1 the same)", "b"}
