"""A direction as a sweep: layers and doses on development prompts, the best on test prompts, random directions beside all of them.

The direction is added at the last prompt token and at every generated one. What may be said of the best cell is `sweeps.verdict`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from steering.errors import BadInput
from steering.model.models import LoadedModel
from steering.vector.vectors import SteeringVector

from ...evaluation.spec import Generating
from ...sweeps.spec import Controls, Splits, SweepSpec
from .directions import Direction
from .spec import LanguageSpec

ROWS_PER_CHUNK = 128
"""Rows that an interruption costs; few enough for two workers to end at about the same time."""
ROWS_PER_BATCH = 64
SPAN = "last_prompt | generated"


def vector_file(folder: Path, direction: Direction, layer: int | str) -> Path:
    """Where a direction's vector of a layer lies."""
    return folder / f"{direction.name}-{layer}.safetensors"


def sweep_of(
    direction: Direction, spec: LanguageSpec, model: LoadedModel, folder: Path, vectors: Mapping[int, SteeringVector]
) -> SweepSpec:
    """The sweep of a direction whose vectors lie in `folder`."""
    if any(letter in str(folder) for letter in '$"'):
        raise BadInput(
            f"{folder}: the study's vectors are named in plans, where $ and \" mean something else; give --runs another folder."
        )
    answers = direction.prompts == "one-step-problems"
    return SweepSpec(
        name=f"demo-{direction.name}",
        model=spec.model,
        plan=f'add "{vector_file(folder, direction, "$layer")}" ${{dose}}v on {SPAN}',
        vary={"layer": tuple(vectors), "dose": direction.doses},
        splits=Splits(development={"development": spec.development}, test={"test": spec.problems if answers else spec.test}),
        task=direction.task(model),
        prompted="asked",
        controls=Controls(random=spec.random, random_on_test=spec.random_on_test),
        generation=Generating(
            max_new_tokens=spec.answer_tokens if answers else spec.new_tokens, temperature=direction.temperature
        ),
        loading=spec.loading,
        rows_per_chunk=ROWS_PER_CHUNK,
        rows_per_batch=ROWS_PER_BATCH,
    )  # fmt: skip
