"""Plain tensors `[n_layers, d_model]` in `.pt` files: one row per layer, and nothing that says which.

1. What row l is, is asked for and never guessed: the output of layer l ("layers"), or `hidden_states[l]` of transformers, whose row 0 is
   the embedding ("hidden_states"). The two differ by one layer, and the wrong one still gives fluent text.
2. A row of zeros is no vector: it is left out when a file is read, and stands for layers without one when a file is written.
3. Files are read by torch's weights-only loader (`pickles`); what holds anything but one tensor is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from ...errors import BadInput, unknown
from ...files import new_file
from ...model.sites import Site
from ..vectors import UNKNOWN, Provenance, SteeringVector
from .pickles import as_tensor, unpickle
from .source import Source

ROWS = ("layers", "hidden_states")


def export_tensor(
    vectors: Iterable[SteeringVector], path: Path | str, *, n_layers: int | None = None, rows: str = "layers"
) -> Path:
    """Write vectors of one model, one per layer, as a float32 tensor `[n_layers, d_model]`, by `torch.save`; atomically.

    `n_layers` is the model's number of layers, by default up to the last one that has a vector; with `rows="hidden_states"` the tensor has
    one row more. Names and provenance are not in the file. Raises BadInput.
    """
    chosen, path = list(vectors), Path(path)
    if not chosen:
        raise BadInput(f"No vectors to write to {path}. Pass at least one.")
    placed: dict[int, SteeringVector] = {}
    for vector in chosen:
        row = _row(vector.site, rows)
        if row in placed:
            raise BadInput(
                f"{placed[row].name!r} and {vector.name!r} are both at row {row}; a file holds one per layer."
            )
        if len(vector.direction) != len(chosen[0].direction):
            raise BadInput(
                f"{vector.name!r} has width {len(vector.direction)}, {chosen[0].name!r} has {len(chosen[0].direction)}: a file holds "
                "vectors of one model."
            )
        placed[row] = vector
    count = max(placed) + 1 if n_layers is None else n_layers + (rows == "hidden_states")
    if max(placed) >= count:
        raise BadInput(
            f"{placed[max(placed)].site} does not exist in a model of {n_layers} layers; give its number of layers."
        )
    table = torch.zeros(count, len(chosen[0].direction))
    for row, vector in placed.items():
        table[row] = vector.direction
    with new_file(path) as partial:
        torch.save(table, partial)
    return path


def import_tensor(
    path: Path | str, *, rows: str, model_id: str = "", name: str | None = None
) -> dict[Site, SteeringVector]:
    """Vectors `[d_model]` of a tensor `[n_layers, d_model]`, by site. `rows` says what a row is (`ROWS`). Raises BadInput."""
    source = Source.read(path)
    value = unpickle(source)
    if not isinstance(value, Tensor):
        raise BadInput(
            f"{source.path} holds a {type(value).__name__}, not one tensor. For names with rows use import_directions."
        )
    table = as_tensor(value, str(source.path))
    if table.ndim != 2:
        raise BadInput(f"{source.path} has shape {list(table.shape)}; [n_layers, d_model] is needed.")
    sites = [_site(row, rows) for row in range(len(table))]
    empty = [row for row in range(len(table)) if not table[row].any()]
    if len(empty) == len(table):
        raise BadInput(f"{source.path} holds no row that is not zero.")
    note = source.note("tensor of layers", rows=rows, zero_rows=empty)
    origin = Provenance("imported from a tensor of layers", UNKNOWN, model_id, notes=note)
    return {
        site: SteeringVector(name or source.path.stem, site, table[row], origin)
        for row, site in enumerate(sites)
        if row not in empty
    }


def _site(row: int, rows: str) -> Site:
    if rows not in ROWS:
        raise unknown("kind of rows", rows, ROWS, "rows")
    if rows == "layers":
        return Site(row)
    return Site(0, "resid_pre") if row == 0 else Site(row - 1)


def _row(site: Site, rows: str) -> int:
    if rows not in ROWS:
        raise unknown("kind of rows", rows, ROWS, "rows")
    if site.kind == "resid_post":
        return site.layer + (rows == "hidden_states")
    if site.kind == "resid_pre" and rows == "hidden_states":
        return site.layer
    same = f" The same stream is {Site(site.layer - 1)}." if site.kind == "resid_pre" and site.layer > 0 else ""
    raise BadInput(f"{site}: row l is the output of layer l (hook_resid_post).{same}")
