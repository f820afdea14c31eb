"""The run store: a folder of runs, each a manifest, immutable Parquet shards of rows, and a summary.

1. A file appears whole or not at all: temporary name, flush to disk, rename. Leftover `*.tmp` files are never read.
2. Equal rows give equal bytes: a shard holds no time, no machine, is sorted by key and named by the hash of its keys.
3. A run continues from `Run.keys()`. A damaged shard is an error that names file and remedy, or set aside when asked.
4. Creating a run that exists reopens it; under the same id, another specification is refused with what differs.
5. `Store.list` never raises for a broken run: it is listed with its problem in words.
6. A run id is a plain folder name: nothing outside the store's folder is read or written.
7. A key names one row: copies are collapsed when read; two different rows under one key are an error, never a loss.
"""

from __future__ import annotations

import builtins
import difflib
import hashlib
import json
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

SCHEMA_VERSION = 1
Status = Literal["running", "complete", "interrupted"]
Role = Literal["baseline", "prompt", "steered", "control", "reference"]
FINISHES = ("eos", "length", "stop", "cancelled")

_IDS, _WORDS, _NUMBERS = pa.list_(pa.int32()), pa.list_(pa.string()), pa.list_(pa.float32())
_LABEL = {
    **{"label": pa.string(), "start": pa.int32(), "end": pa.int32()},
    **{"detector": pa.string(), "confidence": pa.float32()},
}
_COLUMNS: dict[str, pa.DataType] = {
    **dict.fromkeys(("key", "arm", "split", "item"), pa.string()),
    **dict.fromkeys(("order", "seed"), pa.int32()),
    **dict.fromkeys(("prompt", "gold", "text", "answer"), pa.string()),
    **dict.fromkeys(("correct", "scorable", "truncated", "trace_ok", "well_formed"), pa.bool_()),
    "finish": pa.string(),
    **dict.fromkeys(("prompt_ids", "token_ids"), _IDS),
    **dict.fromkeys(("prompt_tokens", "tokens"), _WORDS),
    **dict.fromkeys(("logprob", "entropy"), _NUMBERS),
    "top_ids": _IDS,
    "top_tokens": _WORDS,
    **dict.fromkeys(("top_logprob", "edit_ratio"), _NUMBERS),
    **dict.fromkeys(("edits_planned", "edits_fired"), pa.int32()),
    "labels": pa.list_(pa.struct(list(_LABEL.items()))),
}
NULLABLE = ("answer", "trace_ok", "well_formed")
ROW_SCHEMA = pa.schema([pa.field(name, kind, nullable=name in NULLABLE) for name, kind in _COLUMNS.items()])
"""One row is one generated sequence; lengths, units and meanings are in the table of the design."""

_IDENTITY = ("key", "arm", "split", "item", "order", "seed")
_ALIGNED = (
    ("prompt_ids", "prompt_tokens"),
    ("token_ids", "tokens", "logprob", "entropy"),
    ("top_ids", "top_tokens", "top_logprob"),
)
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
_AGAIN = "delete this file and run the same command again"


class StoreError(ValueError):
    """A run or row that cannot be stored or read. The message says what was wrong, where, and what to do."""


def check_run_id(run_id: object) -> str:
    """`run_id` if it is a plain folder name, else StoreError."""
    if not isinstance(run_id, str) or not _RUN_ID.fullmatch(run_id):
        raise StoreError(
            f"{run_id!r} is not a run id: use up to 120 letters, digits, '.', '_' and '-', the first a letter "
            f"or digit, for example 'pair-steering-01'."
        )
    return run_id


def _near(name: str, valid: Iterable[str]) -> str:
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return (f" Did you mean {near[0]!r}?" if near else "") + (f" There are: {shown}." if names else " There are none.")


class Arm(BaseModel):
    """One condition of a run. `form` is the form of the prompt, as the task names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(min_length=1)
    label: str
    role: Role
    model: str
    form: str
    plan: dict[str, Any] | None = None
    description: str = ""


class Manifest(BaseModel):
    """What a run is; only its status changes after the first row. Raises ValidationError (a ValueError)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: int = SCHEMA_VERSION
    run_id: str
    name: str
    status: Status = "running"
    spec: dict[str, Any]
    """Everything that was asked for, as plain JSON data."""
    arms: list[Arm]
    splits: dict[str, PositiveInt]
    """Items per split, in the order of display."""
    seeds: PositiveInt = 1
    """Sequences per item and arm."""
    facts: dict[str, Any] = {}
    """What was found rather than asked for: versions, hashes of models and tokenizers."""

    @field_validator("run_id")
    @classmethod
    def _plain_id(cls, value: str) -> str:
        return check_run_id(value)

    @field_validator("spec", "facts")
    @classmethod
    def _plain_data(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            return dict(json.loads(json.dumps(value, allow_nan=False)))
        except (TypeError, ValueError) as error:
            raise ValueError(f"holds something that is not plain JSON data ({error})") from error

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.schema_version != SCHEMA_VERSION:
            raise ValueError(f"schema version is {self.schema_version}; this program writes version {SCHEMA_VERSION}")
        twice = [name for name, count in Counter(a.name for a in self.arms).items() if count > 1]
        if twice:
            raise ValueError(f"arm name {twice[0]!r} is used twice; every arm needs its own name")
        roles = Counter(a.role for a in self.arms)
        if roles["baseline"] != 1:
            raise ValueError(
                f"{roles['baseline']} arms have the role baseline; exactly one must, to compare the others with"
            )
        if roles["reference"] > 1:
            raise ValueError(f"{roles['reference']} arms have the role reference, the top of the gap; at most one may")
        if not self.splits:
            raise ValueError("there is no split; name at least one with its number of items")
        return self

    @property
    def baseline(self) -> Arm:
        """The arm that all others are compared with."""
        return next(a for a in self.arms if a.role == "baseline")

    @property
    def reference(self) -> Arm | None:
        """The top of the gap (the thinking model), if the run has one."""
        return next((a for a in self.arms if a.role == "reference"), None)

    @property
    def rows_expected(self) -> int:
        """Rows of the finished run: items of all splits x arms x seeds."""
        return sum(self.splits.values()) * len(self.arms) * self.seeds


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
                found.update(_read_shard(path)["key"].to_pylist())
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
        _check_rows(rows, self.manifest)
        table = _one_per_key(_to_table(rows).sort_by("key"), "the rows to be written")
        path = self.folder / "rows" / _shard_name(table)
        if not self._swept:
            _sweep(self.folder)
            self._swept = True
        try:
            stored = _read_shard(path, _IDENTITY) if path.exists() else None
        except StoreError:
            stored = None
        if stored is not None:
            _one_per_key(pa.concat_tables([stored, table.select(_IDENTITY)]), f"{path} and the rows to be written")
            return path
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", compression_level=3, write_page_checksum=True)
        _write_whole(path, sink.getvalue().to_pybytes())
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
                    raise StoreError(f"Run {self.manifest.run_id!r} has no {kind} {name!r}.{_near(name, valid)}")
        wanted = list(dict.fromkeys([*names, *_IDENTITY]))
        pieces = [ROW_SCHEMA.empty_table().select(wanted)]
        for path in self.shards():
            piece = _read_shard(path, wanted)
            for name, valid in order.items():
                strange = set(pc.unique(piece[name]).to_pylist()) - set(valid)
                if strange:
                    raise StoreError(f"{path} holds rows of {name} {min(strange)!r}, unknown to run.json; {_AGAIN}.")
            for name, kept in (("arm", arms), ("split", splits), ("item", items)):
                if kept is not None:
                    piece = piece.filter(pc.is_in(piece[name], value_set=pa.array(list(kept), pa.string())))
            pieces.append(piece)
        table = _one_per_key(pa.concat_tables(pieces), f"run {self.manifest.run_id!r}")
        places = {name: pc.index_in(table[name], value_set=pa.array(valid)) for name, valid in order.items()}
        places |= {name: table[name] for name in ("order", "seed", "key")}
        sorting = pc.sort_indices(pa.table(places), sort_keys=[(name, "ascending") for name in places])
        return table.select(names).take(sorting).combine_chunks()

    def set_status(self, status: Status) -> None:
        """Record how far the run is: `running`, `complete` or `interrupted`."""
        if status not in get_args(Status):
            raise StoreError(f"Unknown status {status!r}.{_near(str(status), get_args(Status))}")
        self.manifest = self.manifest.model_copy(update={"status": status})
        _write_manifest(self.folder, self.manifest)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Store the statistics of the run; equal mappings, equal bytes. Raises StoreError for what JSON cannot hold."""
        try:
            text = json.dumps(summary, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise StoreError(f"The summary of run {self.manifest.run_id!r} is not plain JSON data: {error}.") from error
        _write_whole(self.folder / "summary.json", (text + "\n").encode())

    def summary(self) -> dict[str, Any] | None:
        """The stored statistics, or None when there are none yet."""
        path = self.folder / "summary.json"
        return _read_json(path, "Delete this file: it is computed again from the rows.") if path.exists() else None


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
        _sweep(folder)
        if not (folder / "run.json").exists():
            _write_manifest(folder, manifest)
            _sync_folder(self.root)
            return Run(folder, manifest)
        stored = _read_manifest(folder)
        old, new = stored.model_dump(mode="json"), manifest.model_dump(mode="json")
        for part in ("spec", "arms", "splits", "seeds"):
            difference = _difference(part, old[part], new[part])
            if difference:
                raise StoreError(
                    f"Run {manifest.run_id!r} exists with another specification: {difference}. "
                    f"Choose another run id, or give the stored specification to continue it."
                )
        return Run(folder, stored)

    def open(self, run_id: str) -> Run:
        """The run of that id. Raises StoreError when there is none, with the nearest id, or when it cannot be read."""
        folder = self.root / check_run_id(run_id)
        if not folder.is_dir():
            near = _near(run_id, (p.name for p in self._folders()))
            raise StoreError(f"There is no run {run_id!r} in {self.root}.{near}")
        return Run(folder, _read_manifest(folder))

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
        manifest = _read_manifest(folder)
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


def _read_json(path: Path, remedy: str) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read: it is half-written or damaged ({error}). {remedy}") from error
    if not isinstance(data, dict):
        raise StoreError(f"{path} is not a JSON mapping. {remedy}")
    return data


def _read_manifest(folder: Path) -> Manifest:
    path, remedy = folder / "run.json", f"To go on, {_AGAIN}: the rows are kept."
    if not path.exists():
        raise StoreError(f"{folder} has no run.json: no run, or one that ended before it began. Run its command again.")
    data = _read_json(path, remedy)
    version = data.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema version {version}; this program reads {SCHEMA_VERSION}. Upgrade the program."
        )
    try:
        manifest = Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise StoreError(f"{path} is not a valid manifest ({place}: {first['msg']}). {remedy}") from error
    if manifest.run_id != folder.name:
        raise StoreError(f"{path} says run {manifest.run_id!r}, its folder {folder.name!r}. Give the folder that name.")
    return manifest


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
    _write_whole(folder / "run.json", (text + "\n").encode())


def _difference(place: str, stored: Any, asked: Any) -> str | None:
    """The first place where two JSON values differ, in words."""
    if isinstance(stored, dict) and isinstance(asked, dict):
        pairs = [(f"{place}.{k}", stored.get(k), asked.get(k)) for k in dict.fromkeys([*stored, *asked])]
    elif isinstance(stored, list) and isinstance(asked, list) and len(stored) == len(asked):
        pairs = [(f"{place}[{i}]", s, a) for i, (s, a) in enumerate(zip(stored, asked, strict=True))]
    else:
        return None if stored == asked else f"{place} is {stored!r:.80} there and {asked!r:.80} here"
    return next((text for text in (_difference(*pair) for pair in pairs) if text), None)


def _shard_name(table: pa.Table) -> str:
    joined = "\n".join(sorted(table["key"].to_pylist()))
    return hashlib.sha256(joined.encode()).hexdigest()[:24] + ".parquet"


def _read_shard(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A shard as a table, its pages checked against their checksums and its keys against its name."""
    remedy = f"To go on, {_AGAIN}: only its rows are redone."
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if not file.schema_arrow.equals(ROW_SCHEMA):
                raise StoreError(f"{path} does not have the columns of schema version {SCHEMA_VERSION}. {remedy}")
            table = file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path} is cut short or damaged ({error}). {remedy}") from error
    if _shard_name(table) != path.name:
        raise StoreError(f"{path} does not hold the rows that its name stands for: renamed or damaged. {remedy}")
    return table if columns is None else table.select(columns)


def _one_per_key(table: pa.Table, where: str) -> pa.Table:
    """The table without copies of a row. Raises StoreError when one key stands for two different rows."""
    first: dict[str, tuple[Any, ...]] = {}
    keep: list[int] = []
    for index, (key, *identity) in enumerate(zip(*(table[name].to_pylist() for name in _IDENTITY), strict=True)):
        if key not in first:
            first[key] = tuple(identity)
            keep.append(index)
        elif first[key] != tuple(identity):
            raise StoreError(
                f"In {where}, key {key!r} stands for two different rows: {', '.join(_IDENTITY[1:])} are {first[key]} "
                f"and {tuple(identity)}. Leave out the arm or item that repeats the other, or make their keys differ."
            )
    return table if len(keep) == len(table) else table.take(keep)


def _check_rows(rows: Sequence[Mapping[str, Any]], manifest: Manifest) -> None:
    names = {"arm": [a.name for a in manifest.arms], "split": list(manifest.splits), "finish": list(FINISHES)}
    for index, row in enumerate(rows):
        where = f"Row {index} ({row.get('arm')}, {row.get('split')}, {row.get('item')})"
        missing = [n for n in _COLUMNS if n not in row]
        if missing:
            raise StoreError(f"{where} lacks the column {', '.join(missing)}.")
        extra = sorted(str(n) for n in row if n not in _COLUMNS)
        if extra:
            raise StoreError(f"{where} has the unknown column {extra[0]!r}.{_near(extra[0], _COLUMNS)}")
        null = [n for n in _COLUMNS if row[n] is None and n not in NULLABLE]
        if null:
            raise StoreError(f"{where} has no value for {', '.join(null)}; only {', '.join(NULLABLE)} may be null.")
        for kind, valid in names.items():
            if row[kind] not in valid:
                raise StoreError(f"{where}: {row[kind]!r} is no {kind} of this run.{_near(str(row[kind]), valid)}")
        for group in _ALIGNED:
            lengths = [len(row[n]) for n in group]
            if len(set(lengths)) > 1:
                raise StoreError(f"{where}: {', '.join(group)} must be equally long; their lengths are {lengths}.")
        ratios, positions = len(row["edit_ratio"]), len(row["prompt_ids"]) + len(row["token_ids"])
        if ratios != positions:
            raise StoreError(f"{where}: edit_ratio has {ratios} values for {positions} prompt and generated tokens.")


def _to_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    arrays = []
    for field in ROW_SCHEMA:
        try:
            arrays.append(pa.array([row[field.name] for row in rows], field.type))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise StoreError(f"Column {field.name} needs {field.type}: {error}") from error
    return pa.Table.from_arrays(arrays, schema=ROW_SCHEMA)


def _sweep(folder: Path) -> None:
    """Remove temporary files that an ended program left behind. A program that is still writing one writes it anew."""
    for path in (*folder.glob("*.tmp"), *(folder / "rows").glob("*.tmp")):
        path.unlink(missing_ok=True)


def _write_whole(path: Path, data: bytes, attempts: int = 5) -> None:
    """Write `data` so that `path` holds all of it or is unchanged, also when the machine stops midway."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(attempts):
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
        with partial.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        try:
            partial.replace(path)
            break
        except FileNotFoundError:
            # Another program swept the temporary file away between the two steps.
            if attempt == attempts - 1:
                raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Flush a rename to disk."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
