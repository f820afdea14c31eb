"""Vectors trained in a store, or gone on with: the state after every update is a file, from which the next one follows bit by bit.

A file is named by the model, the questions, their form, the sites and the settings; it lies under `.elicitation/trained`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from steering.errors import BadInput
from steering.extraction.place import Place
from steering.extraction.reinforced import Reinforced, Reinforcing, begin, reinforce, reinforced_vectors
from steering.model.models import LoadedModel
from steering.model.sites import Site
from steering.vector.vectors import SteeringVector, read_tensors, whole, write_tensors

from ...progress import progress
from ...tasks.items import Item
from ...tasks.task import asked_ids
from ..elicitation.workroom import Workroom
from .questions import outcome

FORMAT = "steering-workbench/reinforced@1"
FOLDER = "trained"


@dataclass(frozen=True, eq=False)
class Trained:
    """Vectors of one training, one per site, and its curve."""

    label: str
    vectors: tuple[SteeringVector, ...]
    curve: tuple[dict[str, float], ...]
    parameters: int
    files: tuple[Path, ...]
    """Of the vectors."""
    before: tuple[dict[str, float], ...] = ()


def trained(
    room: Workroom, items: Sequence[Item], form: str, places: Sequence[Place], spec: Reinforcing, label: str
) -> Trained:
    """Train vectors of the base on the questions, asked in a form; what is stored is gone on with, or read."""
    task, base = room.asked.found, room.base
    pool = [tuple(asked_ids(task, base, item, form)) for item in items]
    folder = room.folder / FOLDER
    name = f"reinforced-{_digest(base, task.digest, pool, items, places, spec)}"
    path = folder / f"{name}.state.safetensors"
    state = read_state(path) if path.exists() else begin(base, places, spec)
    with progress(f"training {label}", room.console) as report:
        for after in reinforce(base, pool, outcome(base, task, list(items), form), state, places, spec):
            state = after
            write_state(path, state)
            report(len(state.curve), spec.updates)
    vectors = reinforced_vectors(base, state, places, spec, label, task=task.name, form=form, questions=len(pool))
    files = []
    for vector in vectors:
        file = folder / (f"{name}.safetensors" if len(vectors) == 1 else f"{name}-{vector.site.layer}.safetensors")
        if not file.exists():
            vector.save(file)
        files.append(file)
    parameters = sum(value.numel() for value in state.values.values())
    return Trained(label, tuple(vectors), state.curve, parameters, tuple(files))


def _digest(
    base: LoadedModel,
    task: str,
    pool: Sequence[tuple[int, ...]],
    items: Sequence[Item],
    places: Sequence[Place],
    spec: Reinforcing,
) -> str:
    where = [
        [
            str(place.site),
            place.size,
            None if place.direction is None else hashlib.sha256(place.direction.numpy().tobytes()).hexdigest(),
        ]
        for place in places
    ]
    golds = [item.gold for item in items]
    facts = [base.fingerprint, base.tokenizer_fingerprint, task, pool, golds, where, asdict(spec)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def write_state(path: Path, state: Reinforced) -> None:
    """Everything that the next update depends on."""
    tensors: dict[str, Tensor] = {}
    for site, value in state.values.items():
        one, two = state.moments[site]
        tensors |= {f"{site}.value": value, f"{site}.mean": one, f"{site}.square": two}
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"sites": [str(site) for site in state.values], "step": state.step, "curve": state.curve}
    write_tensors(
        path, {name: t.contiguous() for name, t in tensors.items()}, {"format": FORMAT, "state": json.dumps(facts)}
    )


def read_state(path: Path) -> Reinforced:
    """What `write_state` wrote. Raises BadInput for anything else."""
    try:
        tensors, metadata = read_tensors(path, FORMAT, "state of a training")
    except BadInput as error:
        raise BadInput(f"{error} Or delete it, to train anew.") from error
    with whole(path, "delete it to train anew"):
        facts = json.loads(metadata["state"])
        sites = [Site.parse(name) for name in facts["sites"]]
        values = {site: tensors[f"{site}.value"] for site in sites}
        moments = {site: (tensors[f"{site}.mean"], tensors[f"{site}.square"]) for site in sites}
        return Reinforced(values, moments, int(facts["step"]), tuple(facts["curve"]))
