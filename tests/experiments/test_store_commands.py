"""`steer runs`: what is printed, the exit codes, and that errors name a remedy."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from experiments.commands import cli
from experiments.store.runs import ROW_SCHEMA, Store
from tests.experiments.fake_run import make_arms, make_fake_run, make_manifest, make_rows

N = 4


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_fake_run(tmp_path / "runs", N)
    make_fake_run(tmp_path / "runs", 2, hostile=True)
    return tmp_path / "runs"


@pytest.fixture
def steer(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["steer", "runs", *arguments, "--runs", str(root)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return call


def test_list_filters_and_sorts(steer: Any, root: Path) -> None:
    Store(root).create(make_manifest("begun", N).model_copy(update={"spec": {"task": "gsm8k"}}))
    (root / "broken").mkdir()

    def names(*arguments: str) -> list[str]:
        code, out, _ = steer("list", *arguments, "--json")
        assert code == 0
        return [line["run"] for line in json.loads(out)]

    assert names() == ["begun", "broken", "fake", "hostile"]
    assert names("--status", "complete") == ["fake", "hostile"] and names("--status", "broken") == ["broken"]
    assert names("--task", "GSM") == ["begun"] and names("--model", "thinking") == ["begun", "fake", "hostile"]
    assert names("--sort", "-rows") == ["fake", "hostile", "begun", "broken"]
    assert names("--since", "1h") == ["begun", "fake", "hostile"] and names("--since", "2999-01-01") == []
    code, out, _ = steer("list")
    assert code == 0 and out.splitlines()[2].split("\t")[:4] == ["fake", "complete", str(12 * N), str(12 * N)]
    for arguments, message in (
        (("--status", "done"), "Unknown status 'done'"),
        (("--sort", "age"), "Unknown order 'age'"),
        (("--since", "yesterday"), "is no moment: give a date"),
    ):
        code, out, err = steer("list", *arguments)
        assert code == 2 and out == "" and message in err


def test_spec_and_show_print_data_alone(steer: Any) -> None:
    code, out, err = steer("spec", "fake", "--json")
    assert code == 0 and json.loads(out) == make_manifest(n_items=N).spec and err == ""
    code, out, _ = steer("show", "fake", "--json")
    assert code == 0 and json.loads(out)["manifest"]["run_id"] == "fake"
    code, out, _ = steer("show", "fake")
    assert code == 0 and "standard-test" in out
    code, out, err = steer("show", "fak")
    assert code == 2 and out == "" and "Did you mean 'fake'" in err


def test_query_gives_tabs_commas_or_json(steer: Any) -> None:
    sql = "select arm, count(*) as n, sum(tokens) as tokens from rows where run = 'fake' group by arm order by arm"
    expected = sorted(
        (a.name, 2 * N, sum(len(r["tokens"]) for r in make_rows(N) if r["arm"] == a.name)) for a in make_arms()
    )
    code, out, _ = steer("query", sql, "--json")
    assert code == 0 and [tuple(row.values()) for row in json.loads(out)] == expected
    for flags, mark in (((), "\t"), (("--csv",), ",")):
        code, out, _ = steer("query", sql, *flags)
        head, *lines = csv.reader(io.StringIO(out), delimiter=mark)
        assert code == 0 and head == ["arm", "n", "tokens"] and lines == [[str(v) for v in row] for row in expected]
    for bad, message in (
        ("drop table rows", "One SELECT at a time, not DROP"),
        ("select nothing from rows", "cannot be run"),
    ):
        code, out, err = steer("query", bad)
        assert code == 2 and out == "" and message in err


def test_diff_names_settings_and_pairs_items_by_id(steer: Any, root: Path) -> None:
    """The other run holds the same items in reversed order, one answer changed, one question changed, one item fewer."""
    rows = [r for r in make_rows(N) if r["arm"] == "base_bare" and r["split"] == "standard-test"]
    changed = []
    for place, row in enumerate(reversed(rows[1:])):
        row = {**row, "key": f"other-{place}", "order": place}
        if row["item"] == rows[1]["item"]:
            row |= {"correct": not row["correct"]}
        if row["item"] == rows[2]["item"]:
            row |= {"gold": "another"}
        changed.append(row)
    manifest = make_manifest("other", N)
    settings = {**manifest.spec["settings"], "temperature": 1.0}
    other = Store(root).create(manifest.model_copy(update={"spec": {**manifest.spec, "settings": settings}}))
    other.write(changed)
    code, out, _ = steer("diff", "fake", "other", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["settings"] == [{"place": "spec.settings.temperature", "a": 0.0, "b": 1.0}]
    (found,) = document["accuracy"]
    assert (found["split"], found["arm_a"], found["difference"]["n"]) == ("standard-test", "base_bare", N - 2)
    assert (found["only_a"], found["only_b"], found["other_question"]) == (1, 0, 1)
    sign = -1 if rows[1]["correct"] else 1
    assert found["difference"]["difference"] == pytest.approx(sign / (N - 2))
    assert found["difference"]["helped"] + found["difference"]["hurt"] == 1
    code, out, _ = steer("diff", "fake", "other", "--arm", "steered:base_bare", "--json")
    assert code == 0 and json.loads(out)["accuracy"][0]["arm_a"] == "steered"
    code, out, err = steer("diff", "fake", "other", "--arm", "sterred")
    assert code == 2 and "Did you mean 'steered'" in err
    code, out, _ = steer("diff", "fake", "other")
    assert (
        code == 0
        and "spec.settings.temperature" in out
        and "2 shared items (only A 1, only B 0, other question 1)" in out
    )


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_exported_table_holds_every_row_in_order(steer: Any, root: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    code, out, _ = steer("export", "fake", "-o", str(path))
    assert code == 0 and out.strip() == str(path)
    rows = Store(root).open("fake").table().to_pylist()
    if kind == "csv":
        lines = list(csv.DictReader(path.open(newline="", encoding="utf-8")))
        assert [line["text"] for line in lines] == [row["text"] for row in rows]
        assert lines[0]["run"] == "fake" and "tokens" not in lines[0]
    elif kind == "jsonl":
        found = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        assert [f["tokens"] for f in found] == [row["tokens"] for row in rows]
    else:
        assert pq.read_table(path).schema.equals(ROW_SCHEMA) and pq.read_table(path).to_pylist() == rows
    code, _, err = steer("export", "fake", "-o", str(path))
    assert code == 2 and "--force" in err
    code, _, err = steer("export", "fake", "-o", str(tmp_path / "x.xlsx"))
    assert code == 2 and "Unknown format 'xlsx'" in err and not list(tmp_path.glob("*.tmp"))


def test_an_archive_is_taken_in_byte_for_byte(steer: Any, root: Path, tmp_path: Path) -> None:
    before = {p.relative_to(root): p.read_bytes() for p in (root / "fake").rglob("*") if p.is_file()}
    for name in ("one.zip", "two.zip"):
        assert steer("export", "fake", "-o", str(tmp_path / name))[0] == 0
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    code, _, err = steer("import", str(tmp_path / "one.zip"))
    assert code == 2 and "exists" in err
    shutil.rmtree(root / "fake")
    code, out, _ = steer("import", str(tmp_path / "one.zip"))
    assert code == 0 and out.strip() == "fake"
    assert {p.relative_to(root): p.read_bytes() for p in (root / "fake").rglob("*") if p.is_file()} == before


def _rewritten(source: Path, target: Path, change: Any) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            for name, data in change(info.filename, old.read(info)):
                if name not in new.namelist():
                    new.writestr(name, data)
    return target


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name, data: [(name, data), ("../evil", b"x")], "no file of a run"),
        (lambda name, data: [(name, data), ("/evil", b"x")], "no file of a run"),
        (lambda name, data: [(name, data), ("other/run.json", data)], "holds 2 runs"),
        (lambda name, data: [(name, data[:-9] if name.endswith(".parquet") else data)], "damaged"),
        (lambda name, data: [] if name.endswith("run.json") else [(name, data)], "no run.json"),
        (lambda name, data: [(name.replace("fake/", "fale/"), data)], "says run 'fake'"),
    ],
)
def test_an_archive_that_is_no_whole_run_is_refused(
    steer: Any, root: Path, tmp_path: Path, change: Any, message: str
) -> None:
    assert steer("export", "fake", "-o", str(tmp_path / "good.zip"))[0] == 0
    shutil.rmtree(root / "fake")
    bad = _rewritten(tmp_path / "good.zip", tmp_path / "bad.zip", change)
    before = sorted(tmp_path.rglob("*"))
    code, _, err = steer("import", str(bad))
    assert code == 2 and message in err.replace("\n", " ")
    assert sorted(p for p in tmp_path.rglob("*") if ".index" not in p.parts) == [
        p for p in before if ".index" not in p.parts
    ]
    bad.write_bytes(bad.read_bytes()[:200])
    code, _, err = steer("import", str(bad))
    assert code == 2 and "no whole archive" in err


def test_verify_names_a_shard_with_a_flipped_byte_and_writing_again_repairs_it(steer: Any, root: Path) -> None:
    assert steer("verify")[0] == 0
    run = Store(root).open("fake")
    shard = run.shards()[1]
    whole = shard.read_bytes()
    keys = set(pq.read_table(shard)["key"].to_pylist())
    shard.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    code, out, err = steer("verify", "fake")
    assert code == 1 and shard.name in out and "damaged" in out and "1 damaged" in err
    assert steer("verify", "hostile")[0] == 0
    assert not keys & run.keys(drop_corrupt=True)
    run.write([row for row in make_rows(N) if row["key"] in keys])
    assert shard.read_bytes() == whole and steer("verify")[0] == 0
    code, out, _ = steer("gc", "--json")
    assert [i["kind"] for i in json.loads(out)["items"] if i["kind"] != "index"] == ["corrupt"]


def test_gc_lists_first_and_deletes_only_when_told(steer: Any, root: Path) -> None:
    run = Store(root).open("fake")
    half, aside = run.folder / "rows" / "a.parquet.12.tmp", run.folder / "rows" / "b.parquet.corrupt"
    for path in (half, aside, run.folder / "rows" / "c.sha256"):
        path.write_bytes(b"x")
    open_run = Store(root).create(make_manifest("begun", N))
    before = {p: p.read_bytes() for p in root.glob("*/rows/*.parquet")}
    code, out, err = steer("gc")
    kinds = {line.split("\t")[0] for line in out.splitlines()}
    assert code == 0 and {"temporary", "corrupt", "checksum", "index"} == kinds and "--delete" in err
    assert half.exists() and aside.exists()
    assert steer("gc", "--kind", "temporary", "--delete")[0] == 0
    assert not half.exists() and aside.exists()
    assert steer("gc", "--delete")[0] == 0
    assert not aside.exists() and not (root / ".index" / "runs.json").exists()
    assert open_run.folder.exists() and {p: p.read_bytes() for p in root.glob("*/rows/*.parquet")} == before
    code, out, _ = steer("gc", "--unfinished", "--days", "1", "--kind", "unfinished")
    assert code == 0 and out == ""
    (root / "my notes").mkdir()
    (root / "my notes" / "a").write_text("x")
    code, out, _ = steer("gc", "--unfinished", "--days", "0", "--kind", "unfinished", "--delete")
    assert (root / "my notes" / "a").exists(), "no run, so not the store's to delete"
    assert code == 0 and "begun" in out and not open_run.folder.exists() and (root / "fake").exists()
    code, _, err = steer("gc", "--kind", "tmp")
    assert code == 2 and "Unknown kind 'tmp'" in err


LIGHTLY = """
import sys
from experiments.commands import cli
try:
    cli.main()
except SystemExit as end:
    assert not end.code, end.code
heavy = {"torch", "transformers", "streamlit", "sklearn"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize("arguments", [("list", "--json"), ("query", "select count(*) as n from rows"), ("verify",)])
def test_looking_at_runs_loads_no_model_library(root: Path, arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", LIGHTLY, "runs", *arguments, "--runs", str(root)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    found = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
