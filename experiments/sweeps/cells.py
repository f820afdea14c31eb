"""The cells of a sweep as they are stored with its run: names and settings. Reading them loads no model library."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict

from steering.errors import BadInput

from ..store.runs import Run, Store

Value = str | int | float
GENERATION = "generation."
"""Keys of `vary` that begin so vary a generation setting."""
CARD = "sweep.json"
"""In a development run's folder: the sweep and its cells."""


class Cell(BaseModel):
    """One combination."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    """`cell-007`; stable under the same spec."""
    settings: dict[str, Value]

    @property
    def label(self) -> str:
        return ", ".join(f"{key.removeprefix(GENERATION)} {value}" for key, value in self.settings.items())


def read_cells(run: Run) -> list[Cell]:
    """The cells of a sweep's run, from its card. Raises BadInput when the run is no sweep's."""
    return [Cell.model_validate(cell) for cell in read_card(run)["cells"]]


def random_name(cell: Cell, seed: int) -> str:
    """The arm of a cell's random direction."""
    return f"{cell.name}-random-{seed}"


def read_card(run: Run) -> dict[str, Any]:
    """The card of a sweep's run: `sweep`, `cells`, and of a test run `choice` (`verdict.Choice`). Raises BadInput when the run is no
    sweep's."""
    path = run.folder / CARD
    if not path.is_file():
        raise BadInput(f"Run {run.manifest.run_id} is no sweep: it has no {CARD}.")
    card: dict[str, Any] = json.loads(path.read_text())
    return card


def is_test(run: Run) -> bool:
    """Whether this is the run in which a sweep's winner was tested. Raises BadInput when the run is no sweep's."""
    return bool(run.manifest.name == f"{read_card(run)['sweep']['name']}-test")


def test_run(store: Store, run: Run) -> Run | None:
    """The finished test run of a development run's sweep, if the store has it. Raises BadInput when the run is no sweep's."""
    sweep = read_card(run)["sweep"]
    for entry in store.list():
        if (
            entry.manifest is None
            or entry.problem
            or entry.manifest.name != f"{sweep['name']}-test"
            or entry.manifest.status != "complete"
        ):
            continue
        found = store.open(entry.run_id)
        if (found.folder / CARD).is_file() and read_card(found)["sweep"] == sweep:
            return found
    return None


def axes(cells: list[Cell]) -> dict[str, list[Any]]:
    """The values of each setting, in order of appearance."""
    return {
        key.removeprefix(GENERATION): list(dict.fromkeys(c.settings[key] for c in cells)) for key in cells[0].settings
    }
