"""The run store: a folder of runs, each a manifest, immutable Parquet shards of rows, and a summary.

1. Files are whole and rows are checked (`manifest.py`, `shards.py`).
2. A run continues from `Run.keys()`. A damaged shard is an error that names file and remedy, or set aside when asked.
3. Creating a run that exists reopens it; under the same id, another specification is refused with what differs.
4. `Store.list` never raises for a broken run: it is listed with its problem in words.
5. A run id is a plain folder name: nothing outside the store's folder is read or written.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .manifest import (
    AGAIN,
    SCHEMA_VERSION,
    Arm,
    Manifest,
    Status,
    StoreError,
    check_run_id,
    difference,
    near,
    read_json,
    read_manifest,
    sweep,
    sync_folder,
    write_manifest,
    write_whole,
)
from .shards import IDENTITY, ROW_SCHEMA, check_rows, one_per_key, read_shard, shard_name, to_table

__all__ = ["ROW_SCHEMA", "SCHEMA_VERSION", "Arm", "Manifest", "Run", "RunEntry", "Store", "StoreError"]


@dataclass(frozen=True)
class RunEntry:
    """One line of the list of runs. `manifest` is None when unreadable; `problem` says what is wrong, if anything;
    `rows` counts the rows in readable shards, `expected` those of the finished run, if known."""

    run_id: str
    manifest: Manifest | None
    problem: str | None
    rows: int
    expected: int | None


class Run:
    """An open run, made by `Store`: its manifest, and the folder where it lies."""

    def __init__(self, folder: Path, manifest: Manifest):
        self.folder = folder
        self.manifest = manifest
        self._swept = False

    def shards(self) -> list[Path]:
        """Shard files by name; temporary and set-aside files are left out."""
        return sorted((self.folder / "rows").glob("*.parquet"))

    def keys(self, drop_corrupt: bool = False) -> set[str]:
        """Keys of the rows stored. Every shard is read whole and checked.

        A damaged one raises StoreError; with `drop_corrupt` it is renamed to `<name>.corrupt` and passed over.
        """
        found: set[str] = set()
        for path in self.shards():
            try:
                found.update(read_shard(path)["key"].to_pylist())
            except StoreError:
                if not drop_corrupt:
                    raise
                path.replace(path.with_name(path.name + ".corrupt"))
        return found

    def write(self, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Store rows, mappings with exactly the columns of ROW_SCHEMA, as one shard; returns its path.

        A shard that is stored already stays as it is. Raises StoreError naming the row and the column that are wrong.
        """
        if not rows:
            raise StoreError("There are no rows to write; a shard holds at least one.")
        check_rows(rows, self.manifest)
        table = one_per_key(to_table(rows).sort_by("key"), "the rows to be written")
        path = self.folder / "rows" / shard_name(table)
        if not self._swept:
            sweep(self.folder)
            self._swept = True
        try:
            stored = read_shard(path, IDENTITY) if path.exists() else None
        except StoreError:
            stored = None
        if stored is not None:
            one_per_key(pa.concat_tables([stored, table.select(IDENTITY)]), f"{path} and the rows to be written")
            return path
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", compression_level=3, write_page_checksum=True)
        write_whole(path, sink.getvalue().to_pybytes())
        return path

    def table(
        self,
        columns: Sequence[str] | None = None,
        arms: Sequence[str] | None = None,
        split: str | None = None,
        items: Sequence[str] | None = None,
    ) -> pa.Table:
        """Rows stored, sorted by split and arm (both as in the manifest), order and seed; one row per key.

        `columns` (all by default), `arms`, `split` and `items` narrow it down. Raises StoreError for a column, arm or
        split that does not exist, for a damaged shard, and for a row whose arm or split the manifest does not have.
        """
        names = list(ROW_SCHEMA.names if columns is None else columns)
        order = {"split": list(self.manifest.splits), "arm": [a.name for a in self.manifest.arms]}
        splits = None if split is None else [split]
        for kind, asked, valid in (
            ("column", names, ROW_SCHEMA.names),
            ("arm", arms or (), order["arm"]),
            ("split", splits or (), order["split"]),
        ):
            for name in asked:
                if name not in valid:
                    raise StoreError(f"Run {self.manifest.run_id!r} has no {kind} {name!r}.{near(name, valid)}")
        wanted = list(dict.fromkeys([*names, *IDENTITY]))
        pieces = [ROW_SCHEMA.empty_table().select(wanted)]
        for path in self.shards():
            piece = read_shard(path, wanted)
            for name, valid in order.items():
                strange = set(pc.unique(piece[name]).to_pylist()) - set(valid)
                if strange:
                    raise StoreError(f"{path} holds rows of {name} {min(strange)!r}, unknown to run.json; {AGAIN}.")
            for name, kept in (("arm", arms), ("split", splits), ("item", items)):
                if kept is not None:
                    piece = piece.filter(pc.is_in(piece[name], value_set=pa.array(list(kept), pa.string())))
            pieces.append(piece)
        table = one_per_key(pa.concat_tables(pieces), f"run {self.manifest.run_id!r}")
        places = {name: pc.index_in(table[name], value_set=pa.array(valid)) for name, valid in order.items()}
        places |= {name: table[name] for name in ("order", "seed", "key")}
        sorting = pc.sort_indices(pa.table(places), sort_keys=[(name, "ascending") for name in places])
        return table.select(names).take(sorting).combine_chunks()

    def set_status(self, status: Status) -> None:
        """Record how far the run is: `running`, `complete` or `interrupted`."""
        if status not in get_args(Status):
            raise StoreError(f"Unknown status {status!r}.{near(str(status), get_args(Status))}")
        self.manifest = self.manifest.model_copy(update={"status": status})
        write_manifest(self.folder, self.manifest)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Store the statistics of the run; equal mappings, equal bytes. Raises StoreError for what JSON cannot hold."""
        try:
            text = json.dumps(summary, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise StoreError(f"The summary of run {self.manifest.run_id!r} is not plain JSON data: {error}.") from error
        write_whole(self.folder / "summary.json", (text + "\n").encode())

    def summary(self) -> dict[str, Any] | None:
        """The stored statistics, or None when there are none yet."""
        path = self.folder / "summary.json"
        return read_json(path, "Delete this file: it is computed again from the rows.") if path.exists() else None


class Store:
    """The runs under one local folder, which is made when the first run is created."""

    def __init__(self, root: Path | str):
        if "://" in str(root):
            raise StoreError(f"The store needs a local folder, not {str(root)!r}. Give the path that it is mounted at.")
        self.root = Path(root)

    def create(self, manifest: Manifest) -> Run:
        """Begin a run, or reopen it when it exists with the same specification, arms, splits and seeds; its stored
        manifest is kept. Raises StoreError, saying what differs, when it exists with others."""
        folder = self.root / manifest.run_id
        (folder / "rows").mkdir(parents=True, exist_ok=True)
        sweep(folder)
        if not (folder / "run.json").exists():
            write_manifest(folder, manifest)
            sync_folder(self.root)
            return Run(folder, manifest)
        stored = read_manifest(folder)
        old, new = stored.model_dump(mode="json"), manifest.model_dump(mode="json")
        for part in ("spec", "arms", "splits", "seeds"):
            found = difference(part, old[part], new[part])
            if found:
                raise StoreError(
                    f"Run {manifest.run_id!r} exists with another specification: {found}. "
                    f"Choose another run id, or give the stored specification to continue it."
                )
        return Run(folder, stored)

    def open(self, run_id: str) -> Run:
        """The run of that id. Raises StoreError when there is none, with the nearest id, or when it cannot be read."""
        folder = self.root / check_run_id(run_id)
        if not folder.is_dir():
            hint = near(run_id, (p.name for p in self._folders()))
            raise StoreError(f"There is no run {run_id!r} in {self.root}.{hint}")
        return Run(folder, read_manifest(folder))

    def list(self) -> builtins.list[RunEntry]:
        """All runs by id, broken ones with their problem; counts rows from the shards' footers without reading on."""
        return [_entry(folder) for folder in self._folders()]

    def _folders(self) -> builtins.list[Path]:
        if not self.root.is_dir():
            return []
        return sorted(p for p in self.root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _entry(folder: Path) -> RunEntry:
    manifest, problems, rows, damaged = None, [], 0, 0
    try:
        check_run_id(folder.name)
        manifest = read_manifest(folder)
    except (StoreError, OSError) as error:
        problems.append(str(error))
    for path in sorted((folder / "rows").glob("*.parquet")):
        try:
            rows += pq.read_metadata(path).num_rows
        except (pa.ArrowException, OSError):
            damaged += 1
    if damaged:
        files = "1 row file" if damaged == 1 else f"{damaged} row files"
        problems.append(f"{files} cannot be read. Run the same command again: only the rows in there are redone.")
    expected = manifest.rows_expected if manifest else None
    return RunEntry(folder.name, manifest, " ".join(problems) or None, rows, expected)
