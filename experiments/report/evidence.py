"""What a report is made from: a run's manifest, summary and rows, and what kind of run it is.

1. A complete run's stored summary is used where it counts the rows that are there; else the summary is computed from the rows.
2. `comparable` narrows a partial run to what can be paired: the arms that hold every pair of (item, seed) of the baseline.
3. Nothing is generated again, and nothing is written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..evaluation.summarise import summarise
from ..evaluation.summary import COLUMNS, RunSummary, from_json, to_json
from ..store.runs import Manifest, Run, StoreError
from ..store.seal import in_words, look

Kind = Literal["evaluation", "sweep, development", "sweep, test", "ablation", "hybrid"]
SWEEP_CARD = "sweep.json"
READ = tuple(dict.fromkeys((*COLUMNS, "order", "answer", "choices")))


class Unavailable(Exception):
    """A figure or table that a run has nothing to show in. The message says why."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """A run as a report reads it."""

    run: Run
    summary: RunSummary
    table: pa.Table
    """All rows, the columns `READ`."""
    kind: Kind
    sweep: dict[str, Any] | None
    """The card of a sweep: `sweep`, its file's content, and `cells`."""

    @property
    def manifest(self) -> Manifest:
        """What the run is."""
        return self.run.manifest

    @property
    def stored(self) -> int:
        """Rows that are there."""
        return int(self.table.num_rows)

    @property
    def expected(self) -> int:
        """Rows of the finished run."""
        return self.manifest.rows_expected

    @property
    def partial(self) -> str | None:
        """What is missing, in words; None of a whole run."""
        if self.stored >= self.expected and self.manifest.status == "complete":
            return None
        words = f"partial: {self.stored:,} of {self.expected:,} rows"
        return f"{words} (status: {self.manifest.status})"

    @cached_property
    def doubts(self) -> str | None:
        """What is wrong with the run's files, in words."""
        return in_words(look(self.run.folder), self.manifest.run_id)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One line per row: `arm, split, item, order, seed, gold, answer, correct, tokens` (generated)."""
        frame = self.table.select(["arm", "split", "item", "order", "seed", "gold", "answer", "correct"]).to_pandas()
        frame["tokens"] = pc.coalesce(self.table["spent"], pc.list_value_length(self.table["token_ids"])).to_numpy()
        return frame

    @cached_property
    def comparable(self) -> Run:
        """The run without the arms that lack a pair of the baseline in some split, and without pairs that the baseline lacks."""
        base = self.manifest.baseline.name
        pairs = self.rows["split"] + "\0" + self.rows["item"] + "\0" + self.rows["seed"].astype(str)
        wanted = set(pairs[self.rows["arm"] == base])
        held = pairs.groupby(self.rows["arm"]).agg(set)
        kept = [a for a in self.manifest.arms if wanted and wanted <= held.get(a.name, set())]
        splits = {s: n for s, n in self.manifest.splits.items() if any(p.startswith(f"{s}\0") for p in wanted)}
        inside = self.rows["arm"].isin([a.name for a in kept]) & pairs.isin(wanted)
        table = self.table.filter(pa.array(inside.to_numpy(), pa.bool_()))
        manifest = self.manifest.model_copy(update={"arms": kept, "splits": splits or self.manifest.splits})
        return cast(Run, _Narrowed(self.run, manifest, table))

    @property
    def left_out(self) -> list[str]:
        """Labels of the arms that `comparable` lacks."""
        kept = {arm.name for arm in self.comparable.manifest.arms}
        return [arm.label for arm in self.manifest.arms if arm.name not in kept]

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The table of a sweep's comparable cells (`sweep_table`) with `score_low`, `score_high`, `holds_zero` and `chosen` (the best by
        score, then tokens, then name, as the sweep chooses). Raises Unavailable for a run that is no sweep, or has no whole cell."""
        from ..sweeps.spec import Cell
        from ..sweeps.table import sweep_table

        if self.sweep is None:
            raise Unavailable("the run is no sweep")
        held = {arm.name for arm in self.comparable.manifest.arms}
        names = {arm.name for arm in self.manifest.arms}
        cells = [Cell.model_validate(cell) for cell in self.sweep["cells"]]
        own = {c.name: {n for n in names if n == c.name or n.startswith(f"{c.name}-random-")} for c in cells}
        whole = [cell for cell in cells if own[cell.name] and own[cell.name] <= held]
        if not whole:
            raise Unavailable("no cell of the sweep has all its rows yet")
        table = sweep_table(self.comparable, whole)
        beside = "over_control" in table
        for end in ("low", "high"):
            table[f"score_{end}"] = table[f"over_control_{end}"].fillna(table[end]) if beside else table[end]
        table["holds_zero"] = (table["score_low"] <= 0) & (table["score_high"] >= 0)
        best = table.sort_values(["score", "tokens", "cell"], ascending=[False, True, True])["cell"].iloc[0]
        table["chosen"] = table["cell"] == best
        return table

    @property
    def settings(self) -> list[str]:
        """Names of a sweep's settings, as in `cells`."""
        return [key.removeprefix("generation.") for key in self.sweep["cells"][0]["settings"]] if self.sweep else []


class _Narrowed:
    """The part of `Run` that statistics read, over fewer rows."""

    def __init__(self, run: Run, manifest: Manifest, table: pa.Table):
        self.folder, self.manifest, self._table = run.folder, manifest, table

    def table(
        self,
        columns: list[str] | None = None,
        arms: list[str] | None = None,
        split: str | None = None,
    ) -> pa.Table:
        found = self._table
        for name, kept in (("arm", arms), ("split", None if split is None else [split])):
            if kept is not None:
                found = found.filter(pc.is_in(found[name], value_set=pa.array(list(kept), pa.string())))
        return found if columns is None else found.select(columns)


def gather(run: Run) -> Evidence:
    """Read a run. Raises StoreError for rows that cannot be read, and ValueError for arms that cannot be paired."""
    columns = list(READ)
    table = run.table(columns=columns)
    card = _card(run)
    return Evidence(run, summary_of(run, table), table, _kind(run.manifest, card), card)


def summary_of(run: Run, table: pa.Table) -> RunSummary:
    """The statistics of the rows in `table`: those stored with a complete run, else computed."""
    try:
        data = run.summary() if run.manifest.status == "complete" else None
        summary = None if data is None else from_json(data)
    except (StoreError, ValueError):
        summary = None
    if summary and sum(arm.n for split in summary.splits for arm in split.arms) == table.num_rows:
        return summary
    return from_json(json.loads(to_json(summarise(table, run.manifest))))


def _card(run: Run) -> dict[str, Any] | None:
    path = run.folder / SWEEP_CARD
    try:
        card = json.loads(path.read_text()) if path.is_file() else None
    except ValueError as error:
        raise StoreError(f"{path} cannot be read ({error}). Run the sweep's command again to write it anew.") from error
    return card if isinstance(card, dict) and {"sweep", "cells"} <= card.keys() else None


def _kind(manifest: Manifest, card: dict[str, Any] | None) -> Kind:
    if card is not None:
        development = card["sweep"].get("splits", {}).get("development", {})
        return "sweep, development" if set(manifest.splits) <= set(development) else "sweep, test"
    if any(arm.controller for arm in manifest.arms):
        return "hybrid"
    named = [arm.name.split("|")[0] for arm in manifest.arms if arm.name.count("|") == 3]
    ablated = all(latent.isdecimal() for latents in named for latent in latents.split("+"))
    return "ablation" if named and ablated else "evaluation"
