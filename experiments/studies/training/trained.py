"""Vectors trained in a store, or gone on with: the state after every update is a file, from which the next one follows bit by bit.

A file is named by the model, the questions, their form, the sites and the settings; it lies under `.elicitation/trained`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from steering.errors import BadInput
from steering.extraction.place import Place
from steering.extraction.reinforced import Reinforced, Reinforcing, begin, reinforce, reinforced_vectors
from steering.model.sites import Site
from steering.vector.vectors import SteeringVector, read_tensors, whole, write_tensors

from ...evaluation.executors import one_thread
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


@dataclass(frozen=True, eq=False)
class VectorJob:
    """A training by reward of vectors of the base on questions, asked in a form."""

    items: tuple[Item, ...]
    form: str
    places: tuple[Place, ...]
    spec: Reinforcing
    label: str

    def pool(self, room: Workroom) -> list[tuple[int, ...]]:
        """The questions as they are fed."""
        return [tuple(asked_ids(room.asked.found, room.base, item, self.form)) for item in self.items]


def trained_vectors(room: Workroom, job: VectorJob) -> Trained:
    """Train them; what is stored is gone on with, or read."""
    task, base, pool, spec = room.asked.found, room.base, job.pool(room), job.spec
    folder = room.folder / FOLDER
    name = _name(room, job)
    path = folder / f"{name}.state.safetensors"
    state = read_state(path) if path.exists() else begin(base, job.places, spec)
    earns = outcome(base, task, list(job.items), job.form)
    with progress(f"training {job.label}", room.console) as report, one_thread(base):
        for after in reinforce(base, pool, earns, state, job.places, spec):
            state = after
            write_state(path, state)
            report(len(state.curve), spec.updates)
    vectors = reinforced_vectors(
        base, state, job.places, spec, job.label, task=task.name, form=job.form, questions=len(pool)
    )
    files = []
    for vector in vectors:
        file = folder / (f"{name}.safetensors" if len(vectors) == 1 else f"{name}-{vector.site.layer}.safetensors")
        if not file.exists():
            vector.save(file)
        files.append(file)
    parameters = sum(value.numel() for value in state.values.values())
    return Trained(job.label, tuple(vectors), state.curve, parameters, tuple(files))


def is_vector_trained(room: Workroom, job: VectorJob) -> bool:
    """Whether it would be read."""
    path = room.folder / FOLDER / f"{_name(room, job)}.state.safetensors"
    return path.exists() and len(read_state(path).curve) >= job.spec.updates


def _name(room: Workroom, job: VectorJob) -> str:
    base, task = room.base, room.asked.found.digest
    where = [
        [
            str(place.site),
            place.size,
            None if place.direction is None else hashlib.sha256(place.direction.numpy().tobytes()).hexdigest(),
        ]
        for place in job.places
    ]
    golds = [item.gold for item in job.items]
    facts = [base.fingerprint, base.tokenizer_fingerprint, task, job.pool(room), golds, where, asdict(job.spec)]
    return f"reinforced-{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]}"


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
