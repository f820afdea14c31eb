"""Trainings side by side: those that are not stored yet are spread over processes of one thread each, on a CPU and for a small model.

A training depends on nothing but its job, so that it ends with the same bytes in whichever process it runs, and beside whichever others.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console

from ...progress import progress
from ...store.runs import Store
from ..elicitation.asked import Elicit
from ..elicitation.workroom import Workroom
from .trained_models import Job, TrainedModel, is_small, is_trained, trained_by_reward

FEWEST = 4
"""Trainings for which it is worth to start processes."""


def trainings(room: Workroom, jobs: Sequence[Job]) -> list[TrainedModel]:
    """What every job trains, in order. Raises what a training raises, after those that were begun."""
    missing = [job for job in jobs if not is_trained(room, job)]
    workers = min(os.cpu_count() or 1, len(missing))
    if is_small(room.base) and workers > 1 and len(missing) >= FEWEST:
        context = multiprocessing.get_context("spawn")
        with (
            progress(f"{len(missing)} trainings, {workers} at a time", room.console) as report,
            ProcessPoolExecutor(workers, mp_context=context) as pool,
        ):
            begun = [pool.submit(_train, room.asked, room.store.root, job) for job in missing]
            for done, future in enumerate(as_completed(begun), 1):
                future.result()
                report(done, len(missing))
    return [trained_by_reward(room, job) for job in jobs]


def _train(asked: Elicit, root: Path, job: Job) -> None:
    """In a process of its own: what is trained is in the store afterwards."""
    trained_by_reward(Workroom(asked, Store(root), Console(quiet=True)), job)
