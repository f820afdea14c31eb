"""A page without a browser, over a store, and a board whose jobs a test makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

from app.jobs.board import replace_board
from app.jobs.job import Job
from tests.app.test_pages import ROOT


def show(page: str, runs: Path, monkeypatch: pytest.MonkeyPatch, **query: str) -> AppTest:
    """The page after its script run, as a link opens it."""
    monkeypatch.setenv("STEERING_RUNS", str(runs))
    app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    if page != "home":
        app.switch_page(f"app_pages/{page}.py")
    return app.run()


def board_of() -> Iterator[list[Job]]:
    """A board with these jobs, and what was asked of it."""
    held: list[Job] = []
    asked: list[list[str]] = []

    def submit(arguments: list[str], title: str, owner: str) -> str:
        asked.append(arguments)
        held.append(Job(id="new", kind="command", title=title, owner=owner, request=arguments))
        return "new"

    replace_board(SimpleNamespace(
        jobs=lambda: list(held), active=lambda: (sum(not j.over for j in held), 0), submit_command=submit, get=lambda i: None,
        ahead=lambda j: 0, holder=lambda kind="generate": None, before=lambda kind: 0, may_cancel=lambda j, o: True, alone=False,
        asked=asked, speed={}, worker=SimpleNamespace(pid=None, models=[], warm=lambda: None),
    ))  # type: ignore[arg-type]  # fmt: skip
    yield held
    replace_board(None)
