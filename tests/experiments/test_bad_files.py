"""Files that are not what they should be, and places that cannot be written: one sentence, the right exit code, nothing left behind."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from experiments.commands import cli
from experiments.store.runs import Store
from experiments.store.upkeep import verify
from steering.errors import BadInput
from steering.files import DiskFull, new_file, write_file
from steering.vector.vectors import FORMAT, Provenance, SteeringVector
from tests.experiments.fake_run import make_fake_run
from tests.steer_process import SteerProcess

ROOT = Path(__file__).resolve().parents[2]
VECTOR = ROOT / "steering" / "builtin" / "vectors" / "think-first.safetensors"
Steer = Callable[..., tuple[int, str, str]]


@pytest.fixture
def steer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Steer:
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["steer", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return call


def one_sentence(err: str) -> str:
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("Error: ") and "Traceback" not in err, err
    return lines[0]


def temporary(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp") or ".import-" in path.name]


# ---- vector files ------------------------------------------------------------------------------------------------------


def file_of(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def vector_file(facts: Any, values: bytes = b"\x00\x00\x80?" * 4, **metadata: Any) -> bytes:
    tensor = {"dtype": "F32", "shape": [len(values) // 4], "data_offsets": [0, len(values)]}
    stored = facts if isinstance(facts, str) else json.dumps(facts)
    return file_of({"direction": tensor, "__metadata__": {"format": FORMAT, "vector": stored, **metadata}}, values)


GOOD = {"name": "v", "site": "blocks.1.hook_resid_post", "provenance": {**vars(Provenance("test", "none"))}}
LARGE = b"\xff\xff\x7f\x7f" * 4  # the largest 32-bit number, four times
BAD_VECTORS = {
    "a list as header": file_of([1]),
    "null as header": file_of(None),
    "a number as metadata": file_of({"__metadata__": 3}),
    "a list as metadata": file_of({"__metadata__": []}),
    "a header of 60,000 brackets": file_of(b"[" * 60_000),
    "a list as facts": vector_file([1]),
    "null as facts": vector_file("null"),
    "brackets as facts": vector_file("[" * 60_000),
    "a number of 5,000 digits": vector_file('{"name": ' + "9" * 5000 + "}"),
    "a list as provenance": vector_file({**GOOD, "provenance": [1]}),
    "null as provenance": vector_file({**GOOD, "provenance": None}),
    "a number as site": vector_file({**GOOD, "site": 3}),
    "no site at all": vector_file({"name": "v", "provenance": GOOD["provenance"]}),
    "a list as name": vector_file({**GOOD, "name": []}),
    "NaN": vector_file(GOOD, b"\x00\x00\xc0\x7f" * 4),
    "infinity": vector_file(GOOD, b"\x00\x00\x80\x7f" * 4),
    "a norm that overflows": vector_file(GOOD, LARGE),
    "zeros": vector_file(GOOD, bytes(16)),
    "nothing": b"",
    "no header": b"\xff" * 200,
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_VECTORS)
def test_a_vector_file_that_is_none_is_refused_by_name(what: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(BAD_VECTORS[what])
    with pytest.raises(BadInput, match="bad.safetensors"):
        SteeringVector.load(path)


@pytest.mark.parametrize("what", BAD_VECTORS)
def test_a_spec_with_a_vector_file_that_is_none_is_bad_input(what: str, tmp_path: Path, steer: Steer) -> None:
    (tmp_path / "bad.safetensors").write_bytes(BAD_VECTORS[what])
    (tmp_path / "spec.yaml").write_text(
        "name: x\nsplits: {standard-dev: 1}\narms:\n- {name: a, label: a, role: baseline, model: 'builtin:base', form: bare}\n"
        "- {name: b, label: b, role: steered, model: 'builtin:base', form: bare, plan: {interventions: [{operation: add, "
        "vector: bad.safetensors, span: generated, dose: 1v}]}}\n"
    )
    code, out, err = steer("eval", tmp_path / "spec.yaml", "--runs", tmp_path / "runs")
    assert (code, out) == (2, "")
    assert "bad.safetensors" in one_sentence(err) and "arms.1.plan.interventions.0.vector" in err
    assert not (tmp_path / "runs").exists()


# ---- archives ------------------------------------------------------------------------------------------------------------


def test_an_archive_with_damaged_or_encrypted_members_is_bad_input(tmp_path: Path, steer: Steer) -> None:
    make_fake_run(tmp_path / "from", 2)
    good = tmp_path / "good.zip"
    assert steer("runs", "export", "fake", "-o", good, "--runs", tmp_path / "from")[0] == 0
    whole = good.read_bytes()
    names = zipfile.ZipFile(good).namelist()
    damaged = {
        "a flipped byte in a shard": whole.replace(b"PAR1", b"PAR2", 1),
        "an encrypted member": _flagged(whole, 0x1),
        "a compression that there is not": _method(whole, 99),
        "compressed data that is none": _method(whole, zipfile.ZIP_DEFLATED),
        "bzip2 data that is none": _method(whole, zipfile.ZIP_BZIP2),
        "LZMA data that is none": _method(whole, zipfile.ZIP_LZMA),
        "cut short": whole[: len(whole) // 2],
        "no archive": b"PK\x03\x04" + bytes(50),
        "nothing": b"",
    }
    assert len(names) > 5
    for what, data in damaged.items():
        bad = tmp_path / "bad.zip"
        bad.write_bytes(data)
        code, out, err = steer("runs", "import", bad, "--runs", tmp_path / "to")
        assert (code, out) == (2, ""), what
        assert "bad.zip" in one_sentence(err), what
        assert not (tmp_path / "to" / "fake").exists() and temporary(tmp_path) == [], what


def _flagged(data: bytes, flag: int) -> bytes:
    """The archive with this flag in every member's two headers."""
    return _patched(data, 6, 8, lambda old: old | flag)


def _method(data: bytes, method: int) -> bytes:
    return _patched(data, 8, 10, lambda old: method)


def _patched(data: bytes, local: int, central: int, change: Callable[[int], int]) -> bytes:
    found = bytearray(data)
    for begin, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        place = found.find(begin)
        while place >= 0:
            old = int.from_bytes(found[place + offset : place + offset + 2], "little")
            found[place + offset : place + offset + 2] = change(old).to_bytes(2, "little")
            place = found.find(begin, place + 4)
    return bytes(found)


# ---- specs ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 5000, b"{a: " * 3000, b"a: " + b"[" * 20_000, b"\xff\xfe\x00", b"when: 2024-99-99", b"n: 0b", b"n: " + b"9" * 5000,
        b"&a [*a]", b"a: b: c", b"\t- x", b"name: x\narms: [1]\nsplits: {d: 1}", b"name: x\narms: 3", b"arms: [{plan: 3}]",
        b"arms: [{plan: {interventions: 3}}]", b"arms: [{plan: {interventions: [3]}}]", b"3", b"null", b"",
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", [("eval",), ("sweep", "plan")])
def test_a_spec_that_cannot_be_read_is_bad_input(
    text: bytes, verb: tuple[str, ...], tmp_path: Path, steer: Steer
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(text)
    runs = ("--runs", tmp_path / "runs") if verb == ("eval",) else ()
    code, out, err = steer(*verb, path, *runs)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ") and "Traceback" not in err
    assert not (tmp_path / "runs").exists()


def test_numbers_with_an_exponent_are_numbers(tmp_path: Path) -> None:
    from steering.documents import read_yaml
    from steering.plan.plan import Plan

    text = "{a: 1.0e30, b: -2.5E-3, c: 1e-5, d: .5e3, e: 1e30, f: 12345678e1234567, g: 7, h: 1.5, i: '1.0e30', j: 1e}"
    assert read_yaml(text, "x") == {
        "a": 1e30, "b": -2.5e-3, "c": 1e-5, "d": 500.0, "e": "1e30", "f": "12345678e1234567", "g": 7, "h": 1.5, "i": "1.0e30", "j": "1e",
    }  # fmt: skip
    vector = SteeringVector.load(VECTOR)
    plan = "interventions: [{{operation: add, vector: v, span: generated, dose: {{amount: {}, unit: raw}}}}]"
    made = Plan.from_yaml(plan.format("1.0e3"), {"v": vector})
    assert made.interventions[0].dose.amount == 1000.0
    with pytest.raises(BadInput, match=r"must be a number, not '1e3'. Write it with a dot, as 1.0e30"):
        Plan.from_yaml(plan.format("1e3"), {"v": vector})


# ---- places ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb",
    [
        ("runs", "list"),
        ("runs", "verify"),
        ("runs", "show", "x"),
        ("runs", "query", "select 1"),
        ("eval",),
        ("app", "--no-browser"),
    ],
)
def test_a_file_in_place_of_the_store_is_bad_input(verb: tuple[str, ...], tmp_path: Path, steer: Steer) -> None:
    (tmp_path / "file").write_text("x")
    code, out, err = steer(*verb, "--runs", tmp_path / "file")
    assert (code, out) == (2, "")
    assert "is a file; a run store is a folder" in one_sentence(err)


def test_a_name_that_is_too_long_for_a_file_says_why_or_is_cut(tmp_path: Path, steer: Steer) -> None:
    vector = SteeringVector.load(VECTOR)
    long = SteeringVector("x" * 300, vector.site, vector.direction, vector.provenance)
    with pytest.raises(OSError, match="too long"):
        long.save(tmp_path / f"{'x' * 300}.safetensors")
    assert list(tmp_path.iterdir()) == []
    long.save(tmp_path / f"{'x' * 240}.safetensors")
    code, _, _ = steer(
        "vectors",
        "export",
        tmp_path / f"{'x' * 240}.safetensors",
        "--out",
        tmp_path / "a.gguf",
        "--layers",
        "llama.cpp",
        "--model-hint",
        "qwen2",
    )
    assert code == 0
    code, out, _ = steer("vectors", "import", tmp_path / "a.gguf", "--out", tmp_path / "in", "--layers", "llama.cpp")
    assert code == 0
    (written,) = json.loads(out)
    assert SteeringVector.load(written["file"]).name == "x" * 300
    code, _, err = steer(
        "vectors", "export", VECTOR, "--out", tmp_path / ("y" * 300), "--layers", "llama.cpp", "--model-hint", "qwen2"
    )
    assert code == 2 and "too long" in one_sentence(err)
    assert temporary(tmp_path) == []


# ---- a full disk ------------------------------------------------------------------------------------------------------------


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_written(path: Path) -> None:
    """A file whose own writer finds the disk full after it began."""
    with new_file(path) as partial:
        os.close(os.open(partial, os.O_CREAT))
        full()


@pytest.mark.parametrize("step", ["fsync", "open"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_file(path, b"old")
    if step == "fsync":
        monkeypatch.setattr("steering.files.os.fsync", full)
    else:
        monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DiskFull, match=r"no room for .*a\.json \(3 bytes\)"):
        write_file(path, b"new")
    with pytest.raises(DiskFull):
        half_written(path)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def limited(size: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`steer` in a process in which no file can be longer than `size` bytes: the kernel refuses the write."""
    return SteerProcess(*arguments, first=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))).done()


def test_an_evaluation_without_room_says_so_is_marked_interrupted_and_goes_on_later(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(
        "name: x\nsplits: {standard-dev: 6}\ngeneration: {max_new_tokens: 40}\n"
        "arms: [{name: a, label: a, role: baseline, model: 'builtin:base', form: bare}]\n"
    )
    runs = tmp_path / "runs"
    done = limited(6000, "eval", tmp_path / "spec.yaml", "--runs", runs)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: There is no room for") and "run the same command again" in last
    assert "Traceback" not in done.stderr
    assert temporary(tmp_path) == []
    (entry,) = Store(runs).list()
    assert entry.manifest is not None and entry.manifest.status == "interrupted"
    assert limited(1 << 30, "eval", tmp_path / "spec.yaml", "--runs", runs).returncode == 0
    assert {one.status for one in verify(Store(runs).open(entry.run_id))} == {"ok"}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "zip", "report", "gguf"])
def test_other_files_without_room_say_so_and_leave_nothing(kind: str, tmp_path: Path) -> None:
    make_fake_run(tmp_path / "runs", 8)
    out = tmp_path / "out" / f"x.{kind}"
    export = ("runs", "export", "fake", "-o", out, "--runs", tmp_path / "runs")
    arguments: tuple[str | Path, ...] = {
        "report": ("report", "fake", "-o", out, "--format", "html", "--runs", tmp_path / "runs"),
        "gguf": ("vectors", "export", VECTOR, "--out", out, "--layers", "llama.cpp", "--model-hint", "qwen2"),
    }.get(kind, export)
    done = limited(500, *arguments)
    assert done.returncode == 1, done.stderr
    assert "no room for" in done.stderr or "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert temporary(tmp_path) == []
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_a_place_that_cannot_be_written_is_bad_input(tmp_path: Path, steer: Steer) -> None:
    (tmp_path / "file").write_text("x")
    code, _, err = steer(
        "vectors",
        "export",
        VECTOR,
        "--out",
        tmp_path / "file" / "a.gguf",
        "--layers",
        "llama.cpp",
        "--model-hint",
        "qwen2",
    )
    assert code == 2
    assert "Not a directory" in one_sentence(err) or "File exists" in one_sentence(err)


def test_output_that_nobody_reads_any_more_ends_quietly(tmp_path: Path) -> None:
    make_fake_run(tmp_path, 8)
    words = [
        sys.executable,
        "-m",
        "experiments.commands.cli",
        "runs",
        "query",
        "select * from tokens",
        "--runs",
        str(tmp_path),
    ]
    steer = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert steer.stdout is not None and steer.stderr is not None
    steer.stdout.readline()
    steer.stdout.close()
    assert "Traceback" not in steer.stderr.read()
    steer.wait(timeout=60)
