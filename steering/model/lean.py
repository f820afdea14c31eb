"""Cheaper ways to compute a model's own modules, used for the engine's passes on a CPU in float32.

1. A substitute computes what its module computes, up to the order of sums: the same weights, read at every call, but for those that are
   packed for a generation (`packed`). Each is tried beside its module before it is used; where the two differ the module keeps its own way.
2. Substitutes are in place during a pass of the executor and at no other time: not between the passes of a held stream, not under
   gradients, and not after an exception. Hooks on any module fire as ever, since only what the module computes is replaced.
3. Ways that differ in the order of sums are chosen by shape alone, so that a run gives the same numbers again. Timing chooses only
   between ways that were found to give the same bits (`Pace`): products by the library's own threading, or in parts.
4. Modules that are not exactly the plain kind (quantized, wrapped, dispatched, on another device, of another precision) are left alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from . import packed, products
from .joined import Joined, joined_in
from .layout import text_config
from .pace import Pace
from .products import Forward, equal
from .resolution import MLP_NAMES
from .rotary import NAME, Rotary, rotations

Plain = Callable[[dict[str, Any]], bool]

SMALL_WEIGHT = 2**13
"""Elements below which a product is the library's."""


class Lean:
    """The substitutes of one model, found and tried at the first pass."""

    def __init__(self, model: nn.Module):
        self.model = model
        self.pace = Pace()
        self._forwards: list[tuple[dict[str, Any], Forward, Plain, int]] | None = None
        """Attributes of each module, its substitute, whether the module is still what that was made of, and the rows of a pass from which
        on the substitute does anything else than the module."""
        self._joined: list[tuple[Joined, list[tuple[dict[str, Any], Forward, Plain]]]] = []
        """Modules whose products are done as one, and of each its attributes, its substitute then, and whether it is still plain."""
        self._rotations: list[tuple[dict[str, Any], Rotary]] = []
        """Namespaces of modelling files and the substitute of their rotary function."""
        self._inside = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Lean:
        """The substitutes of a copied model are found anew: those of the first read its weights."""
        return Lean(copy.deepcopy(self.model, memo))

    @property
    def modules(self) -> int:
        """How many modules have a substitute."""
        return len(self._found())

    def _found(self) -> list[tuple[dict[str, Any], Forward, Plain, int]]:
        if self._forwards is None:
            found = substitutes(self.model, self.pace)
            self._forwards = [
                (module.__dict__, forward, _plain(type(module)), products.from_rows(module))
                for module, forward in found
            ]
            self._joined = [
                (
                    joined,
                    [(m.__dict__, f, _plain(type(m))) for m, f in zip(joined.modules, joined.forwards, strict=True)],
                )
                for joined in joined_in(self.model, self.pace, found)
            ]
            self._rotations = rotations(self.model)
        if self._forwards and not _ordinary(self._forwards[0][0]["_parameters"].values()):  # the model has been moved
            return []
        return self._forwards

    def look(self) -> None:
        """Before the passes of a generation: packed weights that are no longer the model's are packed anew."""
        for weight in self.pace.packed:
            weight.look()

    @contextmanager
    def used(self, inputs: Mapping[str, Any], packing: bool = False) -> Iterator[Mapping[str, Any]]:
        """Substitutes in place for one pass over `inputs`, which come back in the form that goes with them; `packing` in a generation's
        own pass."""
        other = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or self.model.training
        if self._inside or other or not (found := self._found()):
            yield inputs
            return
        mask = inputs.get("attention_mask")
        if _boolean(mask) and text_config(self.model.config)._attn_implementation == "sdpa":
            inputs = {**inputs, "attention_mask": additive(mask)}
        ids = inputs.get("input_ids")
        rows = 0 if ids is None else ids.numel()
        mine = [
            (attributes, forward)
            for attributes, forward, own, least in found
            if (rows >= least or ids is None) and own(attributes)
        ]
        joined = []
        if packing and self.pace.packable and rows and packed.takes(rows):
            for one, members in self._joined:
                if one.free and all(own(attributes) for attributes, _, own in members):
                    joined.append(one)
                    mine += [(attributes, forward) for attributes, forward, _ in members]
        turns = [pair for pair in self._rotations if pair[0].get(NAME) is pair[1].own]
        self._inside, self.pace.packing = True, packing
        try:
            for attributes, forward in mine:
                attributes["forward"] = forward
            for space, rotary in turns:
                space[NAME] = rotary
            with self.pace.timed(rows) if self.pace.needed and products.apart(rows) else nullcontext():
                yield inputs
            for one in joined:
                one.passed()
        finally:
            for attributes, _ in mine:
                attributes.pop("forward", None)
            for space, rotary in turns:
                space[NAME] = rotary.own
                rotary.forget()
            for one in joined:
                one.forget()
            self._inside = self.pace.packing = False


def _plain(kind: type) -> Plain:
    """Whether a module of this class, by its attributes, computes what it did when its substitute was made: nobody has put another
    `forward` there or into the class, its weight is a plain float32 parameter, and its bias one, too, or none."""
    own, biased = kind.forward, kind in (nn.Linear, Conv1D)  # type: ignore[attr-defined]

    def plain(attributes: dict[str, Any]) -> bool:
        weight = attributes["_parameters"].get("weight")
        return (
            "forward" not in attributes
            and (not biased or "bias" in attributes["_parameters"])
            and kind.forward is own  # type: ignore[attr-defined]
            and weight is not None
            and weight.dtype == torch.float32
        )

    return plain


def _boolean(mask: Any) -> bool:
    """Whether a mask covers queries and keys, so that the model adds nothing to it, and is not numbers yet."""
    parts = mask.values() if isinstance(mask, dict) else [mask]
    return all(isinstance(part, Tensor) and part.ndim == 4 and part.dtype == torch.bool for part in parts)


def additive(mask: Any) -> Any:
    """A boolean mask, or one per kind of layer, as numbers to add: made once per pass rather than once per layer."""
    if isinstance(mask, dict):
        return {kind: additive(part) for kind, part in mask.items()}
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, -torch.inf)


def substitutes(model: nn.Module, pace: Pace) -> list[tuple[nn.Module, Forward]]:
    """The modules of `model` that have a cheaper equal, with it; `pace` decides for single rows and holds what is packed."""
    found: list[tuple[nn.Module, Forward]] = []
    tried: dict[tuple[Any, ...], bool] = {}
    pace.packable = packed.can_pack() and sum(map(_packed_bytes, model.modules())) <= packed.MOST
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    for name, module in model.named_modules():
        if "forward" in module.__dict__ or not _ordinary(module._parameters.values()):
            continue
        wide = module is head or any(part in MLP_NAMES for part in name.split("."))
        for forward in _candidates(module, wide, pace):
            key = (type(module), _shape(module), wide) if not _norm(module) else (name, forward)
            if key not in tried:
                tried[key] = equal(module, forward, _fan_in(module))
                pace.packing = True
                tried[key] = tried[key] and equal(module, forward, _fan_in(module))
                pace.packing = False
            if tried[key]:
                found.append((module, forward))
                break
    pace.unpack()
    return found


def _ordinary(parameters: Iterable[Any]) -> bool:
    """Whether these are plain float32 parameters in the CPU's memory, of which there is one at least."""
    own = [p for p in parameters if p is not None]
    return bool(own) and all(
        type(p) is nn.Parameter and p.dtype == torch.float32 and p.device.type == "cpu" for p in own
    )


def _least() -> int:
    """Elements of the smallest weight whose product may be done in another way."""
    return min(products.MIDDLING_WEIGHT, SMALL_WEIGHT) if packed.can_pack() else products.MIDDLING_WEIGHT


def _packed_bytes(module: nn.Module) -> int:
    """Of a module whose weight may be packed."""
    if type(module) not in (nn.Linear, Conv1D) or module._parameters.get("weight") is None:
        return 0
    return module.weight.numel() * module.weight.element_size()


def _norm(module: nn.Module) -> bool:
    return "RMSNorm" in type(module).__name__


def _shape(module: nn.Module) -> tuple[Any, ...]:
    return (*(tuple(p.shape) for p in module.parameters(recurse=False)),)


def _fan_in(module: nn.Module) -> int:
    weight: Any = module.weight
    return int(weight.shape[0] if type(module) is Conv1D else weight.shape[-1])


def _candidates(module: nn.Module, wide: bool, pace: Pace) -> list[Forward]:
    if module._parameters.get("weight") is None:  # pruned, or otherwise made from something else at every call
        return []
    if type(module) in (nn.Linear, Conv1D) and module.weight.numel() < _least():
        return []
    if type(module) is nn.Linear:
        return [products.linear(module, wide and module.out_features > module.in_features, pace)]
    if type(module) is Conv1D:
        return [products.conv1d(module, pace)]
    named = next((a for a in ("variance_epsilon", "eps") if isinstance(getattr(module, a, None), float)), None)
    if _norm(module) and named is not None and len(list(module.parameters())) == 1 and not list(module.children()):
        return [_rms(module, named, 0.0), _rms(module, named, 1.0)]
    return []


def _rms(module: Any, named: str, shift: float) -> Forward:
    """Root mean square normalization times weight + `shift` (Gemma's weights are stored less 1); `named` is what the module calls its
    epsilon. √(mean x² + ε) is the hypotenuse of ‖x‖ and √(d ε), over √d: five operations, of which two are of the size of x."""

    own, attributes, width = module._parameters, module.__dict__, module.weight.numel()
    floor, known = torch.zeros(()), -1.0

    def forward(x: Tensor) -> Tensor:
        nonlocal floor, known
        if known != attributes[named]:
            known = attributes[named]
            floor = torch.tensor((width * known) ** 0.5)
        weight = own["weight"]
        size = torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), floor).mul_(width**-0.5)
        return x.div(size).mul_(weight + shift if shift else weight)

    return forward
