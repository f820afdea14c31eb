"""The derived indexes and the database: right when asked, never trusted when stale, and never the truth."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from experiments.store import row_index as row_index_module
from experiments.store import store_index as store_index_module
from experiments.store.database import connect, views_of
from experiments.store.row_index import INDEX_SCHEMA, row_index
from experiments.store.runs import Run, Store, StoreError
from tests.experiments.fake_run import make_arms, make_fake_run, make_manifest, make_rows

N = 3


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_fake_run(tmp_path / "runs", n_items=N)


def settle(run: Run) -> None:
    """Give every file of a run a time of change that is long past."""
    for number, path in enumerate(sorted(run.folder.rglob("*"))):
        os.utime(path, (1e9 + number, 1e9 + number))


def shards_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the shards that the index reads from now on."""
    read, original = list[str](), row_index_module.read_shard

    def watched(path: Path, *rest: Any, **more: Any) -> Any:
        read.append(path.name)
        return original(path, *rest, **more)

    monkeypatch.setattr(row_index_module, "read_shard", watched)
    return read


def test_the_index_holds_every_row_without_its_tokens(run: Run) -> None:
    table = run.index().read()
    assert table.schema.equals(INDEX_SCHEMA)
    rows = {row["key"]: row for row in make_rows(N)}
    for line in table.to_pylist():
        row = rows.pop(line["key"])
        assert line["run"] == "fake" and line["tokens"] == len(row["tokens"])
        assert line["prompt_tokens"] == len(row["prompt_ids"]) and (run.folder / "rows" / line["shard"]).exists()
        for name in set(line) & set(row) - {"tokens", "prompt_tokens"}:
            assert line[name] == row[name]
    assert not rows


def test_only_what_is_new_or_changed_is_read_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(run)
    read = shards_read(monkeypatch)
    run.index()
    assert sorted(read) == [p.name for p in run.shards()]
    read.clear()
    run.index()
    assert read == []
    extra = run.write([{**make_rows(N)[0], "key": "new", "item": "another"}])
    os.utime(extra, (2e9, 2e9))
    assert len(run.index().read()) == 12 * N + 1 and read == [extra.name]
    read.clear()
    extra.unlink()
    assert len(run.index().read()) == 12 * N and read == []
    changed = run.shards()[0]
    os.utime(changed, (1.5e9, 1.5e9))
    run.index()
    assert read == [changed.name]


def test_a_file_that_may_still_change_unseen_is_read_each_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.index()
    read = shards_read(monkeypatch)
    run.index()
    assert sorted(read) == [p.name for p in run.shards()]


def test_a_stale_index_is_never_believed(run: Run) -> None:
    settle(run)
    index = run.index()
    data = index.path.read_bytes()
    shard = run.shards()[0]
    lost = set(pq.read_table(shard)["key"].to_pylist())
    shard.unlink()
    index.path.write_bytes(data)
    assert not lost & set(run.index().read(["key"])["key"].to_pylist())
    with pytest.raises(StoreError, match="has no row"):
        run.traces(sorted(lost)[:1])
    for damage in (data[:100], b"", b"PAR1" + bytes(50)):
        index.path.write_bytes(damage)
        assert len(run.index().read()) == 12 * N - len(lost)


def test_a_damaged_shard_is_left_out_and_named(run: Run) -> None:
    shard = run.shards()[1]
    n = pq.read_metadata(shard).num_rows
    shard.write_bytes(shard.read_bytes()[:200])
    for _ in range(2):
        database = connect(Store(run.folder.parent))
        (problem,) = database.damaged
        assert str(shard) in problem
        assert database.query("select count(*) as n from rows").to_pylist() == [{"n": 12 * N - n}]
        assert database.query("select count(distinct key) as n from tokens").to_pylist() == [{"n": 12 * N - n}]


def test_copies_of_a_row_count_once(run: Run) -> None:
    run.write(make_rows(N)[3:9])
    database = connect(Store(run.folder.parent))
    assert database.query("select count(*) as n from rows").to_pylist() == [{"n": 12 * N}]
    tokens = sum(len(row["tokens"]) for row in make_rows(N))
    assert database.query("select count(*) as n from tokens").to_pylist() == [{"n": tokens}]


def test_the_views_say_what_the_rows_say(run: Run) -> None:
    make_fake_run(run.folder.parent, 2, hostile=True)
    database = connect(Store(run.folder.parent))
    rows = make_rows(N)
    lines = database.query("select * from tokens where run = 'fake' order by key, position").to_pylist()
    expected = [
        (
            row["key"],
            place,
            row["token_ids"][place],
            row["tokens"][place],
            row["edit_ratio"][len(row["prompt_ids"]) + place],
        )
        for row in sorted(rows, key=lambda row: row["key"])
        for place in range(len(row["tokens"]))
    ]
    found = [(t["key"], t["position"], t["token_id"], t["text"], t["edit_ratio"]) for t in lines]
    assert [f[:4] for f in found] == [e[:4] for e in expected]
    assert [f[4] for f in found] == pytest.approx([e[4] for e in expected])
    logprob = [value for row in sorted(rows, key=lambda row: row["key"]) for value in row["logprob"]]
    assert [t["logprob"] for t in lines] == pytest.approx(logprob, rel=1e-6)
    edits = database.query("select * from receipts where run = 'fake'").to_pylist()
    assert len(edits) == sum(row["edits_fired"] for row in rows)
    for edit in edits:
        (row,) = [row for row in rows if row["key"] == edit["key"]]
        assert edit["position"] == len(row["prompt_ids"]) - 1 and edit["generated"] is None
        assert edit["text"] == row["prompt_tokens"][-1] and edit["edit_ratio"] > 0.3
    listed = database.query("select run, status, rows, expected, models from runs order by run").to_pylist()
    assert listed[0] == dict(run="fake", status="complete", rows=12 * N, expected=12 * N, models=["base", "thinking"])
    means = database.query(
        "select arm, avg(correct::int) as mean from rows where run = 'fake' group by arm"
    ).to_pylist()
    for line in means:
        right = [row["correct"] for row in rows if row["arm"] == line["arm"]]
        assert line["mean"] == pytest.approx(sum(right) / len(right))
    assert len(means) == len(make_arms())


def test_a_filter_on_the_run_opens_its_files_alone(run: Run) -> None:
    make_fake_run(run.folder.parent, 2, hostile=True)
    database = connect(Store(run.folder.parent))
    (plan,) = database.query("explain analyze select sum(logprob) from tokens where run = 'hostile'").to_pylist()
    assert f"Scanning Files: {2 * 12 // 16 + 1}/" in plan["explain_value"]


@pytest.mark.parametrize(
    "sql",
    [
        "create table x as select 1",
        "copy (select 1) to 'x.csv'",
        "select 1; select 2",
        "",
        "attach 'x.db'",
        "set memory_limit = '1GB'",
        "select * from read_csv('/etc/hostname')",
        "select * from read_text('/etc/hostname')",
        "select * from glob('/etc/*')",
        "select * from sql",
    ],
)
def test_a_query_changes_nothing_and_reads_only_the_store(run: Run, sql: str) -> None:
    before = sorted(run.folder.parent.rglob("*"))
    database = connect(Store(run.folder.parent))
    with pytest.raises(StoreError):
        database.query(sql)
    assert len(database.query("from rows")) == 12 * N
    assert [p for p in before if not p.exists()] == []


def test_a_store_without_rows_can_be_asked(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for expected in (0, 1):
        database = connect(store)
        for view, n in (("runs", expected), ("rows", 0), ("tokens", 0), ("receipts", 0)):
            assert len(database.query(f"select * from {view}")) == n
        store.create(make_manifest())
    assert views_of("select * from Rows r join runs") == ("runs", "rows")
    with pytest.raises(StoreError, match="no run 'fak'"):
        connect(store, runs=["fak"])


def test_a_store_that_cannot_be_written_to_is_read_all_the_same(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, data: bytes) -> None:
        raise PermissionError(path)

    monkeypatch.setattr("experiments.store.row_index.write_whole", refused)
    monkeypatch.setattr("experiments.store.catalogue.write_whole", refused)
    database = connect(Store(run.folder.parent))
    assert database.query("select count(*) as n from rows").to_pylist() == [{"n": 12 * N}]
    assert [line.rows for line in Store(run.folder.parent).catalogue()] == [12 * N]
    assert run.trace(make_rows(N)[4]["key"])["text"] == make_rows(N)[4]["text"]
    assert not (run.folder.parent / ".index").exists()


def test_readers_never_see_half_an_index(run: Run) -> None:
    """Two readers ask while shards are added; every answer is that of some moment."""
    root, problems, ended = run.folder.parent, list[str](), threading.Event()

    def read() -> None:
        while not ended.is_set():
            try:
                n = len(row_index(root, "fake").read(["key"]))
                if not 12 * N <= n <= 12 * N + 10:
                    problems.append(f"{n} rows")
            except Exception as error:
                problems.append(repr(error))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(10):
        run.write([{**make_rows(N)[0], "key": f"new {number}", "item": f"more {number}"}])
    ended.set()
    for reader in readers:
        reader.join()
    assert not problems and len(run.index().read(["key"])) == 12 * N + 10


def test_the_catalogue_reads_only_what_changed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    make_fake_run(run.folder.parent, 2, hostile=True)
    store = Store(run.folder.parent)
    settle(run)
    settle(store.open("hostile"))
    first = store.catalogue()
    read: list[str] = []
    from experiments.store import catalogue

    manifest, metadata = catalogue.read_manifest, pq.read_metadata
    monkeypatch.setattr(catalogue, "read_manifest", lambda f: read.append(f.name) or manifest(f))
    monkeypatch.setattr(pq, "read_metadata", lambda f: read.append(Path(f).name) or metadata(f))
    assert store.catalogue() == first and read == []
    run.set_status("interrupted")
    assert [line.status for line in store.catalogue()] == ["interrupted", "complete"] and read == ["fake"]


def test_many_runs_are_gathered_and_what_has_changed_since_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_index_module, "FEW", 2)
    store = Store(tmp_path)
    runs = []
    for number in range(5):
        runs.append(store.create(make_manifest(f"run-{number}", N)))
        runs[-1].write([{**row, "key": f"{number}/{row['key']}"} for row in make_rows(N)[: 4 + number]])
        settle(runs[-1])

    def counts() -> dict[str, int]:
        lines = connect(store).query("select run, count(*) as n from rows group by run").to_pylist()
        return {line["run"]: line["n"] for line in lines}

    expected = {f"run-{number}": 4 + number for number in range(5)}
    assert counts() == expected
    gathered = tmp_path / ".index" / "rows.parquet"
    assert gathered.exists()
    asked: list[str] = []
    own = store_index_module.row_index
    monkeypatch.setattr(store_index_module, "row_index", lambda r, run, told: asked.append(run) or own(r, run, told))
    assert counts() == expected and asked == [], "unchanged runs are served from the gathered file"
    runs[1].write([{**make_rows(N)[20], "key": "1/new"}])
    (runs[2].shards()[0]).unlink()
    assert counts() == {**{k: v for k, v in expected.items() if k != "run-2"}, "run-1": 6}
    assert set(asked) == {"run-1", "run-2"}
    tokens = connect(store).query("select distinct run from tokens order by run").to_pylist()
    assert [line["run"] for line in tokens] == ["run-0", "run-1", "run-3", "run-4"]
    data = gathered.read_bytes()
    for damage in (b"", data[:-20], data[:100]):
        gathered.write_bytes(damage)
        assert counts()["run-4"] == 8
    import shutil

    shutil.rmtree(runs[4].folder)
    assert "run-4" not in counts()


def test_traces_come_in_the_order_asked_and_read_only_their_shards(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_rows(N)
    keys = [rows[n]["key"] for n in (30, 2, 17)]
    expected = {row["key"]: row for row in run.table().to_pylist()}
    assert run.traces(keys).to_pylist() == [expected[key] for key in keys]
    assert run.traces(keys, ["text"]).to_pylist() == [{"text": expected[key]["text"]} for key in keys]
    assert run.trace(keys[1]) == expected[keys[1]] and len(run.traces([])) == 0
    where = dict(zip(*(run.index().read(["key", "shard"])[c].to_pylist() for c in ("key", "shard")), strict=True))
    for path in run.shards():
        if path.name != where[keys[0]]:
            path.write_bytes(b"damaged")
    assert run.trace(keys[0]) == expected[keys[0]]
    with pytest.raises(StoreError, match="has no row 'nothing'"):
        run.trace("nothing")
