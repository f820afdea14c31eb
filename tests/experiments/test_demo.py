"""The main job on the shipped pair, made small: its arms, chosen on development problems, receipted, stored, reused."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from experiments.evaluation.summarise import summarise
from experiments.store.runs import Run, Store
from experiments.studies.behaviours import behaviour_effects, random_differences, rank_of
from experiments.studies.demo import BEHAVIOURS, DIRECTIONS, Choice, run_demo
from experiments.sweeps.cells import read_card, read_cells
from experiments.sweeps.spec import SweepSpec
from experiments.sweeps.table import sweep_table
from saes.dashboard import FACTS
from tests.conftest import DEMO_SIZES

Demo = tuple[Choice, Run, Run]


@pytest.mark.slow
def test_steering_recovers_the_gap_and_its_controls_do_not(demo: tuple[Path, Demo]) -> None:
    _, (choice, run, _) = demo
    assert choice.tried >= 32
    summary = summarise(run.table(), run.manifest)
    standard, hard = summary.split("standard-test"), summary.split("hard-test")
    roles = ["baseline", "prompt", "steered", *["control"] * (DIRECTIONS + 1), "reference"]
    assert [arm.role for arm in standard.arms] == roles
    for split, least in ((standard, 0.7), (hard, 0.45)):
        gap = split.arm("steered").gap
        assert gap is not None
        assert gap.value is not None
        assert gap.value > least
        against = split.arm("wrong_sign").gap
        assert against is not None
        assert against.value is not None
        assert against.value < 0.3
        beyond = split.arm("steered").beyond
        assert beyond is not None
        assert (beyond.count, beyond.matched, beyond.few) == (DIRECTIONS, True, False)
        assert beyond.rank_p <= 2 / (1 + DIRECTIONS), "at most one random direction of that size does as much"
        assert beyond.interval.low > 0
    for arm in (standard.arm("steered"), standard.arm("steered-random-0"), hard.arm("steered")):
        assert arm.edits_fired == arm.edits_planned == arm.n, "one edit per row, at the last prompt token"
    for row in run.table(arms=["steered"]).to_pylist():
        fired = [i for i, size in enumerate(row["edit_ratio"]) if size > 0]
        assert fired == [len(row["prompt_ids"]) - 1]


@pytest.mark.slow
def test_every_behaviour_direction_is_run_in_both_signs_beside_random_directions(demo: tuple[Path, Demo]) -> None:
    _, (_, _, behaviours) = demo
    names = {effect.arm for effect in behaviour_effects(behaviours)}
    drawn = {f"{label}_plus-random-{seed}" for label in BEHAVIOURS for seed in range(DIRECTIONS)}
    assert names == {f"{label}_{sign}" for label in BEHAVIOURS for sign in ("plus", "minus")} | drawn


@pytest.mark.slow
def test_the_checking_direction_moves_checking_both_ways(demo: tuple[Path, Demo]) -> None:
    _, (_, _, behaviours) = demo
    every = behaviour_effects(behaviours)
    effects = {effect.arm: effect for effect in every}
    plus, minus = effects["checking_plus"], effects["checking_minus"]
    assert plus.interval.low > 0 > minus.interval.high
    drawn = random_differences(every, "checking")
    assert len(drawn) == DIRECTIONS
    for effect in (plus, minus):
        assert rank_of(effect, drawn) <= 3 / (1 + DIRECTIONS)


@pytest.mark.slow
def test_the_choice_is_a_sweep_that_names_its_test_and_the_latents_have_a_dashboard(demo: tuple[Path, Demo]) -> None:
    root, (choice, run, _) = demo
    tried = Store(root).open(choice.run)
    cells, card = read_cells(tried), read_card(tried)
    assert len(cells) == choice.tried and card["result"] == run.manifest.run_id
    table = sweep_table(tried, cells).set_index("cell")
    chosen = [
        c.name for c in cells if c.settings["layer"] == choice.vector.site.layer and c.settings["dose"] == choice.dose
    ]
    assert table.loc[chosen, "accuracy"].max() == pytest.approx(choice.accuracy, abs=0.1), (
        "splits weigh alike in the choice"
    )
    assert SweepSpec.model_validate(card["sweep"]).plan.startswith("add $contrast-$layer")
    assert (root / ".dashboards" / "base" / FACTS).is_file()


@pytest.mark.slow
def test_a_second_demo_reuses_every_row(demo: tuple[Path, Demo], monkeypatch: pytest.MonkeyPatch) -> None:
    root, (choice, run, behaviours) = demo
    monkeypatch.setattr(
        "experiments.evaluation.records.generate", lambda *a, **k: pytest.fail("a stored row was redone")
    )
    again, same_run, same_behaviours = run_demo(Store(root), **DEMO_SIZES, console=Console(quiet=True))
    assert again.vector.digest == choice.vector.digest
    assert again.dose == choice.dose
    assert (same_run.manifest.run_id, same_behaviours.manifest.run_id) == (
        run.manifest.run_id,
        behaviours.manifest.run_id,
    )
