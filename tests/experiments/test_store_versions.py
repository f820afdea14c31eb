"""Checksums and versions of what is stored."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.store import files as storage
from experiments.store import migration, upkeep
from experiments.store.runs import ROW_SCHEMA, SCHEMA_VERSION, Run, Store, StoreError
from experiments.store.shards import GROUP_TOKENS, checksum_path, read_shard, shard_bytes, shard_name
from tests.experiments.fake_run import make_fake_run, make_manifest, make_rows

N = 3
CHOICE = {"token": 1, "category": 0, "alpha": 0.5, "agreed": True, "matched": False}


def write_version_1(root: Path, rows: list[dict[str, Any]], shard: int = 16) -> Path:
    """A run as schema version 1 wrote it: no checksums, no `choices` where no row has any, a manifest that names no program."""
    folder = root / "fake"
    (folder / "rows").mkdir(parents=True)
    manifest = make_manifest(n_items=N).model_dump(mode="json")
    del manifest["program"]
    text = json.dumps({**manifest, "schema_version": 1, "status": "complete"}, indent=2, ensure_ascii=False)
    (folder / "run.json").write_text(text + "\n")
    for start in range(0, len(rows), shard):
        chunk = rows[start : start + shard]
        plain = all(row.get("choices") is None for row in chunk)
        left_out = {"unclosed", "lenient", "spent", "candidates"} | ({"choices"} if plain else set())
        schema = pa.schema([field for field in ROW_SCHEMA if field.name not in left_out])
        arrays = [pa.array([row.get(field.name) for row in chunk], field.type) for field in schema]
        table = pa.Table.from_arrays(arrays, schema=schema).sort_by("key")
        path = folder / "rows" / shard_name(table)
        pq.write_table(table, path, compression="zstd", compression_level=3, write_page_checksum=True)
    return folder


def hybrid_rows() -> list[dict[str, Any]]:
    """The fake run's rows; the first 20 were gated."""
    return [{**row, "choices": [CHOICE] if n < 20 else None} for n, row in enumerate(make_rows(N))]


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_run_of_version_1_opens_as_it_is_and_stays_so_on_disk(tmp_path: Path) -> None:
    folder = write_version_1(tmp_path, hybrid_rows())
    names = [pq.ParquetFile(p).schema_arrow.names[-1] for p in folder.glob("rows/*.parquet")]
    assert set(names) == {"labels", "choices"}, "both kinds of shard, or this proves little"
    before = all_bytes(folder)
    run = Store(tmp_path).open("fake")
    assert run.manifest.schema_version == SCHEMA_VERSION and "version 1" in run.manifest.program
    expected = pa.Table.from_pylist(hybrid_rows(), schema=ROW_SCHEMA).to_pylist()
    assert run.table().to_pylist() == expected
    assert run.table(["choices"])["choices"].to_pylist() == [row["choices"] for row in expected]
    assert run.traces([expected[30]["key"]]).to_pylist() == [expected[30]]
    assert run.keys() == {row["key"] for row in expected} and len(run.index().read()) == len(expected)
    assert {checked.status for checked in upkeep.verify(run)} == {"no checksum"}
    assert Store(tmp_path).list()[0].problem is None
    assert all_bytes(folder) == before


def test_a_migrated_run_has_the_bytes_that_this_version_writes(tmp_path: Path) -> None:
    folder = write_version_1(tmp_path / "old", hybrid_rows())
    new = Store(tmp_path / "new").create(make_manifest(n_items=N))
    for start in range(0, 12 * N, 16):
        new.write(hybrid_rows()[start : start + 16])
    new.set_status("complete")
    assert upkeep.migrate_run(Store(tmp_path / "old").open("fake")) > 0
    old_files, new_files = all_bytes(folder), all_bytes(new.folder)
    old_manifest, new_manifest = (json.loads(f.pop("run.json")) for f in (old_files, new_files))
    lists = [
        [line for line in f.pop("SHA256SUMS").splitlines() if b"run.json" not in line] for f in (old_files, new_files)
    ]
    assert lists[0] == lists[1] and len(lists[0]) == 4
    assert old_files == new_files
    assert old_manifest | {"program": 0, "status": 0} == new_manifest | {"program": 0, "status": 0}
    before = all_bytes(folder)
    assert upkeep.migrate_run(Store(tmp_path / "old").open("fake")) == 0 and all_bytes(folder) == before


def test_a_migration_that_is_cut_short_leaves_whole_shards_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_version_1(tmp_path, hybrid_rows())
    run, write, calls = Store(tmp_path).open("fake"), storage.write_whole, 0
    last = 0

    def cut(path: Path, data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == last:
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(upkeep, "write_whole", cut)
    for moment in range(1, 4):
        calls, last = 0, moment
        with pytest.raises(KeyboardInterrupt):
            upkeep.migrate_run(run)
        assert len(run.keys()) == 12 * N
    monkeypatch.undo()
    upkeep.migrate_run(run)
    assert {checked.status for checked in upkeep.verify(run)} == {"ok"} and len(list(folder.glob("rows/*"))) == 6


def test_migrations_are_applied_in_turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_version_1(tmp_path, make_rows(N))

    def renamed(data: dict[str, Any]) -> dict[str, Any]:
        assert data["schema_version"] == 4 and data["program"]
        return {**data, "schema_version": 5, "name": data["name"] + ", version 5"}

    def capitals(table: pa.Table) -> pa.Table:
        assert {"choices", "unclosed", "lenient", "spent", "candidates"} <= {*table.column_names}
        place = table.column_names.index("gold")
        return table.set_column(place, ROW_SCHEMA.field("gold"), [[f"<{v}>" for v in table["gold"].to_pylist()]])

    monkeypatch.setitem(migration.MIGRATIONS, 4, migration.Migration((ROW_SCHEMA,), renamed, capitals))
    for module in ("migration", "shards", "manifest", "upkeep"):
        monkeypatch.setattr(f"experiments.store.{module}.SCHEMA_VERSION", 5)
    run = Store(tmp_path).open("fake")
    assert run.manifest.name.endswith("version 5") and run.manifest.schema_version == 5
    assert run.table(["gold"])["gold"].to_pylist() == [f"<{row['gold']}>" for row in make_rows(N)]


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (99, "schema version 99, written by steering-workbench 9.9.*reads versions up to 4. Upgrade"),
        (0, "says schema version 0, which is no version"),
        ("2", "says schema version '2', which is no version"),
        (True, "which is no version"),
    ],
)
def test_a_manifest_of_another_version_is_refused_with_who_wrote_it(tmp_path: Path, version: Any, message: str) -> None:
    run = make_fake_run(tmp_path, N)
    data = json.loads((run.folder / "run.json").read_text())
    text = json.dumps({**data, "schema_version": version, "program": "steering-workbench 9.9"})
    (run.folder / "run.json").write_text(text)
    with pytest.raises(StoreError, match=message):
        Store(tmp_path).open("fake")
    assert Store(tmp_path).list()[0].problem is not None


def test_a_shard_of_a_newer_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_fake_run(tmp_path, N)
    path = run.shards()[0]
    table = read_shard(path)
    monkeypatch.setattr("experiments.store.shards.SCHEMA_VERSION", 9)
    data = shard_bytes(table)
    monkeypatch.undo()
    path.write_bytes(data)
    checksum_path(path).write_text(hashlib.sha256(data).hexdigest())
    with pytest.raises(StoreError, match="schema version 9, written by a newer program"):
        run.keys()


def test_checksums_are_those_of_sha256sum(tmp_path: Path) -> None:
    run = make_fake_run(tmp_path, N)
    assert len(list(run.folder.glob("rows/*.sha256"))) == len(run.shards())
    for path in run.shards():
        line = checksum_path(path).read_text()
        assert line == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
    found = subprocess.run("sha256sum -c *.sha256", shell=True, cwd=run.folder / "rows", capture_output=True)
    assert found.returncode == 0


def test_every_flipped_bit_is_found_by_a_whole_read(tmp_path: Path) -> None:
    run = make_fake_run(tmp_path, N)
    path = run.shards()[0]
    whole, keys = path.read_bytes(), run.keys()
    lost = set(pq.read_table(path)["key"].to_pylist())
    for place in range(0, len(whole), max(1, len(whole) // 97)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        for read in (run.keys, run.table):
            with pytest.raises(StoreError) as error:
                read()
            assert str(path) in str(error.value) and "damaged" in str(error.value)
        (bad,) = [c for c in upkeep.verify(run) if c.status != "ok"]
        assert (bad.file, bad.status) == (path.name, "damaged")
    assert run.keys(drop_corrupt=True) == keys - lost
    assert path.with_name(path.name + ".corrupt").exists(), "set aside, not deleted"
    run.write([row for row in make_rows(N) if row["key"] in lost])
    assert path.read_bytes() == whole and all(c.status == "ok" for c in upkeep.verify(run))


def test_a_damaged_checksum_costs_the_shard_and_nothing_else(tmp_path: Path) -> None:
    run = make_fake_run(tmp_path, N)
    path = run.shards()[0]
    whole = path.read_bytes()
    checksum_path(path).write_bytes(b"\xff\x00")
    with pytest.raises(StoreError, match="its SHA-256 begins"):
        run.table()
    lost = set(pq.read_table(path)["key"].to_pylist())
    run.keys(drop_corrupt=True)
    run.write([row for row in make_rows(N) if row["key"] in lost])
    assert path.read_bytes() == whole and len(run.table()) == 12 * N


def test_long_rows_are_written_in_small_groups_and_short_ones_in_one(tmp_path: Path) -> None:
    short = make_rows(N)[:16]
    run = Store(tmp_path).create(make_manifest(n_items=N))
    assert pq.read_metadata(run.write(short)).num_row_groups == 1
    long = []
    for row in short[:8]:
        times = GROUP_TOKENS // len(row["token_ids"]) + 1
        many = {c: row[c] * times for c in ("token_ids", "tokens", "logprob", "entropy")}
        ratios = row["edit_ratio"] + [0.0] * (len(many["token_ids"]) - len(row["token_ids"]))
        long.append({**row, **many, "edit_ratio": ratios, "key": row["key"] + "x", "labels": []})
    path = run.write(long)
    assert pq.read_metadata(path).num_row_groups == 8
    assert run.trace(long[5]["key"])["token_ids"] == long[5]["token_ids"]


def test_the_way_to_the_bytes_of_a_shard_is_one(tmp_path: Path) -> None:
    """What is migrated, written and written again goes through the same function."""
    run: Run = make_fake_run(tmp_path, N)
    for path in run.shards():
        assert shard_bytes(read_shard(path)) == path.read_bytes()
