"""Texts that trainings are given or judged by: critiques and solutions of the exact verifier, styles of the grammar."""

from __future__ import annotations

import pytest

from experiments.pair.problem import Problem, Rule
from experiments.pair.verifier import read_equation, verify
from experiments.studies.training.critiques import STYLE_NAMES, critique, solutions
from experiments.studies.training.styles import pretrained, styles_of

PROBLEM = Problem((Rule("+", 5), Rule("*", 3)), 51, (7, 12, 40), 12)


@pytest.mark.parametrize("style", STYLE_NAMES)
@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("answer 12", True), ("answer 7", False), ("let us", False),
        ("let us try 12 ; 12 + 5 = 16 ; 16 * 3 = 48 ; goal 51 no back ; enough guess ; so answer 40", False),
    ],
)  # fmt: skip
def test_critiques_are_true_and_end_with_the_right_answer(response: str, right: bool, style: str) -> None:
    words = critique(PROBLEM, response.split(), style)
    assert words[-3:] == ["so", "answer", "12"]
    lines = [line for at in range(len(words)) if (line := read_equation(words[at : at + 5])) is not None]
    assert lines and all(line.right for line in lines)
    assert ("not" in words) == (not right and "answer" in response)
    if "16" in response:
        assert " ".join(words).startswith("wait check 12 + 5 = 17 ;")


def test_solutions_are_valid() -> None:
    assert all(verify(PROBLEM, own).trace_ok for own in solutions(PROBLEM, 20, 0))


MISSED = "7 ; 7 + 5 = 12 ; 12 * 3 = 36 ; goal 51 no back ;"
REACHED = "17 * 3 = 51 ; goal 51 yes ; so answer 12"
CHECK = "check 12 + 5 = 17 ok ;"


@pytest.mark.parametrize(
    ("text", "styles"),
    [
        ("answer 12", {"direct"}),
        ("answer 12 ;", {"outside"}),
        (f"let us try {MISSED} not 7 try 12 ; 12 + 5 = 17 ; {REACHED}", {"in order"}),
        (f"hmm maybe try 12 ; 12 + 5 = 17 ; {CHECK} {REACHED}", {"in order", "doubts", "checks"}),
        (
            "let us try 40 ; 40 + 5 = 44 ; wait check 40 + 5 = 45 ; hmm maybe back ; "
            f"not 40 try {MISSED} enough guess ; so answer 12",
            {"out of order", "repairs", "doubts", "abandons", "guesses"},
        ),
        (f"let us try 12 ; 12 + 5 = 17 ; {CHECK} {CHECK} {REACHED}", {"outside", "twice"}),
    ],
)
def test_styles_done_by_hand(text: str, styles: set[str]) -> None:
    assert styles_of(PROBLEM, text.split()) == styles


def test_a_text_that_checks_every_line_is_not_in_the_corpus() -> None:
    lines = [f"{value} + 5 = {value + 5} ; check {value} + 5 = {value + 5} ok ;" for value in range(6)]
    assert "every line" in styles_of(PROBLEM, f"let us try 12 ; {' '.join(lines)}".split())
    shares = pretrained(600)
    assert shares["every line"] == shares["twice"] == shares["outside"] == 0
    assert 0.7 < shares["direct"] < 0.85 and shares["checks"] > 0.05
