"""Where something can be read: one probe per layer and position.

1. Every cell is a probe of its own, fitted and measured on the same division of the groups, so cells differ in where they read alone.
2. Beside each column stands what the token ids at its positions give away; that does not depend on the layer.
3. `rarest` is the number of held-out groups of the rarest class; where it is too small a cell has no interval.
4. Many cells are tried: the best one of a map is chosen, and its AUROC is flattered. Fit it again on other items before it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from steering.errors import BadInput
from steering.model.models import LoadedModel
from steering.model.sites import Site

from .fitting import fit_logistic
from .splits import Split, grouped_split, numbered
from .targets import Examples

PENALTIES = (0.3, 0.03, 0.003)
COLUMNS = (
    "site",
    "position",
    "n",
    "groups",
    "rarest",
    "auroc",
    "low",
    "high",
    "tokens",
    "beyond",
    "beyond_low",
    "beyond_high",
)


def probe_map(
    model: LoadedModel,
    columns: Mapping[str, Examples],
    sites: Sequence[Site],
    *,
    held_out: float = 0.3,
    seed: int = 0,
    penalties: Sequence[float] = PENALTIES,
    on_cell: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """A table with one row per site and position: AUROC with interval, that of the tokens, and the difference (`beyond`).

    `columns` names each position with the examples read there. `on_cell(done, total)` is told after each cell.
    Raises BadInput where there is no site or column, or the columns have different classes.
    """
    if not sites or not columns:
        raise BadInput("A map needs at least one site and one position.")
    if len({e.classes for e in columns.values()}) > 1:
        raise BadInput("The columns of a map must have the same classes.")
    every = sorted({g for e in columns.values() for g in e.groups})
    kept = _held_out(columns, every, held_out, seed)
    rows, done = [], 0
    for name, examples in columns.items():
        number, names = numbered(examples.groups, examples.n)
        outside = np.array([g in kept for g in examples.groups])
        split = Split(np.flatnonzero(~outside), np.flatnonzero(outside), number, names)
        values = examples.activations(model, sites)
        for site in sites:
            found = fit_logistic(
                values[site], np.array(examples.y), groups=examples.groups, site=site, classes=examples.classes, seed=seed,
                penalties=penalties, folds=3, controls=0, tokens=examples.windows(), split=split,
            ).evaluation  # fmt: skip
            assert found.tokens is not None
            beyond = found.tokens.difference
            rows.append(
                (site.name, name, examples.n, len(names), found.rarest, found.auroc.value, found.auroc.low, found.auroc.high,
                 found.tokens.other.value, beyond.value, beyond.low, beyond.high)
            )  # fmt: skip
            done += 1
            if on_cell is not None:
                on_cell(done, len(sites) * len(columns))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def by_offset(examples: Examples, offsets: Sequence[int]) -> dict[str, Examples]:
    """Columns that read the same labels at each offset from the target's own position."""
    return {f"{offset:+d}" if offset else "0": examples.shifted(offset) for offset in offsets}


def by_step(examples: Examples, steps: Sequence[int]) -> dict[str, Examples]:
    """Columns that read one step each."""
    return {f"step {step + 1}": examples.at_step(step) for step in steps}


def _held_out(columns: Mapping[str, Examples], every: Sequence[str], held_out: float, seed: int) -> set[str]:
    """The groups that are held out in every column, chosen on all samples together so that every class is on both sides."""
    y = np.concatenate([np.array(e.y) for e in columns.values()])
    place = {g: i for i, g in enumerate(every)}
    group = np.array([place[g] for e in columns.values() for g in e.groups])
    split = grouped_split(y, group, held_out, seed, tuple(every))
    return {every[g] for g in np.unique(group[split.test])}
