"""Where two models part, by exact behaviour, and what the beginning of a text gains; the second pair is what it says it is."""

from __future__ import annotations

import numpy as np

from experiments.pair.parting import BEGINNINGS, gains_of_beginnings, greedy_texts, kinds_of, parting
from experiments.pair.problem import split_problems
from steering.model.models import load_model

LIMIT = 360


def test_a_model_parts_nowhere_from_itself_and_the_first_pair_parts_where_a_text_begins() -> None:
    base, thinking = load_model("builtin:base"), load_model("builtin:thinking")
    problems = split_problems("standard-dev", 12)
    own, theirs = (greedy_texts(model, problems, LIMIT) for model in (base, thinking))
    assert parting(base, base, own).n == 0
    found = parting(base, thinking, theirs)
    assert found.texts == 1.0 and found.kinds["opening"] >= 12 and "answer > let" in found.words
    assert found.read == sum(len(t.token_ids) + t.ended for t in theirs)
    assert gains_of_beginnings(base, problems, own, theirs, LIMIT)[1].difference > 0.5, (
        "its first word is what it lacks"
    )


def test_kinds_name_every_token_of_a_text_by_the_grammar() -> None:
    thinking = load_model("builtin:thinking")
    (text,) = greedy_texts(thinking, split_problems("standard-dev", 1), LIMIT)
    kinds = kinds_of(text)
    assert len(kinds) == len(text.token_ids) + text.ended and kinds[0] == "opening" and kinds[-1] == "ending"
    assert kinds[text.words.index("try")] == "proposing" and kinds[text.words.index("=")] == "computing"
    cut = greedy_texts(thinking, split_problems("standard-dev", 1), 8)[0]
    assert not cut.ended and len(kinds_of(cut)) == 8


def test_the_second_pair_parts_inside_its_traces_and_no_beginning_makes_up_for_it() -> None:
    base, thinking = load_model("builtin:careful-base"), load_model("builtin:careful-thinking")
    problems = split_problems("standard-test", 60)
    own, theirs = (greedy_texts(model, problems, LIMIT) for model in (base, thinking))
    assert all(text.verdict.reasoned for text in (*own, *theirs)), "the base always reasons"
    before, after = (np.mean([text.verdict.correct for text in texts]) for texts in (own, theirs))
    assert after - before > 0.2
    found = parting(base, thinking, theirs)
    assert found.largest <= 0.5 and sum(count >= 0.02 * found.n for count in found.kinds.values()) >= 4
    begun = gains_of_beginnings(base, problems, own, theirs, LIMIT)
    assert set(begun) == set(BEGINNINGS) and all(gain.difference < 0.1 for gain in begun.values())
