"""The main job on the shipped pair, made small: six arms, chosen on development problems, receipted, stored, reused."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from experiments.evaluation.summarise import summarise
from experiments.store.runs import Run, Store
from experiments.studies.behaviours import behaviour_effects
from experiments.studies.demo import BEHAVIOURS, Choice, run_demo
from tests.conftest import DEMO_SIZES

Demo = tuple[Choice, Run, Run]


@pytest.mark.slow
def test_steering_recovers_the_gap_and_its_controls_do_not(demo: tuple[Path, Demo]) -> None:
    _, (choice, run, _) = demo
    assert choice.tried >= 32
    summary = summarise(run.table(), run.manifest)
    standard, hard = summary.split("standard-test"), summary.split("hard-test")
    assert [arm.role for arm in standard.arms] == ["baseline", "prompt", "steered", "control", "control", "reference"]
    for split, least in ((standard, 0.7), (hard, 0.45)):
        gap = split.arm("steered").gap
        assert gap is not None
        assert gap.value is not None
        assert gap.value > least
        for control in ("random", "wrong_sign"):
            against = split.arm(control).gap
            assert against is not None
            assert against.value is not None
            assert against.value < 0.3
    for arm in (standard.arm("steered"), standard.arm("random"), hard.arm("steered")):
        assert arm.edits_fired == arm.edits_planned == arm.n, "one edit per row, at the last prompt token"
    for row in run.table(arms=["steered"]).to_pylist():
        fired = [i for i, size in enumerate(row["edit_ratio"]) if size > 0]
        assert fired == [len(row["prompt_ids"]) - 1]


@pytest.mark.slow
def test_every_behaviour_direction_is_run_in_both_signs_with_a_control(demo: tuple[Path, Demo]) -> None:
    _, (_, _, behaviours) = demo
    names = {effect.arm for effect in behaviour_effects(behaviours)}
    assert names == {
        f"{label}_{sign}{control}" for label in BEHAVIOURS for sign in ("plus", "minus") for control in ("", "_random")
    }


@pytest.mark.slow
def test_the_checking_direction_moves_checking_both_ways(demo: tuple[Path, Demo]) -> None:
    _, (_, _, behaviours) = demo
    effects = {effect.arm: effect for effect in behaviour_effects(behaviours)}
    plus, minus = effects["checking_plus"], effects["checking_minus"]
    assert plus.interval.low > 0 > minus.interval.high
    assert plus.difference > effects["checking_plus_random"].difference
    assert minus.difference < effects["checking_minus_random"].difference


@pytest.mark.slow
def test_a_second_demo_reuses_every_row(demo: tuple[Path, Demo], monkeypatch: pytest.MonkeyPatch) -> None:
    root, (choice, run, behaviours) = demo
    monkeypatch.setattr("experiments.evaluation.rows.generate", lambda *a, **k: pytest.fail("a stored row was redone"))
    again, same_run, same_behaviours = run_demo(Store(root), **DEMO_SIZES, console=Console(quiet=True))
    assert again.vector.digest == choice.vector.digest
    assert again.dose == choice.dose
    assert (same_run.manifest.run_id, same_behaviours.manifest.run_id) == (
        run.manifest.run_id,
        behaviours.manifest.run_id,
    )
