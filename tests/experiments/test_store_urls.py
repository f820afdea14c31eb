"""A store at a URL: the same promises on an object store, where a whole put takes the place of the rename."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from experiments.evaluation.executors import in_process
from experiments.store import files as storage
from experiments.store import upkeep
from experiments.store.archive import export, import_archive
from experiments.store.database import connect
from experiments.store.files import files, folders, locate, stored, write_whole
from experiments.store.runs import Store, StoreError
from experiments.store.shards import checksum_path
from steering.errors import BadInput
from tests.experiments.fake_run import make_fake_run, make_manifest, make_rows

N = 3


@pytest.fixture
def root() -> Iterator[str]:
    yield "memory://bucket/runs"
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def contents(root: str) -> dict[str, bytes]:
    system = fsspec.filesystem("memory")
    return {name: bytes(system.cat(name)) for name in system.find("/bucket") if "/.index/" not in name}


def test_a_store_in_memory_holds_the_bytes_of_a_local_one(root: str, tmp_path: Path) -> None:
    remote, local = make_fake_run(root, N), make_fake_run(tmp_path, N)  # type: ignore[arg-type]
    found = {name.removeprefix("/bucket/runs/"): data for name, data in contents(root).items()}
    assert found == {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert remote.table().equals(local.table()) and remote.keys() == local.keys()
    assert remote.table(["item", "correct"], arms=["steered"]).equals(
        local.table(["item", "correct"], arms=["steered"])
    )
    key = make_rows(N)[7]["key"]
    assert remote.trace(key) == local.trace(key)
    (line,) = Store(root).catalogue()
    assert (line.run, line.status, line.rows, line.problem) == ("fake", "complete", 12 * N, None)
    assert line.changed is not None
    (entry,) = Store(root).list()
    assert entry.manifest == local.manifest


def test_a_run_at_a_url_is_resumed_by_what_is_stored(root: str) -> None:
    run, rows = Store(root).create(make_manifest(n_items=N)), make_rows(N)
    run.write(rows[:16])
    again = Store(root).create(make_manifest(n_items=N))
    assert again.keys() == {row["key"] for row in rows[:16]}
    for start in range(0, len(rows), 16):
        again.write(rows[start : start + 16])
    again.write_summary({"a": 1})
    again.set_status("complete")
    opened = Store(root).open("fake")
    assert opened.summary() == {"a": 1} and opened.manifest.status == "complete" and len(opened.table()) == 12 * N
    with pytest.raises(StoreError, match="no run 'fak'.*Did you mean 'fake'"):
        Store(root).open("fak")


def test_damage_at_a_url_is_found_set_aside_and_repaired(root: str) -> None:
    run = make_fake_run(root, N)  # type: ignore[arg-type]
    path = run.shards()[0]
    whole, keys = path.read_bytes(), run.keys()
    write_whole(path, whole[:60] + b"?" + whole[61:])
    with pytest.raises(StoreError, match="damaged"):
        run.keys()
    assert [c.status for c in upkeep.verify(run)].count("damaged") == 1
    lost = keys - run.keys(drop_corrupt=True)
    assert path.with_name(path.name + ".corrupt").exists() and not path.exists()
    run.write([row for row in make_rows(N) if row["key"] in lost])
    assert path.read_bytes() == whole and run.keys() == keys


def test_a_failed_put_leaves_no_shard(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checksum comes first: a shard that is there always has one."""
    run = Store(root).create(make_manifest(n_items=N))
    put, system = storage.write_whole, type(fsspec.filesystem("memory"))
    original = system.pipe_file

    def failing(self: Any, path: str, value: bytes, *rest: Any, **more: Any) -> None:
        if path.endswith(".parquet"):
            raise OSError("the connection was lost")
        original(self, path, value, *rest, **more)

    monkeypatch.setattr(system, "pipe_file", failing)
    with pytest.raises(OSError, match="connection"):
        run.write(make_rows(N)[:5])
    assert run.keys() == set() and run.shards() == [] and put is storage.write_whole
    monkeypatch.undo()
    path = run.write(make_rows(N)[:5])
    assert checksum_path(path).exists() and len(run.keys()) == 5


def test_the_database_reads_a_store_at_a_url(root: str) -> None:
    make_fake_run(root, N)  # type: ignore[arg-type]
    for _ in range(2):
        database = connect(Store(root))
        assert database.query("select count(*) as n from rows where run = 'fake'").to_pylist() == [{"n": 12 * N}]
        n = sum(len(row["tokens"]) for row in make_rows(N))
        assert database.query("select count(*) as n from tokens where run = 'fake'").to_pylist() == [{"n": n}]
        with pytest.raises(StoreError):
            database.query("select * from read_text('/etc/hostname')")


def test_an_archive_goes_from_one_store_to_another(root: str, tmp_path: Path) -> None:
    local = make_fake_run(tmp_path / "runs", N)
    export(local, tmp_path / "fake.zip", "zip")
    taken = import_archive(tmp_path / "fake.zip", Store(root))
    assert taken.table().equals(local.table()) and taken.manifest == local.manifest
    export(taken, tmp_path / "again.zip", "zip")
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "fake.zip").read_bytes()


def test_gc_and_migration_at_a_url(root: str) -> None:
    run = make_fake_run(root, N)  # type: ignore[arg-type]
    Store(root).create(make_manifest("begun"))
    write_whole(run.folder / "rows" / "x.parquet.corrupt", b"x")
    run.index()
    store = Store(root)
    found = upkeep.rubbish(store, unfinished=True, days=0)
    assert {item.kind for item in found} == {"corrupt", "index", "unfinished"}
    upkeep.delete(found)
    assert upkeep.rubbish(store, kinds=("corrupt", "unfinished"), unfinished=True, days=0) == []
    assert [line.run for line in store.catalogue()] == ["fake"] and len(run.keys()) == 12 * N
    assert upkeep.migrate_run(run) == 0


@pytest.mark.slow
def test_an_evaluation_with_vectors_runs_and_resumes_at_a_url(root: str, tmp_path: Path) -> None:
    from experiments.evaluation.evaluate import run_evaluation
    from experiments.evaluation.reproduction import reproduce
    from experiments.evaluation.stored_vectors import run_vectors
    from tests.experiments.test_evaluation import small_spec
    from tests.experiments.test_reproduction import a_vector

    vector = a_vector()
    spec, vectors = small_spec(vector, n=4), {vector.digest: vector}
    local = run_evaluation(spec, Store(tmp_path), vectors)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_evaluation(spec, Store(root), vectors, on_rows=stop, executor=in_process)
    remote = run_evaluation(spec, Store(root), vectors)
    found = {name.removeprefix("/bucket/runs/"): data for name, data in contents(root).items()}
    near = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert found.keys() == near.keys()
    assert all(found[name] == near[name] for name in near if not name.endswith(".safetensors"))
    assert set(run_vectors(remote)) == {vector.digest}
    assert reproduce(remote).exact and remote.table().equals(local.table())


@pytest.mark.parametrize(
    ("url", "package"),
    [("s3://bucket/runs", "s3fs"), ("gs://bucket/runs", "gcsfs")],
)
def test_a_missing_package_is_named(url: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = importlib.import_module("fsspec.registry")
    protocol = url.split("://")[0]
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(registry._registry, protocol, raising=False)
    with pytest.raises(BadInput, match=f"needs the package {package}.*pip install {package}"):
        Store(url)


def test_listings_are_the_same_near_and_far(root: str, tmp_path: Path) -> None:
    far = locate(root)
    for place in (far, tmp_path):
        assert files(place / "none") == [] and folders(place / "none") == [] and stored(place / "none" / "x") is None
        for name in ("b/x.txt", "b/y.parquet", ".hidden/z", "a/c/d"):
            write_whole(place / name, b"1234")
        assert folders(place) == ["a", "b"]
        assert [(f.name, f.size) for f in files(place / "b")] == [("x.txt", 4), ("y.parquet", 4)]
        assert [f.name for f in files(place / "b", ".parquet")] == ["y.parquet"]
        found = stored(place / "b" / "x.txt")
        assert found is not None and found.size == 4 and found.changed > 1e9
    assert locate("file:///tmp/x") == Path("/tmp/x") and locate("~/x") == Path.home() / "x"
