"""What a probe may be asked to predict, as positions with labels and groups.

1. `Examples` says what is read (a `Reading`), the class of each sample, and the group that it may share information with. Samples are in
   the order of the reading.
2. Next behaviour: at the last token before a labelled span, the label of that span. The span itself is never read.
3. Correctness: at the end of each step of a response, whether the response ends right; the step's number is kept.
4. Disagreement: at each position of a text written by one model, whether another model's greedy token differs from the token written.
5. Everything else (the mode of a response, the difficulty of a problem) is one label at one position of each sequence (`at_positions`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from steering.errors import BadInput
from steering.extraction.reading import Reading
from steering.extraction.samples import gathered
from steering.model.models import LoadedModel
from steering.model.sites import Site

from .baselines import WINDOW, token_windows
from .labels import BehaviourLabel

_T = TypeVar("_T")
FEWEST_GROUPS = 12
"""A class that occurs in fewer groups is left out by `usable`."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled positions. Raises BadInput when labels, groups and samples do not fit together."""

    target: str
    """What is predicted, in words."""
    reading: Reading
    y: tuple[int, ...]
    groups: tuple[str, ...]
    """One per sample."""
    classes: tuple[str, ...]
    steps: tuple[int, ...] = ()
    """Number of the step that each sample belongs to, from 0; empty where samples are not steps."""

    def __post_init__(self) -> None:
        n = self.reading.count
        if self.reading.spans is not None:
            raise BadInput("Probes read positions, not means over spans; give a reading of positions.")
        if len(self.y) != n or len(self.groups) != n or (self.steps and len(self.steps) != n):
            raise BadInput(
                f"The reading has {n} samples, but there are {len(self.y)} labels and {len(self.groups)} groups."
            )
        if n == 0:
            raise BadInput(f"Nothing to read for the target {self.target!r}: no position has a label. Read more texts.")

    @property
    def n(self) -> int:
        return len(self.y)

    @property
    def counts(self) -> dict[str, int]:
        """Samples per class."""
        return {name: self.y.count(k) for k, name in enumerate(self.classes)}

    def windows(self, window: int = WINDOW) -> np.ndarray:
        """Token ids at and before each sample, `[n, window]`, for the bag-of-tokens baseline."""
        return token_windows(self.reading.sequences, self.reading.positions, window)

    def activations(self, model: LoadedModel, sites: Sequence[Site], *, batch_size: int = 32) -> dict[Site, Tensor]:
        """`[n, width]` per site, float32, one streamed pass."""
        return gathered(model, self.reading, sites, batch_size=batch_size)

    def take(self, kept: Iterable[int]) -> Examples:
        """Some of the samples, by number, in the order of the reading."""
        chosen = set(kept)
        rows = np.repeat(np.arange(len(self.reading.sequences)), self.reading.samples)
        flat = [p for row in self.reading.positions for p in row]
        positions: list[list[int]] = [[] for _ in self.reading.sequences]
        for i in sorted(chosen):
            positions[int(rows[i])].append(flat[i])
        return replace(
            self,
            reading=Reading(self.reading.sequences, tuple(map(tuple, positions))),
            y=_pick(self.y, chosen),
            groups=_pick(self.groups, chosen),
            steps=_pick(self.steps, chosen) if self.steps else (),
        )

    def shifted(self, offset: int) -> Examples:
        """The same labels read `offset` tokens later (earlier where negative); samples that would leave their sequence are left out."""
        lengths = np.repeat([len(s) for s in self.reading.sequences], self.reading.samples)
        flat = np.array([p for row in self.reading.positions for p in row]) + offset
        kept = self.take(np.flatnonzero((flat >= 0) & (flat < lengths)).tolist())
        moved = tuple(tuple(p + offset for p in row) for row in kept.reading.positions)
        return replace(kept, reading=Reading(kept.reading.sequences, moved))

    def at_step(self, step: int) -> Examples:
        """The samples of one step. Raises BadInput when samples have no steps, or none has this one."""
        if step not in self.steps:
            raise BadInput(
                f"No sample of {self.target!r} is of step {step}; there are steps {sorted(set(self.steps))}."
            )
        return self.take(i for i, s in enumerate(self.steps) if s == step)

    def usable(self, fewest: int = FEWEST_GROUPS) -> Examples:
        """Without the classes that occur in fewer than `fewest` groups. Raises BadInput when fewer than two classes remain."""
        spread = [
            len({g for g, y in zip(self.groups, self.y, strict=True) if y == k}) for k in range(len(self.classes))
        ]
        kept = [k for k, groups in enumerate(spread) if groups >= fewest]
        if len(kept) < 2:
            told = ", ".join(f"{name} in {groups}" for name, groups in zip(self.classes, spread, strict=True))
            raise BadInput(
                f"{self.target!r} needs two classes in {fewest} groups or more; there are {told}. Read more items."
            )
        fewer = self.take(i for i, y in enumerate(self.y) if y in kept)
        return replace(fewer, y=tuple(kept.index(y) for y in fewer.y), classes=tuple(self.classes[k] for k in kept))


def at_positions(
    target: str, sequences: Sequence[Sequence[int]], positions: Sequence[int], y: Sequence[int], groups: Sequence[str],
    classes: Sequence[str],
) -> Examples:  # fmt: skip
    """One labelled position per sequence (negative ones count from the end)."""
    reading = Reading.at(sequences, [[p] for p in positions])
    return Examples(target, reading, tuple(y), tuple(groups), tuple(classes))


def next_behaviour(
    prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], labels: Sequence[Sequence[BehaviourLabel]],
    groups: Sequence[str], classes: Sequence[str] | None = None, target: str = "behaviour of the next span",
) -> Examples:  # fmt: skip
    """The label of each span, read at the token before it. Labels are in tokens of the response; others than `classes` are not read.

    Raises BadInput for labels in characters. Where two spans begin at one token, the first counts.
    """
    found = sorted({label.label for row in labels for label in row}) if classes is None else list(classes)
    sequences, positions, y, group = [], [], [], []
    for prompt, response, row, name in zip(prompts, responses, labels, groups, strict=True):
        here: dict[int, int] = {}
        for label in row:
            if label.unit != "tokens":
                raise BadInput("Labels must be in tokens of the response; convert them with in_tokens.")
            if label.label in found:
                here.setdefault(len(prompt) + label.start - 1, found.index(label.label))
        where = sorted(here)
        sequences.append((*prompt, *response))
        positions.append(tuple(where))
        y += [here[p] for p in where]
        group += [name] * len(where)
    return Examples(target, Reading(tuple(sequences), tuple(positions)), tuple(y), tuple(group), tuple(found))


def correctness(
    prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], step_ends: Sequence[Sequence[int]],
    correct: Sequence[bool], groups: Sequence[str],
) -> Examples:  # fmt: skip
    """Whether the response ends right, read at the last token of each of its steps (`step_ends`: tokens of the response, end exclusive)."""
    sequences, positions, y, group = [], [], [], []
    steps: list[int] = []
    for prompt, response, ends, right, name in zip(prompts, responses, step_ends, correct, groups, strict=True):
        sequences.append((*prompt, *response))
        positions.append(tuple(len(prompt) + e - 1 for e in ends))
        y += [int(right)] * len(ends)
        group += [name] * len(ends)
        steps += range(len(ends))
    reading = Reading(tuple(sequences), tuple(positions))
    return Examples("the answer will be right", reading, tuple(y), tuple(group), ("wrong", "right"), tuple(steps))


@torch.inference_mode()
def greedy_tokens(model: LoadedModel, sequences: Sequence[Sequence[int]], *, batch_size: int = 16) -> list[list[int]]:
    """The model's likeliest next token after every position of each sequence (teacher forced), in the order given."""
    model.rope.check_together([len(sequence) for sequence in sequences])
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    found: dict[int, list[int]] = {}
    for start in range(0, len(order), batch_size):
        chunk = order[start : start + batch_size]
        width = max(len(sequences[i]) for i in chunk)
        ids = torch.zeros(len(chunk), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(chunk):
            ids[row, : len(sequences[i])] = torch.tensor(sequences[i])
            mask[row, : len(sequences[i])] = 1
        logits = model.model(
            input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False
        ).logits
        best = logits.argmax(-1).cpu()
        for row, i in enumerate(chunk):
            found[i] = best[row, : len(sequences[i])].tolist()
    return [found[i] for i in range(len(sequences))]


def disagreement(
    base: LoadedModel, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], groups: Sequence[str]
) -> Examples:
    """Whether the greedy token of `base` differs from the token that the other model wrote, at every position of its responses.

    A sample is the position that predicts the token: the last token of the prompt for the first token of a response.
    """
    sequences = [(*p, *r) for p, r in zip(prompts, responses, strict=True)]
    greedy = greedy_tokens(base, sequences)
    positions, y, group = [], [], []
    for prompt, sequence, own, name in zip(prompts, sequences, greedy, groups, strict=True):
        where = range(len(prompt) - 1, len(sequence) - 1)
        positions.append(tuple(where))
        y += [int(own[p] != sequence[p + 1]) for p in where]
        group += [name] * len(where)
    return Examples(
        f"the greedy token of {base.id} differs from the token written",
        Reading(tuple(sequences), tuple(positions)), tuple(y), tuple(group), ("agree", "disagree"),
    )  # fmt: skip


def _pick(values: tuple[_T, ...], kept: set[int]) -> tuple[_T, ...]:
    return tuple(v for i, v in enumerate(values) if i in kept)
