"""Where base and thinking model part: positions of the thinking model's texts at which the base's greedy token is another one.

1. A position is one from which the base, reading the thinking model's text behind its own prompt, would greedily write another token than
   the text has (2510.07364, App. E.2).
2. Its category is read off the thinking model's activation at the position that predicts the same token.
3. At most `cap` positions per text and category are kept, drawn by seed.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..errors import BadInput
from ..model.capture import capture
from ..model.models import LoadedModel
from .alignment import Aligned, check_vocabularies
from .readout import Readout


@dataclass(frozen=True)
class Disagreements:
    """Texts as the base is fed them and, per text, positions, the tokens that the thinking model has next, and categories."""

    texts: tuple[tuple[int, ...], ...]
    positions: tuple[tuple[int, ...], ...]
    targets: tuple[tuple[int, ...], ...]
    categories: tuple[tuple[int, ...], ...]
    read: int
    """Positions looked at."""

    @property
    def n(self) -> int:
        """Positions kept."""
        return sum(map(len, self.positions))

    @property
    def digest(self) -> str:
        """Hash of everything but the count of positions looked at: 16 hexadecimal digits."""
        facts = [self.texts, self.positions, self.targets, self.categories]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def per_category(self, k: int) -> list[int]:
        """Positions of each category."""
        return [sum(row.count(c) for row in self.categories) for c in range(k)]

    def as_one(self) -> Disagreements:
        """The same positions in a single category."""
        return replace(self, categories=tuple((0,) * len(row) for row in self.categories))

    def part(self, indices: Sequence[int]) -> Disagreements:
        """Some of the texts."""

        def chosen(field: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
            return tuple(field[i] for i in indices)

        return Disagreements(
            chosen(self.texts), chosen(self.positions), chosen(self.targets), chosen(self.categories), self.read
        )


LOGITS = 2**26
"""Logits of texts that are held at once (256 MiB in float32); fewer texts are read together where the vocabulary is large."""


def texts_together(model: LoadedModel, rollouts: Sequence[Aligned], at_most: int) -> int:
    """How many rollouts are read together when every logit is looked at."""
    longest = max(len(ids) for one in rollouts for ids in (one.base_ids, one.thinking_ids))
    return max(1, min(at_most, LOGITS // (longest * model.model.get_output_embeddings().weight.shape[0])))


def continued_pairs(prompt: int, thinking_prompt: int, response: int) -> tuple[tuple[int, int], ...]:
    """Pairs of positions of a response of ids that follows two prompts, as decoding feeds it."""
    return tuple((prompt + i, thinking_prompt + i) for i in range(response))


@torch.inference_mode()
def disagreements(
    base: LoadedModel,
    thinking: LoadedModel,
    rollouts: Sequence[Aligned],
    categories: Readout | None,
    *,
    cap: int = 64,
    seed: int = 0,
    batch_size: int = 32,
) -> Disagreements:
    """Positions where the base parts from the rollouts; with no `categories` all lie in one.

    Raises BadInput when the models do not share a vocabulary, or there is no rollout.
    """
    check_vocabularies(base, thinking)
    if not rollouts:
        raise BadInput("There is no rollout; give at least one text of the thinking model.")
    if categories is not None:
        categories.check(thinking)
    base.rope.check_together([len(rollout.base_ids) for rollout in rollouts])
    positions, targets, states = [], [], []
    looked = 0
    together = texts_together(base, rollouts, batch_size)
    for start in range(0, len(rollouts), together):
        chunk = rollouts[start : start + together]
        width = max(len(r.base_ids) for r in chunk)
        ids = torch.zeros(len(chunk), width, dtype=torch.long)
        mask = torch.zeros(len(chunk), width, dtype=torch.long)
        for row, rollout in enumerate(chunk):
            ids[row, : len(rollout.base_ids)] = torch.tensor(rollout.base_ids)
            mask[row, : len(rollout.base_ids)] = 1
        logits = base.model(input_ids=ids.to(base.device), attention_mask=mask.to(base.device), use_cache=False).logits
        greedy = logits.argmax(-1).cpu()
        for row, rollout in enumerate(chunk):
            inside = [(q - 1, t - 1) for q, t in rollout.pairs if q > 0 and t > 0]
            looked += len(inside)
            odd = [(p, t) for p, t in inside if int(greedy[row, p]) != rollout.base_ids[p + 1]]
            positions.append(tuple(p for p, _ in odd))
            targets.append(tuple(rollout.base_ids[p + 1] for p, _ in odd))
            states.append(tuple(t for _, t in odd))
    found = [(0,) * len(row) for row in positions]
    if categories is not None:
        found = []
        for batch in capture(thinking, [r.thinking_ids for r in rollouts], [categories.site], batch_size=batch_size):
            for row, index in enumerate(batch.rows):
                values = batch.values[categories.site][row, list(states[index])]
                found.append(tuple(categories.categories(values).tolist()))
    kept = [_capped(labels, cap, random.Random(f"{seed}/{index}")) for index, labels in enumerate(found)]

    def pick(field: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(row[i] for i in keep) for row, keep in zip(field, kept, strict=True))

    return Disagreements(tuple(r.base_ids for r in rollouts), pick(positions), pick(targets), pick(found), looked)


def _capped(labels: Sequence[int], cap: int, rng: random.Random) -> list[int]:
    keep: list[int] = []
    for label in set(labels):
        members = [i for i, own in enumerate(labels) if own == label]
        keep += members if len(members) <= cap else rng.sample(members, cap)
    return sorted(keep)
