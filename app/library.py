"""What the pages read: the runs of one store, opened once and shared between sessions.

1. The store is the folder in the environment variable STEERING_RUNS, `runs` by default.
2. Tables are cached under the run's content (manifest and shard names, sizes and times), so that a run that grows is read again
   and a finished one is read once. Cached tables are shared and never changed.
3. Whatever is wrong with a run arrives as `Unreadable`, with the reason and the remedy in its message.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import streamlit as st

from experiments.store import Arm, Manifest, Run, RunEntry, Store, StoreError
#SUMMARY


class Unreadable(Exception):
    """A run that cannot be shown. The message is written for the reader."""


def runs_root() -> Path:
    """The folder of runs."""
    return Path(os.environ.get("STEERING_RUNS", "runs"))


@st.cache_data(ttl=3, max_entries=8, show_spinner=False)
def _entries(root: str) -> list[RunEntry]:
    return Store(root).list()


def entries(root: Path) -> list[RunEntry]:
    """All runs of the store, complete ones first, then by id; broken ones are listed with their problem."""
    try:
        found = _entries(str(root))
    except OSError as error:
        raise Unreadable(f"The folder of runs {root} cannot be read: {error}.") from error
    return sorted(found, key=lambda e: (e.problem is not None, e.manifest is None or e.manifest.status != "complete", e.run_id))


def _content(run: Run) -> tuple[tuple[str, int, int], ...]:
    """Changes whenever the stored files of the run do."""
    files = [run.folder / "run.json", run.folder / "summary.json", *run.shards()]
    return tuple((p.name, s.st_size, s.st_mtime_ns) for p in files if p.exists() for s in [p.stat()])


@st.cache_resource(max_entries=12, show_spinner="Reading rows…")
def _rows(root: str, run_id: str, content: object, arm: str, split: str) -> pa.Table:
    return Store(root).open(run_id).table(arms=[arm], split=split)


@st.cache_resource(max_entries=6, show_spinner="Computing statistics…")
def _summary(root: str, run_id: str, content: object) -> "Any":
    run = Store(root).open(run_id)
    return summarise(run.table(), run.manifest)


@dataclass(frozen=True)
class OpenRun:
    """A readable run, as the pages use it."""

    root: Path
    run: Run
    content: tuple[tuple[str, int, int], ...]

    @property
    def manifest(self) -> Manifest:
        """What the run is."""
        return self.run.manifest

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.manifest.arms if arm.name == name)

    def rows(self, arm: str, split: str) -> pa.Table:
        """All columns of one arm in one split. Raises Unreadable."""
        try:
            return _rows(str(self.root), self.manifest.run_id, self.content, arm, split)
        except (StoreError, OSError) as error:
            raise Unreadable(str(error)) from error

    def row(self, arm: str, split: str, index: int) -> dict[str, Any]:
        """One row of `rows` as a mapping."""
        return dict(self.rows(arm, split).slice(index, 1).to_pylist()[0])

    def summary(self) -> "Any":
        """The statistics, computed from the stored rows. Raises Unreadable."""
        try:
            return _summary(str(self.root), self.manifest.run_id, self.content)
        except (StoreError, OSError, ValueError) as error:
            raise Unreadable(str(error)) from error


def open_run(root: Path, run_id: str) -> OpenRun:
    """The run of that id. Raises Unreadable."""
    try:
        run = Store(root).open(run_id)
        return OpenRun(root, run, _content(run))
    except (StoreError, OSError) as error:
        raise Unreadable(str(error)) from error
