"""The engine on nnsight, in this process: the same plans, rows and receipts, each forward pass a trace.

1. Edits read and assign module outputs inside a trace, in forward order; no hook of ours is installed.
2. A trace costs a fixed overhead per pass; this is for work that needs nnsight around it, not for speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadInput
from ..model.executor import Resume
from ..model.hooks import Edit
from ..model.layout import Layout
from ..model.models import LoadedModel
from ..model.sites import Site

SUPPORTED = ("resid_pre", "attn_out", "mlp_out", "resid_post")


def through_nnsight(model: LoadedModel) -> LoadedModel:
    """The same model, run by nnsight traces. Raises BadInput when nnsight is not installed."""
    try:
        from nnsight import NNsight
    except ImportError as error:
        raise BadInput("nnsight is not installed; pip install nnsight.") from error
    return replace(
        model, executor=TraceExecutor(NNsight(model.model), model.model, model.layout), extra=dict(model.extra)
    )


def module_paths(model: nn.Module, layout: Layout) -> dict[int, dict[str, str]]:
    """Names of each layer's modules inside the model, by layer and kind."""
    names = {id(module): name for name, module in model.named_modules()}
    paths: dict[int, dict[str, str]] = {}
    for index, block in enumerate(layout.blocks):
        parts = {"layer": block.layer, "attn_out": block.attention, "mlp_out": block.mlp}
        paths[index] = {kind: names[id(module)] for kind, module in parts.items() if module is not None}
    return paths


def refuse_unsupported(sites: Mapping[Site, Any] | list[Site], executor: str) -> None:
    """Raises BadInput for a site that an executor does not reach."""
    for site in sites:
        if site.kind not in SUPPORTED:
            raise BadInput(
                f"The {executor} executor edits {', '.join(SUPPORTED)}, not {site}; run the plan on the model itself."
            )


class TraceExecutor:
    """Forward passes as nnsight traces."""

    name = "nnsight"
    resumes = False

    def __init__(self, wrapped: Any, model: nn.Module, layout: Layout):
        self.wrapped, self.model = wrapped, model
        self.paths = module_paths(model, layout)

    @property
    def config(self) -> Any:
        return self.model.config

    def _envoy(self, path: str) -> Any:
        found = self.wrapped
        for part in path.split("."):
            found = found[int(part)] if part.isdigit() else getattr(found, part)
        return found

    def holding(self, edits: Mapping[Site, Edit]) -> AbstractContextManager[None]:
        return nullcontext()

    def picking(self, index: Tensor) -> AbstractContextManager[None]:
        return nullcontext()

    def forward(self, edits: Mapping[Site, Edit], inputs: Mapping[str, Any], resume: Resume | None = None) -> Tensor:
        refuse_unsupported(edits, self.name)
        if not edits:
            return self.model(**inputs).logits
        work = []
        for site, edit in sorted(edits.items(), key=lambda pair: pair[0].order):
            paths = self.paths[site.layer]
            work.append((self._envoy(paths["layer" if site.kind.startswith("resid") else site.kind]), site.kind, edit))
        with torch.inference_mode(), self.wrapped.trace(**inputs):
            for envoy, kind, edit in work:
                if kind == "resid_pre":
                    edited = edit(envoy.input)
                    if edited is not None:
                        envoy.input = edited
                else:
                    output = envoy.output
                    plain = isinstance(output, Tensor)
                    edited = edit(output if plain else output[0])
                    if edited is not None:
                        envoy.output = edited if plain else (edited, *output[1:])
            logits = self.wrapped.output.logits.save()
        return logits
