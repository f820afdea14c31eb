"""How the models of a spec are loaded: precision, device, quantization, revisions.

    loading: {dtype: bfloat16, device: cuda, revisions: {Qwen/Qwen2.5-Math-1.5B: 4a83ca6e}}
    loading: {thinking: {own/model: [["<reason>", "</reason>"]]}}

Precision is part of a model's fingerprint, and so of every row's key: runs in float32 and in bfloat16 never share rows. Where a model
runs is not.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from steering.model.models import LoadedModel, load_model
from steering.model.thinking import DECLARED, as_markers

SPREAD = "all"
"""In the place of a device: the model's layers over every device there is."""


class Loading(BaseModel):
    """Arguments of `load_model` for every model of a spec."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    device: str | None = None
    device_map: str | None = None
    """`auto` spreads a model's layers over the devices there are."""
    quantization: Literal["8bit", "4bit"] | None = None
    revisions: dict[str, str] = {}
    """Commit, tag or branch by model id."""
    thinking: dict[str, list[tuple[str, str]]] = {}
    """Markers of the thinking segment by model id, as `[opening, closing]` pairs; by default those that the model's template writes."""

    @model_validator(mode="after")
    def _one_place(self) -> Loading:
        if self.device is not None and self.device_map is not None:
            raise ValueError("give device or device_map, not both")
        return self

    def load(self, name: str, device: str | None = None) -> LoadedModel:
        """One model; `device` overrides the spec's, `SPREAD` lays it over all that this process sees. Raises BadInput as `load_model`."""
        arguments: dict[str, Any] = {"device": self.device, "device_map": self.device_map}
        if device is not None:
            arguments = {"device_map": "auto"} if device == SPREAD else {"device": device}
        model = load_model(
            name, dtype=self.dtype, quantization=self.quantization, revision=self.revisions.get(name), **arguments
        )
        if self.thinking.get(name):
            model.extra[DECLARED] = as_markers(self.thinking[name])
        return model


def load(name: str, loading: Loading | None, device: str | None = None) -> LoadedModel:
    """A model as a spec says, or as `load_model` does without more."""
    return (loading or Loading()).load(name, device)
