"""Texts read in groups of like length give what reading them all at once gives, gradients too, and groups are the cheapest there are."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

from experiments.studies.training.by_length import like_lengths, read_by_length


def cost(groups: list[list[int]], lengths: list[int], each: int) -> int:
    return sum(len(group) * max(lengths[place] for place in group) + each for group in groups)


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_the_cheapest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = [int(one) for one in rng.integers(1, 60, 7)]
    found = like_lengths(lengths, each=25)
    assert sorted(itertools.chain(*found)) == list(range(7))
    order = sorted(range(7), key=lambda place: lengths[place])
    cuts = (cut for size in range(7) for cut in itertools.combinations(range(1, 7), size))
    every = [[order[a:b] for a, b in itertools.pairwise((0, *cut, 7))] for cut in cuts]
    assert cost(found, lengths, 25) == min(cost(groups, lengths, 25) for groups in every)


def test_texts_of_one_length_are_one_group() -> None:
    assert like_lengths([9, 9, 9]) == [[0, 1, 2]]
    assert like_lengths([4]) == [[0]]


def padded(seed: int, texts: int, words: int) -> tuple[Tensor, Tensor, int]:
    """Prompts padded on the left and texts on the right, some of one token."""
    rng = np.random.default_rng(seed)
    prompts, behind = rng.integers(2, 9, texts), rng.integers(1, 40, texts)
    behind[0] = 1
    asked, kept = int(prompts.max()), int(behind.max()) + 3
    ids, mask = torch.zeros(texts, asked + kept, dtype=torch.long), torch.zeros(texts, asked + kept, dtype=torch.long)
    for row, (before, own) in enumerate(zip(prompts, behind, strict=True)):
        mask[row, asked - before : asked + own] = 1
        ids[row, asked - before : asked + own] = torch.from_numpy(rng.integers(1, words, before + own))
    return ids, mask, kept


def reads(model: Any, ids: Tensor, mask: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    logits = model(input_ids=ids, attention_mask=mask).logits[:, -kept - 1 : -1].log_softmax(-1)
    return logits.gather(2, ids[:, -kept:, None])[..., 0] * mask[:, -kept:], -(logits.exp() * logits).sum(-1) * mask[
        :, -kept:
    ]


def each_alone(model: Any, ids: Tensor, mask: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """The oracle: a text by itself, without padding."""
    logps, entropies = (
        torch.zeros(len(ids), kept, dtype=torch.float64),
        torch.zeros(len(ids), kept, dtype=torch.float64),
    )
    found = [(logps[row], entropies[row]) for row in range(len(ids))]
    for row, (one, other) in enumerate(found):
        own = int(mask[row, -kept:].sum())
        here = mask[row].bool()
        logp, entropy = reads(model, ids[row, here][None], mask[row, here][None], own)
        found[row] = (torch.cat([logp[0], one[own:]]), torch.cat([entropy[0], other[own:]]))
    return torch.stack([one for one, _ in found]), torch.stack([other for _, other in found])


MODELS = {
    "rotary": lambda: Qwen2ForCausalLM(
        Qwen2Config(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2)
    ),
    "absolute positions": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=128, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_reading_by_length_equals_reading_each_text_alone(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().double()
    ids, mask, kept = padded(3, 24, 40)
    weights = torch.randn(24, kept, dtype=torch.float64)
    gradients = []
    found = []
    for read in (
        each_alone,
        lambda *given: read_by_length(reads, *given),
        lambda *given: read_by_length(reads, *given, most=3),
    ):
        model.zero_grad()
        logps, entropies = read(model, ids, mask, kept)
        (logps * weights + entropies).sum().backward()
        found.append((logps, entropies))
        gradients.append([value.grad.clone() for value in model.parameters()])
    for one, *others in (*zip(*found, strict=True), *zip(*gradients, strict=True)):
        for other in others:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert not found[1][0][~mask[:, -kept:].bool()].any()
