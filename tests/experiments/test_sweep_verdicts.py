"""What a sweep says of its cells and of the one chosen: described, chosen, and real only on problems that did not choose it."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from experiments.statistics import directions_needed
from experiments.sweeps.cells import Cell
from experiments.sweeps.run import kept_choice
from experiments.sweeps.spec import cells_of
from experiments.sweeps.table import sweep_table
from experiments.sweeps.verdict import Choice, of_choice, of_test
from tests.experiments.test_sweeps import spec


def rows_of(right: dict[str, list[bool]], edits: dict[str, float] | None = None) -> pd.DataFrame:
    """Made-up rows: arms by item, each edited once with the size given (0.5)."""
    return pd.DataFrame(
        [
            {
                "arm": arm, "split": "s", "item": f"i{n:03d}", "seed": 0, "correct": c, "truncated": False, "token_ids": [1],
                "edit_ratio": [0.0, (edits or {}).get(arm, 0.5)], "edits_planned": 1,
            }
            for arm, values in right.items()
            for n, c in enumerate(values)
        ]
    )  # fmt: skip


class FakeRun:
    """A stored sweep of made-up rows."""

    def __init__(
        self, frame: pd.DataFrame, cells: list[Cell], folder: Path, choice: Choice | None = None, items: int = 80
    ):
        folder.mkdir(exist_ok=True)
        self.frame, self.folder = frame, folder
        step = {"operation": "add", "site": "blocks.0.hook_resid_post", "span": "last_prompt"}
        arms = [
            SimpleNamespace(name=name, plan=None if name == "baseline" else {"interventions": [step]})
            for name in dict.fromkeys(frame["arm"])
        ]
        self.manifest = SimpleNamespace(
            baseline=SimpleNamespace(name="baseline"), run_id="fake", arms=arms, splits={"s": items}, status="complete"
        )
        card: dict[str, Any] = {"sweep": {}, "cells": [c.model_dump(mode="json") for c in cells]}
        if choice is not None:
            card["choice"] = choice.to_dict()
        (folder / "sweep.json").write_text(json.dumps(card))

    def table(self, columns: list[str]) -> Any:
        return type("T", (), {"to_pandas": lambda _: self.frame[columns].copy()})()


def coins(rng: random.Random, p: float, n: int = 80) -> list[bool]:
    return [rng.random() < p for _ in range(n)]


def test_cells_are_described_against_the_distribution_of_their_directions(tmp_path: Path) -> None:
    """One cell helps, one helps as many of its random directions do, one does nothing."""
    rng = random.Random(0)
    right = {
        "baseline": coins(rng, 0.2),
        "cell-000": coins(rng, 0.7),
        "cell-001": coins(rng, 0.7),
        "cell-002": coins(rng, 0.2),
    }
    for seed in range(20):
        right[f"cell-000-random-{seed}"] = coins(rng, 0.2)
        right[f"cell-001-random-{seed}"] = coins(rng, 0.8 if seed % 3 == 0 else 0.2)
        right[f"cell-002-random-{seed}"] = coins(rng, 0.2)
    cells = cells_of(spec(vary={"layer": [0, 1, 2], "dose": [1]}))
    run = FakeRun(rows_of(right, {"cell-002": 0.9}), cells, tmp_path)
    table = sweep_table(run, cells).set_index("cell")  # type: ignore[arg-type]
    assert table.loc["cell-000", "rank_p"] == pytest.approx(1 / 21) and table.loc["cell-000", "as_good"] == 0
    assert table.loc["cell-001", "as_good"] >= 3 and table.loc["cell-001", "p"] < 0.001, "only the distribution tells"
    wide, narrow = (
        table.loc[c, "over_control_high"] - table.loc[c, "over_control_low"] for c in ("cell-001", "cell-000")
    )
    assert wide > 1.2 * narrow, "directions that differ are a source of variance"
    assert table["score"].idxmax() == "cell-000" and "real" not in table
    assert table["matched"].tolist() == [True, True, False], "edits are compared as they were measured"
    found = of_choice([run], "cell-000", 3)  # type: ignore[list-item]
    assert found.pseudo_sweeps == 20 and found.p is not None and found.p > 0.05, (
        "random directions of another cell do as much: the best of the grid is no more than that"
    )
    assert of_choice([run], "cell-000", 3, halving=True).p is None  # type: ignore[list-item]


def test_a_cell_wins_nothing_by_controls_that_do_damage(tmp_path: Path) -> None:
    rng = random.Random(2)
    right = {"baseline": coins(rng, 0.5), "cell-000": coins(rng, 0.5), "cell-001": coins(rng, 0.62)}
    right |= {f"cell-000-random-{seed}": coins(rng, 0.05) for seed in range(39)}
    right |= {f"cell-001-random-{seed}": coins(rng, 0.5) for seed in range(39)}
    cells = cells_of(spec(vary={"layer": [0, 1], "dose": [1]}))
    table = sweep_table(FakeRun(rows_of(right), cells, tmp_path), cells).set_index("cell")  # type: ignore[arg-type]
    assert table.loc["cell-000", "over_control"] > 0.3 and table["score"].idxmax() == "cell-001"
    alone = {arm: values for arm, values in right.items() if not arm.startswith("cell-001")}
    found = of_test(FakeRun(rows_of(alone), cells[:1], tmp_path / "test", CHOSEN))  # type: ignore[arg-type]
    assert found.real is False and "its interval over the unsteered arm does not lie above 0" in found.sentence


CHOSEN = Choice("cell-000", 24, 0.048, 20, "+40.0 points, where random sweeps have +0.0 to +10.0")


def test_a_planted_winner_is_real_on_test_problems_and_one_of_many_draws_is_not(tmp_path: Path) -> None:
    rng = random.Random(1)
    cells = cells_of(spec(vary={"layer": [0], "dose": [1]}))
    right = {"baseline": coins(rng, 0.2), "cell-000": coins(rng, 0.75)}
    right |= {f"cell-000-random-{1000 + seed}": coins(rng, 0.2) for seed in range(39)}

    def judged(name: str, rows: pd.DataFrame, choice: Choice | None = CHOSEN, items: int = 80) -> Any:
        return of_test(FakeRun(rows, cells, tmp_path / name, choice, items))  # type: ignore[arg-type]

    assert judged("real", rows_of(right)).real is True
    lucky = judged("lucky", rows_of(right), replace(CHOSEN, p=0.3))
    assert lucky.real is False and "no better than random ones" in lucky.sentence and lucky.p == 0.3
    without = replace(CHOSEN, p=None, pseudo_sweeps=1, why="1 random direction makes 1 pseudo-sweep")
    few = judged("few", rows_of(right), without)
    assert few.real is None and f"{directions_needed(24)} would do" in few.sentence
    assert judged("one", rows_of(right), replace(without, cells=1)).real is True
    assert judged("older", rows_of(right), None).real is None
    size = judged("size", rows_of(right, {"cell-000": 0.8}))
    assert size.real is False and "differ in size (0.80 against 0.50" in size.sentence
    uneven = {f"cell-000-random-{1000 + seed}": 0.1 if seed % 2 else 0.9 for seed in range(39)}
    spread = judged("spread", rows_of(right, uneven | {"cell-000": 0.51}))
    assert spread.real is False and "controls have other edits" in spread.sentence, "equal on average only"
    drawn = right | {f"cell-000-random-{1000 + seed}": coins(rng, 0.8) for seed in range(4)}
    assert judged("draws", rows_of(drawn)).real is False
    part = judged("part", rows_of(right), items=200)
    assert part.real is None and "not whole (80 of 200 problems" in part.sentence
    lone = rows_of({arm: values for arm, values in right.items() if "random" not in arm})
    assert judged("none", lone).real is None


def test_a_test_run_keeps_the_choice_among_more_cells_and_the_less_clear_one(tmp_path: Path) -> None:
    cells = cells_of(spec(vary={"layer": [0], "dose": [1]}))
    stored = FakeRun(rows_of({"baseline": [True]}), cells, tmp_path / "a", CHOSEN)
    few, clear = replace(CHOSEN, cells=1, p=None), replace(CHOSEN, p=0.01)
    assert kept_choice(stored, few) == CHOSEN and kept_choice(stored, clear) == CHOSEN  # type: ignore[arg-type]
    more = replace(CHOSEN, cells=48, p=0.01)
    assert kept_choice(stored, more) == more  # type: ignore[arg-type]
    fresh = FakeRun(rows_of({"baseline": [True]}), cells, tmp_path / "b")
    assert kept_choice(fresh, few) == few  # type: ignore[arg-type]
