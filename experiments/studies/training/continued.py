"""Bases trained on in a store, or gone on with: `builtin:untraced` after a supervised training, as weights that differ from it.

A file is named by the start's weights, by what is read, and by the settings; it lies under `.elicitation/trained`. While a training runs it
holds the moments too; a finished one holds weights and curve.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from steering.errors import BadInput
from steering.model.deltas import keep_delta, weights_digest
from steering.vector.vectors import read_tensors, whole, write_tensors

from ...evaluation.executors import one_thread
from ...pair.corpus import Batch
from ...pair.supervised import Supervised, Taught, begin, supervise
from ...progress import progress
from ..elicitation.asked import Elicit
from ..elicitation.workroom import Workroom
from .updates import own_weights

START = "builtin:untraced"
FORMAT = "steering-workbench/supervised@1"
FOLDER = "trained"
CORPUS = 2
"""Raised when the documents of a seed are others, or what is computed of them: weights that were trained otherwise are made anew."""


@dataclass(frozen=True, eq=False)
class Continued:
    """A base after its training."""

    label: str
    model: str
    """Name under which it loads."""
    curve: tuple[tuple[int, float], ...]
    """Per update: tokens read, and the loss in nats per token."""
    file: Path

    @property
    def tokens(self) -> int:
        return sum(tokens for tokens, _ in self.curve)


def continued(
    room: Workroom, reads: Mapping[str, Any], lesson: Callable[[int], Batch], spec: Supervised, label: str
) -> Continued:
    """Train the start on `lesson`, which `reads` names whole; what is stored is gone on with, or read."""
    start = room.model(START).model
    before = own_weights(start)
    path = _path(room, before, reads, spec)
    state = read_state(path) if path.exists() else begin(before)
    if state.updates < spec.updates:
        with progress(f"training {label}", room.console) as report, one_thread(room.model(START)):
            for after in supervise(start, state, lesson, spec):
                state = after
                write_state(path, state, finished=state.updates == spec.updates)
                report(state.updates, spec.updates)
    return Continued(label, keep_delta(START, before, state.weights), state.curve, path)


def is_continued(room: Workroom, reads: Mapping[str, Any], spec: Supervised) -> bool:
    """Whether it would be read."""
    path = _path(room, own_weights(room.model(START).model), reads, spec)
    return path.exists() and read_state(path).updates >= spec.updates


def _path(room: Workroom, before: Mapping[str, Tensor], reads: Mapping[str, Any], spec: Supervised) -> Path:
    facts = {"start": weights_digest(dict(before)), "corpus": CORPUS, "reads": dict(reads), "spec": asdict(spec)}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return room.folder / FOLDER / f"supervised-{digest}.safetensors"


def write_state(path: Path, state: Taught, finished: bool) -> None:
    """Everything that the next update depends on; of a finished training what it gave."""
    tensors: dict[str, Tensor] = {f"{name}.value": value for name, value in state.weights.items()}
    if not finished:
        for name, (mean, square) in state.moments.items():
            tensors |= {f"{name}.mean": mean, f"{name}.square": square}
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"names": list(state.weights), "curve": state.curve, "finished": finished}
    write_tensors(
        path, {name: t.contiguous() for name, t in tensors.items()}, {"format": FORMAT, "state": json.dumps(facts)}
    )


def read_state(path: Path) -> Taught:
    """What `write_state` wrote. Raises BadInput for anything else."""
    try:
        tensors, metadata = read_tensors(path, FORMAT, "state of a training")
    except BadInput as error:
        raise BadInput(f"{error} Or delete it, to train anew.") from error
    with whole(path, "delete it to train anew"):
        facts = json.loads(metadata["state"])
        weights = {name: tensors[f"{name}.value"] for name in facts["names"]}
        moments = {}
        if not facts["finished"]:
            moments = {name: (tensors[f"{name}.mean"], tensors[f"{name}.square"]) for name in facts["names"]}
        return Taught(weights, moments, tuple((int(tokens), float(loss)) for tokens, loss in facts["curve"]))


def refuse_others(asked: Elicit, card: str) -> None:
    """Raises BadInput for another task or pair than the built-in one: what is trained reads the built-in corpus."""
    default = Elicit()
    if not asked.builtin or asked.found.name != default.found.name:
        raise BadInput(
            f"card {card} trains {START} on the built-in corpus, which knows no task {asked.found.name}; leave --task out."
        )
    if (asked.base, asked.thinking) != (default.base, default.thinking):
        given = asked.base if asked.thinking is None else f"{asked.base},{asked.thinking}"
        raise BadInput(f"card {card} trains its own bases from {START} and compares these; leave --pair {given} out.")
