"""Prompts that many rows continue, read by all of them from one copy of their keys and values.

1. A row whose plan leaves its prompt unedited keeps only what it generates in the columns of the batch. Its prompt is stored once,
   whatever number of rows and plans continue it.
2. A decoding step attends to both parts under one softmax: the sum over the row's own keys and the prompt's, in another order than over
   one row of keys.
3. It is an attention function of the library's `AttentionInterface`, in place during the passes of a batch only. Whether it gives a
   model's own logits is tried on the model before it is used (`can_share`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ..model.attention import attending
from ..model.cache import ColumnCache, Masks
from ..model.turns import turn

if TYPE_CHECKING:
    from ..model.models import LoadedModel

NAME = "steering_shared_prompts"
ROWS_PER_PROMPT = 4
"""Prompts are shared when a call has at least this many rows per distinct prompt."""


class SharedPrompts:
    """Keys and values of prompts in use `[prompts, heads, width, d]`, and which of them each place of a batch continues."""

    def __init__(self, layers: int, places: int, width: int, masks: Masks):
        self.width, self.masks = width, masks
        self.keys: list[Tensor | None] = [None] * layers
        self.values: list[Tensor | None] = [None] * layers
        self.slots: list[tuple[int, ...] | None] = []
        """The prompt in each slot."""
        self.of_place: list[int] = [-1] * places
        """The slot that a place continues, -1 for none."""
        self.calls = 0
        """Attention layers of the pass in progress so far."""
        self._devices: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def take(self, place: int, prompt: tuple[int, ...], cache: ColumnCache, row: int) -> None:
        """Let a place continue a prompt, whose keys and values are in `row` of `cache`, from column 0."""
        self.of_place[place] = -1
        if prompt in self.slots:
            self.of_place[place] = self.slots.index(prompt)
            return
        used = set(self.of_place)
        slot = next((s for s in range(len(self.slots)) if s not in used), len(self.slots))
        if slot == len(self.slots):
            self.slots.append(None)
        self.slots[slot], self.of_place[place] = prompt, slot
        for store, parts in (
            (self.keys, [c.keys for c in cache.layers]),
            (self.values, [c.values for c in cache.layers]),
        ):
            for layer, part in enumerate(parts):
                kept = store[layer]
                if kept is None or slot >= len(kept):
                    grown = part.new_zeros(max(4, 2 * slot), part.shape[1], self.width, part.shape[3])
                    if kept is not None:
                        grown[: len(kept)] = kept
                    store[layer] = kept = grown
                kept[slot, :, : len(prompt)] = part[row, :, : len(prompt)]
                kept[slot, :, len(prompt) :] = 0.0  # of a longer prompt before, which may not have been finite

    def leave(self, place: int) -> None:
        """A place continues no shared prompt any more."""
        self.of_place[place] = -1

    def keep(self, places: Sequence[int]) -> None:
        """Drop all places but these."""
        self.of_place = [self.of_place[place] for place in places]

    def refresh(self, device: torch.device) -> None:
        """After places were taken, left or dropped: lay the rows out by prompt, `[prompts, rows per prompt]`."""
        members: dict[int, list[int]] = {}
        for place, slot in enumerate(self.of_place):
            if slot >= 0:
                members.setdefault(slot, []).append(place)
        for slot in range(len(self.slots)):
            if slot not in members:
                self.slots[slot] = None
        self.prompts, self.depth = max(members, default=-1) + 1, max(map(len, members.values()), default=0)
        gather = [0] * (self.prompts * self.depth)
        where = [0] * len(self.of_place)
        for slot, places in members.items():
            for rank, place in enumerate(places):
                gather[slot * self.depth + rank], where[place] = place, slot * self.depth + rank
        self._gather, self._where = torch.tensor(gather, dtype=torch.long), torch.tensor(where, dtype=torch.long)
        lengths = [len(self.slots[slot] or ()) if slot >= 0 else 0 for slot in self.of_place]
        self.columns = max(lengths, default=0)
        self._lengths = torch.tensor(lengths, device=device)[:, None]
        self.mixed = -1 in self.of_place
        """Whether some rows continue no shared prompt; `sharing [rows, 1, 1, 1]` says which do."""
        self.sharing = (self._lengths > 0)[:, :, None, None]
        self._key_positions = torch.arange(self.columns, device=device)[None]
        self._devices = {}
        self._full = self._formed(self._key_positions < self._lengths)

    def _formed(self, seen: Tensor) -> Tensor:
        """An additive float32 mask `[rows, 1, 1, columns]`."""
        return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, torch.finfo(torch.float32).min)[
            :, None, None
        ]

    def layout(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """(row of each cell of the layout by prompt, cell of each row), on a device."""
        if device not in self._devices:
            self._devices[device] = self._gather.to(device), self._where.to(device)
        return self._devices[device]

    @contextmanager
    def attended(self, model: LoadedModel, positions: Tensor) -> Iterator[None]:
        """Passes in this context read the prompts too; `positions [rows, 1]` are those of the tokens fed."""
        self.full, self.sliding = self._full, self._full
        if "sliding_attention" in self.masks.kinds:
            inside = self._key_positions > positions - (self.masks.window or 0)
            self.sliding = self._formed((self._key_positions < self._lengths) & inside)
        self.calls = 0
        with attending(model, NAME, _current, self):
            yield


_current: ContextVar[SharedPrompts] = ContextVar("shared_prompts")


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
    """One query per row `[rows, heads, 1, d]` over its own `key`, `value [rows, key heads, columns, d]` and its shared prompt's."""
    shared = _current.get()
    shared.calls += 1
    rows, heads, _, d = query.shape
    key_heads = key.shape[1]
    group, layer, prompts, depth = heads // key_heads, module.layer_idx, shared.prompts, shared.depth
    q = query.reshape(rows, key_heads, group, d)
    scores, mask, columns = q @ key.transpose(2, 3), _additive(attention_mask), 0
    if prompts:
        gather, where = shared.layout(query.device)
        columns = shared.columns
        stored, kept = shared.keys[layer], shared.values[layer]
        assert stored is not None and kept is not None
        stored, kept = stored[:prompts, :, :columns], kept[:prompts, :, :columns]

        def by_prompt(x: Tensor) -> Tensor:
            return x[gather].view(prompts, depth, key_heads, group, -1).transpose(1, 2).flatten(2, 3)

        def by_row(x: Tensor) -> Tensor:
            return x.unflatten(2, (depth, group)).transpose(1, 2).flatten(0, 1)[where]

        visible = shared.sliding if shared.masks.layer_kinds[layer] == "sliding_attention" else shared.full
        scores = torch.cat([by_row(by_prompt(q) @ stored.transpose(2, 3)), scores], dim=-1)
        mask = torch.cat([visible.to(mask.device), mask], dim=-1)
    scores = scores.float() * (d**-0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    weights = (scores + mask).softmax(-1).to(query.dtype)
    out = weights[..., columns:] @ value
    if prompts:
        before = by_row(by_prompt(weights[..., :columns]) @ kept)
        out = out + (torch.where(shared.sharing.to(out.device), before, 0.0) if shared.mixed else before)
    return out.reshape(rows, 1, heads, d), None


def _additive(mask: Tensor) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, torch.finfo(torch.float32).min)
    return mask.float()


ALL_ATTENTION_FUNCTIONS.register(NAME, attend)


@torch.inference_mode()
def can_share(model: LoadedModel, masks: Masks) -> bool:
    """Whether a model runs through this attention and gives its own logits with it: tried once per model on four tokens. Other executors
    have an attention of their own."""
    if model.executor is not None:
        return False
    if "shares_prompts" not in model.extra:
        model.extra["shares_prompts"] = _tried(model, masks)
    return bool(model.extra["shares_prompts"])


def _tried(model: LoadedModel, masks: Masks) -> bool:
    device = model.device
    ids = torch.tensor([[0, 1, 0, 1], [1, 0, 1, 1]], device=device)
    offset = torch.zeros(2, dtype=torch.long, device=device)

    def step(shared: SharedPrompts | None) -> Tensor:
        cache = ColumnCache(model.n_layers, 2, 4)
        for begin, end in ((0, 3), (3, 4)):
            cache.open(0, begin, end)
            positions = torch.arange(begin, end, device=device)[None].expand(2, -1)
            inputs = {
                "input_ids": ids[:, begin:end],
                "attention_mask": masks.make(offset, 0, begin, end, model.dtype),
                "position_ids": positions,
                "past_key_values": cache,
                "use_cache": True,
            }
            if shared is not None and begin:
                shared.refresh(device)
                with turn(model.model), shared.attended(model, positions):
                    return model.runs.forward({}, inputs)[:, -1].float()
            logits = model.runs.forward({}, inputs)
        return logits[:, -1].float()

    shared = SharedPrompts(model.n_layers, 2, 1, masks)
    try:
        found, own = step(shared), step(None)
    except (
        TypeError,
        AttributeError,
        RuntimeError,
    ):  # the module calls its attention in another way, or has other shapes
        return False
    tolerance = 1e-4 if model.dtype == torch.float32 else 3e-2
    return shared.calls == model.n_layers and float((found - own).norm()) <= tolerance * float(own.norm())
