"""The seal of a run: whatever is altered, lost or added is found by `verify` and, as far as it looks, by pages and reports."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from experiments.evaluation.summarise import summarise
from experiments.evaluation.summary import to_json
from experiments.report import write_report
from experiments.store import seal
from experiments.store.archive import export, import_archive
from experiments.store.runs import Run, Store, StoreError
from experiments.store.seal import BAD, FILE, look
from experiments.store.upkeep import migrate_run, verify
from experiments.traces.forced_kl import write_kl
from steering.vector.vectors import SteeringVector
from tests.experiments.command_line import command
from tests.experiments.fake_run import make_fake_run, make_manifest, make_rows

ROOT = Path(__file__).resolve().parents[2]
VECTOR = ROOT / "steering" / "builtin" / "vectors" / "think-first.safetensors"
N = 4


def whole_run(root: Path) -> Run:
    """A complete run with a vector, a controller's part, a summary and a reading."""
    run = Store(root).create(make_manifest(n_items=N))
    with run.local("vectors") as place:
        SteeringVector.load(VECTOR).save(place / "v.safetensors")
    with run.local("controllers") as place:
        SteeringVector.load(VECTOR).save(place / "c.safetensors")
    rows = make_rows(N)
    for start in range(0, len(rows), 16):
        run.write(rows[start : start + 16])
    run.write_summary(json.loads(to_json(summarise(run.table(), run.manifest))))
    run.set_status("complete")
    row = run.table().to_pylist()[-1]
    numbers = [0.0] * len(row["token_ids"])
    write_kl(run, row, {"divergence": numbers, "logprob": numbers, "unsteered_logprob": numbers})
    return run


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_run(tmp_path_factory.mktemp("stored")).folder


@pytest.fixture
def run(stored: Path, tmp_path: Path) -> Run:
    shutil.copytree(stored, tmp_path / "runs" / "fake")
    return Store(tmp_path / "runs").open("fake")


def faults(run: Run) -> dict[str, str]:
    return {one.file: one.status for one in verify(run) if one.status in BAD}


def targets(folder: Path) -> list[Path]:
    """One file of every kind."""
    return [
        folder / "run.json", folder / "summary.json", folder / "vectors" / "v.safetensors", folder / "controllers" / "c.safetensors",
        next((folder / "kl").iterdir()), sorted((folder / "rows").glob("*.parquet"))[1],
    ]  # fmt: skip


def change(path: Path) -> None:
    """One letter or byte, so that the file can still be read."""
    data = path.read_bytes()
    if path.name == "run.json":
        path.write_bytes(data.replace(b"Does the direction", b"Now the direction "))
    elif path.suffix == ".json":
        path.write_bytes(data.replace(b"0", b"1", 1))
    else:
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    assert path.read_bytes() != data


def test_a_run_as_it_was_written_verifies(run: Run) -> None:
    assert {one.status for one in verify(run)} == {"ok"}
    assert look(run.folder) == []
    assert len({one.file for one in verify(run)}) == len(list(verify(run))) == 5 + len(run.shards())


def test_other_programs_can_check_the_list(run: Run) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("there is no sha256sum")
    check = ["sha256sum", "-c", "--quiet", FILE]
    assert subprocess.run(check, cwd=run.folder, capture_output=True).returncode == 0
    change(run.folder / "summary.json")
    assert subprocess.run(check, cwd=run.folder, capture_output=True).returncode == 1


@pytest.mark.parametrize("number", range(6), ids=["manifest", "summary", "vector", "controller", "reading", "shard"])
def test_an_altered_file_and_a_lost_one_are_found(run: Run, number: int) -> None:
    path = targets(run.folder)[number]
    name = (
        path.name
        if path.suffix == ".parquet" and path.parent.name == "rows"
        else path.relative_to(run.folder).as_posix()
    )
    change(path)
    assert faults(run) == {name: "damaged"}
    assert [(one.file, one.status) for one in look(run.folder)] == [(name, "damaged")]
    path.unlink()
    assert faults(run) == {name: "missing"}
    assert [(one.file, one.status) for one in look(run.folder)] == [(name, "missing")]


def test_a_shard_that_is_lost_with_its_checksum_is_found_also_where_shards_are_not_read(run: Run) -> None:
    shard = run.shards()[0]
    shard.with_suffix(".sha256").unlink()
    shard.unlink()
    assert faults(run) == {shard.name: "missing"}
    assert [one.status for one in look(run.folder, 0)] == ["missing"]


def test_a_shard_that_was_written_anew_with_its_checksum_is_found(run: Run) -> None:
    shard = run.shards()[0]
    table = pq.read_table(shard)
    flipped = table.set_column(
        table.schema.get_field_index("correct"),
        table.schema.field("correct"),
        [[not v for v in table["correct"].to_pylist()]],
    )
    pq.write_table(flipped, shard)
    digest = hashlib.sha256(shard.read_bytes()).hexdigest()
    shard.with_suffix(".sha256").write_text(f"{digest}  {shard.name}\n")
    assert faults(run) == {shard.name: "damaged"}
    assert [one.file for one in look(run.folder)] == [shard.name]


def test_a_file_that_was_added_to_a_complete_run_is_found(run: Run) -> None:
    for name in ("vectors/w.safetensors", "notes.txt", "rows/" + "0" * 24 + ".parquet"):
        path = run.folder / name
        shutil.copy(run.shards()[0] if name.startswith("rows") else VECTOR, path)
        assert list(faults(run).values()) in (["extra"], ["damaged"])
        assert [one.file for one in look(run.folder)] == [path.name if name.startswith("rows") else name]
        path.unlink()
    for name in ("x.tmp", "rows/x.parquet.corrupt"):
        (run.folder / name).write_bytes(b"x")
    assert faults(run) == {}


@pytest.mark.parametrize("text", ["x", "", f"# every file of this run\n{'0' * 63}  run.json\n", "\xff"])
def test_a_damaged_list_is_a_fault_or_names_what_is_wrong(run: Run, text: str) -> None:
    (run.folder / FILE).write_bytes(text.encode("latin-1"))
    if text:
        assert faults(run) == {FILE: "damaged"}
        assert [one.file for one in look(run.folder)] == [FILE]
    else:
        assert {one.status for one in verify(run) if one.file == "run.json"} == {"no checksum"}


def test_a_run_without_a_list_is_not_covered_and_no_fault_until_it_is_migrated(run: Run) -> None:
    (run.folder / FILE).unlink()
    found = {one.file: one for one in verify(run)}
    assert {found[name].status for name in ("run.json", "summary.json", "vectors/v.safetensors")} == {"no checksum"}
    assert "not covered by a checksum" in str(found["run.json"].problem)
    assert look(run.folder) == []
    assert faults(run) == {}
    assert migrate_run(run) > 0
    assert {one.status for one in verify(run)} == {"ok"}
    assert migrate_run(run) == 0
    change(run.folder / "summary.json")
    with pytest.raises(StoreError, match="was changed"):
        migrate_run(run)
    assert faults(run) == {"summary.json": "damaged"}, "a migration blesses nothing"


def test_a_later_reading_does_not_bless_what_was_altered_before(run: Run) -> None:
    change(run.folder / "summary.json")
    row = run.table().to_pylist()[0]
    numbers = [0.0] * len(row["token_ids"])
    write_kl(run, row, {"divergence": numbers, "logprob": numbers, "unsteered_logprob": numbers})
    assert faults(run) == {"summary.json": "damaged"}


def test_a_run_that_goes_on_is_not_called_incomplete(tmp_path: Path) -> None:
    run = Store(tmp_path).create(make_manifest(n_items=N))
    run.set_status("running")
    run.write(make_rows(N)[:16])
    assert faults(run) == {}
    run.set_status("interrupted")
    run.write(make_rows(N)[16:32])
    assert faults(run) == {}
    assert look(run.folder) == []


def test_a_shard_that_is_made_again_verifies(run: Run) -> None:
    shard = run.shards()[0]
    keys = set(pq.read_table(shard, columns=["key"])["key"].to_pylist())
    change(shard)
    run.keys(drop_corrupt=True)
    assert faults(run) == {shard.name: "missing"}
    run.set_status("running")
    run.write([row for row in make_rows(N) if row["key"] in keys])
    run.set_status("complete")
    assert faults(run) == {}


def test_an_archive_of_a_run_that_does_not_verify_is_not_taken(run: Run, tmp_path: Path) -> None:
    export(run, tmp_path / "good.zip", "zip")
    assert faults(import_archive(tmp_path / "good.zip", Store(tmp_path / "other"))) == {}
    change(run.folder / "summary.json")
    export(run, tmp_path / "bad.zip", "zip")
    with pytest.raises(StoreError, match=r"not whole, so nothing was written: fake/summary\.json was changed"):
        import_archive(tmp_path / "bad.zip", Store(tmp_path / "third"))
    assert not (tmp_path / "third" / "fake").exists()
    assert list((tmp_path / "third").glob(".import-*")) == []


def test_a_look_reads_a_file_again_only_when_it_changed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for path in run.folder.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    assert look(run.folder) == []
    read: list[str] = []
    before = seal._bytes_sum
    monkeypatch.setattr(seal, "_bytes_sum", lambda path: (read.append(path.name), before(path))[1])
    assert look(run.folder) == []
    assert read == []
    change(run.folder / "summary.json")
    assert len(look(run.folder)) == 1
    assert read == ["summary.json"]


def test_a_report_is_marked_with_the_reason(run: Run, tmp_path: Path) -> None:
    write_report(run, tmp_path / "good", ["html", "md", "latex"])
    change(run.folder / "summary.json")
    report = write_report(run, tmp_path / "bad", ["html", "md", "latex"])
    assert report.doubts and "summary.json was changed" in report.doubts
    for name in ("report.html", "tables.md", "tables.tex"):
        assert "does not verify" not in (tmp_path / "good" / name).read_text()
        text = (tmp_path / "bad" / name).read_text().replace("\\_", "_")
        assert "does not verify" in text and "summary.json" in text


def test_the_command_line_names_what_is_wrong(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change(run.folder / "vectors" / "v.safetensors")
    (run.folder / "summary.json").unlink()
    (run.folder / "notes.txt").write_text("x")
    steer, where = command(monkeypatch, capsys), ["--runs", run.folder.parent]
    code, out, err = steer("runs", "verify", "fake", *where)
    assert code == 1
    lines = {line.split("\t")[1]: line.split("\t")[2] for line in out.splitlines()}
    assert lines == {"vectors/v.safetensors": "damaged", "summary.json": "missing", "notes.txt": "extra"}
    assert "1 damaged, 1 missing, 1 extra" in err
    _, _, err = steer("runs", "show", "fake", *where)
    assert "does not verify" in err and "vectors/v.safetensors" in err


def test_an_evaluation_of_the_builtin_pair_is_sealed_whole(tmp_path: Path) -> None:
    from experiments.evaluation.evaluate import run_evaluation
    from experiments.evaluation.spec import EvalSpec
    from experiments.store.runs import Arm

    arms = (Arm(name="base", label="base", role="baseline", model="builtin:base", form="bare"),)
    spec = EvalSpec(name="small", splits={"standard-dev": 2}, arms=arms, generation={"max_new_tokens": 4})  # type: ignore[arg-type]
    run = run_evaluation(spec, Store(tmp_path))
    assert {one.status for one in verify(run)} == {"ok"}
    assert (run.folder / FILE).read_text().startswith("# every file of this run\n")
    assert {one.status for one in verify(make_fake_run(tmp_path, 2))} == {"ok"}


def test_archives_hold_the_list(run: Run, tmp_path: Path) -> None:
    export(run, tmp_path / "x.zip", "zip")
    assert f"fake/{FILE}" in zipfile.ZipFile(tmp_path / "x.zip").namelist()
