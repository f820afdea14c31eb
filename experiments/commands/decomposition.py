"""`steer vectors decompose`: a vector as a sum of few latents' decoder rows, beside random directions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..progress import paper
from .options import JsonOption
from .warnings import warn


def decompose(
    vector: Annotated[Path, typer.Argument(help="Vector file (.safetensors).")],
    sae: Annotated[str, typer.Option(help="Autoencoder: builtin:base, a folder, release/id.")] = "builtin:base",
    count: Annotated[int, typer.Option(min=1, help="Latents that are taken.")] = 8,
    draws: Annotated[int, typer.Option(min=1, help="Random directions beside it.")] = 39,
    as_json: JsonOption = False,
) -> None:
    """Which latents a vector is made of, by orthogonal matching pursuit over decoder rows, and how far random directions get."""
    from saes.decomposition import decompose as of
    from saes.loading import load_dictionary
    from steering.vector.vectors import SteeringVector

    loaded, dictionary = SteeringVector.load(vector), load_dictionary(sae)
    found = of(loaded, dictionary, count, draws)
    remarks = [remark for remark in (found.remark, *dictionary.card.get("remarks", [])) if remark]
    for remark in remarks:
        warn(f"Warning: {remark}")
    if as_json:
        print(
            json.dumps(
                {"vector": loaded.digest, "sae": dictionary.name, "draws": draws, **vars(found), "remarks": remarks}
            )
        )
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in (
        "latent",
        "coefficient",
        "cosine",
        "explained so far",
        f"{draws} random directions: mean, largest",
        "rank p",
    ):
        table.add_column(head, justify="right")
    for number, k in enumerate(found.latents):
        mean, most = found.random[number]
        table.add_row(
            str(k), f"{found.coefficients[number]:+.3g}", f"{found.cosines[number]:+.2f}", f"{100 * found.explained[number]:.1f} %",
            f"{100 * mean:.1f} %, {100 * most:.1f} %", f"{found.rank_p[number]:.3f}",
        )  # fmt: skip
    paper().print(table, highlight=False, markup=False)
