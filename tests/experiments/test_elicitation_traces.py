"""Cards about steps of traces: planted truths are found, edits are exact, and a stopped card goes on with the same bytes."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from experiments.evaluation.loading import load
from experiments.pair.problem import split_problems
from experiments.pair.verifier import verify
from experiments.statistics import agreement, histogram_kl, kl
from experiments.store.runs import Store
from experiments.studies.elicitation import steps as stepping
from experiments.studies.elicitation.edits import edits_of, leads_to_goal, lines_of, outcome, reworded
from experiments.studies.elicitation.information_gain import Reading, last_share, read
from experiments.studies.elicitation.named import card_named
from experiments.studies.elicitation.run import run_card
from experiments.studies.elicitation.same_answers import OUTCOMES, area_over
from experiments.studies.elicitation.steps import answer_distributions, answer_ids, meaning, steps_of
from experiments.studies.elicitation.workroom import Workroom
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel
from tests.experiments.planted_traces import QUIET, SETTING, THINK, searched, trace_of
from tests.tiny import tiny


@pytest.fixture(scope="module")
def base() -> LoadedModel:
    return load("builtin:base", None)


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
