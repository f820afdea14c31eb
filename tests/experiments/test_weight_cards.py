"""Cards whose arms are trained weights: they train, tell and read what is stored, on the built-in pair and on a tiny model; what they
cannot answer is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments.store.runs import Store
from experiments.studies.elicitation.asked import Elicit, Setting
from experiments.studies.elicitation.run import run_card
from experiments.studies.training.named import CARDS
from experiments.studies.training.one_example import chosen, history_of
from steering.errors import BadInput
from tests.experiments.test_training import asked_of

QUIET = Console(quiet=True)
BARE = Elicit(settings=(Setting(name="bare prompts", split="standard-test", form="bare"),), max_new_tokens=48)
SMALL: dict[str, Any] = {
    "n": 4, "seeds": [0, 1], "updates": 3, "prompts": 2, "samples": 3, "tokens": 16, "pool": 8,
}  # fmt: skip
CARDS_OF_WEIGHTS: dict[str, dict[str, Any]] = {
    "spurious": SMALL | {"votes": 3, "pool": 24, "seeds": [0]},
    "one-example": SMALL | {"candidates": 4, "epochs": 2, "arms": ["full", "truth", "wrong", "entropy"], "seeds": [0]},
    "forks": SMALL | {"asked": 24, "texts": 8, "steps": 2, "pool": 24, "masks": ["top", "random"]},
    "exposure": SMALL | {"questions": 8, "samples_of": 2, "seeds": [0]},
    "exchange": {
        "n": 8,
        "texts": 60,
        "directions": 2,
        "behaviours": ["backtracking"],
        "weights": ["random"],
        "sized": SMALL,
    },
    "routing": SMALL | {"alphas": [0.1], "doses": [1.0, 2.0], "seeds": [0], "pool": 12},
    "reference": SMALL | {"arms": ["likelihood", "shuffled"], "seeds": [0]},
    "order": SMALL | {"seeds": [0], "batch": 2, "tokens": 120},
    "calibrated": SMALL
    | {"arms": ["brier", "truth"], "seeds": [0], "asked": 8, "texts": 6, "steps": 4, "directions": 2, "n": 24},
    "critique": {"n": 4, "seeds": [0], "candidates": 12, "choose": 2, "steps": 3, "batch": 4, "tokens": 48},
}


@pytest.mark.parametrize("name", CARDS_OF_WEIGHTS)
def test_the_cards_train_tell_and_read_what_is_stored(name: str, tmp_path: Path) -> None:
    given = CARDS_OF_WEIGHTS[name]
    findings = run_card(CARDS[name], BARE, Store(tmp_path), given=given, console=QUIET)
    roles = {point.role for point in findings.points}
    assert {"baseline", "steered"} <= roles and (name == "exposure" or "control" in roles)
    heads = {table.title.split(":")[0] for table in findings.tables}
    assert name == "exchange" or "Side effects" in heads
    stored = {path: path.read_bytes() for path in tmp_path.glob(".elicitation/**/*.json")}
    again = run_card(CARDS[name], BARE, Store(tmp_path), given=given, console=QUIET)
    assert again == findings and stored == {path: path.read_bytes() for path in tmp_path.glob(".elicitation/**/*.json")}


@pytest.mark.parametrize("name", ["spurious", "one-example", "forks", "reference"])
def test_the_cards_run_on_a_tiny_model_with_a_chat_template(name: str, tmp_path: Path) -> None:
    asked = asked_of(tmp_path)
    given = CARDS_OF_WEIGHTS[name] | {"read": {"train": 12}, "tokens": 4, "rate": 0.05, "seeds": [0]}
    given |= {"spurious": {"arms": ["truth", "random", "format"]}, "forks": {"asked": 12, "contrasts": []}}.get(
        name, {}
    )
    given.pop("pool")
    if name == "one-example":
        given |= {"arms": ["full", "truth", "entropy"]}
    findings = run_card(CARDS[name], asked, Store(tmp_path / "runs"), given=given, console=QUIET)
    assert {point.setting for point in findings.points} == {"direct prompts", "think-first prompts"}
    with pytest.raises(BadInput, match="names the questions that are trained on"):
        run_card(CARDS[name], asked, Store(tmp_path / "other"), given=given | {"read": {}}, console=QUIET)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("spurious", {"arms": ["luck"]}, "'luck'.*card spurious: arms"),
        ("spurious", {"reuse": 1}, "one gradient step per update no ratio is ever clipped"),
        ("spurious", {"prompts": 300}, "256 training questions do not fill an update of 300"),
        ("one-example", {"arms": ["two"]}, "'two'.*card one-example: arms"),
        ("one-example", {"candidates": 4, "prompts": 8}, "4 candidates do not fill"),
        ("one-example", {"shown": [8], "updates": 8}, "shown has update 8"),
        ("routing", {"alphas": [0.0]}, "alphas has 0"),
        ("exposure", {"prompts": 300}, "do not fill an update of 300"),
        ("exchange", {"behaviours": ["singing"]}, "no behaviour 'singing'"),
        ("exchange", {"weights": ["luck"]}, "'luck'.*card exchange: weights"),
        ("reference", {"arms": ["luck"]}, "'luck'.*card reference: arms"),
        ("order", {"arms": ["luck"]}, "'luck'.*card order: arms"),
        ("order", {"updates": 1}, "1 update cannot be halved"),
        ("calibrated", {"arms": ["luck"]}, "'luck'.*card calibrated: arms"),
        ("forks", {"masks": ["most"]}, "'most'.*card forks: masks"),
        ("forks", {"shares": [1.0]}, "shares has 1"),
        ("critique", {"arms": ["praise"]}, "'praise'.*card critique: arms"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_before_a_model_is_loaded(
    name: str, given: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail: Callable[..., None] = lambda *a, **k: pytest.fail("a model was loaded")  # noqa: E731
    monkeypatch.setattr("experiments.studies.elicitation.workroom.load", fail)
    with pytest.raises(BadInput, match=said):
        run_card(CARDS[name], BARE, Store(tmp_path), given=given, console=QUIET)


def test_a_random_reward_is_not_reported_where_nothing_was_clipped(tmp_path: Path) -> None:
    given = SMALL | {"arms": ["random"], "seeds": [0], "rate": 1e-9}
    with pytest.raises(BadInput, match="no ratio was clipped in 3 updates of seed 0"):
        run_card(CARDS["spurious"], BARE, Store(tmp_path), given=given, console=QUIET)


def test_what_a_training_has_no_use_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="updates"):
        run_card(CARDS["critique"], BARE, Store(tmp_path), given={"updates": 3}, console=QUIET)


def test_critiques_need_the_exact_verifier(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="exact verifier of the built-in task"):
        run_card(CARDS["critique"], asked_of(tmp_path), Store(tmp_path / "runs"), given={"n": 4}, console=QUIET)


def test_the_example_is_the_question_whose_reward_varied_most() -> None:
    curve = [
        {"asked": [[0, 0.5], [1, 0.0]]}, {"asked": [[2, 0.9], [3, 0.4]]}, {"asked": [[0, 0.5], [1, 1.0]]}, {"asked": [[2, 1.0], [3, 0.1]]},
        {"asked": [[4, 0.0]]},
    ]  # fmt: skip
    past = history_of(curve, 5)
    assert past == {0: [0.5, 0.5], 1: [0.0, 1.0], 2: [0.9, 1.0], 3: [0.4, 0.1]}, "4 was asked once"
    assert chosen(past) == (1, 3)
