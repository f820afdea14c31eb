"""How many threads a live generation takes: one for a small model, and of larger ones half where a command runs beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from experiments.live import run
from experiments.live.run import Engine
from tests.app.test_playground import request


@pytest.fixture
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield 4
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("small", "shared", "taken"), [(True, False, 1), (True, True, 1), (False, True, 2), (False, False, 4)]
)
def test_threads_of_a_generation(
    threads: int, small: bool, shared: bool, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "is_small", lambda model: small)
    engine, seen = Engine(), []
    engine.beside(not shared)
    engine.beside(shared)
    for event in engine.run(request(max_new_tokens=3).model_dump(), lambda: False):
        if event["kind"] == "token":
            seen.append(torch.get_num_threads())
    assert seen and set(seen) == {taken}
