"""A thought at every token of the corpus (a toy after Quiet-STaR, 2403.09629): do thoughts that are rewarded by the text itself help?

1. The base is trained on documents of its own corpus in three arms of as many updates: with rewarded thoughts; with thoughts that are
   not rewarded, which are places to compute in; and plainly. A thought is four tokens, as a direct answer's chain is many more.
2. On documents that no training has read: how much likelier the next token is with a thought than the start found it without one; beside it
   the same model without a thought, and with another place's thought. Apart: the fifth of the tokens that the start hesitates at most.
3. On the task's questions: whether the likeliest number behind `answer` is right, with a thought and without.
4. The trained weights are graded as any others, without thoughts.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import Field
from torch import Tensor

from steering.errors import BadInput, unknown
from steering.model.deltas import keep_delta, weights_digest

from ...evaluation.executors import one_thread
from ...pair.vocabulary import ID
from ...progress import progress
from ..elicitation.asked import Elicit
from ..elicitation.card import Card
from ..elicitation.findings import Point, Table
from ..elicitation.workroom import Workroom
from .continued import FOLDER, read_state, write_state
from .rationale_reading import LONGEST, lesson, read_thoughts
from .rationale_tables import thoughts_table
from .rationales import KINDS, Thinking, begin, parts, think
from .rewarded import Grown, SeededOptions, graded_everywhere
from .side_by_side import spread
from .thoughts import Shape
from .trained_models import TrainedModel
from .updates import own_weights

ARMS = {"thoughts": "rewarded thoughts", "unrewarded": "thoughts without reward", "plain": "the texts alone"}
AGAINST = (("thoughts", "unrewarded"), ("thoughts", "plain"))
VERSION = 1
"""Raised when the same settings train to other weights."""
LIKE = "hmm"
"""The word whose vector start and end begin with."""


class RationaleOptions(SeededOptions):
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0, 1, 2), min_length=1)
    """Of the trainings."""
    arms: tuple[str, ...] = Field(default=tuple(ARMS), min_length=1)
    """What is learned: thoughts with reward, without, or the texts alone."""
    updates: int = Field(default=30, ge=1)
    """Steps of the optimiser per training."""
    documents: int = Field(default=4, ge=1)
    """Per update."""
    passes: int = Field(default=2, ge=2)
    """Thoughts of every token."""
    thought: int = Field(default=4, ge=1)
    """Tokens per thought."""
    ahead: int = Field(default=4, ge=1)
    """Tokens that are predicted behind a thought."""
    rate: float = Field(default=1e-4, gt=0)
    """Learning rate."""
    fresh: int = Field(default=64, ge=4)
    """Documents on which likelihood is read."""


def run(room: Workroom, options: RationaleOptions) -> tuple[list[Point], list[Table], list[str]]:
    named = [(options, arm, seed) for arm in ARMS if arm in options.arms for seed in options.seeds]
    spread(room, _trained, [one for one in named if not _is_trained(room, one)])
    grown, reads = [], {}
    for one in named:
        _, arm, seed = one
        own, state = _trained(room, one)
        grown.append(Grown(arm, ARMS[arm], seed, own, "steered" if arm == "thoughts" else "control"))
        shape = Shape(options.thought, options.ahead)
        reads[arm, seed] = read_thoughts(room, state, shape, options.n, options.fresh, arm, seed)
    points, tables, said, _ = graded_everywhere(room, "rationale", grown, options, AGAINST)
    labels = {arm: ARMS[arm] for arm in ARMS if arm in options.arms}
    table, words = thoughts_table(room.asked.settings[0].name, labels, reads, options.thought)
    return points, [table, *tables], [*words, *said]


def _spec(options: RationaleOptions, arm: str, seed: int) -> Thinking:
    shape = Shape(options.thought, options.ahead)
    return Thinking(arm, options.updates, options.passes, shape, options.rate, seed)  # type: ignore[arg-type]


def _path(room: Workroom, one: tuple[RationaleOptions, str, int]) -> Path:
    options, arm, seed = one
    spec = asdict(_spec(options, arm, seed))
    facts = [VERSION, weights_digest(own_weights(room.base.model)), options.documents, LONGEST, spec]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return room.folder / FOLDER / f"rationale-{digest}.safetensors"


def _is_trained(room: Workroom, one: tuple[RationaleOptions, str, int]) -> bool:
    path = _path(room, one)
    return path.exists() and read_state(path).updates >= one[0].updates


def _trained(room: Workroom, one: tuple[RationaleOptions, str, int]) -> tuple[TrainedModel, dict[str, Tensor]]:
    """The training as a model, and all its weights."""
    options, arm, seed = one
    model, path, spec = room.base.model, _path(room, one), _spec(*one)
    state = read_state(path) if path.exists() else begin(model, ID[LIKE])
    if state.updates < spec.updates:
        with progress(f"training {ARMS[arm]}, seed {seed}", room.console) as report, one_thread(room.base):
            for after in think(model, state, lambda n: lesson(options.documents, f"{seed}/{n}"), spec):
                state = after
                write_state(path, state, finished=state.updates == spec.updates)
                report(state.updates, spec.updates)
    own, _ = parts(dict(state.weights))
    name = keep_delta(room.base.id, own_weights(model), own)
    drawn = 0 if arm == "plain" else options.passes * options.thought
    curve = tuple({"loss": loss, "trained": tokens, "generated": drawn * tokens} for tokens, loss in state.curve)
    found = TrainedModel(
        f"{ARMS[arm]}, seed {seed}", {options.updates: name}, curve, sum(w.numel() for w in own.values())
    )
    return found, dict(state.weights)


def refuse(asked: Elicit, options: RationaleOptions) -> None:
    if not asked.builtin:
        raise BadInput(
            "card rationale: thoughts are trained on the built-in corpus, which knows no other task; leave --task out."
        )
    if asked.base != Elicit().base:
        raise BadInput(
            f"card rationale: thoughts are trained on the corpus of builtin:base, not of {asked.base}; leave --pair out."
        )
    for arm in options.arms:
        if arm not in KINDS:
            raise unknown("arm", arm, KINDS, where="card rationale: arms")


CARD = Card(
    name="rationale",
    title="A thought at every token",
    systems=("S19",),
    papers=("2403.09629",),
    measures="what thoughts at every token of the corpus, rewarded by the text itself, do to its next tokens and to direct answers",
    control="thoughts without reward, thoughts of other places, the texts alone",
    quick=RationaleOptions(n=200, updates=20),
    full=RationaleOptions(n=400, seeds=(0, 1, 2, 3, 4), updates=200, documents=8, thought=8, fresh=256),
    run=run,
    refuse=refuse,
)
