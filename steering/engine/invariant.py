"""Batch-invariant generation: a row has the same bits alone, in any batch, in any order, and after a restart.

1. Sums of floating-point numbers depend on their order, and libraries choose the order by the shapes of a product. Here every decoding
   step has the same number of rows (`PLACES`, empty ones included), so every product of a step has one shape.
2. A row attends over its own columns alone, taken out of the cache: how many there are depends on the row and on nothing else.
3. Every prompt is read by itself, whole. Nothing is shared between prompts, and numbers per token are computed for all places at once.
4. It holds on one machine, one device and one number of threads. Whether it holds is tried on the model before it is used
   (`generation.check_invariant`); a model for which the bits differ is refused.
5. It costs steps of `PLACES` rows where fewer are running, and prompts read one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ..errors import BadInput
from ..model.cache import Masks
from ..model.layout import text_config

if TYPE_CHECKING:
    from ..model.models import LoadedModel

NAME = "steering_own_columns"
PLACES = 16
"""Rows of every step."""


class OwnColumns:
    """Which columns each row of a step attends to."""

    def __init__(self, masks: Masks):
        self.masks = masks
        self.calls = 0
        """Attention layers of the pass in progress so far."""
        self.first: dict[str, list[int]] = {}
        """By kind of layer, each row's first column among those read."""

    @contextmanager
    def attended(self, model: LoadedModel, starts: Sequence[int], low: int, end: int) -> Iterator[None]:
        """A pass of one token per row in this context attends from each row's own column `starts` on, of the columns `low` to `end`."""
        self.first = {
            kind: [
                max(start, end - (self.masks.window or 0) if kind == "sliding_attention" else 0) - low
                for start in starts
            ]
            for kind in self.masks.kinds
        }
        config = text_config(model.model.config)
        before, token = config._attn_implementation, _current.set(self)
        config._attn_implementation = NAME
        self.calls = 0
        try:
            yield
        finally:
            config._attn_implementation = before
            _current.reset(token)


_current: ContextVar[OwnColumns] = ContextVar("own_columns")


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """One query per row `[rows, heads, 1, d]` over the row's own columns of `key`, `value [rows, key heads, columns, d]`."""
    own = _current.get()
    own.calls += 1
    rows, heads, _, d = query.shape
    key_heads = key.shape[1]
    scale = d**-0.5 if scaling is None else scaling
    out = query.new_empty(rows, 1, heads, value.shape[-1])
    for row, first in enumerate(own.first[own.masks.layer_kinds[module.layer_idx]]):
        keys, values = key[row, :, first:].contiguous(), value[row, :, first:].contiguous()
        scores = (query[row].reshape(key_heads, heads // key_heads, d) @ keys.transpose(1, 2)).float() * scale
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        out[row, 0] = (scores.softmax(-1).to(query.dtype) @ values).reshape(heads, -1)
    return out, None


ALL_ATTENTION_FUNCTIONS.register(NAME, attend)


def fixed(values: Tensor) -> Tensor:
    """Per-row values `[rows, ...]` with the first row repeated up to `PLACES` rows, so that what is computed of them has one shape."""
    missing = PLACES - len(values)
    return values if missing <= 0 else torch.cat([values, values[:1].expand(missing, *values.shape[1:])])


def demand_possible(model: LoadedModel) -> None:
    """Raises BadInput where a model is run by another executor, which has shapes of its own."""
    if model.executor is not None:
        raise BadInput(
            f"Batch-invariant generation needs the model itself; {model.runs.name} runs it in shapes of its own. Leave `invariant` out."
        )


def key_of(model: LoadedModel) -> tuple[str, int, str]:
    """Where what was tried holds: device, threads, precision."""
    return str(model.device), torch.get_num_threads(), str(model.dtype)


def remembered(model: LoadedModel) -> bool:
    """Whether the model was tried here and found invariant. Raises BadInput where it was found not to be."""
    found: dict[tuple[str, int, str], str | None] = model.extra.setdefault("invariant", {})
    if (failure := found.get(key_of(model))) is not None:
        raise BadInput(failure)
    return key_of(model) in found
