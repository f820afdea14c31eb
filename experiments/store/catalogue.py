"""The catalogue: one line per run, for listings of thousands of runs.

1. It is derived: `<store>/.index/runs.json` holds size and time of change of each manifest and shard that it was made from; what has
   changed is read again. Deleting it costs the time to make it again, and where it cannot be written it is made each time.
2. A broken run has a line too, with its problem in words.
3. Listing reads no rows: they are counted from the shards' footers, once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .files import Stored, StoreError, files, folders, is_local, stored, write_whole
from .manifest import Manifest, check_run_id, read_manifest
from .row_index import FOLDER

FILE = "runs.json"
VERSION = 1


@dataclass(frozen=True)
class Listed:
    """One run in a listing."""

    run: str
    status: str
    """`running`, `complete`, `interrupted`, or `broken` where the manifest cannot be read."""
    name: str | None
    task: str | None
    models: tuple[str, ...]
    arms: int
    splits: tuple[str, ...]
    seeds: int
    rows: int
    """In shards that can be read."""
    expected: int | None
    """Of the finished run."""
    changed: str | None
    """When the manifest was last written, UTC, ISO 8601: on completion, for a complete run."""
    problem: str | None


def catalogue(root: Path) -> list[Listed]:
    """Every run in the store at `root`, by id. Writes the catalogue file when something has changed."""
    path = root / FOLDER / FILE
    known = _known(path)
    current = {run_id: _record(root, run_id, known.get(run_id)) for run_id in folders(root)}
    if current != known:
        try:
            write_whole(path, json.dumps({"version": VERSION, "runs": current}).encode())
        except OSError:
            pass  # a read-only store
    return [_listed(run_id, record) for run_id, record in current.items()]


def task_name(task: Any) -> str | None:
    """What a spec's task is called: its name, or the data set of one that is described."""
    if isinstance(task, Mapping):
        task = task.get("dataset")
    return None if task is None else str(task)


def manifest_facts(manifest: Manifest) -> dict[str, Any]:
    """What a listing shows of a manifest."""
    return {
        "status": manifest.status,
        "name": manifest.name,
        "task": task_name(manifest.spec.get("task")),
        "models": list(dict.fromkeys(arm.model for arm in manifest.arms)),
        "arms": len(manifest.arms),
        "splits": list(manifest.splits),
        "seeds": manifest.seeds,
        "expected": manifest.rows_expected,
    }


def _known(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
        return dict(data["runs"]) if data["version"] == VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _record(root: Path, run_id: str, known: dict[str, Any] | None) -> dict[str, Any]:
    """A run's record; what is unchanged is taken over from `known`."""
    folder, known = root / run_id, known or {}
    found = stored(folder / "run.json")
    stamp = [found.size, found.stamp, found.changed] if found else None
    if found and found.stamp and known.get("manifest") == stamp:
        facts, problem = known["facts"], known["problem"]
    else:
        facts, problem = {}, None
        try:
            check_run_id(run_id)
            facts = manifest_facts(read_manifest(folder))
        except (StoreError, OSError) as error:
            problem = str(error)
    before = known.get("shards", {})
    shards = {file.name: _counted(folder, file, before) for file in files(folder / "rows", ".parquet")}
    return {"manifest": stamp, "facts": facts, "problem": problem, "shards": shards}


def _counted(folder: Path, file: Stored, before: Mapping[str, Any]) -> list[Any]:
    """Size, stamp and rows of a shard; rows are None where its footer cannot be read."""
    known = before.get(file.name)
    if known and file.stamp and known[:2] == [file.size, file.stamp]:
        return list(known)
    path, rows = folder / "rows" / file.name, None
    try:
        if is_local(path):
            rows = pq.read_metadata(path).num_rows
        else:
            with path.open("rb") as handle:
                rows = pq.read_metadata(handle).num_rows
    except (pa.ArrowException, OSError):
        pass
    return [file.size, file.stamp, rows]


def _listed(run_id: str, record: Mapping[str, Any]) -> Listed:
    counts = [rows for _, _, rows in record["shards"].values()]
    problems = [record["problem"]] if record["problem"] else []
    damaged = counts.count(None)
    if damaged:
        files_text = "1 row file" if damaged == 1 else f"{damaged} row files"
        problems.append(f"{files_text} cannot be read. Run the same command again: only the rows in there are redone.")
    facts, changed = record["facts"], (record["manifest"] or [0, "", 0])[2]
    return Listed(
        run=run_id,
        status=facts.get("status", "broken"),
        name=facts.get("name"),
        task=facts.get("task"),
        models=tuple(facts.get("models", ())),
        arms=facts.get("arms", 0),
        splits=tuple(facts.get("splits", ())),
        seeds=facts.get("seeds", 0),
        rows=sum(count for count in counts if count is not None),
        expected=facts.get("expected"),
        changed=datetime.fromtimestamp(changed, UTC).isoformat(timespec="seconds") if changed else None,
        problem=" ".join(problems) or None,
    )


def as_dict(listed: Listed) -> dict[str, Any]:
    """A run's line as plain data."""
    return asdict(listed) | {"models": list(listed.models), "splits": list(listed.splits)}
