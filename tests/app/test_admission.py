"""What may become a job: new, repeated, or remembered by a file that somebody else wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.jobs.admission import NotAdmitted, admitted_command, admitted_generation
from app.jobs.board import Board, Refused
from app.jobs.job import Job
from app.jobs.ledger import Ledger
from app.vector_files import BUILT_IN, SHIPPED, offered

ENGINE = "tests.app.fake_engine:Engine"
ID = "0123456789abcdef"
FACTS: dict[str, Any] = {
    "id": ID, "kind": "command", "title": "t", "owner": "me", "request": ["runs", "list"], "state": "done", "detail": "", "error": "",
    "asked": 1.0, "begun": None, "ended": 2.0, "done": 0, "total": 0, "server": 2**22 + 1,
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A store, in a folder with nothing else in it."""
    folder = tmp_path / "around" / "runs"
    (folder / ".jobs").mkdir(parents=True)
    yield folder
    there = {path.relative_to(tmp_path / "around").parts[0] for path in (tmp_path / "around").rglob("*")}
    assert there == {"runs"}, "nothing is written outside the store"


def remember(store: Path, name: str = ID, **facts: Any) -> None:
    (store / ".jobs" / f"{name}.json").write_text(json.dumps({**FACTS, **facts}))


@pytest.mark.parametrize(
    "facts",
    [
        {"id": "../../x"}, {"id": "../x", "state": "running"}, {"id": "/tmp/x"}, {"id": ""}, {"id": "0" * 17}, {"id": ID.upper()},
        {"id": "f" * 16}, {"kind": "shell"}, {"state": "fine"}, {"request": None}, {"request": [1]}, {"request": "x"}, {"title": None},
        {"asked": "now"}, {"asked": 1e999}, {"done": "1"}, {"server": 0}, {"server": -1}, {"server": 10**30}, {"more": 1},
    ],
)  # fmt: skip
def test_a_ledger_file_that_is_not_one_is_passed_over(store: Path, facts: dict[str, Any]) -> None:
    remember(store, **facts)
    assert Board(ENGINE, store).jobs() == []


@pytest.mark.parametrize("text", ["null", "[]", "1", '"x"', "{", "", "[" * 100_000, '{"a":' * 50_000, "\ud800", "NaN"])
def test_the_app_starts_over_a_ledger_that_holds_anything(store: Path, text: str) -> None:
    remember(store)
    (store / ".jobs" / ("a" * 16 + ".json")).write_bytes(text.encode(errors="surrogatepass"))
    (store / ".jobs" / ("b" * 16 + ".json")).mkdir()
    os.symlink("/etc/passwd", store / ".jobs" / ("c" * 16 + ".json"))
    assert [job.id for job in Board(ENGINE, store).jobs()] == [ID]


def test_a_job_with_another_kind_of_id_is_not_written_anywhere(store: Path) -> None:
    Ledger(store).write(Job("command", "t", "me", ["runs", "list"], id="../../x"))
    Ledger(store).write(Job("command", "t", "me", ["runs", "list"], id=ID))
    assert [path.name for path in (store / ".jobs").iterdir()] == [f"{ID}.json"]


@pytest.mark.parametrize(
    "request_",
    [
        ["pair", "train"], ["app"], ["report", "RUN", "-o", "/tmp/elsewhere"], ["extract", "/tmp/x.safetensors"], ["--help"],
        ["demo", "--runs", "/tmp/elsewhere"], ["demo", "--runs=/tmp/elsewhere"], ["sae", "dashboard", "builtin:base", "--out", "/tmp/x"],
        ["trace", "page", "RUN", "ITEM", "-o", "/tmp/x.html"], ["runs", "gc", "--delete"], ["runs", "export", "R", "-o", "/tmp/x.zip"],
        ["eval", "/etc/passwd"], ["vectors", "import", "/etc/passwd", "--out", "/tmp"],
        ["vectors", "lens", "/etc/passwd", "--model", "builtin:base"], ["vectors", "lens", "--sae", "builtin:base", "--model", "elsewhere"],
        ["vectors", "lens", "--texts", "/etc/passwd"], ["vectors", "lens", str(BUILT_IN / ".." / ".." / "x.safetensors")],
        ["runs", "verify", "../x"], ["doctor", "--help"],
    ],
)  # fmt: skip
def test_a_remembered_command_passes_the_same_gate_as_a_new_one(store: Path, request_: list[str]) -> None:
    remember(store, request=request_)
    board = Board(ENGINE, store)
    assert [job.id for job in board.jobs()] == [ID]
    with pytest.raises(Refused) as repeated:
        board.retry(ID, "me")
    with pytest.raises(Refused) as new:
        board.submit_command(request_, "t", "me")
    assert str(repeated.value) == str(new.value)
    assert board.active() == (0, 0)


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        ({}, "nothing is asked"),
        ({"prompt": "x", "max_new_tokens": 10**9}, "32768"),
        ({"prompt": "x", "command": ["rm"]}, "Extra inputs"),
        ({"prompt": "x", "files": {"0" * 16: "/etc/passwd"}}, "/etc/passwd lies neither"),
        ({"prompt": "x", "files": {"0" * 16: str(BUILT_IN / ".." / ".." / "x")}}, "lies neither"),
    ],
)
def test_a_remembered_generation_passes_the_same_gate_as_a_new_one(
    store: Path, request_: dict[str, Any], word: str
) -> None:
    remember(store, kind="generate", request=request_)
    board = Board(ENGINE, store)
    with pytest.raises(Refused) as repeated:
        board.retry(ID, "me")
    with pytest.raises(NotAdmitted) as new:
        admitted_generation(request_, store)
    assert str(repeated.value) == str(new.value)
    if word != "nothing is asked":
        assert word in str(new.value)


def test_a_command_runs_on_the_servers_own_store(store: Path, tmp_path: Path) -> None:
    assert admitted_command(["demo"], store) == ["demo", "--runs", str(store)]
    assert admitted_command(["eval", "--runs", f"{store}/inner"], store)[-1] == f"{store}/inner"
    assert admitted_command(["runs", "list"], "s3://bucket/runs") == ["runs", "list", "--runs", "s3://bucket/runs"]
    for other in ("s3://bucket/other", str(store)):
        with pytest.raises(NotAdmitted):
            admitted_command(["runs", "list", "--runs", other], "s3://bucket/runs")
    os.symlink(tmp_path, store / "away")
    with pytest.raises(NotAdmitted, match="what is written lies in"):
        admitted_command(["demo", "--runs", f"{store}/away"], store)
    (store / "away").unlink()


def test_every_vector_that_is_offered_may_be_run(store: Path) -> None:
    vectors = list(offered(store).values())
    assert {v.path.parent for v in vectors} >= set(SHIPPED), "those of the pair and those of language models"
    for vector in vectors:
        edit = {"vector": vector.digest, "vector_name": vector.name, "site": vector.site.name, "span": "generated"}
        asked = {
            "prompt": "x",
            "edits": [{**edit, "amount": 1.0, "unit": "vector"}],
            "files": {vector.digest: str(vector.path)},
        }
        assert admitted_generation(asked, store)["files"] == {vector.digest: str(vector.path)}
