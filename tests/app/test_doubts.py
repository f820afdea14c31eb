"""Pages over files that are not as they should be: they open, name the file and the reason, and mark figures that may be wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import stack
from app.jobs.board import Board, replace_board
from app.vector_files import left_out, offered
from experiments.store.runs import Store
from steering.errors import BadInput
from steering.vector.vectors import SteeringVector
from tests.experiments.fake_run import make_fake_run
from tests.experiments.test_bad_files import BAD_VECTORS

ROOT = Path(__file__).resolve().parents[2]
VECTOR = ROOT / "steering" / "builtin" / "vectors" / "think-first.safetensors"
Patch = pytest.MonkeyPatch


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    make_fake_run(tmp_path / "runs", 4)
    board = Board("tests.app.fake_engine:Engine", tmp_path / "runs")
    replace_board(board)
    yield tmp_path / "runs"
    replace_board(None)
    board.close()


def show(page: str, runs: Path, monkeypatch: Patch, **query: str) -> AppTest:
    monkeypatch.setenv("STEERING_RUNS", str(runs))
    app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    return app.switch_page(f"app_pages/{page}.py").run()


def said(app: AppTest) -> str:
    kinds = ("markdown", "caption", "info", "warning", "error")
    return "\n".join(str(element.value) for kind in kinds for element in getattr(app, kind)).replace("\\", "")


@pytest.mark.parametrize("what", BAD_VECTORS)
def test_a_file_that_is_no_vector_keeps_no_other_from_being_offered(what: str, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "vectors"
    folder.mkdir(parents=True)
    (folder / "bad.safetensors").write_bytes(BAD_VECTORS[what])
    before = offered("none")
    assert offered(tmp_path) == before
    ((name, reason),) = left_out(tmp_path)
    assert name == "bad.safetensors (run run)"
    assert len(reason) > 10


@pytest.mark.parametrize("page", ["playground", "vectors"])
def test_pages_name_the_vector_files_that_they_pass_over(page: str, runs: Path, monkeypatch: Patch) -> None:
    folder = runs / "fake" / "vectors"
    folder.mkdir()
    for number, data in enumerate(BAD_VECTORS.values()):
        (folder / f"bad{number}.safetensors").write_bytes(data)
    app = show(page, runs, monkeypatch)
    assert not app.exception
    text = said(app)
    assert "bad0.safetensors (run fake): its header is no mapping" in text
    assert "bad19.safetensors (run fake)" in text
    assert any(f"{len(BAD_VECTORS)} files passed over" in box.label for box in app.expander)


@pytest.mark.parametrize("page", ["results", "compare", "home", "runs", "playground"])
def test_pages_mark_a_run_that_does_not_verify_with_the_reason(page: str, runs: Path, monkeypatch: Patch) -> None:
    assert "does not verify" not in said(show(page, runs, monkeypatch))
    run = Store(runs).open("fake")
    with run.local("vectors") as place:
        SteeringVector.load(VECTOR).save(place / "v.safetensors")
    run.set_status("complete")
    assert "does not verify" not in said(show(page, runs, monkeypatch))
    path = run.folder / "vectors" / "v.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    app = show(page, runs, monkeypatch)
    assert not app.exception
    assert "vectors/v.safetensors was changed" in "\n".join(e.value.replace("\\", "") for e in app.error)
    path.write_bytes(data)
    run.shards()[0].unlink()
    app = show(page, runs, monkeypatch)
    assert not app.exception
    assert "is missing" in "\n".join(e.value.replace("\\", "") for e in app.error)


@pytest.mark.parametrize(
    "text",
    [
        '[["add","0",1e309,1,"vector","all",0]]', '[["add","0",-1,1e309,"vector","all",0]]', '[["add","0",-1,-1e999,"vector","all",0]]',
        "[" * 50_000, '[["add","0",' + "9" * 5000 + ',1,"vector","all",0]]', '[["add","0",NaN,1,"vector","all",0]]',
    ],
)  # fmt: skip
def test_a_link_with_a_number_that_there_is_not_is_named(text: str, runs: Path, monkeypatch: Patch) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        stack.read(text)
    if len(text) < 200:
        app = show("playground", runs, monkeypatch, pg_stack=text)
        assert not app.exception
        assert "interventions of this link cannot be read" in said(app)


@pytest.mark.parametrize("page", ["home", "runs", "results", "jobs"])
def test_pages_stand_over_a_file_in_place_of_the_store(page: str, tmp_path: Path, monkeypatch: Patch) -> None:
    (tmp_path / "file").write_text("x")
    app = show(page, tmp_path / "file", monkeypatch)
    assert not app.exception
    if page in ("runs", "results"):
        assert "is a file" in said(app)
