"""Which layers and positions a direction acts through: by gradient for all of them at once, or exactly by trying each.

1. `attributed`: the first-order effect dose · u · dm/dh at every site and position, from one forward and one backward pass. It
   is the slope of the exact effect at dose 0.
2. `patched`: dose · u is added to the activation at one site and position, the rest of the model runs, and the metric is measured
   again; the effect is the difference to the run with nothing added. Layers below the patched one are shared with that run.
3. Rows of one batch do not see each other; a position is always the row's own, padding never counts.
4. `replaced`: the activation at one site and position of one row is replaced by given ones, such as those of another text, and the metric
   is measured. Where the metric reads that very position, the last layer gives the other text's value by construction.
5. The first two give the same table: site, layer, row, position (0-based in the row's sequence), offset (from the end of its prompt, -1
   being the last prompt token), effect in the metric's units.

Sources: attribution patching, Nanda 2023; per behaviour and layer, Venhoff et al. 2506.18167, section 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from ..errors import BadInput
from ..model.gradients import differentiable
from ..model.hooks import Edit
from ..model.models import LoadedModel
from ..model.sites import Site
from ..vector.vectors import SteeringVector
from .metric import Metric

COLUMNS = ("site", "layer", "row", "position", "offset", "effect")


@dataclass(frozen=True)
class _Padded:
    """Some rows of a metric, right-padded."""

    rows: tuple[int, ...]
    ids: Tensor
    mask: Tensor


def _batches(model: LoadedModel, metric: Metric, size: int) -> Iterator[_Padded]:
    for start in range(0, len(metric.sequences), size):
        rows = tuple(range(start, min(start + size, len(metric.sequences))))
        width = max(len(metric.sequences[row]) for row in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for n, row in enumerate(rows):
            sequence = metric.sequences[row]
            ids[n, : len(sequence)], mask[n, : len(sequence)] = torch.tensor(sequence), 1
        yield _Padded(rows, ids.to(model.device), mask.to(model.device))


def checked_positions(metric: Metric, positions: Sequence[int] | None) -> list[list[int]]:
    """Per row the absolute positions that are asked for: counted from the prompt's end when negative, all of the prompt when None.

    Raises BadInput for one outside a row's prompt.
    """
    found = []
    for row, prompt in enumerate(metric.prompts):
        wanted = range(prompt) if positions is None else positions
        outside = [p for p in wanted if not -prompt <= p < prompt]
        if outside:
            raise BadInput(f"Row {row} has a prompt of {prompt} tokens; position {outside[0]} is not in it.")
        found.append([p % prompt for p in wanted])
    return found


def _checked(model: LoadedModel, metric: Metric, vectors: Sequence[SteeringVector]) -> list[SteeringVector]:
    metric.check(model)
    model.rope.check_together([len(sequence) for sequence in metric.sequences])
    if model.executor is not None:
        raise BadInput("Attribution reads the model itself; load it without another executor.")
    sites = [vector.site for vector in vectors]
    if not vectors or len(set(sites)) < len(sites):
        raise BadInput("Give at least one vector, and one per site.")
    for vector in vectors:
        vector.check(model)
    return sorted(vectors, key=lambda vector: vector.site.order)


def _table(lines: list[tuple[Site, int, int, int, float]]) -> pd.DataFrame:
    """By site, then row, then position as asked, however the rows were batched."""
    lines = sorted(lines, key=lambda line: (line[0].order, line[1]))
    return pd.DataFrame(
        [(site.name, site.layer, row, position, offset, effect) for site, row, position, offset, effect in lines],
        columns=list(COLUMNS),
    )


def attributed(
    model: LoadedModel,
    vectors: Sequence[SteeringVector],
    metric: Metric,
    positions: Sequence[int] | None = None,
    *,
    dose: float = 1.0,
    batch_size: int = 32,
) -> pd.DataFrame:
    """First-order effects of adding `dose` times each vector at its site, at `positions` of every row's prompt (all when None).

    One vector per site. Raises BadInput for a metric without a gradient, a vector that does not fit, or a position outside a prompt.
    """
    if not metric.first_order:
        raise BadInput(
            f"{metric.name} has no first-order effect: it is at its minimum where nothing is added. Use log_odds or continuation, "
            "or measure it by exact patching."
        )
    ordered, wanted = _checked(model, metric, vectors), checked_positions(metric, positions)
    sites, lines = {_written_at(v.site) for v in ordered}, []
    for batch in _batches(model, metric, batch_size):
        added: dict[Site, Tensor] = {}

        def adding(site: Site, added: dict[Site, Tensor] = added) -> Edit:
            def edit(hidden: Tensor) -> Tensor:
                added[site] = torch.zeros_like(hidden, requires_grad=True)
                return hidden + added[site]

            return edit

        with torch.enable_grad():
            with differentiable(model, {site: adding(site) for site in sites}, still=True) as run:
                logits = run(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits
            total = _values(metric, batch, logits).sum()
            gradients = torch.autograd.grad(total, [added[_written_at(v.site)] for v in ordered])
        for vector, gradient in zip(ordered, gradients, strict=True):
            effects = dose * (gradient @ vector.direction.to(gradient)).double().cpu()
            for n, row in enumerate(batch.rows):
                for p in wanted[row]:
                    lines.append((vector.site, row, p, p - metric.prompts[row], float(effects[n, p])))
    return _table(lines)


def _written_at(site: Site) -> Site:
    """The site whose gradient is that of `site`: what attention adds goes into resid_mid unchanged."""
    return Site(site.layer, "attn_out") if site.kind == "resid_mid" else site


def _values(metric: Metric, batch: _Padded, logits: Tensor) -> Tensor:
    """The metric of each row `[rows]`."""
    return torch.stack(
        [metric.value(_precise(logits[n, list(metric.reads[row])]), row) for n, row in enumerate(batch.rows)]
    )


def _precise(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


@torch.inference_mode()
def patched(
    model: LoadedModel,
    vectors: Sequence[SteeringVector],
    metric: Metric,
    positions: Sequence[int] | None = None,
    *,
    dose: float = 1.0,
    batch_size: int = 32,
    cells: int = 256,
) -> pd.DataFrame:
    """Exact effects of adding `dose` times each vector at its site, at one of `positions` of a row's prompt (all when None) at a time;
    up to `cells` of them run in one pass. Raises BadInput as `attributed` does."""
    ordered, wanted = _checked(model, metric, vectors), checked_positions(metric, positions)
    lines = []
    for batch in _batches(model, metric, batch_size):
        streams: dict[int, Tensor] = {}
        logits = _read(model, batch, {v.site.layer for v in ordered}, streams)
        before = _values(metric, batch, logits)
        for vector in ordered:
            todo = [(n, p) for n, row in enumerate(batch.rows) for p in wanted[row]]
            for start in range(0, len(todo), cells):
                part = todo[start : start + cells]
                after = _patched(model, metric, batch, streams, vector, part, dose)
                for (n, p), value in zip(part, after, strict=True):
                    row = batch.rows[n]
                    lines.append((vector.site, row, p, p - metric.prompts[row], float(value - before[n])))
    return _table(lines)


def _read(model: LoadedModel, batch: _Padded, layers: set[int], streams: dict[int, Tensor]) -> Tensor:
    """Logits of the run with nothing added, and what enters the layers."""

    def note(layer: int) -> Edit:
        def read(hidden: Tensor) -> None:
            streams[layer] = hidden.clone()

        return read

    edits = {Site(layer, "resid_pre"): note(layer) for layer in layers}
    return model.runs.forward(edits, {"input_ids": batch.ids, "attention_mask": batch.mask, "use_cache": False})


def _patched(
    model: LoadedModel,
    metric: Metric,
    batch: _Padded,
    streams: dict[int, Tensor],
    vector: SteeringVector,
    part: list[tuple[int, int]],
    dose: float,
) -> Tensor:
    """The metric `[cells]` of each (row of the batch, position) with the vector added there."""
    rows = torch.tensor([n for n, _ in part], device=batch.ids.device)
    places = torch.tensor([p for _, p in part], device=batch.ids.device)

    def edit(hidden: Tensor) -> Tensor:
        changed = hidden.clone()
        cells = torch.arange(len(part), device=hidden.device)
        changed[cells, places.to(hidden.device)] += dose * vector.direction.to(hidden)
        return changed

    layer = vector.site.layer
    resume = (layer, streams[layer][rows.to(streams[layer].device)]) if model.runs.resumes and layer else None
    inputs = {"input_ids": batch.ids[rows], "attention_mask": batch.mask[rows], "use_cache": False}
    logits = model.runs.forward({vector.site: edit}, inputs, resume)
    repeated = _Padded(tuple(batch.rows[n] for n, _ in part), inputs["input_ids"], inputs["attention_mask"])
    return _values(metric, repeated, logits)


@torch.inference_mode()
def measured(model: LoadedModel, metric: Metric, *, batch_size: int = 32) -> list[float]:
    """The metric of every row with nothing put in. Raises BadInput for sequences as `attributed`."""
    metric.check(model)
    return [
        float(value)
        for batch in _batches(model, metric, batch_size)
        for value in _values(metric, batch, _read(model, batch, set(), {}))
    ]


@torch.inference_mode()
def replaced(
    model: LoadedModel, metric: Metric, position: int, values: Mapping[Site, Tensor], *, cells: int = 256
) -> dict[Site, Tensor]:
    """The metric `[cells]` of a metric's only row with the activation at `position` of its sequence replaced by each of `values[site]`
    `[cells, d_model]` in turn, at one site at a time; float64 on the CPU. Up to `cells` of them run in one pass.

    Raises BadInput for a metric of several rows, a position outside its sequence, a site that the model does not have, values of another
    width, and as `attributed` for sequences.
    """
    metric.check(model)
    if model.executor is not None:
        raise BadInput("Attribution reads the model itself; load it without another executor.")
    if len(metric.sequences) != 1 or not -len(metric.sequences[0]) <= position < len(metric.sequences[0]):
        raise BadInput(
            f"Activations are replaced in one row at one of its positions; the metric has {len(metric.sequences)} rows, the first of "
            f"{len(metric.sequences[0])} tokens, and the position is {position}."
        )
    for site, given in values.items():
        model.layout.check(site)
        if given.ndim != 2 or given.shape[1] != model.d_model or not len(given):
            raise BadInput(f"{site.name} takes values [cells, {model.d_model}], not {list(given.shape)}.")
    (batch,) = _batches(model, metric, 1)
    streams: dict[int, Tensor] = {}
    _read(model, batch, {site.layer for site in values}, streams)
    return {
        site: torch.cat([_replaced(model, metric, batch, streams, site, position, part) for part in given.split(cells)])
        for site, given in values.items()
    }


def _replaced(
    model: LoadedModel,
    metric: Metric,
    batch: _Padded,
    streams: dict[int, Tensor],
    site: Site,
    position: int,
    given: Tensor,
) -> Tensor:
    """The metric `[cells]` with each of `given [cells, d_model]` at the position."""

    def edit(hidden: Tensor) -> Tensor:
        changed = hidden.clone()
        changed[:, position] = given.to(hidden)
        return changed

    count = len(given)
    whole = streams[site.layer].expand(count, -1, -1)
    resume = (site.layer, whole) if model.runs.resumes and site.layer else None
    inputs = {
        "input_ids": batch.ids.expand(count, -1), "attention_mask": batch.mask.expand(count, -1), "use_cache": False
    }  # fmt: skip
    logits = model.runs.forward({site: edit}, inputs, resume)
    return _values(metric, _Padded((0,) * count, inputs["input_ids"], inputs["attention_mask"]), logits).double().cpu()
