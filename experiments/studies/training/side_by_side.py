"""Trainings side by side: those that are not stored yet are spread over processes of one thread each, on a CPU and for a small model.

A training depends on nothing but what is asked of it, so that it ends with the same bytes in whichever process it runs, and beside
whichever others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from ...evaluation.executors import is_small, preload, worker_context
from ...progress import progress
from ...store.runs import Store
from ..elicitation.asked import Elicit
from ..elicitation.workroom import Workroom
from .trained import Trained, VectorJob, is_vector_trained, trained_vectors
from .trained_models import (
    Job,
    TextJob,
    TrainedModel,
    is_trained,
    is_trained_on_texts,
    trained_by_reward,
    trained_on_texts,
)

preload(__name__)  # the trainers' libraries are imported once for all their processes

FEWEST = 4
"""Trainings for which it is worth to start processes."""
T = TypeVar("T")


def spread(room: Workroom, train: Callable[[Workroom, T], object], jobs: Sequence[T]) -> None:
    """Do what is missing in processes of its own, where that is worth it; else nothing. `train`, a function of a module, stores what it
    trains. Raises what a training raises, after those that were begun."""
    workers = min(os.cpu_count() or 1, len(jobs))
    if not is_small(room.base) or workers < 2 or len(jobs) < FEWEST:
        return
    with (
        progress(f"{len(jobs)} trainings, {workers} at a time", room.console) as report,
        ProcessPoolExecutor(workers, mp_context=worker_context()) as pool,
    ):
        begun = [pool.submit(_train, room.asked, room.store.root, train, job) for job in jobs]
        for done, future in enumerate(as_completed(begun), 1):
            future.result()
            report(done, len(jobs))


def trainings(room: Workroom, jobs: Sequence[Job]) -> list[TrainedModel]:
    """What every job trains by reward, in order."""
    spread(room, trained_by_reward, [job for job in jobs if not is_trained(room, job)])
    return [trained_by_reward(room, job) for job in jobs]


def text_trainings(room: Workroom, jobs: Sequence[TextJob]) -> list[TrainedModel]:
    """What every job trains on texts, in order."""
    spread(room, trained_on_texts, [job for job in jobs if not is_trained_on_texts(room, job)])
    return [trained_on_texts(room, job) for job in jobs]


def vector_trainings(room: Workroom, jobs: Sequence[VectorJob]) -> list[Trained]:
    """What every job trains of vectors, in order."""
    spread(room, trained_vectors, [job for job in jobs if not is_vector_trained(room, job)])
    return [trained_vectors(room, job) for job in jobs]


def _train(asked: Elicit, root: Path, train: Callable[[Workroom, T], object], job: T) -> None:
    """In a process of its own: what is trained is in the store afterwards."""
    train(Workroom(asked, Store(root), Console(quiet=True)), job)
