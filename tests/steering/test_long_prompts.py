"""Prompts that are read in pieces: the rows of prompts read whole, and no mask that grows with the square of their length."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from steering.engine import loop, reading
from steering.engine.generation import Row, generate
from steering.engine.reading import pieces
from steering.engine.sampling import GenerationSettings
from steering.errors import NeverFired
from steering.model.cache import Masks
from steering.plan.plan import Gate, Plan
from tests.naive import naive_generate
from tests.tiny import CONFIGS, VOCABULARY, plan, tiny, vector

PIECE = 4
SETTINGS = GenerationSettings(max_new_tokens=6)


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PIECE", PIECE)


def plans() -> list[Plan]:
    gate = Gate("projection", 0.0, vector=vector(8))
    once = plan(span="all", gate=gate, amount=4.0, schedule="once")
    return [
        Plan(), plan(amount=3.0), plan(span="all", amount=1.5), plan("ablate", "last_prompt", layer=0), once,
        plan(span="prompt", amount=2.0, layer=2), plan(span="all", gate=gate, amount=4.0), plan(span="prompt", amount=2.0, layer=1),
        plan(span="position:6", amount=2.0), plan(span="position:1", amount=3.0, kind="attn_out"),
    ]  # fmt: skip


def rows(seed: int = 0) -> list[Row]:
    rng = random.Random(seed)
    lengths = [2, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1, 2 * PIECE + 2, 17, 23]
    asked = [(1, *(rng.randrange(8, VOCABULARY) for _ in range(n - 1))) for n in lengths]
    return [
        Row(prompt, each)
        for prompt in asked
        for each in plans()
        if all(place < len(prompt) for step in each.interventions for place in step.span.positions)
    ]


def test_pieces_cover_every_column_once_and_leave_none_alone() -> None:
    for width in (1, 2, reading.PIECE - 1, reading.PIECE, reading.PIECE + 1, reading.PIECE + 2, 5 * reading.PIECE + 1):
        parts = pieces(width)
        assert [end for _, end in parts[:-1]] == [begin for begin, _ in parts[1:]]
        assert (parts[0][0], parts[-1][1]) == (0, width)
        assert all(2 <= end - begin <= reading.PIECE + 1 for begin, end in parts) or width == 1


@pytest.mark.parametrize("family", sorted(CONFIGS))
@pytest.mark.parametrize("least", [1, 10**9], ids=["shared", "copied"])
def test_rows_of_prompts_in_pieces_equal_the_naive_oracle(
    family: str, least: int, short_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "ROWS_PER_PROMPT", least)
    model, asked = tiny(family), rows()
    try:
        found = generate(model, asked, SETTINGS, batch_size=7)
    except NeverFired as silent:
        found = silent.generations
    for row, one in zip(asked, found, strict=True):
        assert list(one.token_ids) == naive_generate(model, row.prompt_ids, row.plan, 6), row.plan.to_yaml()


def test_receipts_do_not_depend_on_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = tiny("llama"), rows(1)
    found = []
    for length in (PIECE, 1024):
        monkeypatch.setattr(reading, "PIECE", length)
        try:
            found.append(generate(model, asked, SETTINGS, batch_size=7))
        except NeverFired as silent:
            found.append(silent.generations)
    assert sum(one.receipt.fired for one in found[0]) > 100
    for one, other in zip(*found, strict=True):
        assert (one.receipt.planned, one.receipt.fired) == (other.receipt.planned, other.receipt.fired)
        assert torch.allclose(torch.tensor(one.receipt.ratio), torch.tensor(other.receipt.ratio), atol=1e-4)
        assert one.token_ids == other.token_ids


def test_bits_do_not_depend_on_company_in_pieces_either(short_pieces: None) -> None:
    model, asked = (
        tiny("llama"),
        [row for row in rows(2) if row.plan.interventions == () or row.plan.interventions[0].gate is None],
    )
    together = generate(model, asked, SETTINGS, invariant=True)
    for place in (0, 20, 41):
        (alone,) = generate(model, [asked[place]], SETTINGS, invariant=True)
        assert (alone.token_ids, alone.logprob) == (together[place].token_ids, together[place].logprob)


def test_no_mask_is_longer_than_a_piece(short_pieces: None, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, ...]] = []
    own = Masks.make

    def make(self: Masks, *args: object) -> Tensor | dict[str, Tensor]:
        mask = own(self, *args)  # type: ignore[arg-type]
        made.append(tuple(mask.shape) if isinstance(mask, Tensor) else ())
        return mask

    monkeypatch.setattr(Masks, "make", make)
    try:
        generate(tiny("llama"), rows(3), SETTINGS, batch_size=7)
    except NeverFired:
        pass
    assert max(shape[2] for shape in made) == PIECE + 1 and max(shape[3] for shape in made) >= 23
