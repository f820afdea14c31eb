"""What an evaluation is asked to do: task, splits, arms and generation settings, as a frozen, hashable record."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from steering.engine.sampling import GenerationSettings

from ..store.manifest import Arm
from .loading import Loading


class Generating(BaseModel):
    """Generation settings of a spec; `seeds` has one entry per sample of an item."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    max_new_tokens: int = Field(default=360, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    top_k: int | None = None
    top_p: float | None = None
    seeds: tuple[int, ...] = (0,)

    def settings(self) -> GenerationSettings:
        return GenerationSettings(self.max_new_tokens, self.temperature, self.top_k, self.top_p)


class EvalSpec(BaseModel):
    """What to run. The digest of the spec, the weights and the vectors names the run."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    task: str | dict[str, Any] = "find-start"
    """A name, or a mapping that says which data set, how it is read, asked and graded (`tasks.resolve_task`)."""
    splits: dict[str, int]
    arms: tuple[Arm, ...]
    generation: Generating = Generating()
    loading: Loading | None = None
    """Precision, device and revisions of the models; float32 on the CPU without it."""
    rows_per_chunk: int | None = Field(default=None, ge=1)
    """Rows that are generated in one call and stored together: what an interruption can cost."""
    rows_per_batch: int | None = Field(default=None, ge=1)
    """Rows of a chunk that run at a time; the others wait and take the places of those that end. By default all."""

    batch_invariant: bool = False
    """Rows have the same bits whatever runs beside them (`steering.engine.invariant`): steps of a fixed number of rows, slower. Hybrids
    cannot be run so."""

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        facts: dict[str, Any] = handler(self)
        if not self.batch_invariant:  # a spec from before there was such a thing is the same spec
            facts.pop("batch_invariant")
        return {k: v for k, v in facts.items() if v is not None or not k.startswith(("rows_per", "loading"))}
