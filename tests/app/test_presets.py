"""Stacks under a name: kept, taken again, downloaded, and read by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.jobs.board import Board
from app.presets import keep, stacks, written
from app.stack import Card
from app.vector_files import offered
from steering.errors import BadInput
from tests.app.test_playground import THINK_FIRST, board, show
from tests.experiments.command_line import command

__all__ = ["board"]
Patch = pytest.MonkeyPatch
CARDS = [Card(vector=THINK_FIRST, span="generated", strength=0.5), Card(vector=THINK_FIRST, operation="ablate")]


def test_a_stack_is_kept_and_taken_again(board: Board, tmp_path: Path, monkeypatch: Patch) -> None:
    app = show("playground", tmp_path, monkeypatch)
    before = [app.session_state[f"pg_span_{n}"] for n in app.session_state["pg_cards"]]
    app.text_input(key="pg_stack_as").set_value("my stack").run()
    app.button(key="pg_stack_keep").click().run()
    assert not app.exception and list(stacks(tmp_path)) == ["my stack"]
    keep(tmp_path, "two", CARDS, offered(tmp_path), False)
    app.run()
    app.selectbox(key="pg_stack_name").select("two")
    app.button(key="pg_stack_take").click().run()
    state = app.session_state
    assert [state[f"pg_span_{n}"] for n in state["pg_cards"]] == ["generated", "last_prompt"] != before
    app.button(key="pg_stack_drop").click().run()
    assert not app.exception and list(stacks(tmp_path)) == ["my stack"]


def test_a_name_is_not_written_over_without_a_word_and_must_be_one(tmp_path: Path) -> None:
    vectors = offered(tmp_path)
    keep(tmp_path, "a", CARDS, vectors, False)
    with pytest.raises(BadInput, match="write over it"):
        keep(tmp_path, "a", CARDS, vectors, False)
    keep(tmp_path, "a", CARDS[:1], vectors, True)
    for name in ("../a", "", "a/b", "." * 3, "x" * 61):
        with pytest.raises(BadInput, match="no name here"):
            keep(tmp_path, name, CARDS, vectors, False)
    with pytest.raises(BadInput, match="no intervention"):
        written([], vectors)


def test_a_stack_whose_vector_is_not_here_says_so(board: Board, tmp_path: Path, monkeypatch: Patch) -> None:
    path = keep(tmp_path, "gone", CARDS, offered(tmp_path), False)
    path.write_text(path.read_text().replace(THINK_FIRST, "0" * 16))
    app = show("playground", tmp_path, monkeypatch)
    app.button(key="pg_stack_take").click().run()
    assert not app.exception and any("its vector is not here" in one.value.replace("\\", "") for one in app.error)


def test_the_command_line_takes_a_stack(tmp_path: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = offered(tmp_path)
    path = keep(tmp_path, "a", CARDS[:1], vectors, False)
    steer = command(monkeypatch, capsys)
    code, out, err = steer(
        "generate", "--prompt", "rules + 1 ; goal 3 start 1 2 ?", "--plan", str(path),
        "--vector", f"{THINK_FIRST}={vectors[THINK_FIRST].path}",
        "--max-new-tokens", "5", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)[1]["edits_fired"] > 0
