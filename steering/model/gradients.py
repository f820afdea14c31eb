"""Passes with gradients: one at a time on a model, with the library's blocked product for linear modules on a CPU in float32.

1. The gradients are those of the module's own product: with respect to the input, the weight and the bias, each by another blocked product.
   Where a second derivative is asked for they are computed by plain products, which have one.
2. A pass is a model's turn (`turns`): edits and substitutes are in place until it is over, and a generation of another thread waits. What
   follows, the loss and its gradients, needs neither.
3. Every shape is tried beside the library's product, gradients included, before it is used. Few rows and small weights
   (`packed.pays`), other precisions, autocast, transformed functions (`torch.func`) and models that compute activations anew in the
   backward pass (gradient checkpointing) keep the module's own way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from . import packed, products
from .hooks import Edit, hooked, resumed
from .sites import Site
from .turns import turn

if TYPE_CHECKING:
    from .executor import Resume
    from .models import LoadedModel

_TRIED: dict[tuple[int, int, bool], bool] = {}
"""By outputs, inputs and whether there is a bias: whether the product and its gradients were those of the library."""


class BlockedProduct(torch.autograd.Function):
    """`x [rows, in]` times `weight [out, in]` as it lies, plus `bias [out]` or None: `[rows, out]`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        to_x, to_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if to_weight else None, weight if to_x else None)
        return packed.blocked(weight, bias, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        product = _plain if torch.is_grad_enabled() else _blocked
        to_x, to_weight, to_bias = ctx.needs_input_grad
        return (
            product(gradient, weight.t()) if to_x else None,
            product(gradient.t(), x.t()) if to_weight else None,
            gradient.sum(0) if to_bias else None,
        )


def _without(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return packed.blocked(weight, bias, x)


def _plain(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight.t()


def _blocked(x: Tensor, weight: Tensor) -> Tensor:
    return packed.blocked(weight, None, x.contiguous())


@contextmanager
def differentiable(
    model: LoadedModel, edits: Mapping[Site, Edit] | None = None, resume: Resume | None = None, still: bool = False
) -> Iterator[Any]:
    """A context for one pass of the model that comes back, `model.model`: with `edits` at their sites, from `resume` if given. `still`:
    gradients with respect to weights are not asked for, even of weights that say so, and are not computed."""
    with turn(model.model):
        before = resumed(model.layout, *resume) if resume else nullcontext()
        with before, hooked(model.layout, edits or {}), blocked_products(model.model, still):
            yield model.model


@contextmanager
def blocked_products(model: nn.Module, still: bool = False) -> Iterator[None]:
    """Linear modules of `model` by blocked products, in its turn; `still` as for `differentiable`."""
    with turn(model):
        found = substitutes(model, still)
        try:
            for attributes, forward in found:
                attributes["forward"] = forward
            yield
        finally:
            for attributes, _ in found:
                attributes.pop("forward", None)


def substitutes(model: nn.Module, still: bool = False) -> list[tuple[dict[str, Any], Callable[[Tensor], Tensor]]]:
    """The attributes of every module that has one, and its substitute."""
    recomputed = any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    if not packed.can_pack() or _transformed() or recomputed:
        return []
    return [
        (module.__dict__, _substitute(module, still))
        for module in model.modules()
        if type(module) in (nn.Linear, Conv1D)
        and "forward" not in module.__dict__
        and _ordinary(module)
        and _right(module)
    ]


def _ordinary(module: nn.Module) -> bool:
    weight = module._parameters.get("weight")
    return (
        "bias" in module._parameters
        and type(weight) is nn.Parameter
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
    )


def _outputs_inputs(module: Any) -> tuple[int, int]:
    shape = tuple(module.weight.shape)
    return shape[::-1] if type(module) is Conv1D else shape


def _substitute(module: Any, still: bool) -> Callable[[Tensor], Tensor]:
    own, (out, width), transposed = module._parameters, _outputs_inputs(module), type(module) is Conv1D

    def forward(x: Tensor) -> Tensor:
        weight, bias = own["weight"].t() if transposed else own["weight"], own["bias"]
        rows = x.numel() // width
        if not packed.pays(rows, weight.numel()) or _other(x):
            return F.linear(x, weight, bias)
        if still:  # a function of one's own is asked for every gradient that its inputs may have
            weight, bias = weight.detach(), None if bias is None else bias.detach()
        product = BlockedProduct.apply if torch.is_grad_enabled() else _without
        found: Tensor = product(x.reshape(rows, width), weight, bias)
        return found.view(*x.shape[:-1], out)

    return forward


def _other(x: Tensor) -> bool:
    """Whether an input is not for the blocked product, or its gradients are not for the ordinary way."""
    return x.dtype != torch.float32 or torch.autograd.forward_ad._current_level >= 0 or _transformed()


def _transformed() -> bool:
    """Whether what is computed now is under autocast or a transform of `torch.func`."""
    return torch.is_autocast_enabled("cpu") or torch._C._functorch.peek_interpreter_stack() is not None


def _right(module: Any) -> bool:
    """Whether the product of this shape, with its gradients, is the library's."""
    key = *_outputs_inputs(module), module.bias is not None
    if key not in _TRIED:
        _TRIED[key] = right(*key, lambda *given: BlockedProduct.apply(*given))
    return _TRIED[key]


def right(out: int, width: int, biased: bool, product: Callable[..., Tensor], rows: int = packed.FEW + 1) -> bool:
    """Whether `product` of x `[rows, width]`, a weight `[out, width]` and a bias or None is the library's, with its gradients."""
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(False), torch.enable_grad():
        shapes = ((rows, width), (out, width), (out,))
        parts = [
            torch.randn(shape, generator=generator, dtype=torch.float32).requires_grad_()
            for shape in shapes[: 2 + biased]
        ]
        toward = torch.randn(rows, out, generator=generator, dtype=torch.float32)
        results: list[list[Tensor]] = []
        for way in (F.linear, product):
            try:
                made = way(*parts, *([] if biased else [None]))
                results.append([made.detach(), *torch.autograd.grad(made, parts, toward)])
            except (TypeError, RuntimeError, ValueError):
                return False
    return all(products.close(own, other) for own, other in zip(*results, strict=True))
