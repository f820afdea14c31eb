"""What the pages read: the runs of one store, opened once and shared between sessions.

1. The store is the folder or URL in the environment variable STEERING_RUNS, `runs` by default.
2. What is read is cached under the run's content (manifest and shard names, sizes and times), so that a run that grows
   is read again and a finished one is read once. What is cached is shared and never changed.
3. A run whose files are not as they were stored says so wherever it is shown (`OpenRun.doubts`).
4. Whatever is wrong with a run arrives as `Unreadable`, with the reason and the remedy in its message.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import streamlit as st

from experiments.evaluation.summarise import summarise
from experiments.evaluation.summary import COLUMNS, RunSummary, from_json
from experiments.store.files import files, stored
from experiments.store.runs import Arm, Manifest, Run, RunEntry, Store, StoreError
from experiments.store.seal import FILE, in_words, look, members

LIGHT = ("key", "arm", "item", "seed", "order", "correct", "labels")
"""What is read of every row of a split; the tokens of a row are read when it is shown."""
Content = tuple[tuple[str, int, float], ...]


class Unreadable(Exception):
    """A run that cannot be shown. The message is written for the reader."""


def runs_root() -> Path | str:
    """The folder of runs, or the URL of a store."""
    named = os.environ.get("STEERING_RUNS", "runs")
    return named if "://" in named else Path(named)


@st.cache_data(ttl=3, max_entries=8, show_spinner=False)
def _entries(root: str) -> list[RunEntry]:
    return Store(root).list()


def entries(root: Path | str) -> list[RunEntry]:
    """All runs of the store: complete ones first, of these the ones with a gap to show (a reference arm), then by id; broken
    ones last, listed with their problem."""
    try:
        found = _entries(str(root))
    except (OSError, StoreError) as error:
        raise Unreadable(f"The folder of runs {root} cannot be read: {error}.") from error
    return sorted(found, key=_place)


def look_again() -> None:
    """Forget the list of runs: one was just stored."""
    _entries.clear()


def _place(entry: RunEntry) -> tuple[bool, bool, bool, str]:
    complete = entry.manifest is not None and entry.manifest.status == "complete"
    gap = entry.manifest is not None and entry.manifest.reference is not None
    return entry.problem is not None, not complete, not gap, entry.run_id


def _content(run: Run) -> Content:
    """Changes whenever the stored files of the run do."""
    there = [*files(run.folder, ".json"), *files(run.folder / "rows", ".parquet")]
    return tuple((file.name, file.size, file.changed) for file in there)


@st.cache_resource(max_entries=256, show_spinner=False)
def _doubts(root: str, run_id: str, content: object) -> str | None:
    return in_words(look(Store(root).root / run_id), run_id)


@st.cache_resource(max_entries=4, show_spinner="Reading rows…")
def _rows(root: str, run_id: str, content: object, split: str) -> pa.Table:
    return Store(root).open(run_id).table(LIGHT, split=split)


@st.cache_resource(max_entries=64, show_spinner=False)
def _row(root: str, run_id: str, content: object, key: str) -> dict[str, Any]:
    return Store(root).open(run_id).trace(key)


@st.cache_resource(max_entries=6, show_spinner="Computing statistics…")
def _summary(root: str, run_id: str, content: object) -> RunSummary:
    run = Store(root).open(run_id)
    return _stored_summary(run) or summarise(run.table(columns=COLUMNS), run.manifest)


def _stored_summary(run: Run) -> RunSummary | None:
    """The summary that was stored with a complete run, if it can be read and counts the rows that are there."""
    try:
        data = run.summary() if run.manifest.status == "complete" else None
        summary = None if data is None else from_json(data)
        rows = len(run.index().read(["key"]))
    except (StoreError, OSError, ValueError, pa.ArrowException):
        return None
    counted = summary and sum(arm.n for split in summary.splits for arm in split.arms)
    return summary if counted == rows else None


@dataclass(frozen=True)
class OpenRun:
    """A readable run, as the pages use it."""

    root: Path | str
    run: Run
    content: Content

    @property
    def manifest(self) -> Manifest:
        """What the run is."""
        return self.run.manifest

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.manifest.arms if arm.name == name)

    def rows(self, split: str) -> pa.Table:
        """The columns `LIGHT` of all arms of one split. Raises Unreadable."""
        try:
            return _rows(str(self.root), self.manifest.run_id, self.content, split)
        except (StoreError, OSError) as error:
            raise Unreadable(str(error)) from error

    def row(self, key: str) -> dict[str, Any]:
        """One row with all its columns; only its own part of the run is read. Raises Unreadable."""
        try:
            return _row(str(self.root), self.manifest.run_id, self.content, key)
        except (StoreError, OSError) as error:
            raise Unreadable(str(error)) from error

    def doubts(self) -> str | None:
        """What is wrong with the run's files, in words; None where nothing is. A file is read again only when it changed."""
        folder = self.run.folder
        listed = tuple((name, file.size, file.changed) for name, file in members(folder))
        seal = stored(folder / FILE)
        return _doubts(str(self.root), self.manifest.run_id, (listed, seal and (seal.size, seal.changed)))

    def summary(self) -> RunSummary:
        """The statistics: those stored with a complete run, else computed from its rows. Raises Unreadable."""
        try:
            return _summary(str(self.root), self.manifest.run_id, self.content)
        except (StoreError, OSError, ValueError) as error:
            raise Unreadable(str(error)) from error


def open_run(root: Path | str, run_id: str) -> OpenRun:
    """The run of that id. Raises Unreadable."""
    try:
        run = Store(root).open(run_id)
        return OpenRun(root, run, _content(run))
    except (StoreError, OSError) as error:
        raise Unreadable(str(error)) from error
