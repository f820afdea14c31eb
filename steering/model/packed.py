"""The library's own blocked product (oneDNN) on a CPU in float32, whose other products take up to 2.4 times as long on some processors.

1. `blocked` reads a weight as it lies and lays it out anew at every call: for passes of many rows, which it costs little, and with no copy
   to keep. `Packed` keeps the layout while rows are generated.
2. A packed weight is a second copy, so models of more than `MOST` bytes keep their own way. One layout serves every number of rows.
3. A copy can go stale. A write to the weight in place, or another tensor in its place, is seen at every product (version counter and
   address). What the counter does not see, such as a write through `.data`, is looked for whenever a generation begins: the weight times
   a fixed vector must be what it was when it was packed, bit for bit. Between the passes of one generation weights are not to be written to
   through `.data`.
4. Outside of a generation no copy is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

MOST = 2**31
"""Bytes of a model's packed weights at most."""
LAYOUT_ROWS = 16
"""Rows for which the layout is asked; measured to be as good for 2 to 1,024."""
LARGEST = 256
"""Rows of a pass that are done by packed weights: of larger products laying the weight out anew is a small part."""
FEW, WORK = 8, 2**21
"""Rows, and products of two numbers, from which on laying a weight out anew pays: 19 rows of 192 x 576, 128 of 128 x 128."""


def can_pack() -> bool:
    """Whether the library has the product."""
    if not torch.backends.mkldnn.is_available():
        return False
    return hasattr(torch.ops.mkldnn, "_reorder_linear_weight") and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def pays(rows: int, weight: int) -> bool:
    """Whether a product of so many rows by a weight of so many numbers is worth a layout of its own."""
    return rows >= FEW and rows * weight >= WORK


def blocked(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """`x [rows, in]` times `weight [out, in]` as it lies, plus the bias: `[rows, out]`."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found


def takes(rows: int) -> bool:
    """Whether a pass of so many rows is done by packed weights."""
    return rows <= LARGEST


class Packed:
    """The weight of a module, or of several that read the same inputs, packed when it is first needed."""

    def __init__(self, owns: Sequence[Mapping[str, Any]], known: list[Packed], transposed: bool = False):
        """`owns`: the parameters of each module, `weight [out, in]` (`[in, out]` when `transposed`, of one module) and perhaps `bias`;
        `known` is told of this one when it is packed."""
        self.owns, self._known, self._transposed = owns, known, transposed
        self._laid: Tensor | None = None
        self._mark: tuple[tuple[int, int], ...] = ()
        self._seen: Tensor | None = None
        self._probe: Tensor | None = None

    def drop(self) -> None:
        """Give the copy's memory back; it is made anew when it is needed."""
        self._laid = None

    def look(self) -> None:
        """Drop the copy if the weight is not what it was, by whatever it was changed."""
        if self._laid is None:
            return
        there = all(own.get("weight") is not None for own in self.owns)
        if not (there and self._mark == self._marked() and torch.equal(self._read(), cast(Tensor, self._seen))):
            self._laid = None

    def __call__(self, x: Tensor) -> Tensor:
        """`x [rows, in]` times the weight, plus the bias: `[rows, out]`, the modules' outputs one after the other."""
        if self._laid is None or self._mark != self._marked():
            self._pack()
        return blocked(cast(Tensor, self._laid), self._bias(), x)

    def _bias(self) -> Tensor | None:
        biases = [own.get("bias") for own in self.owns]
        if len(biases) == 1 or all(bias is None for bias in biases):
            return biases[0]
        return torch.cat(
            [
                torch.zeros(len(own["weight"])) if bias is None else bias
                for own, bias in zip(self.owns, biases, strict=True)
            ]
        )

    def _weights(self) -> list[Tensor]:
        weights = [cast(Tensor, own["weight"]).detach() for own in self.owns]
        return [weight.t() for weight in weights] if self._transposed else weights

    def _marked(self) -> tuple[tuple[int, int], ...]:
        return tuple((own["weight"]._version, own["weight"].data_ptr()) for own in self.owns)

    def _read(self) -> Tensor:
        weights = self._weights()
        if self._probe is None:
            self._probe = torch.randn(weights[0].shape[1], generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return torch.cat([torch.mv(weight, self._probe) for weight in weights])

    def _pack(self) -> None:
        if self not in self._known:
            self._known.append(self)
        for other in self._known:  # a weight has one layout at a time
            if other is not self and any(own is its for own in self.owns for its in other.owns):
                other.drop()
        weights = self._weights()
        whole = weights[0].contiguous() if len(weights) == 1 else torch.cat(weights)
        self._laid = torch.ops.mkldnn._reorder_linear_weight(whole, LAYOUT_ROWS)
        self._mark, self._seen = self._marked(), self._read()
