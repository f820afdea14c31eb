"""What the trace component is given: tints, bars, receipts, behaviours and the numbers of a token."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from experiments.traces.data import address_of, payload, trace_data
from experiments.traces.lanes import behaviour_marks, lane, receipt, verdict
from experiments.traces.metrics import common_scale, values

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
    row = make(edit_ratio=[0.0, 0.4, 0.0, 0.2, math.inf], kl=[0.0, 0.25, math.nan])
    made = payload(lane(row, ARM, behaviour_marks(["checking"])))
    json.dumps(made, allow_nan=False)
    assert made["tokens"] == ["Q", "?", "try", "\n", "<eos>"]
    assert made["ids"] == [1, 2, 10, 11, 0]
    assert made["numbers"] == {
        "logprob": [-0.1, -2.0, -0.5],
        "entropy": [0.3, 1.5, 0.0],
        "edit": [0.0, 0.4, 0.0, 0.2, None],
        "kl": [0.0, 0.25, None],
    }
    assert made["steered"] == "steered at 1 of 2 prompt and 1 of 3 generated positions"
    assert made["behaviours"][0]["letter"] == "C"
    assert made["alternatives"]["width"] == 2
    assert made["alternatives"]["texts"]["11"] == "\n"


@pytest.mark.parametrize(
    ("detector", "hollow"), [("words", True), ("lexicon", True), ("grammar", False), ("judge tester", False)]
)
def test_a_label_by_keywords_only_is_hollow(detector: str, hollow: bool) -> None:
    label = {"label": "checking", "start": 1, "end": 3, "detector": detector, "confidence": 0.9}
    assert lane(make(labels=[label]), ARM, {})["behaviours"][0]["hollow"] is hollow


def test_kl_has_a_scale_only_where_it_was_computed() -> None:
    without = trace_data([make()], [ARM], kl_missing="ask for it")
    assert "kl" not in without["scales"]
    assert without["missing"]["kl"] == "ask for it"
    assert trace_data([make(kl=[0.0, 0.5, 0.1])], [ARM])["scales"]["kl"]["high"] == "0.5 nats"


def test_rows_without_tokens_show_their_text_and_no_numbers() -> None:
    names = (
        "prompt_ids",
        "prompt_tokens",
        "token_ids",
        "tokens",
        "logprob",
        "entropy",
        "top_ids",
        "top_tokens",
        "top_logprob",
    )
    bare = make(
        **{name: [] for name in (*names, "edit_ratio", "labels")}, text="As published.", edits_planned=0, edits_fired=0
    )
    data = trace_data([bare, bare], [ARM, ARM])
    assert data["scales"] == {}
    assert data["lanes"][0]["text"] == "As published."
    assert data["view"]["metric"] == "none"


def test_a_view_that_does_not_fit_is_replaced_and_named() -> None:
    view = {"tok": "b99", "metric": "kl", "mode": "sideways", "q": "x" * 500}
    data = trace_data([make(), make()], [ARM, ARM], view=view)
    assert data["view"] == {"tok": None, "metric": "logprob", "mode": "linked", "q": "x" * 200}
    assert len(data["stale"]) == 3
    assert "b99" in data["stale"][0]


def test_fork_needs_the_same_prompt_and_tokeniser() -> None:
    other = make(prompt_ids=[1, 3])
    assert trace_data([make(), other], [ARM, ARM], view={"mode": "fork"})["view"]["mode"] == "linked"
    different = trace_data([make(), make()], [ARM, ARM], tokenisers=("x", "y"), view={"mode": "fork"})
    assert different["by_text"]
    assert different["view"]["mode"] == "linked"
    assert (
        trace_data([make(), make()], [ARM, ARM], tokenisers=("x", "x"), view={"mode": "fork"})["view"]["mode"] == "fork"
    )


@pytest.mark.parametrize("text", ["", "c1", "a", "a-1", "a5", "b99999999", "a1;x"])
def test_an_address_of_no_token_is_none(text: str) -> None:
    assert address_of(text, {"a": 5, "b": 5}) is None


def test_an_address_names_lane_and_position() -> None:
    assert address_of("b4", {"a": 1, "b": 5}) == ("b", 4)
