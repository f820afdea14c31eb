"""Where a row's numbers break: the lowest site and first position at which an activation is NaN or infinite.

1. It is looked for when a row has broken, by reading its tokens once more, alone and under its plan: steps pay nothing for it.
2. The lowest site counts, and there the earliest position: in the layers above it, attention spreads a NaN to positions before it too,
   masked as they are. Where all sites are finite in that reading, the logits are named.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..model.hooks import Edit
from ..model.sites import Site
from .batch import Batch
from .record import NonFinite, Progress, Row


def located(batch: Batch, progress: Progress) -> NonFinite:
    """Where a row of `batch` broke. Runs under `inference_mode`."""
    model, ids = batch.model, (*progress.row.prompt_ids, *progress.tokens)
    positions = len(ids) if progress.plan is None else max(len(ids), progress.plan.active.shape[1])
    alone = Batch(model, batch.compiled, 1, len(ids), positions, batch.masks)
    alone.column = len(ids)
    alone.seat(0, Progress(0, Row(ids, progress.row.plan), progress.plan))
    alone.refresh()
    alone.column = 0
    found: list[tuple[int, Site]] = []

    def reading(site: Site, edit: Edit | None) -> Edit:
        def read(hidden: Tensor) -> Tensor | None:
            edited = edit(hidden) if edit is not None else None
            broken = ~(hidden if edited is None else edited).isfinite().all(-1)[0]
            if bool(broken.any()):
                found.append((int(broken.int().argmax()), site))
            return edited

        return read

    sites = dict.fromkeys([Site(0, "resid_pre"), *(Site(layer) for layer in range(model.n_layers)), *alone.edits])
    alone.edits = {site: reading(site, alone.edits.get(site)) for site in sites}
    alone.read(torch.tensor([ids], device=batch.offset.device), 1)
    if not found:
        return NonFinite(len(ids) - 1, "logits")
    position, site = min(found, key=lambda place: (place[1].order, place[0]))
    return NonFinite(position, site.name)
