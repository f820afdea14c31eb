"""The run store: whole files or none, equal bytes, errors for the reader."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from experiments.store.runs import ROW_SCHEMA, SCHEMA_VERSION, Arm, Manifest, Run, Store, StoreError
from steering.errors import BadInput
from tests.experiments.fake_run import HOSTILE, SPLITS, make_arms, make_fake_run, make_manifest, make_rows

N = 3
ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_fake_run(tmp_path / "runs", n_items=N)


def fresh(root: Path) -> Run:
    return Store(root).create(make_manifest(n_items=N))


def bytes_of(run: Run) -> dict[str, bytes]:
    """The shards and their checksums."""
    return {path.name: path.read_bytes() for path in sorted((run.folder / "rows").iterdir())}


# Rows


def test_what_is_written_is_what_is_read_sorted_by_split_arm_order_and_seed(tmp_path: Path) -> None:
    rows = make_rows(N)
    shuffled = random.Random(0).sample(rows, len(rows))
    run = fresh(tmp_path)
    for start in range(0, len(rows), 7):
        run.write(shuffled[start : start + 7])
    table = run.table()
    assert table.schema.equals(ROW_SCHEMA)
    expected = pa.Table.from_pylist(rows, schema=ROW_SCHEMA)  # make_rows is in the manifest's order
    assert table.to_pylist() == expected.to_pylist()
    assert run.keys() == {row["key"] for row in rows}


def test_a_table_narrows_to_columns_arms_split_and_items(run: Run) -> None:
    rows = make_rows(N)
    arms, item = ["thinking", "base_bare"], rows[1]["item"]
    table = run.table(columns=["tokens", "arm"], arms=arms, split=SPLITS[0], items=[item])
    assert table.column_names == ["tokens", "arm"]
    expected = [r for r in rows if r["arm"] in arms and r["item"] == item]
    assert table["arm"].to_pylist() == ["base_bare", "thinking"], "the manifest's order, not the caller's"
    assert table["tokens"].to_pylist() == [r["tokens"] for r in expected]
    assert len(run.table(items=[])) == 0
    assert len(run.table(split=SPLITS[1])) == len(rows) // 2


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ({"columns": ["token"]}, "no column 'token'. Did you mean 'tokens'?"),
        ({"arms": ["sterred"]}, "no arm 'sterred'. Did you mean 'steered'?"),
        ({"split": "hard-tset"}, "no split 'hard-tset'. Did you mean 'hard-test'?"),
    ],
)
def test_an_unknown_column_arm_or_split_is_named_with_the_nearest(run: Run, asked: dict[str, Any], hint: str) -> None:
    with pytest.raises(StoreError) as error:
        run.table(**asked)
    assert hint in str(error.value)


def test_equal_rows_give_equal_bytes_in_any_order_and_process(tmp_path: Path) -> None:
    rows = make_rows(N)
    one, two = fresh(tmp_path / "one"), fresh(tmp_path / "two")
    first, second = one.write(rows), two.write([dict(reversed(row.items())) for row in reversed(rows)])
    assert first.name == second.name and first.read_bytes() == second.read_bytes()
    code = (
        "import pathlib, sys; from tests.experiments.test_store import fresh, make_rows, N;"
        "fresh(pathlib.Path(sys.argv[1])).write(make_rows(N))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT), "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "three")], check=True, env=environment, cwd=ROOT)
    assert (tmp_path / "three" / "fake" / "rows" / first.name).read_bytes() == first.read_bytes()


def test_different_rows_under_the_same_keys_never_share_a_shard_silently(tmp_path: Path) -> None:
    run, rows = fresh(tmp_path), make_rows(N)
    path = run.write(rows[:2])
    before = path.read_bytes()
    assert run.write(rows[:2]) == path and path.read_bytes() == before
    other = [{**row, "arm": "random"} for row in rows[:2]]
    with pytest.raises(StoreError, match="stands for two different rows"):
        run.write(other)
    with pytest.raises(StoreError, match="stands for two different rows"):
        run.write([rows[0], {**rows[1], "key": rows[0]["key"]}])


def test_copies_of_a_row_in_several_shards_are_collapsed(tmp_path: Path) -> None:
    run, rows = fresh(tmp_path), make_rows(N)
    run.write(rows[:4])
    run.write(rows[2:6])
    assert run.table()["key"].to_pylist() == [r["key"] for r in rows[:6]]
    run.write([{**rows[0], "arm": "random"}, rows[7]])
    with pytest.raises(StoreError, match="two different rows"):
        run.table()


def with_change(**change: Any) -> list[dict[str, Any]]:
    return [make_rows(N)[0], {**make_rows(N)[1], **change}]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows"),
        ([{k: v for k, v in make_rows(N)[0].items() if k != "gold"}], "lacks the column gold"),
        (with_change(tokenz=[]), "unknown column 'tokenz'. Did you mean 'tokens'?"),
        (
            with_change(gold=None),
            "no value for gold; only answer, trace_ok, well_formed, choices, unclosed, lenient, spent, candidates may be null",
        ),
        (with_change(arm="sterred"), "'sterred' is no arm of this run. Did you mean 'steered'?"),
        (with_change(split="train"), "'train' is no split"),
        (with_change(finish="done"), "'done' is no finish"),
        (with_change(logprob=[0.0]), "token_ids, tokens, logprob, entropy must be equally long"),
        (with_change(edit_ratio=[]), "edit_ratio has 0 values for"),
        (with_change(order="first"), "Column order needs int32"),
        (with_change(order=2**40), "Column order needs int32"),
        (with_change(correct="yes"), "Column correct needs bool"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_and_nothing_is_written(tmp_path: Path, rows: Any, message: str) -> None:
    run = fresh(tmp_path)
    with pytest.raises(StoreError) as error:
        run.write(rows)
    assert message in str(error.value)
    assert list((run.folder / "rows").iterdir()) == []


def test_null_answers_and_verifier_results_are_kept_as_null(tmp_path: Path) -> None:
    run = fresh(tmp_path)
    run.write([{**make_rows(N)[0], "answer": None, "trace_ok": None, "well_formed": None}])
    assert run.table(["answer", "trace_ok", "well_formed"]).to_pylist() == [
        dict.fromkeys(("answer", "trace_ok", "well_formed"))
    ]


def test_duckdb_reads_the_shards(run: Run) -> None:
    query = f"select arm, count(*), sum(len(tokens)) from '{run.folder}/rows/*.parquet' group by arm"
    found = {arm: (n, tokens) for arm, n, tokens in duckdb.connect().execute(query).fetchall()}
    rows = make_rows(N)
    assert found == {a.name: (2 * N, sum(len(r["tokens"]) for r in rows if r["arm"] == a.name)) for a in make_arms()}


# Manifests


def test_creating_a_run_again_reopens_it_with_its_rows_and_manifest(run: Run) -> None:
    again = Store(run.folder.parent).create(
        make_manifest(n_items=N).model_copy(update={"facts": {"versions": {"x": 2}}})
    )
    assert again.manifest.status == "complete" and again.manifest.facts == run.manifest.facts
    assert again.keys() == run.keys()


def test_another_specification_under_the_same_id_is_refused_with_what_differs(run: Run) -> None:
    manifest = make_manifest(n_items=N)
    settings = {**manifest.spec["settings"], "max_new_tokens": 64}
    other = manifest.model_copy(update={"spec": {**manifest.spec, "settings": settings}})
    with pytest.raises(
        StoreError, match="spec.settings.max_new_tokens is 200 there and 64 here.*Choose another run id"
    ):
        Store(run.folder.parent).create(other)
    arms = [arm if arm.name != "steered" else arm.model_copy(update={"plan": None}) for arm in manifest.arms]
    with pytest.raises(StoreError, match=r"arms\[2\].plan is"):
        Store(run.folder.parent).create(manifest.model_copy(update={"arms": arms}))
    assert Store(run.folder.parent).open("fake").keys() == run.keys()


def test_a_run_whose_manifest_was_lost_is_begun_again_over_its_rows(run: Run) -> None:
    (run.folder / "run.json").unlink()
    with pytest.raises(StoreError, match="has no run.json.*Run its command again"):
        Store(run.folder.parent).open("fake")
    assert fresh(run.folder.parent).keys() == run.keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "half-written or damaged"),
        ('{"run_id": "fa', "half-written or damaged"),
        ("\xff\xfe", "half-written or damaged"),
        ("[]", "not a JSON mapping"),
        ("[" * 200_000, "half-written or damaged"),
        ('{"schema_version": 1}', "not a valid manifest (run_id: Field required)"),
        (json.dumps({"schema_version": SCHEMA_VERSION + 1}), f"schema version {SCHEMA_VERSION + 1}"),
    ],
)
def test_an_unreadable_manifest_is_named_by_open_and_listed_by_list(run: Run, text: str, message: str) -> None:
    good = make_fake_run(run.folder.parent, n_items=2, hostile=True)
    (run.folder / "run.json").write_text(text, encoding="latin-1")
    store = Store(run.folder.parent)
    with pytest.raises(StoreError) as error:
        store.open("fake")
    assert message in str(error.value) and "run.json" in str(error.value)
    broken, whole = store.list()
    assert (broken.run_id, broken.manifest, broken.rows, broken.expected) == ("fake", None, 12 * N, None)
    assert broken.problem is not None and message in broken.problem
    assert (whole.run_id, whole.manifest, whole.problem, whole.rows) == ("hostile", good.manifest, None, 24)


def test_a_copied_run_must_be_named_as_its_manifest_says(run: Run) -> None:
    shutil.copytree(run.folder, run.folder.with_name("copy"))
    with pytest.raises(StoreError, match="says run 'fake', its folder 'copy'"):
        Store(run.folder.parent).open("copy")


def test_strange_folders_are_listed_with_their_problem(run: Run) -> None:
    root = run.folder.parent
    (root / "my notes").mkdir()
    (root / "empty").mkdir()
    (root / ".cache").mkdir()
    (root / "a file").write_text("x")
    entries = {e.run_id: e for e in Store(root).list()}
    assert list(entries) == ["empty", "fake", "my notes"]
    assert "no run.json" in str(entries["empty"].problem) and "not a run id" in str(entries["my notes"].problem)
    assert Store(root / "nowhere").list() == []


def test_an_unknown_run_is_named_with_the_nearest(run: Run) -> None:
    with pytest.raises(StoreError, match="no run 'fak'.*Did you mean 'fake'"):
        Store(run.folder.parent).open("fak")
    with pytest.raises(StoreError, match="There are none"):
        Store(run.folder.parent / "nowhere").open("fake")


@pytest.mark.parametrize(
    "run_id",
    [
        "",
        ".",
        "..",
        "../fake",
        "a/b",
        "/etc",
        "a\\b",
        "a\0",
        ".hidden",
        "fake\n",
        "-rf",
        "a" * 121,
        "C:",
        "a b",
        None,
        3,
    ],
)
def test_no_run_id_leads_out_of_the_store(run: Run, run_id: Any) -> None:
    with pytest.raises(StoreError, match="not a run id"):
        Store(run.folder.parent / "inner").open(run_id)
    with pytest.raises(ValueError, match="run_id"):
        Manifest.model_validate({**make_manifest().model_dump(), "run_id": run_id})


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("s3q://bucket/runs", "Unknown protocol 's3q'.*Did you mean 's3'"),
        (Path("memory://bucket/runs"), "give the URL as text"),
    ],
)
def test_a_root_that_cannot_be_reached_is_refused(root: Path | str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Store(root)


def arms_with(**roles: str) -> list[Arm]:
    return [
        Arm.model_validate({"name": n, "label": n, "role": r, "model": "m", "form": "bare"}) for n, r in roles.items()
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": arms_with(a="steered")}, "0 arms have the role baseline; exactly one must"),
        ({"arms": arms_with(a="baseline", b="baseline")}, "2 arms have the role baseline"),
        ({"arms": arms_with(a="baseline", b="reference", c="reference")}, "2 arms have the role reference"),
        ({"arms": arms_with(a="baseline") + arms_with(a="steered")}, "arm name 'a' is used twice"),
        ({"splits": {}}, "there is no split"),
        ({"splits": {"test": 0}}, "greater than 0"),
        ({"spec": {"path": Path("x")}}, "not plain JSON data"),
        ({"facts": {"loss": float("nan")}}, "not plain JSON data"),
        ({"schema_version": SCHEMA_VERSION + 1}, "schema version is"),
        ({"status": "done"}, "'running', 'complete' or 'interrupted'"),
        ({"owner": "me"}, "Extra inputs"),
    ],
)
def test_an_inconsistent_manifest_is_refused(change: dict[str, Any], message: str) -> None:
    data = {**dict(make_manifest()), **change}
    with pytest.raises(ValueError) as error:
        Manifest(**data)
    assert message in str(error.value)


def test_baseline_and_reference_are_found_by_role() -> None:
    manifest = make_manifest(n_items=N)
    assert manifest.baseline.name == "base_bare" and manifest.reference is not None
    assert manifest.reference.name == "thinking" and manifest.rows_expected == 12 * N
    alone = Manifest(run_id="a", name="a", spec={}, arms=arms_with(a="baseline"), splits={"test": 5}, seeds=3)
    assert alone.reference is None and alone.rows_expected == 15


def test_status_survives_reopening_and_is_checked(run: Run) -> None:
    store = Store(run.folder.parent)
    run.set_status("interrupted")
    assert run.manifest.status == store.open("fake").manifest.status == "interrupted"
    with pytest.raises(StoreError, match="Did you mean 'complete'"):
        run.set_status("completed")  # type: ignore[arg-type]


def test_summaries_are_stored_in_equal_bytes_and_damage_is_named(run: Run) -> None:
    assert run.summary() is None
    run.write_summary({"b": 1.5, "a": {"d": None, "c": "é"}})
    first = (run.folder / "summary.json").read_bytes()
    run.write_summary({"a": {"c": "é", "d": None}, "b": 1.5})
    assert (run.folder / "summary.json").read_bytes() == first
    assert run.summary() == {"a": {"c": "é", "d": None}, "b": 1.5}
    with pytest.raises(StoreError, match="not plain JSON data"):
        run.write_summary({"a": float("nan")})
    (run.folder / "summary.json").write_bytes(first[:9])
    with pytest.raises(StoreError, match="computed again"):
        run.summary()


# The fake run, and what the store may import


def test_the_fake_run_is_realistic_and_hostile_only_when_asked(tmp_path: Path) -> None:
    plain, hostile = make_fake_run(tmp_path, N), make_fake_run(tmp_path, N, hostile=True)
    for run, expected in ((plain, False), (hostile, True)):
        for row in run.table().to_pylist():
            here = expected and row["order"] < len(HOSTILE)
            markup = HOSTILE[row["order"]] if here else "<script>"
            assert (markup in row["tokens"]) == (markup in row["text"]) == (markup in row["prompt"]) == here
            assert all(0 <= s["start"] < s["end"] <= len(row["tokens"]) for s in row["labels"])
            assert (row["edits_fired"] > 0) == (row["arm"] in ("steered", "random", "wrong_sign"))
    assert {a.role for a in plain.manifest.arms} == {"baseline", "prompt", "steered", "control", "reference"}


def test_the_store_and_the_summary_never_import_torch() -> None:
    code = "import sys, experiments.store.runs, experiments.evaluation.summary; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
