"""Elicitation cards: findings come from stored rows, go on after an interruption with the same bytes, and run on any pair and task."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from experiments.store.runs import Store
from experiments.studies.elicitation.asked import Elicit, Setting
from experiments.studies.elicitation.confidence import calibration_error
from experiments.studies.elicitation.findings import Findings, stored_findings
from experiments.studies.elicitation.named import CARDS, card_named
from experiments.studies.elicitation.reflection import CHECKING
from experiments.studies.elicitation.run import options_of, run_card
from experiments.studies.elicitation.switching import random_lists, thoughts, underthinking
from experiments.tasks.agreement import same_answer
from experiments.tasks.task import resolve_task
from steering.errors import BadInput
from tests.experiments.command_line import Steer, command
from tests.tiny import tiny

steer = pytest.fixture(command)

QUIET = Console(quiet=True)
SMALL: dict[str, dict[str, Any]] = {
    "cot-decoding": {"n": 4, "k": 3, "randoms": 2},
    "sampling": {"n": 3, "samples": 2, "steps": 1},
    "switching": {"n": 3, "strengths": [5.0], "windows": [10], "draws": 2},
    "boundary": {"n": 3, "samples": 4, "most": 2},
    "confidence": {"n": 24, "resamples": 100},
    "audit": {"n": 3, "n_dev": 2, "n_choice": 2, "directions": 2, "texts": 2, "planted": False},
    "decisions": {
        "n": 3,
        "budgets": [0.2],
        "selectors": ["divergence", "differs", "random"],
        "writers": ["token", "bank", "words"],
        "random": 2,
        "n_development": 4,
        "hybrid": {
            "traces": 20,
            "rollouts": 10,
            "held_out": 4,
            "sizes": [3],
            "layers": [1],
            "seeds": [42],
            "epochs": 1,
            "hidden": 8,
            "n_dev": 2,
        },
    },
    "sentences": {"n": 2, "samples": 4, "draws": 20, "anchors": 0},
    "faithfulness": {"n": 2, "edits": 1, "resilient": 1, "samples": 2},
    "information-gain": {"n": 2, "shuffles": 2},
    "reflection": {"n": 4, "directions": 2, "permutations": 5},
    "contamination": {"n": 7, "resamples": 100},
    "compression": {"n": 4, "n_dev": 4, "samples": 2, "doses": [1.0], "draws": 2},
    "symbols": {"n": 1, "file": str(CHECKING), "directions": 1, "n_directions": 1},
    "shift": {
        "n": 2,
        "file": str(CHECKING),
        "directions": 1,
        "n_directions": 2,
        "resamples": 20,
        "permutations": 19,
        "twins": False,
    },
    "ceiling": {"n": 2, "n_dev": 1, "count": 3, "shots": 1, "draws": 2, "files": [str(CHECKING)]},
    "coherence": {"n": 4, "permutations": 5, "directions": 2, "n_random": 2, "files": [str(CHECKING)]},
}
"""The smallest sizes of every card."""
ONE_MODEL = {"boundary": "compares two models", "decisions": "compares two models"}
"""Cards that refuse one model, and what they say."""
NEED_MORE = {"decisions": "names the questions that the bank is made from"}
"""Cards that need more of another task than five questions, and what they say."""
LONG = {"compression": 120, "boundary": 120, "cot-decoding": 120}
"""Tokens per text of cards that read texts that have ended; of the others 48."""
BARE = Elicit(settings=(Setting(name="bare prompts", split="standard-test", form="bare"),), max_new_tokens=120)


def whole(root: Path) -> dict[str, bytes]:
    """Every shard and every finding of a store."""
    kept = [*root.glob("*/rows/*.parquet"), *root.glob(".elicitation/**/*.json")]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(kept)}


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny random model whose tokenizer has a chat template."""
    place, model = tmp_path_factory.mktemp("tiny"), tiny("llama")
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.chat_template = "{% for m in messages %}<bos> {{ m['content'] }} ; {% endfor %}"
    model.model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return str(place)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Findings]:
    root = tmp_path_factory.mktemp("elicit")
    return root, run_card(card_named("cot-decoding"), BARE, Store(root), given=SMALL["cot-decoding"], console=QUIET)


def test_findings_hold_what_the_rows_say(found: tuple[Path, Findings]) -> None:
    root, findings = found
    run = Store(root).open(findings.runs[0])
    rows = run.table().to_pylist()
    for point in findings.points:
        own = [row for row in rows if row["arm"] == point.arm]
        assert (
            point.accuracy == pytest.approx(sum(row["correct"] for row in own) / len(own)) and point.n == len(own) == 4
        )
        spent = [len(row["token_ids"]) if row["spent"] is None else row["spent"] for row in own]
        assert point.tokens == pytest.approx(sum(spent) / len(spent))
    chosen = [row for row in rows if row["arm"] == "max"]
    for row in chosen:
        best = max((c for c in row["candidates"] if c["score"] is not None), key=lambda c: c["score"])
        (taken,) = [c for c in row["candidates"] if c["chosen"]]
        assert taken["score"] == best["score"] and taken["text"] == row["text"] and row["correct"] == taken["correct"]
        assert row["spent"] == sum(c["tokens"] for c in row["candidates"])
    likely = {row["item"]: row for row in rows if row["arm"] == "logprob"}
    assert all(
        [c["text"] for c in likely[row["item"]]["candidates"]] == [c["text"] for c in row["candidates"]]
        for row in chosen
    ), "arms that differ in the choice alone choose from the same paths"
    assert findings.points[0].difference is None and all(p.difference is not None for p in findings.points[1:])
    assert any(p.control and p.over_control is not None for p in findings.points)


def test_stored_findings_are_read_and_nothing_runs_again(
    found: tuple[Path, Findings], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, findings = found
    monkeypatch.setattr(
        "experiments.studies.elicitation.workroom.run_evaluation", lambda *a, **k: pytest.fail("it ran again")
    )
    again = run_card(card_named("cot-decoding"), BARE, Store(root), given=SMALL["cot-decoding"], console=QUIET)
    assert again == findings and stored_findings(Store(root)) == ([findings], [])
    (root / ".elicitation" / "damaged.json").write_text("{")
    assert "damaged.json holds no findings" in stored_findings(Store(root))[1][0]
    (root / ".elicitation" / "damaged.json").unlink()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "audit" else name for name in SMALL]
)
def test_a_card_killed_twice_goes_on_and_ends_with_the_same_bytes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.evaluation.rows.CHUNK_ROWS", 2 if SMALL[name]["n"] < 3 else 6)
    card = card_named(name)
    asked = BARE.model_copy(update={"max_new_tokens": LONG.get(name, 48)})
    run_card(card, asked, Store(tmp_path / "whole"), given=SMALL[name], console=QUIET)
    from experiments.evaluation import executors

    work, calls = executors.chunk_records, 0

    def killed(*args: object, **given: object) -> object:
        nonlocal calls
        calls += 1
        if calls in (2, 4):
            raise KeyboardInterrupt
        return work(*args, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(executors, "chunk_records", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_card(card, asked, Store(tmp_path / "parts"), given=SMALL[name], console=QUIET)
    run_card(card, asked, Store(tmp_path / "parts"), given=SMALL[name], console=QUIET)
    assert whole(tmp_path / "parts") == whole(tmp_path / "whole")


@pytest.mark.parametrize("name", list(SMALL))
def test_every_card_runs_on_a_tiny_model_with_a_chat_template_and_five_questions(
    name: str, tmp_path: Path, chat_model: str
) -> None:
    asked = Elicit(
        base=chat_model, thinking=None, task=five_questions(tmp_path), think="cot", max_new_tokens=8, settings=FORMS
    )
    given = SMALL[name] | {"n": 5}
    if name in ONE_MODEL:
        with pytest.raises(BadInput, match=ONE_MODEL[name]):
            run_card(card_named(name), asked, Store(tmp_path / "runs"), given=given, console=QUIET)
        asked = asked.model_copy(update={"thinking": chat_model})
    if name in NEED_MORE:
        with pytest.raises(BadInput, match=NEED_MORE[name]):
            run_card(card_named(name), asked, Store(tmp_path / "runs"), given=given, console=QUIET)
        return
    findings = run_card(
        card_named(name), asked, Store(tmp_path / "runs"), given=given | WORDS.get(name, {}), console=QUIET
    )
    assert {point.setting for point in findings.points} == {setting.name for setting in FORMS}
    for run in findings.runs:
        numbers = [
            x for row in Store(tmp_path / "runs").open(run).table(["logprob"]).to_pylist() for x in row["logprob"]
        ]
        assert numbers and not any(x != x for x in numbers), "every token that is stored has its number"
    assert all(point.n == 5 for point in findings.points) and findings.pair[0] == chat_model


FORMS = (
    Setting(name="direct prompts", split="test", form="chat"),
    Setting(name="think-first prompts", split="test", form="cot"),
)
WORDS = {
    "audit": {"planted": True},
    "cot-decoding": {"cue": "w9"},
    "sampling": {"word": "w9", "empty": "w10"},
    "sentences": {"cue": "w9"},
    "faithfulness": {"cue": "w9", "filler": "w10"},
    "information-gain": {"cue": "w9"},
    "compression": {"cue": "w9", "brief": "chat", "lists": {"switch": ("w9",), "other": ("w10", "w12")}},
    "ceiling": {"files": ()},
    "coherence": {"files": ()},
    "reflection": {"cue": "w9", "words": ("w9", "w10")},
    "symbols": {"file": None, "digest": None, "words": {"w8": "w60", "w20": "w61", "w9": "w62"}},
    "shift": {"file": None, "digest": None},
    "switching": {"lists": {"switch": ("w9",), "other": ("w10", "w12")}},
}


def five_questions(folder: Path) -> dict[str, object]:
    """A task of five questions of different length in a file."""
    lines = [json.dumps({"question": f"w{n + 8} w{n + 20}{' w7' * n}", "answer": f"w{n + 30}"}) for n in range(5)]
    (folder / "five.jsonl").write_text("\n".join(lines))
    (folder / "dev.jsonl").write_text("\n".join(line.replace("w8", "w50") for line in lines[:4]))
    return {
        "dataset": str(folder / "five.jsonl"), "splits": {"dev": "dev.jsonl", "test": "five.jsonl"}, "grader": "exact",
        "forms": {"chat": {"chat": True}, "cot": {"template": "{question} w11", "chat": True}},
    }  # fmt: skip


def test_options_and_cards_that_do_not_exist_are_refused_by_name() -> None:
    with pytest.raises(BadInput, match="cot-decoding"):
        card_named("cot")
    with pytest.raises(BadInput, match="field 'ks'.*card cot-decoding"):
        options_of(CARDS["cot-decoding"], "quick", {"ks": 3})
    with pytest.raises(BadInput, match="card cot-decoding: k"):
        options_of(CARDS["cot-decoding"], "quick", {"k": 1})


def test_the_list_names_systems_and_papers(steer: Steer) -> None:
    listed = json.loads(steer("elicit", "list", "--json")[1])
    assert ("S4", "cot-decoding") in {(entry["row"], entry["card"]) for entry in listed}
    assert all(entry["row"].startswith("S") and entry["papers"] and entry["control"] for entry in listed)
    assert {entry["card"] for entry in listed} == set(CARDS)


def test_the_command_says_what_to_pass_for_another_task(steer: Steer, tmp_path: Path) -> None:
    code, _, said = steer("elicit", "cot-decoding", "--task", "gsm8k", "--runs", tmp_path)
    assert code == 2 and "--forms" in said and "bare, cot, chat" in said
    assert "--preset" in steer("elicit", "all", "--preset", "huge", "--runs", tmp_path)[2]
    assert steer("elicit", "cot-decoding", "--pair", "a,b,c", "--runs", tmp_path)[0] == 2
    assert steer("elicit", "cot-decoding", "--set", "n", "--runs", tmp_path)[0] == 2
    code, _, said = steer("vectors", "audit", "a.safetensors", "--json", "--markdown")
    assert code == 2 and "ask for one of them" in said
    for wrong, words in (
        (("--set", "n=true"), "n is true"),
        (("--pair", "builtin:base,builtin:base"), "both models of the pair"),
        (("--json", "--markdown"), "ask for one of them"),
        (("--task", "short:story", "--forms", "direct,direct"), "in one form"),
    ):
        code, _, said = steer("elicit", "cot-decoding", *wrong, "--runs", tmp_path)
        assert code == 2 and words in said, said


def test_questions_that_the_tokenizer_does_not_know_are_said_with_the_findings(tmp_path: Path) -> None:
    setting = Setting(name="direct prompts", split="test", form="direct")
    asked = Elicit(thinking=None, task="short:story", think="think", max_new_tokens=4, settings=(setting,))
    found = run_card(card_named("confidence"), asked, Store(tmp_path), given={"n": 2}, console=QUIET)
    assert any("are not known whole" in sentence for sentence in found.said)


def test_answers_that_a_grader_cannot_take_for_right_ones_are_compared_as_written() -> None:
    task = resolve_task("short:story")
    item = task.items("test", 1)[0]
    assert same_answer(task, item, "12", "12.0") and not same_answer(task, item, "12", "13")
    assert same_answer(task, item, "None", " none ") and not same_answer(task, item, "neither", "12")


def test_every_card_is_tried_here() -> None:
    assert set(SMALL) == set(CARDS)


def test_underthinking_is_the_share_after_the_first_right_thought() -> None:
    text = "let us try 12 ; 12 + 1 = 13 ; goal 9 no back ; not 12 try 8 ; 8 + 1 = 9 ; goal 9 no back ; not 8 try 5 ; so answer 5".split()
    assert [(text[start + 1], text[end]) for start, end, _ in thoughts(text)] == [
        ("12", "not"),
        ("8", "not"),
        ("5", "so"),
    ]
    end = text.index("not", text.index("8"))
    assert underthinking(text, "8") == pytest.approx(1 - end / len(text)) and 0.1 < underthinking(text, "8") < 0.5
    assert underthinking(text, "77") == 0.0 == underthinking([], "8")


def test_random_lists_are_other_words_of_the_text_that_occur_about_equally_often() -> None:
    counts = Counter(
        {"back": 40, "a": 38, "b": 41, "c": 400, "d": 1, "e": 36, "f": 45, "g": 2, "h": 39, "i": 42, "j": 44, "k": 37}
    )
    lists = random_lists(counts, ["back"], 6)
    assert {word for own in lists for word in own} <= set("abehijk") and len({tuple(own) for own in lists}) == 6
    assert len(random_lists(counts, ["back"], 40)) == 11, "there are no more"
    pairs = random_lists(counts, ["back", "a"], 5)
    assert all(len(own) == 2 and not {"back", "a"} & set(own) for own in pairs) and len(pairs) == 5
    assert random_lists(Counter({"back": 3}), ["back"], 4) == []


def test_calibration_of_a_case_done_by_hand() -> None:
    confidence, right = np.array([0.9] * 10 + [0.1] * 10), np.array([1.0] * 9 + [0.0] + [0.0] * 9 + [1.0])
    assert calibration_error(confidence, right) == pytest.approx(
        np.mean([abs(c - r) for c, r in zip(*_tenths(confidence, right), strict=True)])
    )
    assert calibration_error(np.array([0.5, 0.5]), np.array([1.0, 0.0])) == pytest.approx(0.5)
    sure = np.full(40, 1.0)
    assert calibration_error(sure, sure) == 0.0 and calibration_error(sure, 1 - sure) == 1.0


def _tenths(confidence: np.ndarray, right: np.ndarray) -> tuple[list[float], list[float]]:
    """Means of ten bins of two, by hand."""
    order = np.argsort(confidence, kind="stable")
    return [float(confidence[order[n : n + 2]].mean()) for n in range(0, 20, 2)], [
        float(right[order[n : n + 2]].mean()) for n in range(0, 20, 2)
    ]
