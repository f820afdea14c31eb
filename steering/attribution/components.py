"""What writes a direction: how much each part of a model adds to the residual stream along it.

1. The stream is a sum: embedding, then what the attention and the MLP of every layer add. Projected on a unit direction, the
   parts add up to the projection of the stream, and that is checked on every call.
2. What attention adds is split by head: z of the head through its rows of the output projection; the projection's bias is a part
   of its own.
3. An architecture that puts a norm behind its attention has no heads that add up (`heads=True` is refused there by name), and
   one whose layers add in another way than attention plus MLP is refused by its sites.

Source: direct logit attribution, Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..errors import BadInput
from ..model.capture import capture
from ..model.models import LoadedModel
from ..model.sites import Site

COLUMNS = ("component", "layer", "head", "row", "position", "contribution")
TOLERANCE = 1e-3
"""Of the sum of the parts against the stream's projection, relative to the sum of the parts' sizes."""


@dataclass(frozen=True)
class Contributions:
    """What each part adds along a unit direction, in the units of the stream."""

    table: pd.DataFrame
    """component (`embedding`, `head`, `bias`, `attention`, `mlp`), layer (-1 for the embedding), head (-1 for none), row, position,
    contribution."""
    projection: pd.DataFrame
    """row, position, projection of the stream at `site`, and the sum of the parts."""
    site: Site

    def mean(self) -> pd.DataFrame:
        """Mean contribution of each part over rows and positions, the largest size first."""
        found = self.table.groupby(["component", "layer", "head"], sort=False)["contribution"].mean().reset_index()
        return found.sort_values("contribution", key=lambda c: -c.abs(), kind="stable").reset_index(drop=True)


def contributions(
    model: LoadedModel,
    direction: Tensor,
    sequences: Sequence[Sequence[int]],
    positions: Sequence[Sequence[int]],
    *,
    layer: int | None = None,
    heads: bool = True,
    batch_size: int = 32,
) -> Contributions:
    """Parts of h · u at the output of `layer` (the last when None), u being `direction [d_model]` made a unit, at the named positions of
    each sequence (negative ones count from its end).

    Raises BadInput for a direction or position that does not fit, an architecture whose layers do not add attention and MLP, and, with
    `heads`, one whose attention has a norm behind it.
    """
    layer = model.n_layers - 1 if layer is None else layer
    end = model.layout.check(Site(layer))
    if direction.shape != (model.d_model,) or not float(direction.norm()) > 0:
        raise BadInput(f"The direction has shape {list(direction.shape)}; this needs a non-zero [{model.d_model}].")
    if len(positions) != len(sequences) or not sequences:
        raise BadInput(f"{len(sequences)} sequences but positions for {len(positions)}.")
    for row, (sequence, wanted) in enumerate(zip(sequences, positions, strict=True)):
        if any(not -len(sequence) <= p < len(sequence) for p in wanted):
            raise BadInput(f"Row {row} has {len(sequence)} tokens; positions {list(wanted)[:8]} are not all inside it.")
    layers, u = range(layer + 1), (direction / direction.norm()).double()
    parts = [model.layout.check(Site(i, kind)) for i in layers for kind in ("attn_out", "mlp_out")]
    zs = [model.layout.check(Site(i, "z", h)) for i in layers for h in range(model.layout.heads)] if heads else []
    readers = {site: _written(model, site.layer, site.head or 0, u) for site in zs}
    lines: list[tuple[str, int, int, int, int, float]] = []
    sums: list[tuple[int, int, float, float]] = []
    for batch in capture(model, sequences, [Site(0, "resid_pre"), *parts, *zs, end], batch_size=batch_size):
        along = {site: h.double() @ (readers.get(site, u)).to(h.device) for site, h in batch.values.items()}
        for n, row in enumerate(batch.rows):
            for p in (p % len(sequences[row]) for p in positions[row]):
                found = [("embedding", -1, -1, float(along[Site(0, "resid_pre")][n, p]))]
                for i in layers:
                    whole = float(along[Site(i, "attn_out")][n, p])
                    found += _attention(model, i, whole, [float(along[z][n, p]) for z in zs if z.layer == i], u)
                    found.append(("mlp", i, -1, float(along[Site(i, "mlp_out")][n, p])))
                lines += [(name, i, h, row, p, value) for name, i, h, value in found]
                total, size = sum(v for *_, v in found), sum(abs(v) for *_, v in found)
                projection = float(along[end][n, p])
                if abs(total - projection) > TOLERANCE * size:
                    raise BadInput(
                        f"{type(model.model).__name__}: the parts along the direction add up to {total:.4g}, the stream at {end} "
                        f"has {projection:.4g}: its layers add more than attention and MLP."
                    )
                sums.append((row, p, projection, total))
    return Contributions(
        pd.DataFrame(lines, columns=list(COLUMNS)),
        pd.DataFrame(sums, columns=["row", "position", "projection", "sum"]),
        end,
    )


def _attention(
    model: LoadedModel, layer: int, whole: float, heads: list[float], u: Tensor
) -> list[tuple[str, int, int, float]]:
    """Attention of one layer: as a whole, or by head with the bias. Raises BadInput where the heads do not add up to the whole."""
    if not heads:
        return [("attention", layer, -1, whole)]
    projection = model.layout.blocks[layer].projection
    bias = getattr(projection, "bias", None)
    constant = 0.0 if bias is None else float(bias.detach().double().cpu() @ u.cpu())
    if abs(sum(heads) + constant - whole) > TOLERANCE * (sum(map(abs, heads)) + abs(constant) + abs(whole)):
        raise BadInput(
            f"{type(model.model).__name__} has a norm behind the attention of layer {layer}, so its heads do not add up to what "
            "attention writes; ask for heads=False."
        )
    found = [("head", layer, head, value) for head, value in enumerate(heads)]
    return [*found, ("bias", layer, -1, constant)] if bias is not None else found


def _written(model: LoadedModel, layer: int, head: int, u: Tensor) -> Tensor:
    """W_O u of one head, `[d_head]`: its product with z is what the head writes along u."""
    projection = model.layout.blocks[layer].projection
    if type(projection) not in (nn.Linear, Conv1D):
        raise BadInput(
            f"The output projection of layer {layer} is a {type(projection).__name__}, whose weights cannot be read by head; "
            "ask for heads=False."
        )
    weight = projection.weight.detach().double().cpu()  # type: ignore[union-attr]
    by_input = weight if type(projection) is Conv1D else weight.t()
    return by_input[head * model.layout.d_head : (head + 1) * model.layout.d_head] @ u.cpu()
