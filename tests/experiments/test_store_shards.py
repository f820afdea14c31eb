"""Shards: a killed writer, a damaged, a renamed or a foreign file; nothing partial is ever read."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.store import files as storage
from experiments.store.runs import Run, Store, StoreError
from tests.experiments.fake_run import make_fake_run, make_rows
from tests.experiments.test_store import ROOT, N, bytes_of, fresh


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_fake_run(tmp_path / "runs", n_items=N)


KILLED = """
import os, pathlib, signal, sys
from tests.experiments.test_store import fresh, make_rows, N
rows = make_rows(N)
run = fresh(pathlib.Path(sys.argv[1]))
run.write(rows[:6])
kept, left = {"rename": pathlib.Path.replace, "flush": os.fsync}, int(sys.argv[3])
def die_or(step):
    def do(*arguments):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return kept[step](*arguments)
    return do
if sys.argv[2] == "before the rename":
    pathlib.Path.replace = die_or("rename")
else:
    os.fsync = die_or("flush")
run.write(rows[6:12])
"""


@pytest.mark.parametrize(
    ("moment", "steps"),
    [("before the rename", 0), ("before the rename", 1), ("before the flush", 0), ("before the flush", 2)],
    ids=["checksum's rename", "shard's rename", "checksum's flush", "shard's flush"],
)
def test_a_killed_writer_leaves_only_whole_shards_and_resuming_gives_the_bytes_of_an_unbroken_run(
    tmp_path: Path, moment: str, steps: int
) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "broken"), moment, str(steps)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(command, env=environment, cwd=ROOT).returncode == -signal.SIGKILL
    folder = tmp_path / "broken" / "fake"
    (half,) = folder.glob("rows/*.tmp")
    assert (".parquet." in half.name) == (steps > 0), "the kill must hit a half-written file, or this proves nothing"
    rows = make_rows(N)
    left = Store(tmp_path / "broken").open("fake")
    assert left.keys() == {r["key"] for r in rows[:6]} and len(left.table()) == 6
    run = fresh(tmp_path / "broken")
    assert not list(folder.glob("rows/*.tmp")), "create removes what a killed writer left"
    whole = fresh(tmp_path / "whole")
    for start in range(0, len(rows), 6):
        chunk = rows[start : start + 6]
        whole.write(chunk)
        missing = [row for row in chunk if row["key"] not in run.keys()]
        if missing:
            run.write(missing)
    assert bytes_of(run) == bytes_of(whole)


def test_a_leftover_temporary_file_is_never_read_and_removed_by_the_next_write(run: Run) -> None:
    half = run.folder / "rows" / "0123456789abcdef01234567.parquet.tmp"
    half.write_bytes(b"PAR1")
    (run.folder / "run.json.tmp").write_text("{")
    again = Store(run.folder.parent).open("fake")
    assert len(again.table()) == len(again.keys()) == 12 * N
    again.write(make_rows(N)[:1])
    assert not list(run.folder.rglob("*.tmp"))


def test_a_temporary_file_swept_by_another_writer_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fresh(tmp_path)
    swept: list[Path] = []

    def sweep_once(handle: int) -> None:
        if not swept:
            swept.extend(run.folder.glob("rows/*.tmp"))
            storage.sweep(run.folder)

    monkeypatch.setattr(os, "fsync", sweep_once)
    run.write(make_rows(N)[:5])
    assert swept and len(run.table()) == 5


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_shard_is_an_error_that_names_the_file_and_the_remedy(run: Run, share: float) -> None:
    shard = run.shards()[2]
    whole, keys = shard.read_bytes(), run.keys()
    lost = set(pq.read_table(shard)["key"].to_pylist())
    shard.write_bytes(whole[: int(share * len(whole))])
    for read in (run.table, run.keys):
        with pytest.raises(StoreError) as error:
            read()
        assert str(shard) in str(error.value)
        assert "delete this file and run the same command again: only its rows are redone" in str(error.value)
    (entry,) = Store(run.folder.parent).list()
    assert entry.manifest is not None and entry.problem is not None and "1 row file cannot be read" in entry.problem
    assert entry.rows == 12 * N - len(lost) and entry.expected == 12 * N
    assert run.keys(drop_corrupt=True) == keys - lost
    assert not shard.exists() and shard.with_name(shard.name + ".corrupt").exists()
    run.write([row for row in make_rows(N) if row["key"] in lost])
    assert shard.read_bytes() == whole and run.keys() == keys


def test_writing_the_rows_of_a_damaged_shard_replaces_it(run: Run) -> None:
    shard = run.shards()[0]
    whole, keys = shard.read_bytes(), set(pq.read_table(shard)["key"].to_pylist())
    shard.write_bytes(whole[:100])
    assert run.write([row for row in make_rows(N) if row["key"] in keys]) == shard
    assert shard.read_bytes() == whole


def test_a_flipped_bit_changes_no_row_unnoticed(run: Run) -> None:
    shard, rng = run.shards()[0], random.Random(0)
    whole, right, caught = shard.read_bytes(), run.table().to_pylist(), list[str]()
    for place in sorted(rng.sample(range(len(whole)), 60)):
        shard.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            assert run.table().to_pylist() == right, f"bit flipped at {place} of {len(whole)}"
        except StoreError as error:
            caught.append(str(error))
    assert len(caught) > 30
    assert all(str(shard) in message for message in caught)


def test_a_renamed_or_foreign_shard_is_refused(run: Run) -> None:
    renamed = run.shards()[0].rename(run.folder / "rows" / f"{'0' * 24}.parquet")
    with pytest.raises(StoreError, match="does not hold the rows that its name stands for"):
        run.keys()
    pq.write_table(pa.table({"key": ["a"]}), renamed)
    with pytest.raises(StoreError, match="does not have the columns of schema version"):
        run.keys()
    assert len(run.keys(drop_corrupt=True)) == 12 * N - 16


def test_a_shard_with_rows_of_an_unknown_arm_is_refused(run: Run) -> None:
    data = json.loads((run.folder / "run.json").read_text())
    data["arms"] = [arm for arm in data["arms"] if arm["name"] != "random"]
    (run.folder / "run.json").write_text(json.dumps(data))
    with pytest.raises(StoreError, match="holds rows of arm 'random', unknown to run.json"):
        Store(run.folder.parent).open("fake").table()
