"""Generations of two threads on one model: each has the texts that it has alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from steering.engine.generation import Row, generate, stream
from steering.engine.sampling import GenerationSettings
from steering.model import products
from steering.plan.plan import Plan
from tests.steering.test_lean import fresh
from tests.tiny import plan, tiny

SETTINGS = GenerationSettings(24)
PROMPT = (1, 9, 17, 33)


def together(*jobs: Callable[[], Any], times: int = 8) -> list[list[Any]]:
    """What each job gives, that many times, all of them side by side."""
    found: list[list[Any]] = [[] for _ in jobs]
    ready = threading.Barrier(len(jobs))

    def work(place: int) -> None:
        ready.wait()
        for _ in range(times):
            try:
                found[place].append(jobs[place]())
            except Exception as error:  # a thread's own exception would be lost
                found[place].append(error)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    return found


def ids(model: Any, rows: list[Row]) -> list[tuple[int, ...]]:
    return [g.token_ids for g in generate(model, rows, SETTINGS)]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("small", [False, True])
def test_steered_and_unsteered_texts_do_not_meet(rows: int, small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if small:
        monkeypatch.setattr(products, "MIDDLING_WEIGHT", 0)
    model = fresh("llama")
    steered = [Row((*PROMPT, 5 + n), plan(amount=4.0, span="generated")) for n in range(rows)]
    bare = [Row((*PROMPT, 5 + n, 7, 8)[: 5 + n]) for n in range(rows)]
    wanted = ids(model, steered), ids(model, bare)
    assert wanted[0] != ids(model, [Row(row.prompt_ids, Plan()) for row in steered])
    first, second = together(lambda: ids(model, steered), lambda: ids(model, bare))
    assert first == [wanted[0]] * 8 and second == [wanted[1]] * 8


def test_shared_prompts_and_forced_passes_side_by_side() -> None:
    model = tiny("qwen2")
    rows = [Row(PROMPT, plan(amount=amount, span="generated")) for amount in (0.0, 2.0, 4.0)]
    text = torch.tensor([PROMPT])

    def read() -> torch.Tensor:
        with torch.inference_mode():
            return model.runs.forward({}, {"input_ids": text})

    wanted = ids(model, rows), read()
    texts, logits = together(lambda: ids(model, rows), read)
    assert texts == [wanted[0]] * 8 and all(torch.equal(one, wanted[1]) for one in logits)


def test_a_stream_that_is_left_open_stops_nobody() -> None:
    model = fresh("llama")
    begun = stream(model, [Row(PROMPT, plan(amount=4.0, span="generated"))], SETTINGS)
    next(begun)
    wanted = ids(model, [Row(PROMPT)])
    (found,) = together(lambda: ids(model, [Row(PROMPT)]), times=2)
    assert found == [wanted] * 2
    begun.close()
