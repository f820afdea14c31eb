"""Products of modules that read the same input, done as one: queries, keys and values; gate and up.

1. The first module that is given an input computes what all of them would, and the others hand out their parts when they are given the same
   tensor. Given another they compute it themselves, so the names below decide what is saved and not what comes out.
   For fewer than `products.LARGE_WEIGHT` numbers it does not pay: a packed product costs some 10 µs to begin.
2. It is done with packed weights, so in the passes of a generation and nowhere else.
3. What writes to the input after the first module has read it is not seen by the others. So modules are by themselves where anything is
   hooked to one of them, to a module beside them in their parent, or to every module there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as everywhere

from . import packed, products
from .pace import Pace
from .packed import Packed
from .products import Forward

TOGETHER = (
    ("q_proj", "k_proj", "v_proj"),
    ("query", "key", "value"),
    ("q_a_proj", "kv_a_proj_with_mqa"),
    ("gate_proj", "up_proj"),
    ("w1", "w3"),
)
"""What modelling files call modules that are given the same tensor."""
STRIDED = ("gate_proj", "w1")
"""First of those whose outputs go to elementwise functions, and can be left where they lie between each other."""


class Joined:
    """The products of a few linear modules of one parent."""

    def __init__(
        self,
        parent: nn.Module,
        modules: Sequence[nn.Linear],
        alone: Sequence[Forward],
        pace: Pace,
        strided: bool = False,
    ):
        """`modules` of one `parent`; `alone`: what stands in for each by itself. `strided` leaves outputs as parts of one tensor,
        `[..., out]` with steps between rows."""
        self.modules, self._alone, self._strided = modules, alone, strided
        self._near = [*parent.children()]
        self._laid = Packed([module._parameters for module in modules], pace.packed)
        self._sizes, self._width = [module.out_features for module in modules], modules[0].in_features
        self._input: Tensor | None = None
        self._parts: dict[int, Tensor] = {}
        self._apart = False
        """The modules turned out not to be given the same tensor."""
        self.forwards: list[Forward] = [self._forward(n) for n in range(len(modules))]
        """In the place of each module's own."""

    @property
    def free(self) -> bool:
        """Whether modules are given the same tensor, as far as was seen, and nothing is hooked to them or beside them."""
        if self._apart or everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks:
            return False
        return not any(near._forward_hooks or near._forward_pre_hooks for near in self._near)

    def passed(self) -> None:
        """The model's pass has ended well: parts that nobody asked for show that modules are not given the same tensor."""
        if self._parts:
            self._apart = True
            self._laid.drop()

    def forget(self) -> None:
        """The pass is over, however it went."""
        self._input = None
        self._parts.clear()

    def _forward(self, place: int) -> Forward:
        def forward(x: Tensor) -> Tensor:
            if self._input is None and packed.takes(x.numel() // self._width):
                self._input, self._parts = x, dict(enumerate(self._all(x)))
            part = self._parts.pop(place, None) if self._input is x else None
            if not self._parts:
                self._input = None
            return self._alone[place](x) if part is None else part

        return forward

    def _all(self, x: Tensor) -> Iterable[Tensor]:
        rows = x.numel() // self._width
        found = self._laid(x.reshape(rows, self._width))
        parts = found.view(*x.shape[:-1], found.shape[1]).split(self._sizes, dim=-1)
        return parts if self._strided or rows == 1 else [part.contiguous() for part in parts]


def _groups(model: nn.Module, pace: Pace, found: Iterable[tuple[nn.Module, Forward]]) -> Iterator[Joined]:
    """Modules of `model` that can be joined, by their names; `found` are those that have a substitute."""
    usable = {id(module): forward for module, forward in found if type(module) is nn.Linear}
    for parent in model.modules():
        for names in TOGETHER:
            modules: list[Any] = [parent._modules.get(name) for name in names]
            if not all(id(module) in usable for module in modules):
                continue
            alike = len({(module.in_features, module.bias is None) for module in modules}) == 1
            if (
                alike
                and len(set(modules)) == len(names)
                and sum(module.weight.numel() for module in modules) >= products.LARGE_WEIGHT
            ):
                yield Joined(parent, modules, [usable[id(module)] for module in modules], pace, names[0] in STRIDED)


def joined_in(model: nn.Module, pace: Pace, substitutes: Iterable[tuple[nn.Module, Forward]]) -> list[Joined]:
    """Modules of `model` whose products can be done as one, tried beside the modules; `substitutes` are those that each has."""
    found: list[Joined] = []
    tried: dict[tuple[Any, ...], bool] = {}
    if not pace.packable:
        return found
    for one in _groups(model, pace, substitutes):
        key = tuple((tuple(module.weight.shape), module.bias is None) for module in one.modules)
        if key not in tried:
            tried[key] = _equal_together(one)
        if tried[key]:
            found.append(one)
    pace.unpack()
    return found


def _equal_together(joined: Joined) -> bool:
    """Whether modules give what they give alone, whichever is asked first."""
    generator = torch.Generator().manual_seed(0)
    count = len(joined.modules)
    with torch.inference_mode():
        for rows in products.TRIED:
            x = torch.randn(rows, 1, joined.modules[0].in_features, generator=generator)
            own = [module.forward(x) for module in joined.modules]
            for first in range(count):
                for place in [(first + n) % count for n in range(count)]:
                    if not products.close(own[place], joined.forwards[place](x)):
                        joined.forget()
                        return False
    return True
