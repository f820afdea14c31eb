"""Semantics against symbols: gaps that are planted are found, and none where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from experiments.store.runs import Store
from experiments.studies.elicitation.asked import Elicit, Setting
from experiments.studies.elicitation.findings import Findings
from experiments.studies.elicitation.gaps import Gap, among_directions, gap_between, other_gap, rank_of, verdict
from experiments.studies.elicitation.named import card_named
from experiments.studies.elicitation.run import options_of, run_card
from experiments.studies.elicitation.symbols import DRAW, OWN, TRACES, UNSAID
from experiments.studies.elicitation.variants import variants
from experiments.tasks.findstart import FindStart
from experiments.tasks.graders.grade import NOTHING, Grade, Known
from experiments.tasks.items import Item
from experiments.tasks.task import resolve_task
from experiments.tasks.twins import TwinFindStart
from steering.errors import BadInput

VECTOR = str(Path(__file__).parents[2] / "steering" / "builtin" / "vectors" / "think-first.safetensors")
ASKED = Elicit(settings=(Setting(name="bare prompts", split="standard-test", form="bare"),), max_new_tokens=2)
SIZES: dict[str, Any] = {"n": 12, "file": VECTOR, "directions": 20, "n_directions": 3}


def drawn(rng: np.random.Generator, own: float, twin: float, n: int = 300, guessing: float = 0.0) -> Gap:
    ids = tuple(f"test/{i:05d}" for i in range(n))
    return Gap(ids, *((rng.random(n) < level).astype(float) for level in (own, twin)), guessing)


def test_a_planted_gap_is_found_and_an_elicitor_that_makes_it_less() -> None:
    rng = np.random.default_rng(0)
    base, better, worse = drawn(rng, 0.8, 0.5), drawn(rng, 0.9, 0.88), drawn(rng, 0.9, 0.2)
    assert 0.3 in base.found.interval and base.found.interval.low > 0.15 and base.said.startswith("+")
    change = other_gap(base, better)
    assert -0.28 in change.interval and change.interval.high < 0
    assert change.difference == pytest.approx(better.found.difference - base.found.difference)
    assert verdict(base, better) == "the gap shrinks" and verdict(base, worse) == "the gap widens"
    none = drawn(rng, 0.8, 0.8)
    assert "not clearly above 0" in verdict(none, drawn(rng, 0.5, 0.8))


def test_equal_gaps_are_told_apart_as_often_as_the_interval_says() -> None:
    said = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        said.append(verdict(drawn(rng, 0.8, 0.6, 120), drawn(rng, 0.8, 0.6, 120)))
    assert sum(one != "no detectable change of the gap" for one in said) <= 6


def test_nothing_is_said_of_arms_that_guess() -> None:
    rng = np.random.default_rng(1)
    guesser, knower = drawn(rng, 0.2, 0.2, guessing=0.2), drawn(rng, 0.9, 0.5, guessing=0.2)
    assert guesser.guesses and not knower.guesses
    assert verdict(guesser, knower).startswith("the base is not") and verdict(knower, guesser).startswith("it is not")
    wrong = drawn(rng, 0.0, 0.0)
    assert wrong.guesses, "who is never right has no gap either"


def test_a_gap_is_ranked_among_random_directions_by_how_low_it_is() -> None:
    rng = np.random.default_rng(2)
    others = [drawn(rng, 0.8, 0.5, 60) for _ in range(20)]
    low, usual = drawn(rng, 0.8, 0.95, 60), drawn(rng, 0.8, 0.5, 60)
    assert among_directions(low, others).rank_p == pytest.approx(1 / 21) and among_directions(low, others).as_good == 0
    assert among_directions(usual, others).rank_p > 0.1
    assert 2 * among_directions(low, others).difference == pytest.approx(
        low.each.mean() - np.mean([o.each.mean() for o in others])
    )


def test_a_rank_in_a_table_is_the_one_of_the_sentence_or_says_why_there_is_none() -> None:
    rng = np.random.default_rng(3)
    knowers = [drawn(rng, 0.8, 0.5, 60, guessing=0.2) for _ in range(20)]
    guessers = [drawn(rng, 0.2, 0.2, 60, guessing=0.2) for _ in range(20)]
    arm, guesser = drawn(rng, 0.8, 0.9, 60, guessing=0.2), drawn(rng, 0.2, 0.2, 60, guessing=0.2)
    cell, words = rank_of(arm, knowers)
    assert cell == pytest.approx(1 / 21, abs=1e-3) and f"p {cell:.3f}" in words
    for own, others, told in ((arm, guessers, "guess"), (guesser, knowers, "guess"), (arm, knowers[:3], "too few")):
        cell, words = rank_of(own, others)
        assert told in str(cell) and told in words and (told == "too few") == (" p " in words), words


def test_gaps_are_between_the_same_questions() -> None:
    gap = gap_between({"a": 1.0, "b": 0.0, "c": 1.0}, {"c": 0.0, "a": 1.0}, {"a": 0.5, "b": 1.0, "c": 0.25})
    assert gap is not None and gap.items == ("a", "c") and gap.each.tolist() == [0.0, 1.0] and gap.guessing == 0.375
    assert gap_between({"a": 1.0}, {"b": 1.0}, {}) is None


def graded(right: Any) -> Any:
    """A grader by the item alone."""

    def grade(self: FindStart, item: Item, text: str, known: Known = NOTHING) -> Grade:
        correct = right(item)
        return Grade(item.gold if correct else "none", correct, True, correct, True, (), "grammar", grader="planted")

    return grade


@pytest.fixture
def found(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Findings:
    monkeypatch.setattr(FindStart, "grade", graded(lambda item: True))
    monkeypatch.setattr(TwinFindStart, "grade", graded(request.param), raising=False)
    return run_card(card_named("symbols"), ASKED, Store(tmp_path), given=SIZES, console=Console(quiet=True))


@pytest.mark.parametrize("found", [lambda item: False], indirect=True)
def test_the_card_finds_a_gap_that_a_grader_planted(found: Findings) -> None:
    table = next(table for table in found.tables if "same in other symbols" in table.title)
    assert {line[0] for line in table.lines} == {"renamed", "renamed, another unit", "permuted", "unseen operands"}
    assert all(line[2:5] == (12, "100.0", "0.0") and str(line[5]).startswith("+100.0 (") for line in table.lines)
    assert all("gap of" not in said or "no detectable change of the gap" in said for said in found.said)
    assert all(line[7] == "100.0, 0.0" for line in table.lines), "traces are verified apart"
    again = [line for line in table.lines if line[0] == "renamed, another unit"]
    assert all(str(line[9]).startswith("+0.0 (") for line in again), "what rewording alone changes"
    ranks = next(table for table in found.tables if "random directions" in table.title)
    assert [line[1] for line in ranks.lines] == [3, 3] and [line[-2:] for line in ranks.lines] == [(0, 1.0), (0, 1.0)]
    assert any("renamed rule chains lie in the part that training is drawn from" in said for said in found.said)


@pytest.mark.parametrize("found", [lambda item: True], indirect=True)
def test_the_card_finds_no_gap_where_there_is_none(found: Findings) -> None:
    table = next(table for table in found.tables if "same in other symbols" in table.title)
    assert all(str(line[5]).startswith("+0.0 (") for line in table.lines)
    assert not any("shrinks" in said or "widens" in said for said in found.said)


def test_a_difference_of_gaps_that_a_sentence_withholds_stands_in_no_table(tmp_path: Path) -> None:
    sizes = SIZES | {"n": 6, "directions": 2, "n_directions": 2}
    found = run_card(card_named("symbols"), ASKED, Store(tmp_path), given=sizes, console=Console(quiet=True))
    assert any("no gap to compare with" in said for said in found.said), "two tokens of six questions are guesses"
    for title, head in (
        ("same in other symbols", "minus the base's gap (95 %; p)"),
        ("random directions", "rank p, as low"),
    ):
        table = next(table for table in found.tables if title in table.title)
        cells = [str(line[table.heads.index(head)]) for line in table.lines]
        assert cells and all(cell.startswith("none") for cell in cells), cells


def test_stored_runs_of_twins_name_them_and_are_graded_by_them(tmp_path: Path) -> None:
    found = run_card(
        card_named("symbols"),
        ASKED,
        Store(tmp_path),
        given=SIZES | {"n": 3, "directions": 1},
        console=Console(quiet=True),
    )
    runs = [Store(tmp_path).open(run) for run in found.runs]
    tasks = {str(run.manifest.spec["task"]) for run in runs}
    assert tasks >= {
        "find-start",
        "find-start:twin=renamed",
        "find-start:twin=renamed,draw=1",
        "find-start:twin=unseen",
    }
    for run in runs:
        golds = {item.id: item.gold for item in resolve_task(run.manifest.spec["task"]).items("standard-test", 3)}
        assert all(golds[row["item"]] == row["gold"] for row in run.table(["item", "gold"]).to_pylist())


def test_cut_texts_are_counted_on_questions_and_on_twins(tmp_path: Path) -> None:
    sizes = SIZES | {"n": 3, "directions": 1, "n_directions": 1}
    found = run_card(card_named("symbols"), ASKED, Store(tmp_path), given=sizes, console=Console(quiet=True))
    table = next(table for table in found.tables if "same in other symbols" in table.title)
    place = table.heads.index("cut, question, twin")
    cuts = {line[1]: str(line[place]) for line in table.lines if line[0] == "renamed"}
    assert cuts["base, asked to think first"] == "3, 3", "two tokens end no trace"
    (said,) = [one for one in found.said if "gap of renamed (" in one]
    for arm, counted in cuts.items():
        own, twin = counted.split(", ")
        part = next(part for part in said.split("; ") if str(arm) in part)
        words = f"cut at the limit {own} of its 3 texts on questions and {twin} of those on twins"
        assert (words in part) == (counted != "0, 0"), part


def test_the_card_says_what_it_needs() -> None:
    card = card_named("symbols")
    forms = (Setting(name="direct prompts", split="test", form="direct"),)
    story = Elicit(thinking=None, task="short:story", think="think", settings=forms)
    assert [v.name for v in variants(story, {"coins": "wugs"})] == ["other words"]
    assert len(variants(story, {"coins": "wugs", "stamps": "daxes"})) == 2 and OWN not in {
        v.name for v in variants(ASKED, {})
    }
    for asked, given, said in (
        (story, {}, "name words of short:story"),
        (story, {"words": {"zebra": "wug"}}, "none of the first 4"),
        (story, {"words": {"coins": "many"}}, "stands in the question"),
        (ASKED, {"words": {"a": "b"}}, "twins of its own"),
        (Elicit(task="find-start:twin=unseen"), {}, "made of twins already"),
    ):
        options = type(card.quick).model_validate(card.quick.model_dump() | {"n": 4} | given)
        with pytest.raises(BadInput, match=said):
            card.refuse(asked, options)


def test_columns_that_words_do_not_have_are_left_out_and_it_is_said_why(tmp_path: Path) -> None:
    forms = (Setting(name="direct prompts", split="test", form="direct"),)
    story = Elicit(thinking=None, task="short:story", think="think", settings=forms, max_new_tokens=2)
    for words, said in (({"coins": "wugs"}, 2), ({"coins": "wugs", "stamps": "daxes"}, 1)):
        given = {"n": 4, "words": words}
        found = run_card(card_named("symbols"), story, Store(tmp_path), given=given, console=Console(quiet=True))
        (table,) = found.tables
        assert (DRAW in table.heads) == (len(words) > 1) and TRACES not in table.heads
        assert [note in table.notes for note in UNSAID.values()] == [True, said == 2]
        empty = [head for n, head in enumerate(table.heads) if all(line[n] is None for line in table.lines)]
        assert not empty and all(len(line) == len(table.heads) for line in table.lines)


def test_words_that_stand_in_none_of_the_questions_are_named_beside_those_that_do(tmp_path: Path) -> None:
    forms = (Setting(name="direct prompts", split="test", form="direct"),)
    story = Elicit(thinking=None, task="short:story", think="think", settings=forms, max_new_tokens=2)
    given = {"n": 4, "words": {"coins": "wugs", "Zebra": "dax"}}
    found = run_card(card_named("symbols"), story, Store(tmp_path), given=given, console=Console(quiet=True))
    assert "direct prompts: Zebra: in none of the first 4 questions of test, so changed nowhere." in found.said


def test_words_without_a_blank_behind_the_colon_are_refused() -> None:
    for given in ({"apples:wugs": None}, ["apples"], {"apples": 3}):
        with pytest.raises(BadInput, match="a blank behind each colon"):
            options_of(card_named("symbols"), "quick", {"words": given})


def test_a_question_without_a_twin_is_left_out_and_counted(tmp_path: Path) -> None:
    few = Elicit(
        task="find-start:rules=2,candidates=3-4",
        max_new_tokens=2,
        settings=(Setting(name="few", split="test", form="bare"),),
    )
    found = run_card(
        card_named("symbols"),
        few,
        Store(tmp_path),
        given=SIZES | {"n": 6, "directions": 1},
        console=Console(quiet=True),
    )
    (said,) = [one for one in found.said if "gap of permuted" in one]
    have = sum(len(item.data.candidates) >= 4 for item in few.found.items("test", 6))
    assert 0 < have < 6 and f"{have} of the 6 questions have such a twin" in said
    table = next(table for table in found.tables if "same in other symbols" in table.title)
    assert {line[2] for line in table.lines if line[0] == "permuted"} == {have}
