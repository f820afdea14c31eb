"""Models trained by reward in a store, or read where they were trained before.

A training is named by the base, the questions, their form, the reward and the recipe; its curve lies under `.elicitation/trained`, its
weights are deltas of the base. One that was stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from steering.errors import BadInput
from steering.model.deltas import keep_delta, kept_delta

from ...evaluation.executors import one_thread
from ...progress import progress
from ...store.files import write_whole
from ...tasks.items import Item
from ...tasks.task import asked_ids
from ..elicitation.workroom import Workroom
from .completions import completing
from .recipe import Recipe
from .rewards import COMPLETED, Reward, rewarding
from .supervised import Lesson, Tuning
from .trained import FOLDER

VERSION = 2
"""Raised when the same recipe trains to other weights."""


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A base after training."""

    label: str
    models: dict[int, str]
    """Names under which the weights load, after how many updates."""
    curve: tuple[dict[str, Any], ...]
    parameters: int
    before: tuple[dict[str, Any], ...] = ()
    """The curve of the training that it went on from."""

    @property
    def model(self) -> str:
        """After the last update."""
        return self.models[max(self.models)]


@dataclass(frozen=True)
class Job:
    """A training by reward on questions, asked in a form, of the base's weights or of those that another training left; weights after
    `kept` updates are kept too."""

    items: tuple[Item, ...]
    form: str
    reward: Reward
    recipe: Recipe
    label: str
    kept: tuple[int, ...] = ()
    start: TrainedModel | None = None
    begun: tuple[tuple[int, ...], ...] = ()
    """Per question, tokens of a response that it is asked with; by default none."""


def trained_by_reward(room: Workroom, job: Job) -> TrainedModel:
    """Train, or read what was trained before."""
    from .grpo import train_grpo

    base, pool = room.base, _pool(room, job)
    start = base if job.start is None else room.model(job.start.model)
    name = _name(room, job, pool)
    path = room.folder / FOLDER / f"{name}.json"
    found = read_trained(path, job.kept)
    if found is None:
        folder = room.folder / FOLDER / "-".join([name, *map(str, job.kept)])
        of, completes = (base, room.asked.found, job.items, job.form, job.reward), job.reward.name in COMPLETED
        earns = None if completes else rewarding(*of, job.recipe.seed)
        completed = completing(*of, job.recipe) if completes else None
        with progress(f"training {job.label}", room.console) as report, one_thread(base):
            weights, curve = train_grpo(start, pool, earns, job.recipe, folder, report, job.kept, completed)
        own = {name: value.detach() for name, value in base.model.named_parameters()}
        names = {str(update): keep_delta(base.id, own, changed) for update, changed in weights.items()}
        if (before := read_trained(path)) is not None:  # other updates were kept
            names = before["models"] | names
        found = {"models": names, "curve": curve, "reward": asdict(job.reward), "recipe": asdict(job.recipe)}
        write_whole(path, (json.dumps(found, indent=1, sort_keys=True) + "\n").encode())
        shutil.rmtree(folder, ignore_errors=True)
    parameters = sum(value.numel() for value in base.model.parameters())
    models = {int(update): model for update, model in found["models"].items()}
    return TrainedModel(job.label, models, tuple(found["curve"]), parameters, _before(job.start))


def _before(start: TrainedModel | None) -> tuple[dict[str, Any], ...]:
    return () if start is None else (*start.before, *start.curve)


def is_trained(room: Workroom, job: Job) -> bool:
    """Whether it would be read."""
    path = room.folder / FOLDER / f"{_name(room, job, _pool(room, job))}.json"
    return read_trained(path, job.kept) is not None


def _pool(room: Workroom, job: Job) -> list[tuple[int, ...]]:
    asked = [tuple(asked_ids(room.asked.found, room.base, item, job.form)) for item in job.items]
    return [(*ids, *begun) for ids, begun in zip(asked, job.begun, strict=True)] if job.begun else asked


def _name(room: Workroom, job: Job, pool: list[tuple[int, ...]]) -> str:
    base, task = room.base, room.asked.found
    facts = [
        VERSION, base.fingerprint, base.tokenizer_fingerprint, task.name, task.digest, pool, [item.gold for item in job.items],
        asdict(job.reward), asdict(job.recipe), *([] if job.start is None else [job.start.model]),
    ]  # fmt: skip
    return f"grpo-{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]}"


@dataclass(frozen=True, eq=False)
class TextJob:
    """A training on texts, of the base's weights or of those that another training left."""

    lessons: tuple[Lesson, ...]
    tuning: Tuning
    label: str
    start: TrainedModel | None = None


def trained_on_texts(room: Workroom, job: TextJob) -> TrainedModel:
    """Train, or read what was trained before."""
    from .supervised import train_supervised

    base, tuning, start = room.base, job.tuning, job.start
    first = base if start is None else room.model(start.model)
    path = _texts_path(room, job)
    found = read_trained(path)
    if found is None:
        folder = path.with_suffix("")
        with progress(f"training {job.label}", room.console) as report, one_thread(base):
            weights, curve = train_supervised(first, job.lessons, tuning, folder, report)
        own = {name: value.detach() for name, value in base.model.named_parameters()}
        found = {
            "models": {str(tuning.steps): keep_delta(base.id, own, weights)},
            "curve": curve,
            "tuning": asdict(tuning),
        }
        write_whole(path, (json.dumps(found, indent=1, sort_keys=True) + "\n").encode())
        shutil.rmtree(folder, ignore_errors=True)
    parameters = sum(value.numel() for value in base.model.parameters())
    models = {int(update): model for update, model in found["models"].items()}
    return TrainedModel(job.label, models, tuple(found["curve"]), parameters, _before(start))


def is_trained_on_texts(room: Workroom, job: TextJob) -> bool:
    """Whether it would be read."""
    return read_trained(_texts_path(room, job)) is not None


def _texts_path(room: Workroom, job: TextJob) -> Path:
    texts = [[one.prompt_ids, one.token_ids] for one in job.lessons]
    facts = [VERSION, room.base.fingerprint, texts, asdict(job.tuning)]
    facts += [] if job.start is None else [job.start.model]
    name = f"texts-{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]}"
    return room.folder / FOLDER / f"{name}.json"


def read_trained(path: Path, kept: Sequence[int] = ()) -> dict[str, Any] | None:
    """What a training left, as plain JSON data; None where it was not done, where its weights are no longer in the cache, or where those
    after one of the `kept` updates were not kept."""
    if not path.exists():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise BadInput(f"{path} is damaged or cut short; delete it, to train anew.") from error
    if not {str(update) for update in kept} <= found["models"].keys():
        return None
    try:
        for model in found["models"].values():
            kept_delta(model)
    except BadInput:
        return None
    return found
