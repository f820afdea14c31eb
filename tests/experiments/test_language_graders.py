"""Graders of a whole response: its language, its sentiment; their cases, their refusals, and their error on labelled sentences."""

from __future__ import annotations

import pytest

from experiments.studies.language.directions import LANGUAGE, SENTIMENT, STEPS
from experiments.studies.language.grader_error import UNTOLD, grader_error
from experiments.tasks.graders import whole
from experiments.tasks.graders.grade import Known
from experiments.tasks.graders.table import grader_named
from steering.errors import BadInput
from steering.model.thinking import Markers

FRENCH = "La vieille maison au bord de la mer était vide."
ENGLISH = "The old house by the sea was empty."


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (FRENCH, "fr"),
        (ENGLISH, "en"),
        ("Das alte Haus am Meer stand leer.", "de"),
        ("La casa vieja junto al mar estaba vacía.", "es"),
        ("THE OLD HOUSE BY THE SEA WAS EMPTY.", "en"),
        (f"  \n{FRENCH} 1912!", "fr"),
    ],
)
def test_the_language_of_a_text_is_its_answer(text: str, answer: str) -> None:
    grader = grader_named({"name": "language", "among": ["en", "fr", "de", "es"]})
    for gold in ("en", "fr"):
        grade = grader.grade("", gold, text)
        assert (grade.answer, grade.correct, grade.scorable) == (answer, answer == gold, True)


@pytest.mark.parametrize(("text", "why"), [("", "0 letters"), ("Oui.", "too short"), ("12 + 30 = 42 !!!", "0 letters")])
def test_a_text_too_short_to_tell_is_unscorable(text: str, why: str) -> None:
    grade = grader_named("language").grade("", "fr", text)
    assert (grade.answer, grade.correct, grade.scorable) == (None, False, False)
    assert why in grade.explanation
    assert grader_named({"name": "language", "letters": 3}).grade("", "fr", "Oui.").explanation != grade.explanation


def test_a_text_that_no_candidate_is_likely_of_is_unscorable() -> None:
    mixed = "a boulab, a boulab, a boulab, a boulab"
    grade = grader_named("language").grade("", "fr", mixed)
    assert not grade.scorable and "too mixed" in grade.explanation
    assert grader_named({"name": "language", "likely": 0.0}).grade("", "fr", mixed).scorable


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("What a wonderful, happy day!", "positive"),
        ("What a terrible, sad day.", "negative"),
        ("The train leaves at nine.", "neutral"),
        ("The soup was not good.", "negative"),
    ],
)
def test_the_sentiment_of_a_text_is_its_answer(text: str, answer: str) -> None:
    for gold in ("positive", "negative", "neutral"):
        grade = grader_named("sentiment").grade("", gold, text)
        assert (grade.answer, grade.correct, grade.scorable) == (answer, answer == gold, True)
        assert "compound score" in grade.explanation


def test_the_threshold_of_a_sentiment_can_be_moved() -> None:
    text = "He counted the coins and wrote down the number."
    assert grader_named("sentiment").grade("", "neutral", text).answer == "positive"
    assert grader_named({"name": "sentiment", "threshold": 0.3}).grade("", "neutral", text).answer == "neutral"
    assert not grader_named("sentiment").grade("", "neutral", " ... ").scorable


@pytest.mark.parametrize("name", ["language", "sentiment"])
def test_what_stands_in_a_thinking_segment_is_not_graded(name: str) -> None:
    known, gold = Known(markers=(Markers("<think>", "</think>"),)), {"language": "fr", "sentiment": "positive"}[name]
    good = {"language": FRENCH, "sentiment": "A wonderful day."}[name]
    bad = {"language": ENGLISH, "sentiment": "A terrible day."}[name]
    assert grader_named(name).grade("", gold, f"<think>{bad}</think>{good}", known).correct
    open_ = grader_named(name).grade("", gold, f"<think>{good}", known)
    assert (open_.scorable, open_.unclosed, open_.lenient) == (False, True, True)
    lenient = grader_named({"name": name, "lenient": True}).grade("", gold, f"<think>{good}", known)
    assert lenient.correct and lenient.unclosed


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"name": "language", "among": ["en", "klingon"]}, "klingon"),
        ({"name": "language", "among": ["en"]}, "two languages or more"),
        ({"name": "language", "among": "en"}, "list of codes"),
        ({"name": "language", "among": ["en", "en"]}, "each once"),
        ({"name": "language", "letters": 0}, "letters"),
        ({"name": "language", "likely": 1}, "likely"),
        ({"name": "sentiment", "threshold": 0}, "threshold"),
    ],
)
def test_options_that_mean_nothing_are_refused(spec: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        grader_named(spec)


def test_a_right_answer_that_no_text_can_have_is_refused() -> None:
    with pytest.raises(BadInput, match="none of the languages"):
        grader_named({"name": "language", "among": ["en", "fr"]}).grade("", "de", ENGLISH)
    with pytest.raises(BadInput, match="none of positive"):
        grader_named("sentiment").grade("", "cheerful", ENGLISH)


@pytest.mark.parametrize("name", ["language", "sentiment"])
def test_a_library_that_is_missing_is_named_before_anything_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "find_spec", lambda module: None)
    with pytest.raises(BadInput, match=r"steering-workbench\[language\]"):
        grader_named(name)


def test_a_verdict_depends_on_the_librarys_version_and_every_option() -> None:
    plain = grader_named("language").facts
    assert str(plain["library"]).startswith("py3langid ")
    for other in ({"letters": 5}, {"likely": 0.5}, {"among": ["en", "fr"]}, {"lenient": True}):
        assert grader_named({"name": "language", **other}).facts != plain
    assert grader_named({"name": "sentiment", "threshold": 0.1}).facts != grader_named("sentiment").facts


def test_the_graders_errors_are_the_documented_ones() -> None:
    language = {one.label: one for one in grader_error(LANGUAGE)}
    assert {label: (one.n, one.wrong) for label, one in language.items()} == {
        "en": (100, 0), "fr": (100, 0), "de": (100, 0), "es": (100, 0),
    }  # fmt: skip
    assert language["fr"].interval.low == 0 < language["fr"].interval.high < 0.04
    sentiment = {one.label: one for one in grader_error(SENTIMENT)}
    assert {label: (one.n, one.wrong) for label, one in sentiment.items()} == {
        "positive": (100, 0), "negative": (100, 2), "neutral": (100, 8),
    }  # fmt: skip
    assert sentiment["neutral"].said["positive"] == 5
    assert all(one.said.get(UNTOLD, 0) == 0 for one in (*language.values(), *sentiment.values()))
    assert grader_error(STEPS) == ()
