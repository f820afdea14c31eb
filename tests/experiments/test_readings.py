"""Behaviour readings: which ends of computed lines stand on which side of the contrast."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from experiments.pair.problem import parse_problem
from experiments.studies.readings import behaviour_readings
from steering.errors import BadInput
from steering.model.models import load_model
from steering.model.prompts import encode_prompt

PROMPT = "rules + 1 ; * 3 ; goal 9 start 5 2 4 ?"
CHECKED = (
    "let us try 5 ; 5 + 1 = 6 ; 6 * 3 = 18 ; check 6 * 3 = 18 ok ; goal 9 no back ; "
    "not 5 try 2 ; 2 + 1 = 3 ; 3 * 3 = 9 ; goal 9 yes ; so answer 2"
)
PLAIN = "let us try 5 ; 5 + 1 = 6 ; 6 * 3 = 18 ; goal 9 no back ; not 5 try 2 ; 2 + 1 = 3 ; 3 * 3 = 9 ; goal 9 yes ; so answer 2"


def test_line_ends_after_the_first_check_stand_against_those_before_one() -> None:
    model = load_model("builtin:base")
    prompt = encode_prompt(model, PROMPT)
    traces = [
        SimpleNamespace(prompt_ids=prompt, token_ids=tuple(model.tokenizer(t, add_special_tokens=False)["input_ids"]))
        for t in (CHECKED, PLAIN)
    ]
    problems = [parse_problem(PROMPT)] * 2
    behaving, others = behaviour_readings(model, problems, traces, ("checking",), settled=1)  # type: ignore[arg-type]

    def lines(reading: object, row: int) -> list[str]:
        ids, places = reading.sequences[row], reading.positions[row]  # type: ignore[attr-defined]
        return [model.tokenizer.decode(list(ids[p - 5 : p + 1])) for p in places]

    assert lines(behaving, 0) == ["2 + 1 = 3 ;", "3 * 3 = 9 ;"] and lines(behaving, 1) == []
    assert lines(others, 0) == ["6 * 3 = 18 ;"], "the first line is left out, the checked one precedes the check"
    assert lines(others, 1) == ["6 * 3 = 18 ;", "2 + 1 = 3 ;", "3 * 3 = 9 ;"]
    with pytest.raises(BadInput, match="read more traces"):
        behaviour_readings(model, problems[1:], traces[1:], ("checking",))  # type: ignore[arg-type]
