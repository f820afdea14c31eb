"""Bases trained on in a store: corrupted traces, families left out, and trainings that are killed and end with the same bytes."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from experiments.pair import train
from experiments.pair.corpus import FAMILIES, MIXTURES, family_document, packed, packed_batch
from experiments.pair.corruption import ARMS, clauses_of, corrupted, is_line, lesson, moved_round, searched
from experiments.pair.left_out import WHOLE, corpus_of, lessons, without
from experiments.pair.problem import STANDARD, parse_problem
from experiments.pair.supervised import Supervised, begin, supervise
from experiments.pair.trace import direct_response
from experiments.pair.verifier import verify
from experiments.statistics import student_interval
from experiments.store.runs import Store
from experiments.studies.elicitation.asked import Elicit
from experiments.studies.elicitation.findings import Findings
from experiments.studies.elicitation.run import run_card
from experiments.studies.training.continued import START, read_state
from experiments.studies.training.named import CARDS
from experiments.studies.training.side_effects import drilled
from experiments.studies.training.updates import own_weights
from experiments.studies.training.verified import measured
from experiments.tasks.task import asked_ids
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.model.models import load_model
from steering.model.sources import STARTS
from tests.experiments.test_training import whole

QUIET = Console(quiet=True)
ROOT = Path(__file__).parents[2]
SHORT = Elicit(max_new_tokens=24)
SMALL: dict[str, dict[str, Any]] = {
    "corrupted": {"n": 4, "seeds": [0, 1], "updates": 2, "problems": 2},
    "left-out": {"n": 4, "seeds": [0, 1], "updates": 2, "tokens": 500, "each": 4, "draws": 1, "families": ["drill", "careful"]},
}  # fmt: skip


def start(folder: Path) -> Path:
    """A start of a few updates, as its command makes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "UNTRACED", replace(train.UNTRACED, curriculum=(("untraced", 40_000),)))
        return train.train_untraced(folder)


def split_document(words: list[str]) -> tuple[str, list[str]]:
    """Prompt and response of a document, without special tokens."""
    at = words.index("?") + (3 if words[words.index("?") + 1 : words.index("?") + 3] == ["think", "first"] else 1)
    return " ".join(words[1:at]), words[at:-1]


def test_every_arm_has_the_same_problems_answers_and_tokens() -> None:
    made = {arm: lesson(arm, 3, 5, 20) for arm in ARMS}
    asked = {arm: [split_document(one.words) for one in made[arm]] for arm in ARMS}
    total = sum(len(one.words) for one in made["valid"])
    for arm in ARMS:
        if arm != "answers":
            assert [prompt for prompt, _ in asked[arm]] == [prompt for prompt, _ in asked["valid"]]
            assert sum(len(one.words) for one in made[arm]) == total
        for prompt, response in asked[arm]:
            assert response[-2:] == ["answer", str(parse_problem(prompt).answer)]
    assert [prompt for prompt, _ in asked["answers"]][:20] == [prompt for prompt, _ in asked["valid"]][:20]
    assert total - 40 < sum(len(one.words) for one in made["answers"]) <= total
    assert made["noise"] == lesson("noise", 3, 5, 20) != lesson("noise", 3, 6, 20)


def test_each_corruption_is_wrong_in_its_way_and_in_no_other() -> None:
    rng = random.Random(0)
    for _ in range(30):
        problem, body = searched(rng)
        end = ["so", "answer", str(problem.answer)]
        assert verify(problem, body + end).trace_ok
        made = {arm: corrupted(arm, body, rng) for arm in ("noise", "shuffled", "filler")}
        assert all(len(words) == len(body) for words in made.values())
        lines, count = [one for one in clauses_of(body) if is_line(one)], sum(map(is_line, clauses_of(body)))
        mixed = [one for one in clauses_of(made["shuffled"]) if is_line(one)]
        assert sorted(mixed) == sorted(lines)
        assert [one for one in clauses_of(made["shuffled"]) if not is_line(one)] == [
            one for one in clauses_of(body) if not is_line(one)
        ]
        noisy = [one for one in clauses_of(made["noise"]) if is_line(one)]
        assert [one[1:3] for one in noisy] == [one[1:3] for one in lines]
        assert sum(one[4] != old[4] for one, old in zip(noisy, lines, strict=True)) >= count // 2
        assert measured(problem, made["filler"] + end)[2:4] == (0.0, 0.0), "no line, no equation"
        assert made["filler"][-2:] == ["0", ";"]


def test_traces_that_go_round_stand_nowhere_where_they_were() -> None:
    bodies = [[str(n)] for n in range(7)]
    moved = moved_round(bodies, random.Random(1))
    assert sorted(moved) == bodies and all(one != other for one, other in zip(moved, bodies, strict=True))


def test_the_streams_of_the_corpus_are_what_they_were() -> None:
    """The shipped pair was trained on these."""
    digests = [
        hashlib.sha256(packed_batch(0, 3, 4, 448, MIXTURES[name]).ids.tobytes()).hexdigest()[:12]
        for name in ("skills", "ordered")
    ]
    assert digests == ["89b8b3e59342", "c1463a08e4fe"]
    words = [" ".join(map(str, row)) for row in packed_batch(0, 0, 8, 224, MIXTURES["untraced"]).ids]
    from experiments.pair.vocabulary import ID

    assert not any(f" {ID['let']} {ID['us']} " in row or f" {ID['hmm']} " in row for row in words), "it has no trace"


def test_packed_documents_are_all_there_and_blind_to_each_other() -> None:
    rng = random.Random(2)
    documents = [family_document(rng, family, STANDARD) for family in FAMILIES]
    batch = packed(documents, 416)
    assert int((batch.documents > 0).sum()) == sum(len(one.words) for one in documents)
    assert batch.documents.max() == len(documents)
    assert all(batch.positions[batch.documents == number].tolist() == list(range(len(one.words)))
               for number, one in zip(_numbers(batch, documents), documents, strict=True))  # fmt: skip
    with pytest.raises(ValueError, match="fits no row"):
        packed(documents, 40)


def _numbers(batch: Any, documents: list[Any]) -> list[int]:
    """The number that each document has in a batch."""
    from experiments.pair.vocabulary import encode

    held = {tuple(batch.ids[batch.documents == n]): n for n in range(1, int(batch.documents.max()) + 1)}
    return [held[tuple(encode(one.words))] for one in documents]


def test_a_corpus_without_a_family_and_without_a_random_share() -> None:
    corpus = corpus_of(0, 6)
    assert [sum(own == family for _, own, _ in corpus) for family in FAMILIES] == [6] * 6
    lacking, drawn, other = (without(corpus, left, 0) for left in ("recital", "draw-0", "draw-1"))
    assert {own for _, own, _ in lacking} == set(FAMILIES) - {"recital"}
    assert len(lacking) == len(drawn) == len(other) == 30 and drawn != other and without(corpus, WHOLE, 0) == corpus
    whole = [one for update in lessons(corpus, 0, 4, 600) for one in update]
    rest = [one for update in lessons(lacking, 0, 4, 600) for one in update]
    gone = [document for _, own, document in corpus if own == "recital"]
    common = [one for one in whole if not any(one is g for g in gone)]
    assert all(a is b for a, b in zip(common, rest, strict=False)), "the order of the rest does not change"
    for update in lessons(lacking, 0, 50, 600):
        assert 600 - 250 < sum(len(one.words) for one in update) <= 600
    assert lessons(corpus, 0, 3, 1)[0] == [whole[0]], "at least one"


def test_answers_and_traces_are_two_axes() -> None:
    problem = parse_problem("rules + 15 ; * 9 ; goal 80 start 42 91 5 ?")
    right = (
        "let us try 42 ; 42 + 15 = 57 ; 57 * 9 = 13 ; goal 80 no back ; not 42 try 91 ; 91 + 15 = 6 ; 6 * 9 = 54 ; goal 80 no back ; "
        "not 91 try 5 ; 5 + 15 = 20 ; 20 * 9 = 80 ; goal 80 yes ; so answer"
    )
    assert measured(problem, f"{right} 5".split()) == (1, 1, 1, 6, 6)
    assert measured(problem, f"{right} 91".split()) == (0, 0, 1, 6, 6), "a trace that holds, and another answer"
    assert measured(problem, f"{right} 5".replace("57 * 9 = 13", "57 * 9 = 14").split()) == (1, 0, 0, 6, 5)
    assert measured(problem, direct_response(problem)) == (1, 0, 0, 0, 0)
    early = "let us try 5 ; 5 + 15 = 20 ; goal 80 yes ; so answer 5"
    assert measured(problem, early.split()) == (1, 0, 0, 1, 1), "a goal before every rule"


def test_a_training_that_is_stopped_ends_with_the_same_bits_and_learns() -> None:
    start = load_model(START).model
    before = own_weights(start)
    spec = Supervised(updates=6, rate=3e-3)
    batch = partial(_batch, "valid")
    *_, whole = supervise(start, begin(before), batch, spec, every=2)
    first = next(supervise(start, begin(before), batch, spec, every=2))
    assert first.updates == 2 and first.tokens == sum(tokens for tokens, _ in whole.curve[:2])
    *_, parts = supervise(start, first, batch, spec, every=2)
    assert parts.curve == whole.curve and all(torch.equal(parts.weights[n], whole.weights[n]) for n in before)
    assert all(torch.equal(before[n], own_weights(start)[n]) for n in before), "the start stays as it was"
    assert whole.curve[-1][1] < whole.curve[0][1] - 0.1


def _batch(arm: str, update: int) -> Any:
    return packed(lesson(arm, 0, update, 4), 256)


KILLED = """
import os, signal, sys
from rich.console import Console
from experiments.store.runs import Store
from experiments.studies.elicitation.asked import Elicit
from experiments.studies.elicitation.run import run_card
from experiments.studies.training import continued
from experiments.studies.training.corrupted import CARD
from experiments.studies.training import side_by_side

side_by_side.os.cpu_count = lambda: 1  # the other store's were side by side
write, calls = continued.write_state, 0
def killed(path, state, finished):
    global calls
    calls += 1
    write(path, state, finished)
    if calls == 2:
        os.kill(os.getpid(), signal.SIGKILL)
continued.write_state = killed
supervise = continued.supervise
continued.supervise = lambda *given: supervise(*given, every=1)
run_card(CARD, Elicit(max_new_tokens=24), Store(sys.argv[1]), given=GIVEN, console=Console(quiet=True))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Findings]:
    root = tmp_path_factory.mktemp("corrupted")
    return root, run_card(CARDS["corrupted"], SHORT, Store(root), given=SMALL["corrupted"], console=QUIET)


def test_a_card_killed_in_a_training_goes_on_and_ends_with_the_same_bytes(
    found: tuple[Path, Findings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = KILLED.replace("GIVEN", repr(SMALL["corrupted"]))
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert ended.returncode == -signal.SIGKILL
    (file, *more) = [path for path in (tmp_path / ".elicitation" / "trained").glob("*.safetensors")]
    monkeypatch.setattr("experiments.studies.training.side_by_side.os.cpu_count", lambda: 1)
    run_card(CARDS["corrupted"], SHORT, Store(tmp_path), given=SMALL["corrupted"], console=QUIET)
    assert whole(tmp_path) == whole(found[0]) and not more and read_state(file).updates == 2


def test_what_is_trained_is_what_is_graded(found: tuple[Path, Findings]) -> None:
    root, findings = found
    states = [read_state(path) for path in (root / ".elicitation" / "trained").glob("*.safetensors")]
    assert len(states) == 2 * len(ARMS) and all(not state.moments and state.updates == 2 for state in states)
    assert {point.setting for point in findings.points} == {
        "think-first prompts", "think-first prompts, hard problems", "bare prompts",
    }  # fmt: skip
    run = Store(root).open(findings.runs[0])
    models = {arm.model for arm in run.manifest.arms if arm.name != "start"}
    assert len(models) == 2 * len(ARMS) and all(name.startswith("delta:") for name in models)
    loaded = own_weights(load_model(sorted(models)[0]).model)
    assert any(all(torch.equal(loaded[n], state.weights[n]) for n in loaded) for state in states)
    table = next(table for table in findings.tables if table.title.startswith("think-first prompts: answers"))
    assert [line[0] for line in table.lines][0] == START and len(table.lines) == 1 + len(ARMS)
    right = {p.arm: p.accuracy for p in findings.points if p.setting == "think-first prompts"}
    mean = 50 * (right["answers-0"] + right["answers-1"])
    assert str(next(line for line in table.lines if line[0] == "answers only")[1]).startswith(f"{mean:.1f} (")


def test_families_left_out_at_the_smallest_size(tmp_path: Path) -> None:
    findings = run_card(CARDS["left-out"], SHORT, Store(tmp_path), given=SMALL["left-out"], console=QUIET)
    assert {point.arm for point in findings.points} >= {"whole-0", "drill-1", "careful-0", "draw-0-1"}
    losses = next(table for table in findings.tables if table.title.startswith("Loss on fresh"))
    assert len(losses.lines) == 4 and len(losses.heads) == 1 + len(FAMILIES)
    assert any("without careful traces" in sentence and "random share" in sentence for sentence in findings.said)
    again = run_card(CARDS["left-out"], SHORT, Store(tmp_path), given=SMALL["left-out"], console=QUIET)
    assert again == findings


@pytest.mark.parametrize("card", ["corrupted", "left-out"])
def test_other_pairs_and_tasks_are_refused_before_a_model_is_loaded(
    card: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "experiments.studies.elicitation.workroom.load", lambda *a, **k: pytest.fail("a model was loaded")
    )
    alone = Elicit(thinking=None)
    with pytest.raises(BadInput, match=r"leave --pair builtin:base out"):
        run_card(CARDS[card], alone, Store(tmp_path), given=SMALL[card], console=QUIET)
    ranged = {
        "settings": [{"name": "a", "split": "test", "form": "bare"}],
        "task": "find-start:rules=2-3,candidates=4-5",
    }
    with pytest.raises(BadInput, match=r"leave --task out"):
        run_card(CARDS[card], Elicit.model_validate(ranged), Store(tmp_path), given=SMALL[card], console=QUIET)


@pytest.mark.parametrize(
    ("card", "given", "said"),
    [
        ("corrupted", {"arms": ["swapped"]}, "lacks valid"), ("corrupted", {"arms": ["valid", "swaped"]}, "swapped"),
        ("corrupted", {"seeds": []}, "seeds"), ("corrupted", {"problems": 1}, "problems"), ("corrupted", {"rate": 0}, "rate"),
        ("left-out", {"families": ["drills"]}, "drill"), ("left-out", {"tokens": 10}, "tokens"), ("left-out", {"draws": 0}, "draws"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused(
    card: str, given: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "experiments.studies.elicitation.workroom.load", lambda *a, **k: pytest.fail("a model was loaded")
    )
    with pytest.raises(BadInput, match=said):
        run_card(CARDS[card], SHORT, Store(tmp_path), given=SMALL[card] | given, console=QUIET)


def test_the_start_is_small_and_shares_the_tokenizer_of_the_pair(tmp_path: Path) -> None:
    made, shipped = start(tmp_path), load_model(START)
    own = load_model(str(made))
    assert (
        own.tokenizer_fingerprint == shipped.tokenizer_fingerprint == load_model("builtin:base").tokenizer_fingerprint
    )
    assert {n: w.shape for n, w in own_weights(own.model).items()} == {
        n: w.shape for n, w in own_weights(shipped.model).items()
    }
    assert all(sum(file.stat().st_size for file in place.rglob("*")) < 3_600_000 for place in (made, STARTS[START]))


def test_the_shipped_start_knows_its_drills_and_writes_no_trace() -> None:
    shipped = load_model(START)
    assert drilled(shipped).mean() > 0.95
    task = Elicit().found
    rows = [Row(tuple(asked_ids(task, shipped, item, "think"))) for item in task.items("standard-test", 20)]
    texts = generate(shipped, rows, GenerationSettings(8), detail="tokens")
    assert all(shipped.tokenizer.decode(text.token_ids[:1]) == "answer" for text in texts), "it answers at once"


def test_without_the_start_its_command_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STARTS, START, tmp_path / "nothing")
    with pytest.raises(BadInput, match="steer pair untraced --install"):
        run_card(CARDS["corrupted"], SHORT, Store(tmp_path / "runs"), given=SMALL["corrupted"], console=QUIET)


def test_a_damaged_state_says_to_delete_it(found: tuple[Path, Findings], tmp_path: Path) -> None:
    path = next((found[0] / ".elicitation" / "trained").glob("*.safetensors"))
    (tmp_path / "a.safetensors").write_bytes(path.read_bytes()[:80])
    with pytest.raises(BadInput, match="delete it, to train anew"):
        read_state(tmp_path / "a.safetensors")


def test_the_interval_of_few_repetitions_is_students() -> None:
    found = student_interval([0.1, 0.2, 0.3])
    assert found is not None and found.low == pytest.approx(0.2 - 4.3027 * 0.1 / np.sqrt(3), abs=1e-4)
    assert student_interval([0.5]) is None
    with pytest.raises(ValueError, match="finite"):
        student_interval([0.1, float("nan")])
