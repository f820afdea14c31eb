"""How a model's modules map to sites, checked on a probe forward pass when the model is loaded.

1. The decoder layers are found and counted; each must carry a residual stream `[batch, position, d_model]`.
2. The modules whose outputs a block adds to the stream are found by arithmetic, not by name: they are the pair with
   resid_post = resid_pre + attn_out + mlp_out on the probe. Kinds that an architecture does not have are refused by name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadInput
from .hooks import Edit, first_output, hooked
from .layout import Block, Layout, text_config
from .sites import Site

ATTENTION_NAMES = (
    "self_attn",
    "attn",
    "attention",
    "self_attention",
    "post_attention_layernorm",
    "post_self_attn_layernorm",
)
MLP_NAMES = (
    "mlp",
    "feed_forward",
    "ffn",
    "block_sparse_moe",
    "moe",
    "post_feedforward_layernorm",
    "post_mlp_layernorm",
)
PROJECTION_NAMES = ("o_proj", "c_proj", "dense", "out_proj", "wo")


def layout_of(model: nn.Module, probe: bool = True) -> Layout:
    """Find the decoder layers of a Hugging Face causal model and, with `probe`, the modules of every site on a three-token forward pass.

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
    heads = int(getattr(config, "num_attention_heads", 0) or 0)
    d_head = int(getattr(config, "head_dim", None) or (d_model // heads if heads else 0))
    layout = Layout(tuple(Block(layer) for layer in stack), d_model, heads, d_head)
    return _probed(model, layout, name) if probe else layout


def _probed(model: nn.Module, layout: Layout, name: str) -> Layout:
    seen: dict[Site, Tensor] = {}
    outputs: dict[int, dict[str, Tensor]] = defaultdict(dict)
    inputs: dict[int, dict[str, Tensor]] = defaultdict(dict)

    def note(site: Site) -> Edit:
        def read(hidden: Tensor) -> None:
            seen[site] = hidden.detach()

        return read

    def keep(layer: int, child: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            output = first_output(output)
            if isinstance(output, Tensor) and output.shape[-1:] == (layout.d_model,):
                outputs[layer][child] = output.detach().reshape(1, -1, layout.d_model)
            given = args[0] if args else kwargs.get("hidden_states")
            if isinstance(given, Tensor):
                inputs[layer][child] = given.detach()

        return hook

    ids = torch.tensor([[0, 1, 0]], device=next(model.parameters()).device)
    readers = {
        Site(i, kind): note(Site(i, kind)) for i in range(len(layout.blocks)) for kind in ("resid_pre", "resid_post")
    }  # type: ignore[arg-type]
    with ExitStack() as stack:
        for index, block in enumerate(layout.blocks):
            for child, module in block.layer.named_children():
                stack.callback(module.register_forward_hook(keep(index, child), with_kwargs=True).remove)
        with torch.inference_mode(), hooked(layout, readers):
            model(input_ids=ids, use_cache=False)
    wrong = {str(site): tuple(h.shape) for site, h in seen.items() if h.shape != (1, 3, layout.d_model)}
    if len(seen) != 2 * len(layout.blocks) or wrong:
        raise BadInput(
            f"{type(model).__name__}: layers at {name!r} do not carry [1, 3, {layout.d_model}]; saw {wrong or sorted(map(str, seen))}."
        )
    blocks = []
    for index, block in enumerate(layout.blocks):
        change = seen[Site(index)].float() - seen[Site(index, "resid_pre")].float()
        blocks.append(
            _resolved(block.layer, layout, change, seen[Site(index, "resid_pre")], outputs[index], inputs[index])
        )
    return Layout(tuple(blocks), layout.d_model, layout.heads, layout.d_head)


def _resolved(
    layer: nn.Module,
    layout: Layout,
    change: Tensor,
    before: Tensor,
    outputs: dict[str, Tensor],
    inputs: dict[str, Tensor],
) -> Block:
    """The block whose two branches add up to `change`; a bare `Block` when none do."""
    children = dict(layer.named_children())
    tolerance = 1e-3 if change.dtype == torch.float32 and before.dtype == torch.float32 else 0.05
    for attention in reversed([c for c in outputs if c in ATTENTION_NAMES]):
        for mlp in reversed([c for c in outputs if c in MLP_NAMES]):
            gap = (outputs[attention].float() + outputs[mlp].float() - change).norm()
            if gap > tolerance * change.norm().clamp_min(1e-6):
                continue
            inner = next((children[c] for c in ATTENTION_NAMES[:4] if c in children), None)
            projection = None
            for child in PROJECTION_NAMES:
                module = getattr(inner, child, None)
                if isinstance(module, nn.Module) and _fan_in(module) == layout.heads * layout.d_head:
                    projection = module
            return Block(
                layer, children[attention], children[mlp], projection, _parallel(before, inputs, attention, mlp)
            )
    return Block(layer)


def _fan_in(module: nn.Module) -> int | None:
    width = getattr(module, "in_features", None)
    if width is None and hasattr(module, "nx"):  # GPT-2's Conv1D
        width = module.nx
    return width


def _parallel(before: Tensor, inputs: dict[str, Tensor], attention: str, mlp: str) -> bool:
    """Whether both branches read resid_pre: through one shared norm (equal inputs) or through two norms of their own."""
    one, two = inputs.get(attention), inputs.get(mlp)
    shared = one is not None and two is not None and one.shape == two.shape and torch.equal(one, two)
    readers = [c for c, given in inputs.items() if given.shape == before.shape and torch.equal(given, before)]
    return shared or len(readers) > 1
