"""The pretraining corpus of the base model: generated on the fly, packed, never stored.

1. Questions are mostly answered directly; about one document in eight reasons after a bare prompt, by style careful,
   sloppy or wandering, and a few more after one that asks for it.
2. Only training rule chains occur; drills hold single arithmetic lines and no chains.
3. Documents never attend to each other: a packed row carries document numbers and positions that restart at each `<bos>`.
4. The corpus of the second pair is a mixture of its own: every bare question is reasoned about, in haste.
5. The stream is a pure function of (seed, step): resuming at a step continues the same corpus.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from .haste import Haste, hasty_response
from .problem import TRAINING, Problem, draw_problem
from .trace import direct_response, draw_style, drill_document, recital, think_response
from .vocabulary import BOS, EOS, ID, PAD

PROMPT_WEIGHT = 0.05
"""Loss weight of prompt tokens, which are random and teach little."""


@dataclass(frozen=True)
class Mixture:
    """Share of documents by kind (prompt form, then how it is answered); the shares sum to one."""

    bare_direct: float = 0.41
    bare_think: float = 0.12
    quick_direct: float = 0.12
    think_think: float = 0.06
    drill: float = 0.12
    recital: float = 0.17
    drill_noise_weight: float = PROMPT_WEIGHT
    """Loss weight of a drill's random numbers and goals; its results and verdicts always weigh one."""
    slips: float = 1.0
    """Multiplier of the styles' slip rates."""
    shuffled: bool = True
    """Whether wandering traces try the candidates in any order; otherwise in the order shown, coming back to what they abandoned."""

    haste: Haste | None = None
    """Traces are hasty, with these probabilities; None for traces in a style."""
    decision_weight: float = 1.0
    """Loss weight of the words by which a trace decides: the first word of a clause, and the verdict of a goal test."""

    @property
    def shares(self) -> dict[str, float]:
        others = ("drill_noise_weight", "slips", "shuffled", "haste", "decision_weight")
        return {kind: share for kind, share in vars(self).items() if kind not in others}

    def __post_init__(self) -> None:
        if abs(sum(self.shares.values()) - 1) > 1e-9:
            raise ValueError(f"mixture shares sum to {sum(self.shares.values())}, not 1")


MIXTURES: dict[str, Mixture] = {
    "skills": Mixture(0.33, 0.10, 0.10, 0.05, 0.27, 0.15, drill_noise_weight=1.0),
    "main": Mixture(),
    "calm": Mixture(0.405, 0.125, slips=0.4),
    "ordered": Mixture(0.405, 0.125, slips=0.4, shuffled=False),
    "hasty": Mixture(0.0, 0.74, 0.06, 0.08, 0.08, 0.04, haste=Haste(), decision_weight=4.0),
}
"""Phases of a curriculum by name. The first pair: many drills and recitals first, then the main mixture, then fewer slips, and at the end
candidates in order in every style. The second pair: `hasty`."""


@dataclass(frozen=True)
class Batch:
    """Packed rows, all `[rows, length]`: token ids, positions within the document, document numbers (0 is padding), loss weights
    (of predicting that token)."""

    ids: np.ndarray
    positions: np.ndarray
    documents: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Document:
    """Words with `<bos>` and `<eos>`, the loss weight of predicting each word, and how many leading words are prompt."""

    words: list[str]
    weights: list[float]
    prompt: int


def decides(words: list[str], place: int) -> bool:
    """Whether a word of a response is one by which a trace decides: it begins a clause, or follows `goal N`."""
    return words[place - 1 : place] == [";"] or words[max(0, place - 2) : place - 1] == ["goal"]


def document(rng: random.Random, mixture: Mixture) -> Document:
    """One document. Words that nothing in the document determines (prompts, drill numbers) carry little weight."""
    kind = rng.choices(list(mixture.shares), list(mixture.shares.values()))[0]
    if kind == "drill":
        words = [BOS, *drill_document(rng), EOS]
        learnt = [words[i - 1] == "=" or words[i] in ("yes", "no", ";", EOS) for i in range(len(words))]
        return Document(words, [0.0, *(1.0 if known else mixture.drill_noise_weight for known in learnt[1:])], 1)
    problem: Problem = draw_problem(rng, TRAINING, "train")
    if kind == "recital":
        prompt, response = [*problem.prompt().split()[:-1], "drill"], recital(problem, rng)
    else:
        form, mode = kind.split("_")
        prompt = problem.prompt(form).split()  # type: ignore[arg-type]
        if mode == "direct":
            response = direct_response(problem)
        elif mixture.haste is not None:
            response = hasty_response(problem, rng, mixture.haste)
        else:
            response = think_response(problem, rng, draw_style(rng, mixture.slips, mixture.shuffled))
    whole = [*response, EOS]
    weighed = [mixture.decision_weight if decides(whole, i) else 1.0 for i in range(len(whole))]
    weights = [0.0, *[PROMPT_WEIGHT] * len(prompt), *weighed]
    return Document([BOS, *prompt, *response, EOS], weights, 1 + len(prompt))


def packed_batch(seed: int, step: int, rows: int, length: int, mixture: Mixture) -> Batch:
    """The batch of one step. Documents are placed first-fit into rows; one that fits no row ends the batch."""
    rng = random.Random(f"{seed}/{step}")
    ids = np.full((rows, length), ID[PAD], np.int64)
    positions, documents = np.zeros_like(ids), np.zeros_like(ids)
    weights = np.zeros((rows, length), np.float32)
    used, number = [0] * rows, 0
    misses = 0
    while misses < 4:
        drawn = document(rng, mixture)
        size = len(drawn.words)
        row = next((r for r in range(rows) if used[r] + size <= length), None)
        if row is None:
            misses += 1
            continue
        number += 1
        at = slice(used[row], used[row] + size)
        ids[row, at] = [ID[w] for w in drawn.words]
        positions[row, at] = np.arange(size)
        documents[row, at] = number
        weights[row, at] = drawn.weights
        used[row] += size
    return Batch(ids, positions, documents, weights)
