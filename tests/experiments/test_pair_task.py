"""The built-in task: problems, traces, the verifier and the corpus."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from experiments.pair.corpus import Mixture, document, packed_batch
from experiments.pair.problem import (
    HARD,
    SPLITS,
    TRAINING,
    bucket_of,
    draw_problem,
    parse_problem,
    split_problems,
)
from experiments.pair.trace import STYLES, Style, direct_response, draw_style, think_response
from experiments.pair.verifier import BEHAVIOURS, verify
from experiments.pair.vocabulary import BOS, EOS, ID, REASONING_STARTS, build_tokenizer, encode

PERFECT = Style(1, 0, 1, 0.3, 0, False, 0, 0)


def test_exactly_one_candidate_reaches_the_goal() -> None:
    for split in SPLITS:
        for problem in split_problems(split, 200):
            assert [c for c in problem.candidates if problem.run(c) == problem.goal] == [problem.answer]
            assert parse_problem(problem.prompt()) == problem == parse_problem(problem.prompt("think"))


def test_no_rule_chain_of_an_evaluation_problem_occurs_in_training() -> None:
    rng = random.Random(1)
    trained = {draw_problem(rng, TRAINING, "train").chain for _ in range(5000)}
    for split in SPLITS:
        chains = {p.chain for p in split_problems(split, 1000)}
        assert not chains & trained
        assert all(bucket_of(c) == SPLITS[split][1] for c in chains)
    for _ in range(200):
        words = document(rng, Mixture()).words
        if words[1] == "rules":
            chain = " ".join(words[2 : words.index("goal") - 1])
            assert bucket_of(chain) == "train"


def test_careful_traces_verify_and_slips_are_caught_by_the_verifier() -> None:
    rng = random.Random(0)
    for _ in range(300):
        problem = draw_problem(rng, HARD, "train")
        verdict = verify(problem, think_response(problem, rng, PERFECT))
        assert verdict.well_formed and verdict.trace_ok and verdict.correct and verdict.reasoned
    for style in STYLES.values():
        for _ in range(300):
            problem = draw_problem(rng, TRAINING, "train")
            verdict = verify(problem, think_response(problem, rng, style))
            assert verdict.well_formed
            if verdict.trace_ok:
                assert verdict.correct and verdict.wrong_lines == verdict.repaired_lines


@pytest.mark.parametrize("place", range(1, 40))
def test_changing_any_word_of_a_right_trace_is_noticed(place: int) -> None:
    problem = split_problems("standard-test", 30)[place % 30]
    words = think_response(problem, random.Random(place), PERFECT)
    at = place % len(words)
    changed = list(words)
    changed[at] = "7" if words[at] != "7" else "8"
    if words[at] in ("let", "us", "first", "hmm", "maybe"):
        assert not verify(problem, changed).well_formed
    assert not verify(problem, changed).trace_ok


def test_a_direct_answer_is_graded_but_is_no_trace() -> None:
    problem = split_problems("standard-test", 1)[0]
    verdict = verify(problem, direct_response(problem))
    assert (
        verdict.correct and verdict.well_formed and not verdict.trace_ok and not verdict.reasoned and not verdict.labels
    )
    assert verify(problem, "let us try").answer is None


def test_styles_show_every_behaviour() -> None:
    rng, seen = random.Random(0), set()
    for _ in range(400):
        problem = draw_problem(rng, HARD, "train")
        style = rng.choice(list(STYLES.values()))
        seen |= {span.label for span in verify(problem, think_response(problem, rng, style)).labels}
    assert seen == set(BEHAVIOURS)


def test_packed_rows_hold_whole_documents_with_restarting_positions() -> None:
    batch = packed_batch(0, 3, rows=6, length=384, mixture=Mixture())
    again = packed_batch(0, 3, rows=6, length=384, mixture=Mixture())
    assert np.array_equal(batch.ids, again.ids)
    assert not np.array_equal(batch.ids, packed_batch(0, 4, 6, 384, Mixture()).ids)
    for number in range(1, batch.documents.max() + 1):
        rows, columns = np.nonzero(batch.documents == number)
        ids = batch.ids[rows, columns]
        assert len(set(rows)) == 1 and ids[0] == ID[BOS] and ids[-1] == ID[EOS] and (ids == ID[BOS]).sum() == 1
        assert np.array_equal(batch.positions[rows, columns], np.arange(len(ids)))
    assert (batch.documents > 0).mean() > 0.85


def test_late_curriculum_slips_less_and_tries_candidates_in_order() -> None:
    rng = random.Random(3)
    early, late = [draw_style(rng) for _ in range(200)], [draw_style(rng, 0.5, shuffled=False) for _ in range(200)]
    assert any(style.shuffle for style in early) and not any(style.shuffle for style in late)
    assert max(style.slip for style in late) == 0.5 * max(style.slip for style in early)
    returned = 0
    persistent = replace(STYLES["wander"], shuffle=False, abandon=0.3, give_up_early=0.0, give_up_late=0.0)
    for problem in split_problems("hard-dev", 60):
        words = think_response(problem, rng, persistent)
        tried = [int(words[i + 1]) for i, word in enumerate(words) if word == "try"]
        fresh = list(dict.fromkeys(tried))
        assert fresh == list(problem.candidates[: len(fresh)])
        returned += len(tried) > len(fresh)
    assert returned > 0, "some abandoned candidates must be taken up again, or the order is not tested"


def test_about_one_document_in_six_reasons_first() -> None:
    rng, mixture = random.Random(0), Mixture()
    documents = [document(rng, mixture) for _ in range(4000)]
    reasoned = np.mean([d.words[d.prompt] in REASONING_STARTS for d in documents])
    assert abs(reasoned - 0.18) < 0.02


def test_tokenizer_prepends_one_bos_and_reads_every_word_back() -> None:
    tokenizer = build_tokenizer(512)
    problem = split_problems("hard-test", 1)[0]
    text = problem.prompt("think") + " " + " ".join(think_response(problem, random.Random(0), PERFECT))
    ids = tokenizer(text)["input_ids"]
    assert ids == [ID[BOS], *encode(text)]
    assert tokenizer.decode(ids[1:]) == text


def test_the_maps_of_the_second_test_split_are_computed_by_no_training_chain() -> None:
    rng = random.Random(3)
    trained = {draw_problem(rng, TRAINING, "train").affine for _ in range(20_000)}
    assert {a for a, _ in trained} == {3, 7, 9, 21, 27, 63}, "one or two multiplications, by different numbers"
    held_out = split_problems("new-map-test", 200)
    assert {p.affine[0] for p in held_out} == {89} and not {p.affine for p in held_out} & trained
    assert len({p.affine for p in held_out}) > 60 and all(len(p.rules) in (4, 5) for p in held_out)
    assert not {p.chain for p in held_out} & {draw_problem(rng, TRAINING, "train").chain for _ in range(5000)}
    ordinary = [p.affine for split in ("standard-test", "hard-test") for p in split_problems(split, 100)]
    assert sum(a in trained for a in ordinary) > 190, "the other test splits are new as chains, not as maps"


def test_the_affine_map_is_what_running_the_rules_gives() -> None:
    for problem in split_problems("hard-test", 20) + split_problems("new-map-test", 20):
        a, b = problem.affine
        assert all(problem.run(v) == (a * v + b) % 100 for v in range(100))
