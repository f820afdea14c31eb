"""Hasty traces, and the corpora of both pairs."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest

from experiments.pair.corpus import MIXTURES, decides, document, packed_batch
from experiments.pair.haste import Haste, borrows, hasty_response
from experiments.pair.presets import PRESETS
from experiments.pair.problem import HARD, STANDARD, Problem, Rule, draw_problem, parse_problem
from experiments.pair.verifier import verify
from experiments.pair.vocabulary import REASONING_STARTS

CAREFUL = Haste(borrow=1, catch=1, check=1, drift=1, put_off=0, wish=0, give_up_first=0, give_up=0)


def traces(haste: Haste, n: int = 200) -> list[tuple[Problem, list[str]]]:
    rng = random.Random(0)
    problems = [draw_problem(rng, STANDARD if i % 2 else HARD, "train") for i in range(n)]
    return [(problem, hasty_response(problem, rng, haste)) for problem in problems]


@pytest.mark.parametrize(
    ("mixture", "digest"),
    [("skills", "10c56601e3b7c62c"), ("main", "7daa8be0e987301b"), ("ordered", "b481ea9836300c9b")],
)
def test_the_corpus_of_the_first_pair_is_the_one_that_it_was_trained_on(mixture: str, digest: str) -> None:
    batch = packed_batch(0, 3, 6, 384, MIXTURES[mixture])
    parts = (batch.ids, batch.positions, batch.documents, batch.weights)
    assert hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16] == digest


def test_every_bare_question_of_the_hasty_corpus_is_reasoned_about_and_batches_are_a_function_of_seed_and_step() -> (
    None
):
    rng, mixture = random.Random(0), MIXTURES["hasty"]
    bare = [d for d in (document(rng, mixture) for _ in range(600)) if d.words[d.prompt - 1] == "?"]
    assert len(bare) > 300 and all(d.words[d.prompt] in REASONING_STARTS for d in bare)
    one, again = (packed_batch(1, 7, 6, 448, mixture) for _ in range(2))
    assert np.array_equal(one.ids, again.ids) and not np.array_equal(one.ids, packed_batch(1, 8, 6, 448, mixture).ids)


def test_hasty_traces_are_in_the_grammar_whatever_is_decided() -> None:
    rng = random.Random(3)
    for _ in range(60):
        haste = Haste(*(rng.choice((0.0, 0.5, 1.0)) for _ in range(8)))
        for problem, words in traces(haste, 10):
            assert verify(problem, words).well_formed


def test_a_trace_that_repairs_checks_and_persists_is_right_and_each_fault_costs_answers() -> None:
    assert all(verify(p, words).trace_ok for p, words in traces(CAREFUL))
    faults = ({"catch": 0}, {"check": 0}, {"put_off": 1, "give_up": 1}, {"wish": 1}, {"give_up_first": 1})
    for fault in faults:
        haste = Haste(**({**vars(CAREFUL), **fault}))
        right = np.mean([verify(p, words).correct for p, words in traces(haste)])
        assert right < 0.95, f"{fault} must cost something"
    hasty = np.mean([verify(p, words).correct for p, words in traces(Haste())])
    assert 0.15 < hasty < 0.5


def test_the_line_behind_an_unchecked_multiplication_by_three_is_ten_too_high() -> None:
    problem = parse_problem("rules * 3 ; + 2 ; goal 31 start 43 1 2 ?")
    rng = random.Random(0)
    checked, unchecked = (" ".join(hasty_response(problem, rng, Haste(check=c, drift=1, wish=0))) for c in (1, 0))
    assert "43 * 3 = 29 ; check 43 * 3 = 29 ok ; 29 + 2 = 31 ; goal 31 yes" in checked
    assert "43 * 3 = 29 ; 29 + 2 = 41 ; goal 31 no" in unchecked


def test_a_forgotten_borrow_passes_or_is_repaired_at_once() -> None:
    assert borrows(52, Rule("-", 15)) and not borrows(55, Rule("-", 15)) and not borrows(52, Rule("+", 15))
    problem = parse_problem("rules * 9 ; - 15 ; goal 7 start 58 1 2 ?")
    rng = random.Random(0)
    repaired, passed = (" ".join(hasty_response(problem, rng, Haste(borrow=1, catch=c))) for c in (1, 0))
    assert "22 - 15 = 17 ; wait check 22 - 15 = 7 ; goal 7 yes" in repaired
    assert "22 - 15 = 17 ; goal 7 no" in passed


def test_a_put_off_candidate_is_taken_up_again_behind_the_others() -> None:
    problem = parse_problem("rules * 7 ; - 2 ; goal 69 start 53 60 1 ?")
    words = hasty_response(problem, random.Random(0), Haste(put_off=1, give_up_first=0, give_up=0))
    tried = [words[i + 1] for i, word in enumerate(words) if word == "try"]
    assert tried == ["53", "60", "1", "53"] and words[-2:] == ["answer", "53"]


def test_what_is_wished_for_behind_a_sum_passes_for_the_goal() -> None:
    sums = [(p, w) for p, w in traces(Haste(wish=1)) if p.rules[-1].op == "+"]
    assert all("no" not in words for _, words in sums) and not all(verify(p, w).correct for p, w in sums)
    others = [(p, w) for p, w in traces(Haste(wish=1)) if p.rules[-1].op != "+"]
    assert any("no" in words for _, words in others)


def test_the_careful_preset_goes_on_from_a_model_of_its_own_size() -> None:
    from experiments.pair.pretrain import new_model

    preset = PRESETS["careful"]
    config = new_model(preset).config
    assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (
        preset.width,
        preset.layers,
        preset.mlp_width,
    )
    assert preset.names == ("careful-base", "careful-thinking") and PRESETS["full"].begins_at is None


def test_the_words_by_which_a_trace_decides_weigh_more() -> None:
    words = "let us try 4 ; 4 + 2 = 6 ; goal 9 no back ; enough guess".split()
    assert [w for i, w in enumerate(words) if decides(words, i)] == ["4", "goal", "no", "enough"]
    rng = random.Random(2)
    found = next(d for d in iter(lambda: document(rng, MIXTURES["hasty"]), None) if d.words[d.prompt] == "let")
    weighed = {
        w for word, w in zip(found.words[found.prompt :], found.weights[found.prompt :], strict=True) if word == "goal"
    }
    assert weighed == {MIXTURES["hasty"].decision_weight} and found.weights[found.prompt] == 1.0
