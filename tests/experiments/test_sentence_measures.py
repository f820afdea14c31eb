"""The card of sentences: planted choice points are found by every measure, and a vector is added where they lie and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.evaluation.loading import load
from experiments.pair.problem import split_problems
from experiments.pair.verifier import verify
from experiments.store.runs import Store
from experiments.studies.elicitation.anchors import Anchoring, places_of, plan_at, steered_at, top_steps, vector_of
from experiments.studies.elicitation.attended import attended, halves, heads_table, scores
from experiments.studies.elicitation.importance import Importance, forced_importance, measured
from experiments.studies.elicitation.resilience import resilience
from experiments.studies.elicitation.sentence_tables import ranks
from experiments.studies.elicitation.workroom import Workroom
from steering.attribution import receiving, suppression
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel
from tests.experiments.planted_traces import QUIET, SETTING, THINK, planted, searched, trace_of


@pytest.fixture(scope="module")
def base() -> LoadedModel:
    return load("builtin:base", None)


def test_every_measure_ranks_planted_choice_points_first(base: LoadedModel) -> None:
    every: list[Importance] = []
    for number, problem in enumerate(split_problems("hard-test", 6)):
        trace = trace_of(base, problem, searched(problem), number)
        drawn, spread = planted(trace)
        every += measured(trace, drawn, forced_importance(spread))
    table, said = ranks(SETTING, "planted", every, 50)
    found = {str(line[0]): line for line in table.lines}
    for name in ("forced", "resampling", "counterfactual"):
        assert float(str(found[name][2]).split()[0]) >= 0.9, (name, found[name])
        assert found[name][3] == pytest.approx(1 / 51, abs=1e-3), "no random score ranks them so well"
    assert "random scores reach" in said and not 0.8 < float(str(found["earlier in the text"][2]).split()[0])
    deciding = [one for one in every if one.choice]
    others = [one for one in every if not one.choice]
    assert np.mean([one.resampling for one in others]) == pytest.approx(0, abs=0.05)
    assert np.mean([one.resampling for one in deciding]) > 1


def test_what_is_removed_and_said_later_is_counted_of_those_that_say_something_else(base: LoadedModel) -> None:
    traces = [
        (trace_of(base, problem, searched(problem), n), n) for n, problem in enumerate(split_problems("hard-test", 4))
    ]
    own = []
    for trace, n in traces:
        differs = [[True, True, True, False] for _ in trace.steps]
        returns = [[step.choice, step.choice and n < 2, False, True] for step in trace.steps]
        own.append((trace, {"differs": differs, "returns": returns}))
    table, said = resilience(SETTING, "planted", own, 4)
    lines = {str(line[0]): line for line in table.lines}
    proposing = lines["proposing"]
    steps = [sum(step.kind == "proposing" for step in trace.steps) for trace, _ in traces]
    back = sum(2 * count if n < 2 else count for n, count in enumerate(steps))
    assert proposing[1:4] == (sum(steps), 4 * sum(steps), 3 * sum(steps)), "the fourth says the same again"
    assert str(proposing[4]).startswith(f"{100 * back / (3 * sum(steps)):.0f} (")
    assert str(lines["computing"][4]).startswith("0 (0 to ")
    assert f"of {3 * sum(len(trace.steps) for trace, _ in traces)} continuations that say something else" in said
    same = [
        (trace, {"differs": [[False]] * len(trace.steps), "returns": [[True]] * len(trace.steps)})
        for trace, _ in traces
    ]
    assert "nothing can come back" in resilience(SETTING, "planted", same, 1)[1]


def test_measures_of_attention_are_ranked_over_the_sentences_that_have_them(base: LoadedModel) -> None:
    every: list[Importance] = []
    for number, problem in enumerate(split_problems("hard-test", 6)):
        trace = trace_of(base, problem, searched(problem), number)
        own = measured(trace, *planted(trace, 4)[:1], [0.0] * len(trace.steps))
        every += [
            replace(one, suppression=float(one.choice), receiver=-float(one.choice) if place < 9 else float("nan"))
            for place, one in enumerate(own)
        ]
    table, said = ranks(SETTING, "planted", every, 50)
    found = {str(line[0]): line for line in table.lines}
    assert float(str(found["suppression"][2]).split()[0]) == 1 and found["suppression"][1] == len(every)
    assert float(str(found["receiver"][2]).split()[0]) == 0 and found["receiver"][3] == 1.0
    assert found["receiver"][1] == found["earlier, of those that receive"][1] == 6 * 9
    assert "suppression 1.000" in said
    without = ranks(SETTING, "planted", [replace(one, receiver=float("nan")) for one in every], 50)[0]
    assert "receiver" not in {line[0] for line in without.lines}


def test_receiver_heads_are_chosen_on_the_other_half_of_the_traces() -> None:
    kurtosis = np.zeros((4, 2, 3))
    kurtosis[::2, 0, 1], kurtosis[1::2, 1, 2] = 9.0, 7.0
    kurtosis[0, 1, 0] = np.nan
    assert halves(kurtosis, 1) == (((1, 2),), ((0, 1),))
    assert halves(kurtosis[:1], 1) == ((), ((0, 1),)), "one trace leaves nothing to choose on"
    own = scores(np.array([[1.0, 3.0, 2.0, np.nan], [20.0, 20.0, 20.0, np.nan]]))
    assert own[:3] == pytest.approx([0.75, 1.25, 1.0]) and np.isnan(own[3])


def test_a_model_without_readable_attention_is_named_with_the_reason(
    base: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (suppression, receiving):
        monkeypatch.setattr(module, "refusal", lambda model: "it has none")
    problem = split_problems("standard-test", 1)[0]
    trace = trace_of(base, problem, searched(problem))
    room = Workroom(THINK, Store("unused"), QUIET, {"builtin:base": base})
    found = attended(room, [trace], 3)
    assert found.reasons == (
        f"attention is not suppressed in {base.id}: it has none",
        f"receiver heads of {base.id} are not read: it has none",
    )
    assert np.isnan([*found.suppression, *found.receiver]).all() and heads_table(SETTING, {"base": found}) == ([], [])


def test_as_many_other_sentences_are_drawn_as_matter_most(base: LoadedModel) -> None:
    importance = [(0.0, 0.1), (0.5, 0.0), (0.0, 0.3), (0.0, 0.3), (0.5, 0.2), *[(-1.0, 0.0)] * 25]
    assert top_steps(importance, 0.1) == (1, 2, 4) and top_steps(importance[:4], 0.1) == (1,)
    problem = split_problems("hard-test", 1)[0]
    trace = trace_of(base, problem, searched(problem))
    own = [(float(place == 2), 0.0) for place in range(len(trace.steps))]
    top, *drawn = places_of(trace, own, 0.2, 40)
    assert 2 in top and len(drawn) == 40 and len(set(drawn)) > 20
    assert all(len(one) == len(top) and not set(one) & set(top) for one in drawn)
    assert places_of(trace, own, 0.2, 40) == [top, *drawn] and places_of(trace, own, 0.5, 40) == []


def test_a_vector_is_added_at_the_first_tokens_of_the_sentences_and_nowhere_else(
    base: LoadedModel, tmp_path: Path
) -> None:
    problem = next(p for p in split_problems("hard-test", 9) if p.answer != p.candidates[0])
    prompt = tuple(base.tokenizer(problem.prompt("think"))["input_ids"])
    (written,) = generate(base, [Row(prompt)], GenerationSettings(360), detail="tokens")
    text = base.tokenizer.decode(written.token_ids, skip_special_tokens=True)
    room = Workroom(THINK, Store(tmp_path), QUIET, {"builtin:base": base, "builtin:thinking": base})
    trace = trace_of(base, problem, text)
    said_answer = verify(problem, text).answer
    trace = replace(trace, answer=None if said_answer is None else str(said_answer))
    vector = vector_of(room, None)
    assert vector is not None
    how = Anchoring(vector, 8.0, 2, 0.1, 3)
    steps = [trace.steps[1], trace.steps[4]]
    end = steps[-1].start + 2
    plan = plan_at(how, steps)
    (steered,) = generate(base, [Row(prompt, plan, begun=trace.ids[:end])], GenerationSettings(360), detail="tokens")
    expected = [len(prompt) + step.start + n for step in steps for n in range(2)]
    assert list(steered.receipt.positions) == expected and steered.receipt.fired == 4
    importance = [(float(-place), 0.0) for place in range(len(trace.steps))]
    for dose, moves in ((1e-6, False), (8.0, True)):
        (table,), said = steered_at(room, SETTING, "base", [(trace, importance)], replace(how, dose=dose))
        cells = {str(line[0]): line for line in table.lines}
        moved = float(str(cells["others, 3 draws"][6]).split()[0])
        assert (moved > 1e-3) == moves, "without a dose the trace is written again"
        if not moves:
            assert "changes no answer, nor does it at others" in said[0] and cells["rank p"][4] == "1.000"
            assert cells["nowhere"][5] == cells["those that matter most"][5]
