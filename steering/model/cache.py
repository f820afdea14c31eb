"""A key-value cache of fixed columns, written in place.

1. Every row of a batch writes the same column at the same step, so a step is one slice assignment per layer: nothing is concatenated, and
   no index arithmetic is left to the model.
2. A row's tokens end at the current column; where they begin is the row's offset. Columns before it are masked, whatever they hold.
3. Rows are copied in and out by index: a prompt that was read once serves any number of rows.
4. It serves attention layers only. Models with recurrent or chunked state are refused by name; chunks that hold the whole context are none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from ..errors import BadInput
from .layout import text_config

SUPPORTED_LAYERS = ("full_attention", "sliding_attention")


class ColumnLayer(CacheLayerMixin):
    """Keys and values `[rows, heads, columns, d]` of one layer. `begin`, `end` are the columns of the coming forward pass, `low` the first
    column that any row still uses."""

    is_sliding = False
    is_compileable = True

    def __init__(self, rows: int, columns: int):
        super().__init__()
        self.rows, self.columns = rows, columns
        self.low = self.begin = self.end = 0
        self.pinned: Tensor | None = None
        """In a compiled step: the column to write, `[1]`; all columns are then read."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys = key_states.new_zeros(self.rows, key_states.shape[1], self.columns, key_states.shape[3])
        self.values = value_states.new_zeros(self.rows, value_states.shape[1], self.columns, value_states.shape[3])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self.pinned is not None:
            self.keys.index_copy_(2, self.pinned, key_states)
            self.values.index_copy_(2, self.pinned, value_states)
            return self.keys, self.values
        self.keys[:, :, self.begin : self.end] = key_states
        self.values[:, :, self.begin : self.end] = value_states
        return self.keys[:, :, self.low : self.end], self.values[:, :, self.low : self.end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.end - self.low, 0

    def get_seq_length(self) -> int:
        return self.begin - self.low

    def get_max_length(self) -> int:
        return self.columns


class ColumnCache(Cache):
    """One `ColumnLayer` per decoder layer."""

    def __init__(self, layers: int, rows: int, columns: int):
        super().__init__(layers=[ColumnLayer(rows, columns) for _ in range(layers)])
        self.rows, self.columns = rows, columns

    def open(self, low: int, begin: int, end: int) -> None:
        """Set the columns that the coming forward pass reads (from `low`) and writes (`begin` to `end`)."""
        for layer in self.layers:
            layer.low, layer.begin, layer.end = low, begin, end

    def wipe(self, rows: Tensor) -> None:
        """Empty `rows`: what is masked counts for nothing in attention only as long as it is finite."""
        for layer in self.layers:
            if layer.is_initialized:
                index = rows.to(layer.keys.device)
                layer.keys[index], layer.values[index] = 0.0, 0.0

    def keep_rows(self, rows: Tensor) -> None:
        """Drop all rows but `rows`."""
        self.rows = len(rows)
        for layer in self.layers:
            layer.rows = self.rows
            if layer.is_initialized:
                index = rows.to(layer.keys.device)
                layer.keys, layer.values = layer.keys.index_select(0, index), layer.values.index_select(0, index)

    def shift(self, columns: int, end: int) -> None:
        """Move everything up to column `end` to the left by `columns` (to the right, where negative)."""
        for layer in self.layers:
            if layer.is_initialized:
                for part in (layer.keys, layer.values):
                    low, high = max(columns, 0), max(-columns, 0)
                    part[:, :, high : end - low + high] = part[:, :, low:end].clone()

    def copy_rows(
        self,
        rows: Tensor,
        column: int,
        source: ColumnCache,
        source_rows: Tensor,
        begin: int,
        end: int,
        layers: slice = slice(None),
    ) -> None:
        """Copy columns `begin` to `end` of `source_rows` of another cache to `column` on of this one's `rows`, in some layers."""
        if begin == end or not len(rows):
            return
        for mine, theirs in zip(self.layers[layers], source.layers[layers], strict=True):
            if not mine.is_initialized:
                mine.lazy_initialization(theirs.keys, theirs.values)
            to, of = rows.to(mine.keys.device), source_rows.to(mine.keys.device)
            mine.keys[to, :, column : column + end - begin] = theirs.keys[of, :, begin:end]
            mine.values[to, :, column : column + end - begin] = theirs.values[of, :, begin:end]

    @property
    def bytes(self) -> int:
        """Memory held."""
        return sum(
            part.numel() * part.element_size()
            for layer in self.layers
            if layer.is_initialized
            for part in (layer.keys, layer.values)
        )


class Masks:
    """Attention masks for column-aligned rows, in the form that a model's attention takes."""

    def __init__(self, config: Any):
        """`config` of the model as it is run. Raises BadInput for layers or attention that cannot be served."""
        name = type(config).__name__
        config = text_config(config)
        kinds = list(getattr(config, "layer_types", None) or [])
        window = getattr(config, "sliding_window", None)
        if not kinds:
            kinds = ["sliding_attention" if window else "full_attention"] * int(config.num_hidden_layers)
        chunk = int(getattr(config, "attention_chunk_size", 0) or 0)
        if chunk >= int(getattr(config, "max_position_embeddings", 0) or 2**31) and "sliding_attention" not in kinds:
            # A position sees all before it. Such a model takes one mask for all its layers.
            kinds = ["full_attention" if kind == "chunked_attention" else kind for kind in kinds]
        odd = sorted(set(kinds) - set(SUPPORTED_LAYERS))
        if odd:
            raise BadInput(f"{name} has {', '.join(odd)} layers, whose state cannot be shared or copied by column.")
        self.layer_kinds, self.kinds, self.window = kinds, tuple(dict.fromkeys(kinds)), window
        attention = config._attn_implementation
        if attention not in ("sdpa", "eager"):
            raise BadInput(
                f"Attention {attention!r} takes no explicit mask; load the model with attn_implementation 'sdpa' or 'eager'."
            )
        self.additive = attention == "eager"

    def make(self, offset: Tensor, low: int, begin: int, end: int, dtype: torch.dtype) -> Tensor | dict[str, Tensor]:
        """For queries at columns `begin` to `end` and keys at `low` to `end`: one mask `[rows, 1, queries, keys]`, or one per layer kind.

        A query on padding sees its own column, so that no row is without any key.
        """
        keys = torch.arange(low, end, device=offset.device)
        if (
            end - begin == 1
        ):  # decoding: every key lies at or before the query, and the query's own column is one of them
            masks = {}
            for kind in self.kinds:
                first = offset if kind == "full_attention" else offset.clamp_min(end - (self.window or 0))
                masks[kind] = self.formed((keys[None] >= first[:, None])[:, None, None], dtype)
            return masks if len(masks) > 1 else next(iter(masks.values()))
        queries = torch.arange(begin, end, device=offset.device)
        seen = (keys[None, :] <= queries[:, None])[None] & (keys[None, None, :] >= offset[:, None, None])
        own = (keys[None, :] == queries[:, None])[None]
        masks = {}
        for kind in self.kinds:
            here = seen
            if kind == "sliding_attention":
                here = seen & (keys[None, :] > queries[:, None] - (self.window or 0))[None]
            masks[kind] = self.formed((here | own)[:, None], dtype)
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def formed(self, mask: Tensor, dtype: torch.dtype) -> Tensor:
        """A boolean mask in the form that the model's attention takes."""
        if not self.additive:
            return mask
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min)
