"""The decoding step as one compiled graph: for GPUs, where launching kernels costs more than running them.

1. Everything that changes between steps or runs is a tensor of fixed shape and place: the tokens, the column, the rows' offsets, and
   the plans' directions, numbers and coverage. Another dose, plan or row never compiles again.
2. The graph computes what the eager step computes: the same hooks call the same formula.
3. Compiled steps are kept with the model and used again by later runs of the same shapes.
4. On CUDA the compiled step is replayed as a CUDA graph (`mode="reduce-overhead"`). A gate that calls user code cannot be compiled and
   keeps the run on the eager path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..compile.compilation import CompiledPlans
from ..compile.formula import SlotRows, apply
from ..compile.slots import LatentSlot, Slot
from ..model.cache import ColumnCache, Masks
from ..model.hooks import Edit, hooked
from ..model.models import LoadedModel
from ..model.sites import Site

if TYPE_CHECKING:
    from .batch import Batch


def shape_key(compiled: CompiledPlans, places: int, columns: int, positions: int, history: bool) -> tuple[object, ...]:
    """What a compiled step depends on: shapes, sites, kinds of operations and gates. Not doses, directions, spans or rows."""
    slots = []
    for slot in _directions(compiled.slots):
        gates = tuple((n, gate) for n, gate in enumerate(slot.gates) if gate is not None)
        slots.append((slot.site, slot.needs, slot.scheduled, gates))
    return places, columns, positions, history, tuple(slots)


def _directions(slots: Sequence[Slot | LatentSlot]) -> list[Slot]:
    return [slot for slot in slots if isinstance(slot, Slot)]


def can_compile(model: LoadedModel, compiled: CompiledPlans) -> bool:
    """Whether every part of a step can be in a graph: plain hooks, edits along directions, and no gate that calls user code."""
    if len(_directions(compiled.slots)) < len(compiled.slots):
        return False
    return model.executor is None and not any(
        gate is not None and gate.slow for slot in compiled.slots for gate in slot.gates
    )


class StaticStep:
    """One compiled decoding step of a batch whose places and cache keep their shapes."""

    def __init__(self, batch: Batch):
        self.batch = batch
        places, device = len(batch.rows), batch.offset.device
        self.ids = torch.zeros(places, 1, dtype=torch.long, device=device)
        self.column = torch.zeros(1, dtype=torch.long, device=device)
        self.offset = torch.zeros(places, dtype=torch.long, device=device)
        self.entropy = torch.zeros(places, 1, device=device)
        self.slots = [
            _StaticSlot(slot.direction, slot.numbers, places)
            for slot in _directions([slot_batch.slot for slot_batch in batch.slots])
        ]
        self.gates = {key: torch.zeros(places, 1, device=device) for key in batch.ledger.gates}
        for tensor in [
            self.ids,
            self.column,
            self.offset,
            self.entropy,
            *self.gates.values(),
            *(t for s in self.slots for t in s.tensors),
        ]:
            torch._dynamo.mark_static_address(tensor)
        self._edits = self.edits()
        self._compiled = self._compile()

    def close(self) -> None:
        """Give the cache back to eager passes."""
        for layer in self.batch.cache.layers:
            layer.pinned = None

    def _compile(self) -> Callable[[], Tensor]:
        mode = "reduce-overhead" if self.ids.is_cuda else "default"
        return torch.compile(self._step, mode=mode, dynamic=False, fullgraph=False)

    def _step(self) -> Tensor:
        positions = (self.column - self.offset)[:, None].clamp(0, self.batch.positions - 1)
        output = self.batch.model.model(
            input_ids=self.ids,
            attention_mask=static_mask(
                self.batch.masks, self.offset, self.column, self.batch.cache, self.batch.model.dtype
            ),
            position_ids=positions,
            past_key_values=self.batch.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]

    def edits(self) -> dict[Site, Edit]:
        """One function per site, reading and writing the fixed tensors."""
        sites = {batch.slot.site for batch in self.batch.slots} | {site for _, site in self.batch.ledger.gates}
        return {site: self._edit(site) for site in sites}

    def _edit(self, site: Site) -> Edit:
        gates = [(gate, kept) for (gate, where), kept in self.gates.items() if where == site]
        mine = []
        for static, batch in zip(self.slots, self.batch.slots, strict=True):
            if batch.slot.site == site:
                lines = [
                    (n, g.threshold, g.below, self.gates[g, g.site or site])
                    for n, g in enumerate(batch.slot.gates)
                    if g is not None
                ]
                assert isinstance(batch.slot, Slot)
                mine.append((static, batch.slot.needs, lines))

        def edit(hidden: Tensor) -> Tensor | None:
            for gate, kept in gates:
                kept.copy_(gate.value(hidden, self.entropy, self.column - self.offset[:, None], site))
            for static, needs, lines in mine:
                mask = static.active
                for line, threshold, below, value in lines:
                    open_ = value < threshold if below else value > threshold
                    mask = mask & (open_ | (static.lines[:, None] != line))
                rows = SlotRows(static.direction, static.numbers, static.delta)
                hidden, ratio = apply(hidden, rows, needs, mask, static.multiplier)
                static.ratio.copy_(ratio)
                static.fired.copy_(mask)
            return hidden if mine else None

        return edit

    @torch.inference_mode()
    def __call__(self, ids: Tensor, entropy: Tensor) -> tuple[Tensor, Tensor | None]:
        """The step at the batch's column; as `Batch.forward`."""
        batch = self.batch
        self.ids.copy_(ids)
        self.entropy.copy_(entropy)
        self.column.fill_(batch.column)
        self.offset.copy_(batch.offset)
        index = (batch.column - batch.offset).clamp(0, batch.positions - 1)[:, None]
        for static, live in zip(self.slots, batch.slots, strict=True):
            static.fill(live.lines, live.rows, live.active, live.multiplier, index.to(live.active.device))
            if live.slot.gated:
                once = live.slot.once[live.lines]
                static.active &= ~(once & live.spent)[:, None]
        for layer in batch.cache.layers:
            layer.pinned = self.column
            torch._dynamo.mark_static_address(layer.keys)
            torch._dynamo.mark_static_address(layer.values)
        with hooked(batch.model.layout, self._edits):
            logits = self._compiled().clone()
        self.close()
        ratio: Tensor | None = None
        for static, live in zip(self.slots, batch.slots, strict=True):
            live.spent |= static.fired[:, 0] & live.slot.once[live.lines]
            size = static.ratio.to(index.device)
            ratio = size if ratio is None else torch.maximum(ratio, size)
        if ratio is not None:
            fired = sum(
                (s.fired.to(index.device, torch.int32) for s in self.slots), torch.zeros_like(index, dtype=torch.int32)
            )
            batch.ledger.write(index, ratio, fired, self.gates)
        batch.column += 1
        return logits.float(), None if ratio is None else ratio[:, -1]


class _StaticSlot:
    """Fixed tensors of one slot."""

    def __init__(self, direction: Tensor, numbers: Tensor, places: int):
        device = direction.device
        self.lines = torch.zeros(places, dtype=torch.long, device=device)
        self.direction = torch.zeros(places, 1, direction.shape[1], device=device)
        self.numbers = torch.zeros(places, numbers.shape[1], device=device)
        self.delta = torch.zeros_like(self.direction)
        self.active = torch.zeros(places, 1, dtype=torch.bool, device=device)
        self.multiplier = torch.ones(places, 1, device=device)
        self.ratio = torch.zeros(places, 1, device=device)
        self.fired = torch.zeros(places, 1, dtype=torch.bool, device=device)

    @property
    def tensors(self) -> list[Tensor]:
        return [
            self.lines,
            self.direction,
            self.numbers,
            self.delta,
            self.active,
            self.multiplier,
            self.ratio,
            self.fired,
        ]

    def fill(self, lines: Tensor, rows: SlotRows, active: Tensor, multiplier: Tensor | None, index: Tensor) -> None:
        self.lines.copy_(lines)
        self.direction.copy_(rows.direction)
        self.numbers.copy_(rows.numbers)
        self.delta.copy_(rows.delta)
        self.active.copy_(active.gather(1, index))
        if multiplier is not None:
            self.multiplier.copy_(multiplier.gather(1, index))


def static_mask(masks: Masks, offset: Tensor, column: Tensor, cache: ColumnCache, dtype: torch.dtype) -> Any:
    """Masks over all columns of the cache for one query at `column`, as tensors only."""
    keys = torch.arange(cache.columns, device=offset.device)
    seen = (keys[None] <= column) & (keys[None] >= offset[:, None])
    found = {}
    for kind in masks.kinds:
        here = seen if kind == "full_attention" else seen & (keys[None] > column - masks.window)
        found[kind] = masks.formed(here[:, None, None], dtype)
    return found if len(found) > 1 else next(iter(found.values()))
