"""Where in the model: one vocabulary of sites for every architecture.

1. A site is named as TransformerLens names it: `blocks.<layer>.hook_resid_pre` or `blocks.<layer>.hook_resid_post`.
2. Names are resolved against a concrete model and checked when it is loaded (`layout_of`): the decoder layers are found, counted, and
   a probe forward shows that each one carries a residual stream of width `d_model`.
3. Hooks are installed by a context manager and are gone when it exits, whatever happened inside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .errors import BadInput, unknown

Kind = Literal["resid_pre", "resid_post"]
KINDS: tuple[str, ...] = ("resid_pre", "resid_post")
_NAME = re.compile(r"blocks\.(\d+)\.hook_([a-z_]+)")


@dataclass(frozen=True, order=True)
class Site:
    """A place in the residual stream: 0-based decoder layer, and before (`resid_pre`) or after (`resid_post`) that layer."""

    layer: int
    kind: Kind = "resid_post"

    @property
    def name(self) -> str:
        return f"blocks.{self.layer}.hook_{self.kind}"

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def parse(name: str | Site) -> Site:
        """Site from its name. Raises BadInput for anything that is not `blocks.<layer>.hook_<kind>` with a known kind."""
        if isinstance(name, Site):
            return name
        match = _NAME.fullmatch(name)
        if match is None:
            raise BadInput(
                f"{name!r} is not a site. Write blocks.<layer>.hook_resid_pre or blocks.<layer>.hook_resid_post."
            )
        if match[2] not in KINDS:
            raise unknown("site kind", match[2], KINDS, where=name)
        return Site(int(match[1]), match[2])  # type: ignore[arg-type]


@dataclass(frozen=True)
class Layout:
    """How a model's modules map to sites: its decoder layers in order, and the width of the residual stream."""

    layers: tuple[nn.Module, ...]
    d_model: int

    def check(self, site: Site) -> Site:
        """The site itself. Raises BadInput when the model has no such layer."""
        if not 0 <= site.layer < len(self.layers):
            raise BadInput(
                f"{site} does not exist: this model has {len(self.layers)} layers, 0 to {len(self.layers) - 1}."
            )
        return site


def text_config(config: Any) -> Any:
    """The configuration of the language model inside `config` (itself, for text-only models)."""
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def layout_of(model: nn.Module, probe: bool = True) -> Layout:
    """Find the decoder layers of a Hugging Face causal model and, with `probe`, verify them on a two-token forward pass.

    Raises BadInput when the layers cannot be found or do not carry `[batch, position, d_model]`.
    """
    config = text_config(model.config)
    n_layers, d_model = int(config.num_hidden_layers), int(config.hidden_size)
    stacks = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == n_layers and len({type(layer) for layer in module}) <= 2
    ]
    stacks = [
        (name, m) for name, m in stacks if not any(word in name for word in ("vision", "visual", "audio", "encoder"))
    ]
    if not stacks:
        raise BadInput(
            f"{type(model).__name__} has no stack of {n_layers} decoder layers that this workbench can find."
        )
    name, stack = min(stacks, key=lambda pair: pair[0].count("."))
    layout = Layout(tuple(stack), d_model)
    if probe:
        seen: dict[Site, tuple[int, ...]] = {}

        def note(site: Site) -> Callable[[Tensor], None]:
            def read(hidden: Tensor) -> None:
                seen[site] = tuple(hidden.shape)

            return read

        readers = {
            Site(layer, kind): note(Site(layer, kind))
            for layer in range(n_layers)
            for kind in ("resid_pre", "resid_post")
        }
        ids = torch.tensor([[0, 1]], device=next(model.parameters()).device)
        with torch.inference_mode(), hooked(layout, readers):
            model(input_ids=ids, use_cache=False)
        wrong = {str(site): shape for site, shape in seen.items() if shape != (1, 2, d_model)}
        if len(seen) != 2 * n_layers or wrong:
            raise BadInput(
                f"{type(model).__name__}: layers at {name!r} do not carry [1, 2, {d_model}] as expected; saw {wrong or seen}."
            )
    return layout


Edit = Callable[[Tensor], Tensor | None]
"""Takes the residual stream `[batch, position, d_model]`; returns its replacement, or None to leave it."""


@contextmanager
def hooked(layout: Layout, edits: Mapping[Site, Edit]) -> Iterator[None]:
    """Run `edits` at their sites for the duration of the context: one hook per site, none left afterwards."""
    with ExitStack() as stack:
        for site, edit in edits.items():
            layer = layout.layers[layout.check(site).layer]
            if site.kind == "resid_pre":
                handle = layer.register_forward_pre_hook(_pre_hook(edit), with_kwargs=True)
            else:
                handle = layer.register_forward_hook(_post_hook(edit))
            stack.callback(handle.remove)
        yield


def _pre_hook(edit: Edit) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        in_args = bool(args)
        hidden = args[0] if in_args else kwargs["hidden_states"]
        edited = edit(hidden)
        if edited is None:
            return None
        return ((edited, *args[1:]), kwargs) if in_args else (args, {**kwargs, "hidden_states": edited})

    return hook


def _post_hook(edit: Edit) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        plain = isinstance(output, Tensor)
        edited = edit(output if plain else output[0])
        if edited is None:
            return None
        return edited if plain else (edited, *output[1:])

    return hook
