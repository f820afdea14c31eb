"""Products of a linear module's weight, done in the way that is fastest for their size: packed, blocked, by columns, in parts, or the
library's own.

1. Which way is chosen by shape, number of rows and number of threads; between ways with the same bits, by timing (`Pace`).
2. Weights of fewer than `MIDDLING_WEIGHT` numbers are the library's, but for passes of many rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from . import packed
from .pace import Pace
from .packed import Packed

Forward = Callable[[Tensor], Tensor]

FEW_ROWS = 64
"""Rows (tokens of a pass) up to which a product is done by columns or in parts; larger ones gain nothing by that."""
BLOCK = 16
"""Numbers of rows that the library's product by columns handles whole."""
MIDDLING_WEIGHT = 3 * 2**15
"""Elements below which a product of few rows is over before it is worth choosing how to do it."""
LARGE_WEIGHT = 2**18
"""Elements from which on a product may be worth sharing among threads by outputs: the library uses one thread for a single row, and
shares few rows badly."""
PARTS = 8
"""Threads that share a product by outputs at most."""

TRIED = (1, 2, 5, 40)
"""Rows on which a substitute is compared with its module: one of each way."""
TOLERANCE = 2e-5
"""Largest difference between the two, relative to the largest output."""


def from_rows(module: nn.Module) -> int:
    """Rows below which a small weight's product is left to the library, so that a pass need not put anything in the module's place."""
    if type(module) not in (nn.Linear, Conv1D) or module.weight.numel() >= MIDDLING_WEIGHT:
        return 0
    return next(
        rows for rows in range(packed.FEW, packed.WORK + packed.FEW) if packed.pays(rows, module.weight.numel())
    )


def columns(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """`weight [out, in]` times rows `x [n, in]`, `[out, n]`: the small side first, which the library's product is faster at."""
    return torch.mm(weight, x.t()) if bias is None else torch.addmm(bias[:, None], weight, x.t())


def apart(rows: int) -> bool:
    """Numbers of rows whose product in parts has the same bits as the whole: a single row, and 8 and more."""
    return rows == 1 or 8 <= rows <= FEW_ROWS


def by_columns(rows: int) -> bool:
    """Numbers of rows that are faster by columns than by rows: a few, and on several threads whole blocks. Between them lie some, such as
    12, at which the library needs up to 1.7 times as long."""
    return 1 < rows <= 4 or (rows <= FEW_ROWS and rows % BLOCK == 0 and torch.get_num_threads() > 1)


def in_parts(weight: Tensor, bias: Tensor | None, x: Tensor, parts: int) -> Tensor:
    """`weight [out, in]` times rows `x [n, in]`, each of `parts` threads having its share of the outputs: `[n, out]`."""
    out, width = weight.shape
    each, shares = x.expand(parts, *x.shape), weight.view(parts, -1, width).transpose(1, 2)
    found = torch.bmm(each, shares) if bias is None else torch.baddbmm(bias.view(parts, 1, -1), each, shares)
    return found.transpose(0, 1).reshape(len(x), out)


def _parts(module: nn.Linear) -> int:
    """Among how many threads a product can be shared with the same bits as the module's own; 1 when it cannot."""
    out, width = module.weight.shape
    fitting = [p for p in range(2, min(PARTS, torch.get_num_threads()) + 1) if out % (16 * p) == 0]
    if out * width < LARGE_WEIGHT or not fitting:
        return 1
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for rows in (1, 8, 13, FEW_ROWS):
            x = torch.randn(rows, width, generator=generator)
            if not torch.equal(in_parts(module.weight, module.bias, x, fitting[-1]), module.forward(x)):
                return 1
    return fitting[-1]


def linear(module: nn.Linear, strided: bool, pace: Pace) -> Forward:
    """A linear map. `strided` leaves what was done by columns so, for an elementwise function and another product to follow."""
    out, width, own, parts = module.out_features, module.in_features, module._parameters, _parts(module)
    pace.needed = pace.needed or parts > 1
    laid, laying, small = Packed([own], pace.packed), packed.can_pack(), out * width < MIDDLING_WEIGHT

    def forward(x: Tensor) -> Tensor:
        weight, bias = cast(Tensor, own["weight"]), own["bias"]
        rows = x.numel() // width
        if small and not packed.pays(rows, out * width):
            return F.linear(x, weight, bias)
        if not small and pace.packing and pace.packable and packed.takes(rows):
            return laid(x.reshape(rows, width)).view(*x.shape[:-1], out)
        if laying and packed.pays(rows, out * width):
            return packed.blocked(weight, bias, x.reshape(rows, width)).view(*x.shape[:-1], out)
        if by_columns(rows):
            found = columns(weight, bias, x.reshape(rows, width)).t()
            return (found if strided else found.contiguous()).view(*x.shape[:-1], out)
        if parts > 1 and pace.shared and apart(rows):
            return in_parts(weight, bias, x.reshape(rows, width), parts).view(*x.shape[:-1], out)
        return F.linear(x, weight, bias)

    return forward


def conv1d(module: Any, pace: Pace) -> Forward:
    """GPT-2's linear map, whose weight is `[in, out]`."""
    width, out = module.weight.shape
    laid, laying = Packed([module._parameters], pace.packed, transposed=True), packed.can_pack()
    small = out * width < MIDDLING_WEIGHT

    def forward(x: Tensor) -> Tensor:
        rows = x.numel() // width
        if not small and pace.packing and pace.packable and packed.takes(rows):
            return laid(x.reshape(rows, width)).view(*x.shape[:-1], out)
        if laying and packed.pays(rows, out * width):
            found = packed.blocked(module.weight.t(), module.bias, x.reshape(rows, width))
            return found.view(*x.shape[:-1], out)
        if small or not by_columns(rows):
            return torch.addmm(module.bias, x.reshape(-1, width), module.weight).view(*x.shape[:-1], out)
        return columns(module.weight.t(), module.bias, x.reshape(rows, width)).t().contiguous().view(*x.shape[:-1], out)

    return forward


def equal(module: nn.Module, forward: Forward, width: int) -> bool:
    """Whether `forward` gives what `module` gives, on a few inputs `[rows, 1, width]`."""
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for rows in TRIED:
            x = torch.randn(rows, 1, width, generator=generator)
            try:
                own, other = module.forward(x), forward(x)  # not called: hooks of the pass are none of its business
            except (TypeError, RuntimeError, ValueError):
                return False
            if not close(own, other):
                return False
    return True


def close(own: Tensor, other: Tensor) -> bool:
    """Whether two results are equal up to the order of sums."""
    if own.shape != other.shape or own.dtype != other.dtype:
        return False
    return float((own - other).abs().max()) <= TOLERANCE * float(own.abs().max())
