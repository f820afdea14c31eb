"""What thoughts do on documents that no training has read, and behind `answer` on the task's questions."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steering.model.deltas import keep_delta

from ...pair.corpus import MIXTURES, document
from ...pair.vocabulary import BOS, ID, PAD, encode
from ...statistics import Floats
from ..elicitation.workroom import Workroom
from .rationales import parts
from .thoughts import Passed, Shape, passed, sampled
from .updates import own_weights

LONGEST = 96
"""Tokens of a document that is read; longer ones are left out."""
DOUBTED = 0.2
"""Share of the tokens that the start hesitates at most."""


@dataclass(frozen=True, eq=False)
class Read:
    """Of one training, by way: log-probability of the next token, mean per document `[documents]`, minus the start's; and right numbers by
    question."""

    whole: dict[str, Floats]
    doubted: dict[str, Floats]
    right: dict[str, Floats]
    weight: float
    """The head's, mean."""


WAYS = {"with": "with its thoughts", "other": "with thoughts of other places", "without": "without thoughts"}


def lesson(count: int, stream: str) -> tuple[Tensor, Tensor]:
    """Documents of the corpus' last mixture as ids `[documents, tokens]`, and their lengths."""
    rng = random.Random(f"rationale/{stream}")
    found: list[list[int]] = []
    while len(found) < count:
        words = document(rng, MIXTURES["ordered"]).words
        if len(words) <= LONGEST:
            found.append(encode(words))
    return padded(found)


def padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Rows of ids on one length, and their own."""
    lengths = torch.tensor([len(row) for row in rows])
    longest = int(lengths.max())
    return torch.tensor([[*row, *[ID[PAD]] * (longest - len(row))] for row in rows]), lengths


@torch.no_grad()
def read_thoughts(
    room: Workroom, weights: dict[str, Tensor], shape: Shape, n: int, fresh: int, arm: str, seed: int
) -> Read:
    """On fresh documents, and behind `answer` of the first setting's questions; the start without thoughts is what it is compared with."""
    start = room.base.model
    own, added = parts(weights)
    model = room.model(keep_delta(room.base.id, own_weights(start), own)).model
    generator = torch.Generator().manual_seed(10**9 + seed)
    whole: dict[str, list[float]] = {way: [] for way in WAYS}
    doubted: dict[str, list[float]] = {way: [] for way in WAYS}
    levels = []
    for at in range(0, fresh, 8):
        ids, lengths = lesson(min(8, fresh - at), f"fresh/{at}")
        before = start(input_ids=ids).logits.float().log_softmax(-1)
        plain = before[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
        entropy = -(before[:, :-1].exp() * before[:, :-1]).sum(-1)
        there = torch.arange(1, ids.shape[1])[None] < lengths[:, None]
        hesitates = there & (entropy >= torch.quantile(entropy[there], 1 - DOUBTED))
        values, weight = _ways(model, added, ids, lengths, shape, generator, arm)
        levels.append(weight)
        for way, found in values.items():
            gained = found[:, : plain.shape[1]] - plain
            whole[way] += ((gained * there).sum(1) / there.sum(1)).tolist()
            doubting = hesitates.any(1)  # a document without such a token says nothing of them
            doubted[way] += ((gained * hesitates).sum(1)[doubting] / hesitates.sum(1)[doubting]).tolist()
    right = _right(room, n, model, added, shape, generator, arm)
    return Read(_arrays(whole), _arrays(doubted), right, float(np.mean(levels)))


def _arrays(found: dict[str, list[float]]) -> dict[str, Floats]:
    return {way: np.array(values) for way, values in found.items()}


def _ways(
    model: Any, added: dict[str, Tensor], ids: Tensor, lengths: Tensor, shape: Shape, generator: torch.Generator, arm: str
) -> tuple[dict[str, Tensor], float]:  # fmt: skip
    """Log-probability of the next token in every way, `[texts, tokens]`, and the head's mean weight."""
    found = {way: one for way, one in _passes(model, added, ids, lengths, shape, generator).items()}
    values = {
        "with": found["with"].mixed[..., 0],
        "other": found["other"].mixed[..., 0],
        "without": found["with"].plain[..., 0],
    }
    if arm == "plain":
        values = dict.fromkeys(values, found["with"].plain[..., 0])
    return values, float(found["with"].weight[..., 0][found["with"].there[..., 0]].mean())


def _passes(
    model: Any, added: dict[str, Tensor], ids: Tensor, lengths: Tensor, shape: Shape, generator: torch.Generator
) -> dict[str, Passed]:
    """With own thoughts, and with those of another place of the same texts."""
    thoughts = sampled(model, added, ids, shape, generator)
    flat = thoughts.reshape(-1, shape.thought)
    others = flat[torch.randperm(len(flat), generator=generator)].reshape(thoughts.shape)
    return {
        "with": passed(model, added, ids, lengths, thoughts, shape),
        "other": passed(model, added, ids, lengths, others, shape),
    }


def _right(
    room: Workroom, n: int, model: Any, added: dict[str, Tensor], shape: Shape, generator: torch.Generator, arm: str
) -> dict[str, Floats]:  # fmt: skip
    """Whether the likeliest token behind `answer` is the right number, by question."""
    first = room.asked.settings[0]
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    items = room.asked.found.items(first.split, n)
    for at in range(0, len(items), 16):
        few = items[at : at + 16]  # without their numbers, so that no thought has read one
        rows = [encode([BOS, *item.data.prompt("bare").split(), "answer"]) for item in few]
        ids, lengths = padded(rows)
        told = {way: one.best for way, one in _passes(model, added, ids, lengths, shape, generator).items()}
        told["without"] = model(input_ids=ids).logits.argmax(-1)
        if arm == "plain":
            told = dict.fromkeys(WAYS, told["without"])
        for way in WAYS:
            found[way] += [
                float(told[way][place, len(row) - 1] == ID[few[place].gold]) for place, row in enumerate(rows)
            ]
    return {way: np.array(values) for way, values in found.items()}
