"""What the trace component is given: tints, bars, receipts, behaviours and the numbers of a token."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from app.components.trace import payload
from app.facts import parse_address, token_facts
from app.lanes import behaviour_marks, lane, receipt, verdict
from app.metrics import common_scale, values
from app.pairing import part

ARM = {"label": "Base + vector", "role": "steered"}


def make(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "prompt_ids": [1, 2],
        "prompt_tokens": ["Q", "?"],
        "token_ids": [10, 11, 0],
        "tokens": ["try", "\n", "<eos>"],
        "logprob": [-0.1, -2.0, -0.5],
        "entropy": [0.3, 1.5, 0.0],
        "top_ids": [10, 20, 11, 0, 0, 3],
        "top_tokens": ["try", "x", "\n", "w", "<eos>", "v"],
        "top_logprob": [-0.1, -3.0, -2.0, -2.5, -0.5, -4.0],
        "edit_ratio": [0.0, 0.4, 0.0, 0.2, 0.0],
        "edits_planned": 2,
        "edits_fired": 2,
        "labels": [{"label": "checking", "start": 1, "end": 3, "detector": "words", "confidence": 0.9}],
        "answer": "7",
        "correct": True,
        "scorable": True,
        "truncated": False,
        "trace_ok": None,
        "well_formed": None,
        "finish": "eos",
    }
    return {**row, **changes}


def test_metric_values_cover_prompt_and_generated_positions() -> None:
    assert values(make(), "logprob") == [None, None, -0.1, -2.0, -0.5]
    assert values(make(), "edit") == [0.0, 0.4, 0.0, 0.2, 0.0]
    assert values(make(), "none") == [None] * 5


def test_short_or_not_finite_numbers_are_missing_not_zero() -> None:
    assert values(make(entropy=[math.nan, 1.0]), "entropy") == [None, None, None, 1.0, None]


def test_one_scale_for_all_lanes_in_the_metric_s_own_direction() -> None:
    scale = common_scale([make(), make(logprob=[-4.0, -1.0, 0.0])], "logprob")
    assert scale.top == 4.0
    assert scale.tint(-4.0) == 1.0
    assert scale.tint(-1.0) == 0.25
    assert scale.tint(None) is None
    assert scale.legend()["high"] == "-4 nats"
    assert "99th percentile" in scale.legend()["meaning"]


def test_the_scale_is_clipped_at_the_99th_percentile() -> None:
    row = make(token_ids=list(range(200)), entropy=[1.0] * 199 + [50.0])
    assert common_scale([row], "entropy").top == 1.0


def test_one_edit_in_a_long_text_still_has_a_tint() -> None:
    scale = common_scale([make(token_ids=[1] * 300, edit_ratio=[0.0, 0.4] + [0.0] * 300)], "edit")
    assert scale.top == 0.4
    assert scale.tint(0.4) == 1.0


def test_a_metric_that_is_zero_everywhere_has_no_tint() -> None:
    scale = common_scale([make(edit_ratio=[0.0] * 5)], "edit")
    assert scale.tint(0.0) == 0.0
    assert "zero at every position" in scale.legend()["meaning"]


def test_receipt_counts_and_sizes() -> None:
    proof = receipt(make())
    assert (proof.planned, proof.fired, proof.positions, proof.ok) == (2, 2, 2, True)
    assert proof.sentence == "fired 2/2 planned edits, ‖Δ‖/‖h‖ median 0.30 (max 0.40)"


@pytest.mark.parametrize(("planned", "fired"), [(2, 1), (1, 0), (0, 1)])
def test_a_receipt_that_does_not_match_its_plan_is_not_ok(planned: int, fired: int) -> None:
    assert not receipt(make(edits_planned=planned, edits_fired=fired)).ok


def test_an_unscorable_answer_is_neither_right_nor_wrong() -> None:
    assert verdict(make())["mark"] == "✓"
    assert verdict(make(correct=False))["mark"] == "✗"
    assert verdict(make(correct=False, scorable=False, answer=None)) == {
        "answer": "no answer found",
        "mark": "?",
        "meaning": "unscorable: no answer could be read",
        "tone": "open",
    }


def test_behaviours_have_distinct_letters_and_stable_styles() -> None:
    marks = behaviour_marks(["try", "checking", "backtracking", "branching", "try"])
    assert [marks[label]["letter"] for label in sorted(marks)] == ["B", "R", "C", "T"]
    assert behaviour_marks(["try", "backtracking"])["backtracking"] == {"letter": "B", "style": 0}


def test_a_lane_is_plain_json_with_one_entry_per_position() -> None:
    row = make(edit_ratio=[0.0, 0.4, 0.0, 0.2, math.inf])
    made = payload(lane(row, ARM, common_scale([row], "logprob"), 0.4, behaviour_marks(["checking"])))
    json.dumps(made, allow_nan=False)
    assert made["tokens"] == ["Q", "?", "try", "\n", "<eos>"]
    assert len(made["tint"]) == len(made["bar"]) == 5
    assert made["bar"] == [0, 1.0, 0, 0.5, 0]
    assert made["steered"] == "steered at 1 of 2 prompt and 1 of 3 generated positions"
    assert made["behaviours"][0]["letter"] == "C"


def test_facts_are_the_stored_numbers() -> None:
    row, other = make(), make()
    divergence = part(row["prompt_ids"], row["token_ids"], other["prompt_ids"], other["token_ids"])
    facts = token_facts(row, other, 3, divergence, "left", "right")
    assert (facts["token"], facts["id"], facts["logprob"], facts["entropy"], facts["edit_ratio"]) == (
        "\n",
        11,
        -2.0,
        1.5,
        0.2,
    )
    assert facts["probability"] == pytest.approx(math.exp(-2.0))
    assert [(a["token"], a["chosen"]) for a in facts["here"]] == [("\n", True), ("w", False)]
    assert facts["there"]
    assert [(b["label"], b["detector"], b["confidence"]) for b in facts["behaviours"]] == [("checking", "words", 0.9)]


def test_alternatives_of_the_other_arm_only_while_the_prefix_is_shared() -> None:
    row, other = make(), make(token_ids=[10, 12, 0])
    divergence = part(row["prompt_ids"], row["token_ids"], other["prompt_ids"], other["token_ids"])
    at_the_fork = token_facts(row, other, 3, divergence, "left", "right")
    after = token_facts(row, other, 4, divergence, "left", "right")
    assert at_the_fork["there"]
    assert not at_the_fork["note"]
    assert after["there"] == []
    assert after["note"] == "Not comparable after the divergence at #1."


def test_a_prompt_token_has_no_probability() -> None:
    facts = token_facts(make(), make(), 1, part([1, 2], [10], [1, 2], [10]), "left", "right")
    assert facts["logprob"] is None
    assert facts["here"] == []
    assert facts["edit_ratio"] == 0.4
    assert "given" in facts["note"]


@pytest.mark.parametrize("text", [None, "", "c1", "a", "a-1", "a5", "b99999999", "a1;x"])
def test_an_address_of_no_token_is_none(text: str | None) -> None:
    assert parse_address(text, {"a": 5, "b": 5}) is None


def test_an_address_names_lane_and_position() -> None:
    assert parse_address("b4", {"a": 1, "b": 5}) == ("b", 4)
