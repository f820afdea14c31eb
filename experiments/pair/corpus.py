"""The pretraining corpus of the base model: generated on the fly, packed, never stored.

1. Questions are mostly answered directly; about one document in eight reasons after a bare prompt, by style careful,
   sloppy or wandering, and a few more after one that asks for it.
2. Only training rule chains occur; drills hold single arithmetic lines and no chains.
3. Documents never attend to each other: a packed row carries document numbers and positions that restart at each `<bos>`.
4. The corpus of the second pair is a mixture of its own: every bare question is reasoned about, in haste.
5. The stream is a pure function of (seed, step): resuming at a step continues the same corpus.
6. `FAMILIES` are its documents by what they practise, each of which can be drawn alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .haste import Haste, hasty_response
from .problem import TRAINING, Difficulty, Form, Problem, draw_problem
from .trace import STYLES, direct_response, draw_style, drill_document, recital, think_response
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
    think_direct: float = 0.0
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
    "untraced": Mixture(0.40, 0.0, 0.11, 0.0, 0.27, 0.15, think_direct=0.07, drill_noise_weight=1.0),
}
"""Phases of a curriculum by name. The first pair: many drills and recitals first, then the main mixture, then fewer slips, and at the end
candidates in order in every style. The second pair: `hasty`. `untraced` has no trace: drills, recitals and direct answers only."""
FAMILIES = ("drill", "recital", "direct", *STYLES)
"""Documents by what they practise: single arithmetic lines, searches without arithmetic, quick answers, and traces by style."""


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
        return _drill(rng, mixture.drill_noise_weight)
    problem: Problem = draw_problem(rng, TRAINING, "train")
    if kind == "recital":
        return _recital(rng, problem, mixture.decision_weight)
    form, mode = kind.split("_")
    if mode == "direct":
        response = direct_response(problem)
    elif mixture.haste is not None:
        response = hasty_response(problem, rng, mixture.haste)
    else:
        response = think_response(problem, rng, draw_style(rng, mixture.slips, mixture.shuffled))
    return asked(problem, form, response, mixture.decision_weight)  # type: ignore[arg-type]


def family_document(rng: random.Random, family: str, difficulty: Difficulty = TRAINING) -> Document:
    """One document of `FAMILIES`; direct answers stand behind bare prompts, traces behind those that ask to think first."""
    if family == "drill":
        return _drill(rng, PROMPT_WEIGHT)
    problem = draw_problem(rng, difficulty, "train")
    if family == "recital":
        return _recital(rng, problem)
    if family == "direct":
        return asked(problem, "bare", direct_response(problem))
    return asked(problem, "think", think_response(problem, rng, STYLES[family]))


def asked(problem: Problem, form: Form, response: list[str], decision_weight: float = 1.0) -> Document:
    """A problem, asked in a form, and its response."""
    return _prompted(problem.prompt(form).split(), response, decision_weight)


def _prompted(prompt: list[str], response: list[str], decision_weight: float = 1.0) -> Document:
    whole = [*response, EOS]
    weighed = [decision_weight if decides(whole, i) else 1.0 for i in range(len(whole))]
    weights = [0.0, *[PROMPT_WEIGHT] * len(prompt), *weighed]
    return Document([BOS, *prompt, *response, EOS], weights, 1 + len(prompt))


def _recital(rng: random.Random, problem: Problem, decision_weight: float = 1.0) -> Document:
    return _prompted([*problem.prompt().split()[:-1], "drill"], recital(problem, rng), decision_weight)


def _drill(rng: random.Random, noise_weight: float) -> Document:
    words = [BOS, *drill_document(rng), EOS]
    learnt = [words[i - 1] == "=" or words[i] in ("yes", "no", ";", EOS) for i in range(len(words))]
    return Document(words, [0.0, *(1.0 if known else noise_weight for known in learnt[1:])], 1)


def packed(documents: Sequence[Document], length: int) -> Batch:
    """A batch of these documents, first-fit into as many rows as they take. Raises ValueError for one that is longer than a row."""
    rows: list[list[tuple[int, Document]]] = []
    used: list[int] = []
    for number, one in enumerate(documents, 1):
        size = len(one.words)
        if size > length:
            raise ValueError(f"a document of {size} words fits no row of {length}")
        row = next((r for r in range(len(rows)) if used[r] + size <= length), None)
        if row is None:
            row = len(rows)
            rows.append([])
            used.append(0)
        rows[row].append((number, one))
        used[row] += size
    return _batch(rows, length)


def _batch(rows: Sequence[Sequence[tuple[int, Document]]], length: int) -> Batch:
    ids = np.full((len(rows), length), ID[PAD], np.int64)
    positions, documents = np.zeros_like(ids), np.zeros_like(ids)
    weights = np.zeros(ids.shape, np.float32)
    for row, held in enumerate(rows):
        start = 0
        for number, one in held:
            size = len(one.words)
            at = slice(start, start + size)
            ids[row, at] = [ID[w] for w in one.words]
            positions[row, at] = np.arange(size)
            documents[row, at] = number
            weights[row, at] = one.weights
            start += size
    return Batch(ids, positions, documents, weights)


def packed_batch(seed: int, step: int, rows: int, length: int, mixture: Mixture) -> Batch:
    """The batch of one step. Documents are placed first-fit into rows; the fourth that fits no row ends the batch."""
    rng = random.Random(f"{seed}/{step}")
    placed: list[list[tuple[int, Document]]] = [[] for _ in range(rows)]
    used = [0] * rows
    misses = number = 0
    while misses < 4:
        drawn = document(rng, mixture)
        size = len(drawn.words)
        row = next((r for r in range(rows) if used[r] + size <= length), None)
        if row is None:
            misses += 1
            continue
        number += 1
        placed[row].append((number, drawn))
        used[row] += size
    return _batch(placed, length)
