"""Cards about steps of traces: planted truths are found, edits are exact, and a stopped card goes on with the same bytes."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import cohen_kappa_score

from experiments.evaluation.loading import load
from experiments.pair.problem import Problem, split_problems
from experiments.pair.verifier import verify
from experiments.statistics import agreement, histogram_kl, kl
from experiments.store.runs import Store
from experiments.studies.elicitation import steps as stepping
from experiments.studies.elicitation.anchors import Anchoring, places_of, plan_at, steered_at, top_steps, vector_of
from experiments.studies.elicitation.asked import Elicit, Setting
from experiments.studies.elicitation.attended import attended, halves, heads_table, scores
from experiments.studies.elicitation.edits import edits_of, leads_to_goal, lines_of, outcome, reworded
from experiments.studies.elicitation.importance import Importance, forced_importance, measured
from experiments.studies.elicitation.information_gain import Reading, last_share, read
from experiments.studies.elicitation.named import card_named
from experiments.studies.elicitation.run import run_card
from experiments.studies.elicitation.same_answers import OUTCOMES, area_over
from experiments.studies.elicitation.sentence_tables import ranks
from experiments.studies.elicitation.steps import Trace, answer_distributions, answer_ids, meaning, steps_of
from experiments.studies.elicitation.workroom import Workroom
from experiments.tasks.items import Item
from steering.attribution import receiving, suppression
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel
from tests.tiny import tiny

QUIET = Console(quiet=True)
SETTING = Setting(name="think-first prompts", split="standard-test", form="think")
THINK = Elicit(settings=(SETTING,))


@pytest.fixture(scope="module")
def base() -> LoadedModel:
    return load("builtin:base", None)


def trace_of(model: LoadedModel, problem: Problem, text: str, number: int = 0) -> Trace:
    """A trace of the base with this response."""
    ids = tuple(model.tokenizer(text, add_special_tokens=False)["input_ids"])
    prompt = tuple(model.tokenizer(problem.prompt("think"))["input_ids"])
    item = Item(f"standard-test/{number:05d}", str(problem.answer), problem)
    steps, answer = steps_of(model, ids, problem)[:-1], verify(problem, text).answer
    listed = tuple(map(str, problem.candidates))
    return Trace(item, "base", "base", "builtin:base", prompt, ids, steps, str(answer), False, listed)


def searched(problem: Problem, check: bool = False) -> str:
    """A careful trace that tries the candidates in order."""
    words, previous = [], None
    for candidate in problem.candidates:
        words.append(f"not {previous} try {candidate} ;" if previous is not None else f"let us try {candidate} ;")
        value = candidate
        for rule in problem.rules:
            words.append(f"{value} {rule} = {rule(value)} ;")
            if check:
                words.append(f"check {value} {rule} = {rule(value)} ok ;")
            value = rule(value)
        if value == problem.goal:
            return " ".join([*words, f"goal {problem.goal} yes ; so answer {candidate}"])
        words.append(f"goal {problem.goal} no back ;")
        previous = candidate
    raise AssertionError


def planted(trace: Trace, samples: int = 32) -> tuple[dict[str, list[list[object]]], np.ndarray]:
    """Continuations and forced distributions of a writer whose answer changes at the sentences that decide, and nowhere else."""
    rng = np.random.default_rng(len(trace.ids))
    k = len(trace.candidates)
    believed, spread = 0, [np.full(k + 1, 1 / (k + 1))]
    for step in trace.steps:
        if step.choice:
            believed = (believed + 1) % k
        peaked = np.full(k + 1, 0.05 / k)
        peaked[believed] = 0.95
        spread.append(peaked if believed or step.choice else spread[-1])
    draws = [[trace.candidates[min(n, k - 1)] for n in rng.choice(k + 1, samples, p=own)] for own in spread]
    differs = [[bool(rng.random() < (0.6 if step.choice else 0.3)) for _ in range(samples)] for step in trace.steps]
    returns = [[False] * samples for _ in trace.steps]
    return {"answers": draws, "differs": differs, "returns": returns}, np.array(spread)


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


def test_two_samples_of_one_distribution_lie_apart_by_about_nothing() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(10, [0.25] * 4, size=(200, 2)).tolist()
    same = [histogram_kl(one, other, seed=n) for n, (one, other) in enumerate(drawn)]
    assert np.mean([one.raw for one in same]) > 0.08, "chance alone puts them apart"
    assert np.mean([one.value for one in same]) == pytest.approx(0, abs=0.02)
    assert np.mean([one.p <= 0.05 for one in same]) < 0.1
    apart = histogram_kl([30, 2, 0, 0], [0, 2, 30, 0])
    assert apart.value > 1.5 and apart.p < 0.01 and 0 < apart.se < 1
    assert float(kl(np.array([0.5, 0.5]), np.array([0.25, 0.75]))) == pytest.approx(
        0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    )
    for one, other in (([1, 2], [1]), ([0, 0], [1, 1]), ([-1, 3], [1, 1])):
        with pytest.raises(ValueError, match="histograms"):
            histogram_kl(one, other)


def test_steps_have_the_kinds_of_the_verifier_and_meanings_beyond_wording(base: LoadedModel) -> None:
    problem = next(p for p in split_problems("standard-test", 9) if p.answer != p.candidates[0])
    text = searched(problem)
    trace = trace_of(base, problem, text)
    assert " ".join(step.text for step in trace.steps) + " so answer " + str(problem.answer) == text
    kinds = [step.kind for step in trace.steps]
    assert set(kinds) == {"proposing", "computing", "testing the goal"} and kinds[0] == "proposing"
    assert [step.choice for step in trace.steps] == [" try " in f" {step.text}" for step in trace.steps]
    for one, other in (
        ("let us try 8 ;", "hmm maybe try 8 ;"),
        ("not 4 try 8 ;", "first try 8 ;"),
        ("hmm check 8 + 1 = 9 ok ;", "check 8 + 1 = 9 ok ;"),
    ):
        assert meaning(one, True) == meaning(other, True)
    assert meaning("wait check 8 + 1 = 9 ;", True) != meaning("8 + 1 = 9 ;", True) != meaning("8 + 1 = 8 ;", True)
    broken = text.replace("no back ;", "hmm maybe back ;", 1).replace(f"goal {problem.goal} hmm", "hmm", 1)
    assert "abandoning" in {step.kind for step in trace_of(base, problem, broken).steps}


def test_sentences_of_language_are_not_cut_inside_numbers() -> None:
    model = tiny("llama")
    texts = {n: t for n, t in enumerate(["It", " costs", " 3", ".", "5", " now", ".", " So", " 4", ".", "\n", "Yes"])}

    class Facts:
        def text(self, token: int) -> str:
            return texts[token]

        def ends_sentence(self, token: int) -> bool:
            return texts[token] in (".", "\n")

        def has_content(self, token: int) -> bool:
            return bool(texts[token].strip(" .\n"))

    found = steps_of(replace(model, extra={"token_facts": Facts()}), list(texts))
    assert [(step.start, step.end) for step in found] == [(0, 7), (7, 11), (11, 12)]


def test_a_post_hoc_trace_gains_nothing_on_the_answer_but_by_the_published_measure() -> None:
    """The answer's probability does not move while a long predictable text makes the whole text's perplexity fall."""
    answer, text, lengths = -2.0, -0.05, [20, 30, 40, 50, 60]
    wholes = [(-3.0 * 20 + text * (n - 20) + answer) / (n + 1) for n in lengths]
    posthoc = Reading(tuple([answer] * 5), tuple(float(np.exp(-one)) for one in wholes))
    assert np.abs(posthoc.gains).max() == 0 and (posthoc.published > 0.2).all() and last_share([posthoc]) is None
    told = Reading((-3.0, -3.0, -2.9, -0.1, -0.1), posthoc.perplexity)
    assert told.gains.sum() == pytest.approx(2.9) and int(np.argmax(told.gains)) == 2
    assert last_share([told]) == 0.0 and told.published == pytest.approx(posthoc.published)


def test_what_is_said_again_behind_a_trace_gains_nothing_and_the_trace_does(base: LoadedModel) -> None:
    problem = split_problems("standard-test", 3)[2]
    trace = trace_of(base, problem, searched(problem))
    cue, gold = stepping.cue_ids(base, "so answer"), answer_ids(base, "so answer", str(problem.answer))
    own = read(base, trace.prompt_ids, list(trace.prefixes), cue, gold)
    whole = trace.prefixes[-1]
    last = trace.steps[-4:]
    again = [whole, *((*whole, *trace.ids[last[0].start : step.end]) for step in last)]
    posthoc = read(base, trace.prompt_ids, again, cue, gold)
    assert own.gains.sum() > 1 and abs(posthoc.gains.sum()) < 0.1
    assert abs(posthoc.published.sum()) > 0.2, "the published measure moves where nothing is learnt of the answer"
    prompt, told = trace.prompt_ids, np.array(own.answer)
    spread = answer_distributions(base, [(*prompt, *p) for p in trace.prefixes], "so answer", trace.candidates)
    place = trace.candidates.index(str(problem.answer))
    assert np.exp(told) == pytest.approx(spread[:, place], abs=1e-4), "two ways to the same probability"


def test_answers_of_several_tokens_are_weighed_against_each_other(base: LoadedModel) -> None:
    prompt = tuple(base.tokenizer(split_problems("standard-test", 1)[0].prompt("think"))["input_ids"])
    found = answer_distributions(base, [prompt], "so answer", ["4 ; 5", "6", "7"])
    assert found.shape == (1, 4) and found.sum() == pytest.approx(1) and found[0, -1] == 0 and found[0, 0] < found[0, 1]


def test_edits_imply_what_the_rules_say_and_rewordings_mean_the_same(base: LoadedModel) -> None:
    kinds = set()
    for number, problem in enumerate(split_problems("hard-test", 5)):
        trace = trace_of(base, problem, searched(problem), number)
        assert len(lines_of(trace)) == sum(step.kind == "computing" for step in trace.steps)
        for edit in edits_of(trace, 3):
            kinds.add(edit.kind)
            line = next(line for line in lines_of(trace) if line.step == edit.step)
            value = int(edit.text.split()[4])
            end = value
            for rule in problem.rules[line.index + 1 :]:
                end = rule(end)
            assert value != line.result and edit.text.split()[:4] == trace.steps[edit.step].text.split()[:4]
            assert (end == problem.goal) == (edit.kind == "toward") and leads_to_goal(
                problem, len(problem.rules)
            ) == problem.goal
            assert (
                edit.implied == (str(line.candidate) if edit.kind == "toward" else None)
                and edit.implied != trace.answer
            )
            assert outcome(edit, trace, f"{edit.repair} ; goal 3 no back", None) == "repairs"
            assert outcome(edit, trace, "", trace.answer) == "keeps" and outcome(edit, trace, "", None) == "neither"
            cut_off = outcome(edit, trace, "8 + 1 = 9 ; goal 3 no back ; not 8 try 4", None)
            assert cut_off == ("follows" if edit.kind == "away" else "neither"), (
                "it rejected the candidate, whatever it would say"
            )
            if edit.kind == "toward":
                assert outcome(edit, trace, "", edit.implied) == "follows"
        checked = trace_of(base, problem, searched(problem, check=True), number)
        for one in (trace, checked):
            texts = reworded(one)
            assert [meaning(text, True) for text in texts] == [step.meaning for step in one.steps]
            assert texts != [step.text for step in one.steps]
            whole = verify(problem, " ".join([*texts, f"so answer {problem.answer}"]))
            assert whole.well_formed and whole.trace_ok
        assert lines_of(checked) == [], "a line that is checked is left alone"
    assert kinds == {"toward", "away", "random"}


def test_the_area_over_the_curve_is_0_for_an_answer_that_stands_and_grows_with_the_step_that_decides() -> None:
    shares = [n / 10 for n in range(11)]
    areas = [area_over(shares, [float(n >= first) for n in range(11)]) for first in range(11)]
    assert areas[0] == 0.0 and areas[10] > 0.9 and areas == sorted(areas) and len(set(areas)) == 11
    assert area_over([0.4], [1.0]) == 0.0 and area_over([0.4], [0.0]) == 1.0


def test_agreement_says_when_kappa_cannot_be_read() -> None:
    one = ["a"] * 50 + ["b"] * 50
    two = ["a"] * 40 + ["b"] * 50 + ["a"] * 10
    found = agreement(one, two)
    assert found.kappa == pytest.approx(cohen_kappa_score(one, two)) and not found.saturated
    assert found.ac2 == pytest.approx((0.8 - 0.5) / 0.5) and found.raw == 0.8 and 0.8 in found.interval
    rare = agreement(["a"] * 98 + ["b", "a"], ["a"] * 98 + ["a", "b"])
    assert rare.raw == 0.98 and rare.kappa is not None and rare.kappa < 0 and rare.ac2 is not None and rare.ac2 > 0.95
    assert rare.saturated
    alone = agreement(["a"] * 4, ["a"] * 4)
    assert alone.kappa is None and alone.ac2 is None and alone.saturated
    with pytest.raises(ValueError, match="one length"):
        agreement(["a"], [])


SIZES: dict[str, dict[str, object]] = {
    "sentences": {"n": 2, "samples": 4, "draws": 20, "anchors": 1},
    "faithfulness": {"n": 3, "edits": 2, "resilient": 1, "samples": 4},
    "information-gain": {"n": 2, "shuffles": 2},
}


@pytest.mark.parametrize("name", list(SIZES))
def test_a_card_that_is_stopped_between_its_parts_goes_on_with_the_same_bytes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = THINK.model_copy(update={"thinking": None})
    findings = run_card(card_named(name), asked, Store(tmp_path / "whole"), given=SIZES[name], console=QUIET)
    assert findings.tables and all(sentence.startswith(SETTING.name) for sentence in findings.said)
    part, made = Workroom.part, 0

    def stopped(self: Workroom, name: str, facts: object, make: object) -> object:
        nonlocal made
        made += 1
        if made == 2:
            raise KeyboardInterrupt
        return part(self, name, facts, make)  # type: ignore[arg-type]

    monkeypatch.setattr(Workroom, "part", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_card(card_named(name), asked, Store(tmp_path / "parts"), given=SIZES[name], console=QUIET)
    assert list((tmp_path / "parts" / ".elicitation" / "parts").glob("*.json"))
    again = run_card(card_named(name), asked, Store(tmp_path / "parts"), given=SIZES[name], console=QUIET)
    kept = [
        {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.glob(".elicitation/**/*.json"))}
        for root in (tmp_path / "whole", tmp_path / "parts")
    ]
    assert again == findings and kept[0] == kept[1]
    if name == "faithfulness":
        (table,) = [table for table in findings.tables if "changed value" in table.title]
        for line in table.lines:
            assert sum(float(str(cell).split()[0]) for cell in line[3 : 3 + len(OUTCOMES)]) == pytest.approx(100, abs=1)


def test_continuations_of_one_prefix_cost_a_small_part_of_a_call_for_each(base: LoadedModel) -> None:
    """The measured ratio stands in docs/cards/sentences.md; here the bound is wide, for a busy machine."""
    problem = split_problems("standard-test", 1)[0]
    trace = trace_of(base, problem, searched(problem))
    rows = [Row(trace.prompt_ids, seed=n, begun=trace.prefixes[-4]) for n in range(16)]
    settings = GenerationSettings(len(trace.ids) + 24, temperature=1.0)

    def timed(calls: list[list[Row]]) -> tuple[float, list[tuple[int, ...]]]:
        begun = time.perf_counter()
        found = [one.token_ids for call in calls for one in generate(base, call, settings, detail="tokens")]
        return time.perf_counter() - begun, found

    alone, together = [[row] for row in rows], [rows]
    timed(together)
    pairs = [(timed(alone), timed(together)) for _ in range(2)]
    assert all(one[1] == other[1] for one, other in pairs), "the same texts"
    assert min(other[0] for _, other in pairs) < 0.5 * min(one[0] for one, _ in pairs)
