"""The run store: a folder of runs, each a manifest, immutable Parquet shards of rows, and a summary.

1. Files are whole and rows are checked (`storage.py`, `manifest.py`, `shards.py`).
2. A run continues from `Run.keys()`. A damaged shard is an error that names file and remedy, or set aside when asked.
3. Creating a run that exists reopens it; under the same id, another specification is refused with what differs.
4. `Store.list` never raises for a broken run: it is listed with its problem in words.
5. A run id is a plain folder name: nothing outside the store's folder is read or written.
6. What a run writes is entered into its list of checksums (`seal.py`); that of a complete run names every file.
7. Finding, listing and filtering rows reads no tokens; a trace reads the shards that hold it (`row_index.py`).
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute as pc

from .catalogue import Listed, catalogue
from .columns import IDENTITY, ROW_SCHEMA
from .files import (
    StoreError,
    files,
    folders,
    is_local,
    locate,
    read_json,
    set_aside,
    sweep,
    sync_folder,
    write_whole,
)
from .manifest import (
    AGAIN,
    Arm,
    Manifest,
    Status,
    check_run_id,
    difference,
    near,
    read_manifest,
    write_manifest,
)
from .migration import SCHEMA_VERSION
from .row_index import RowIndex, row_index
from .seal import enter, held
from .shards import (
    check_rows,
    check_shard,
    holding,
    one_per_key,
    read_rows,
    read_shard,
    shard_bytes,
    shard_name,
    to_table,
    write_shard,
)

__all__ = ["ROW_SCHEMA", "SCHEMA_VERSION", "Arm", "Listed", "Manifest", "Run", "RunEntry", "Store", "StoreError"]


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
    """An open run, made by `Store`: its manifest, and the folder where it lies.

    For a store at a URL, `folder` is an object with the methods of Path.
    """

    def __init__(self, folder: Path, manifest: Manifest):
        self.folder = folder
        self.manifest = manifest
        self._swept = False

    def shards(self) -> list[Path]:
        """Shard files by name; temporary and set-aside files are left out."""
        return [self.folder / "rows" / file.name for file in files(self.folder / "rows", ".parquet")]

    def keys(self, drop_corrupt: bool = False) -> set[str]:
        """Keys of the rows stored. Every shard is read whole and checked.

        A damaged one raises StoreError; with `drop_corrupt` it is renamed to `<name>.corrupt` and passed over.
        """
        found: set[str] = set()
        for path in self.shards():
            try:
                check_shard(path)
                found.update(read_shard(path, ["key"])["key"].to_pylist())
            except StoreError:
                if not drop_corrupt:
                    raise
                set_aside(path)
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
            stored = read_shard(path, IDENTITY, whole=True) if path.exists() else None
        except StoreError:
            stored = None
        if stored is not None:
            one_per_key(pa.concat_tables([stored, table.select(IDENTITY)]), f"{path} and the rows to be written")
            return path
        if stored is None and path.exists():
            set_aside(path)
        write_shard(path, shard_bytes(table))
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
            piece = read_shard(path, wanted, whole=columns is None)
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

    def index(self) -> RowIndex:
        """The row index, fresh: what there is to list and filter, without tokens."""
        return row_index(self.folder.parent, self.manifest.run_id)

    def traces(self, keys: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of these keys, in this order, all columns or some; only the shards that hold them are read.

        Raises StoreError for a key that no readable shard holds.
        """
        index = self.index().read(["key", "shard"])
        index = index.filter(holding(index["key"], keys))
        where = dict(zip(index["key"].to_pylist(), index["shard"].to_pylist(), strict=True))
        missing = [key for key in keys if key not in where]
        if missing:
            raise StoreError(
                f"Run {self.manifest.run_id!r} has no row {missing[0]!r}. `steer runs query` lists keys: select key from rows."
            )
        names = list(ROW_SCHEMA.names if columns is None else columns)
        found = [ROW_SCHEMA.empty_table().select(list(dict.fromkeys([*names, "key"])))]
        for shard in dict.fromkeys(where.values()):
            found.append(read_rows(self.folder / "rows" / shard, set(keys), found[0].column_names))
        table = pa.concat_tables(found)
        place = {key: number for number, key in enumerate(table["key"].to_pylist())}
        if len(keys) == 1:
            return table.slice(place[keys[0]], 1).select(names)
        return table.take([place[key] for key in keys]).select(names) if keys else table.select(names)

    def trace(self, key: str) -> dict[str, Any]:
        """One row with all its columns. Raises StoreError as `traces`."""
        return dict(self.traces([key]).to_pylist()[0])

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """A local folder with the files of the run's folder `name`; files that are new in it on leaving are stored with the run.

        For a local store it is that folder itself.
        """
        place = self.folder / name
        if is_local(place):
            known = {file.name for file in files(place)}
            yield place
            new = [
                f"{name}/{file.name}"
                for file in files(place)
                if file.name not in known and not file.name.endswith(".tmp")
            ]
            self._enter(new)
            return
        with TemporaryDirectory() as scratch:
            before = files(place)
            for file in before:
                (Path(scratch) / file.name).write_bytes((place / file.name).read_bytes())
            yield Path(scratch)
            new = [file.name for file in files(Path(scratch)) if file.name not in {old.name for old in before}]
            for file_name in new:
                write_whole(place / file_name, (Path(scratch) / file_name).read_bytes())
            self._enter([f"{name}/{file_name}" for file_name in new])

    def keep(self, name: str, data: bytes) -> None:
        """Store a file of the run, such as `sweep.json` or `kl/KEY.parquet`, and enter it into the run's list."""
        with held(self.folder):
            write_whole(self.folder / name, data)
            enter(self.folder, [name])

    def _enter(self, names: Sequence[str]) -> None:
        if names:
            with held(self.folder):
                enter(self.folder, names)

    def set_status(self, status: Status) -> None:
        """Record how far the run is: `running`, `complete` or `interrupted`."""
        if status not in get_args(Status):
            raise StoreError(f"Unknown status {status!r}.{near(str(status), get_args(Status))}")
        self.manifest = self.manifest.model_copy(update={"status": status})
        with held(self.folder):
            write_manifest(self.folder, self.manifest)
            enter(self.folder, ["run.json"], closed=status == "complete")

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Store the statistics of the run; equal mappings, equal bytes. Raises StoreError for what JSON cannot hold."""
        try:
            text = json.dumps(summary, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise StoreError(f"The summary of run {self.manifest.run_id!r} is not plain JSON data: {error}.") from error
        self.keep("summary.json", (text + "\n").encode())

    def summary(self) -> dict[str, Any] | None:
        """The stored statistics, or None when there are none yet."""
        path = self.folder / "summary.json"
        return read_json(path, "Delete this file: it is computed again from the rows.") if path.exists() else None


class Store:
    """The runs under one folder, local or at a URL (`s3://bucket/runs`, `gs://`, `hf://`, `memory://`); it is made with the first run.

    Raises BadInput for a URL whose protocol is unknown or needs a package that is not installed, and StoreError for a file.
    """

    def __init__(self, root: Path | str):
        self.root = locate(root)
        if is_local(self.root) and self.root.exists() and not self.root.is_dir():
            raise StoreError(
                f"{self.root} is a file; a run store is a folder of runs, or a URL. Give the folder with --runs."
            )

    def create(self, manifest: Manifest) -> Run:
        """Begin a run, or reopen it when it exists with the same specification, arms, splits and seeds; its stored
        manifest is kept. Raises StoreError, saying what differs, when it exists with others."""
        folder = self.root / manifest.run_id
        if is_local(folder):
            (folder / "rows").mkdir(parents=True, exist_ok=True)
            sweep(folder)
        if not (folder / "run.json").exists():
            with held(folder):
                write_manifest(folder, manifest)
                enter(folder, ["run.json"])
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
        if not (folder / "run.json").exists() and not folder.is_dir():
            raise StoreError(f"There is no run {run_id!r} in {self.root}.{near(run_id, folders(self.root))}")
        return Run(folder, read_manifest(folder))

    def catalogue(self) -> builtins.list[Listed]:
        """All runs by id, one line each, broken ones with their problem; fast on thousands of runs."""
        return catalogue(self.root)

    def list(self) -> builtins.list[RunEntry]:
        """All runs by id with their manifests, broken ones with their problem; no rows are read."""
        return [_entry(self.root / line.run, line) for line in self.catalogue()]


def _entry(folder: Path, line: Listed) -> RunEntry:
    try:
        manifest = None if line.status == "broken" else read_manifest(folder)
    except StoreError as error:  # changed since it was listed
        return RunEntry(line.run, None, str(error), line.rows, None)
    return RunEntry(line.run, manifest, line.problem, line.rows, line.expected)
