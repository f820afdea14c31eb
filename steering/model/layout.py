"""Where a model's sites live: its decoder layers in order, the modules that carry each kind of activation, and their widths.

A site that the model does not have is refused by name, with what the layer does have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..errors import BadInput
from .sites import KINDS, Site


@dataclass(frozen=True)
class Block:
    """One decoder layer and the modules that its sites live on; None where the architecture has no such place."""

    layer: nn.Module
    attention: nn.Module | None = None
    """Its output (first of a tuple) is what attention adds to the stream."""
    mlp: nn.Module | None = None
    projection: nn.Module | None = None
    """Its input is every head's output, `[batch, position, heads * d_head]`."""
    parallel: bool = False
    """Attention and MLP both read resid_pre, so there is no resid_mid."""


@dataclass(frozen=True)
class Layout:
    """The decoder layers in order and the widths of what flows through them."""

    blocks: tuple[Block, ...]
    d_model: int
    heads: int = 0
    d_head: int = 0
    _known: set[Site] = field(default_factory=set, compare=False, repr=False)
    """Sites that have been checked."""

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        return tuple(block.layer for block in self.blocks)

    def width(self, site: Site) -> int:
        """Width of the activations at a site."""
        return self.d_head if site.kind == "z" else self.d_model

    def kinds(self, layer: int) -> tuple[str, ...]:
        """Site kinds that a layer has."""
        block = self.blocks[layer]
        missing = {
            "z": block.projection is None,
            "attn_out": block.attention is None,
            "mlp_out": block.mlp is None,
            "resid_mid": block.attention is None or block.mlp is None or block.parallel,
        }
        return tuple(kind for kind in KINDS if not missing.get(kind, False))

    def check(self, site: Site) -> Site:
        """The site itself. Raises BadInput when the model has no such layer, kind or head."""
        if site in self._known:
            return site
        if not 0 <= site.layer < len(self.blocks):
            raise BadInput(
                f"{site} does not exist: this model has {len(self.blocks)} layers, 0 to {len(self.blocks) - 1}."
            )
        if site.kind not in self.kinds(site.layer):
            parallel = site.kind == "resid_mid" and self.blocks[site.layer].parallel
            why = "attention and MLP run in parallel there" if parallel else "no module of this architecture carries it"
            raise BadInput(
                f"{site} does not exist in this model: {why}. Layer {site.layer} has {', '.join(self.kinds(site.layer))}."
            )
        if site.head is not None and not 0 <= site.head < self.heads:
            raise BadInput(f"{site} does not exist: this model has {self.heads} heads, 0 to {self.heads - 1}.")
        self._known.add(site)
        return site


def text_config(config: Any) -> Any:
    """The configuration of the language model inside `config` (itself, for text-only models)."""
    return config.get_text_config() if hasattr(config, "get_text_config") else config
