"""The engine on TransformerLens' `TransformerBridge`, for its analysis tools: the same plans, rows and receipts.

1. Edits are hooks on the bridge's own hook points, under the names that sites have.
2. The bridge calls `hook_resid_mid` where the second norm reads, so a change made there would reach the MLP but not the stream. Edits at
   resid_mid are made on what attention adds instead, which changes both.
3. Attention runs in the bridge's eager implementation, so logits agree with the engine's to rounding, not bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..errors import BadInput
from ..model.executor import Resume
from ..model.hooks import Edit
from ..model.models import LoadedModel
from ..model.sites import Site

Hook = tuple[str, Callable[..., Any]]


def through_bridge(model: LoadedModel, bridge: Any) -> LoadedModel:
    """The same model, run by a `TransformerBridge` of its weights (`TransformerBridge.boot_transformers(..., hf_model=...)`).

    `model` is the plain model as loaded, whose layout and fingerprint are kept. Raises BadInput when the bridge is of another shape.
    """
    if bridge.cfg.n_layers != model.n_layers or bridge.cfg.d_model != model.d_model:
        raise BadInput(
            f"The bridge has {bridge.cfg.n_layers} layers of width {bridge.cfg.d_model}, {model.id} has {model.n_layers} of "
            f"{model.d_model}; boot it from the same model."
        )
    return replace(model, executor=BridgeExecutor(bridge), extra=dict(model.extra))


class BridgeExecutor:
    """Forward passes through a bridge."""

    name = "TransformerLens"
    resumes = False

    def __init__(self, bridge: Any):
        self.bridge = bridge

    @property
    def config(self) -> Any:
        return self.bridge.original_model.config

    def holding(self, edits: Mapping[Site, Edit]) -> AbstractContextManager[None]:
        return nullcontext()

    def picking(self, index: Tensor) -> AbstractContextManager[None]:
        return nullcontext()

    def forward(self, edits: Mapping[Site, Edit], inputs: Mapping[str, Any], resume: Resume | None = None) -> Tensor:
        hooks = [
            hook
            for site, edit in sorted(edits.items(), key=lambda pair: pair[0].order)
            for hook in self._hooks(site, edit)
        ]
        missing = sorted({name for name, _ in hooks if name not in self.bridge.hook_dict})
        if missing:
            raise BadInput(f"This bridge has no hook point {missing[0]}; run the plan on the model itself.")
        with self.bridge.hooks(fwd_hooks=hooks):
            return self.bridge.original_model(**inputs).logits

    def _hooks(self, site: Site, edit: Edit) -> list[Hook]:
        block = f"blocks.{site.layer}"
        if site.kind == "z":
            return [(f"{block}.attn.hook_z", _head(edit, site.head or 0))]
        if site.kind != "resid_mid":
            return [(site.name, _whole(edit))]
        stream: dict[str, Tensor] = {}

        def note(tensor: Tensor, hook: Any) -> None:
            stream["pre"] = tensor

        def change(tensor: Tensor, hook: Any) -> Tensor | None:
            edited = edit(stream["pre"] + tensor)
            return None if edited is None else edited - stream["pre"]

        return [(f"{block}.hook_resid_pre", note), (f"{block}.hook_attn_out", change)]


def _whole(edit: Edit) -> Callable[..., Any]:
    def hook_function(tensor: Tensor, hook: Any) -> Tensor | None:
        return edit(tensor)

    return hook_function


def _head(edit: Edit, head: int) -> Callable[..., Any]:
    """`hook_z` carries `[batch, position, head, d_head]`, or the heads side by side."""

    def hook_function(tensor: Tensor, hook: Any) -> Tensor | None:
        if tensor.ndim != 4:
            raise BadInput(f"hook_z carries {list(tensor.shape)} in this bridge, not [batch, position, head, d_head].")
        edited = edit(tensor[:, :, head])
        if edited is None:
            return None
        copy = tensor.clone()
        copy[:, :, head] = edited
        return copy

    return hook_function
