"""A steering vector as a sum of few decoder rows, and what is left of it.

1. Orthogonal matching pursuit: the row with the largest cosine, of either sign, to what is left is taken in, and all taken rows are fitted
   anew. Coefficients may be negative: directions are differences, and what an encoder cannot say of them is lost by encoding them.
2. The same is done to random directions: many rows reach far into any direction.

Source: 2411.08790 (why encoding a steering vector misleads); Pati et al. 1993 (the pursuit).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steering.errors import BadInput
from steering.vector.vectors import SteeringVector

from .dictionary import Dictionary


@dataclass(frozen=True)
class Decomposed:
    """Rows in the order in which they were taken."""

    latents: tuple[int, ...]
    coefficients: tuple[float, ...]
    """Of all rows together, in units of the latents' activation."""
    cosines: tuple[float, ...]
    """Of each row with the whole vector."""
    explained: tuple[float, ...]
    """Share of the vector's squared length that the first 1, 2, … rows make up."""
    random: tuple[tuple[float, float], ...]
    """Mean and largest share over random directions, at the same numbers of rows."""
    rank_p: tuple[float, ...]
    """Share of random directions, this one counted, that are explained as far, at each number of rows."""
    remark: str = ""
    """Where the vector and the autoencoder are not of one site."""


def decompose(
    vector: SteeringVector, dictionary: Dictionary, count: int = 8, draws: int = 39, seed: int = 0
) -> Decomposed:
    """The `count` rows that make up most of a vector, beside `draws` random directions.

    Raises BadInput for another width, and for counts that are not between 1 and the number of latents or the width.
    """
    rows = dictionary.sae.W_dec.detach().float().cpu()
    most = min(dictionary.latents, dictionary.width)
    if vector.direction.numel() != dictionary.width:
        raise BadInput(
            f"Vector {vector.name} has width {vector.direction.numel()}; {dictionary.name} has {dictionary.width}. Give one of the same "
            "model."
        )
    if not 1 <= count <= most:
        raise BadInput(f"count {count}: give 1 to {most} latents.")
    if draws < 1:
        raise BadInput(f"draws {draws}: give at least 1 random direction.")
    norms = rows.norm(dim=1)
    unit = rows / norms.clamp_min(1e-12)[:, None]
    own, coefficients, explained = _pursuit(vector.direction.float(), unit, count)
    generator = torch.Generator().manual_seed(seed)
    others = torch.stack([
        torch.tensor(_pursuit(torch.randn(dictionary.width, generator=generator), unit, count)[2]) for _ in range(draws)
    ])  # fmt: skip
    whole = vector.direction.float()
    cosines = tuple(float(unit[k] @ whole / whole.norm()) for k in own)
    reached = [(1 + int((others[:, step] >= share).sum())) / (draws + 1) for step, share in enumerate(explained)]
    return Decomposed(
        tuple(own), tuple(c / float(norms[k]) for c, k in zip(coefficients, own, strict=True)), cosines, tuple(explained),
        tuple((float(others[:, step].mean()), float(others[:, step].max())) for step in range(count)), tuple(reached),
        "" if vector.site == dictionary.site
        else f"The vector was taken at {vector.site}, the autoencoder reads {dictionary.site}: rows of another place.",
    )  # fmt: skip


def _pursuit(vector: Tensor, unit: Tensor, count: int) -> tuple[list[int], list[float], Sequence[float]]:
    """Rows, their coefficients for rows of length 1, and the shares explained step by step."""
    taken: list[int] = []
    left, fitted, shares = vector, torch.zeros(0), []
    for _ in range(count):
        cosine = (unit @ left).abs()
        cosine[taken] = -1.0
        taken.append(int(cosine.argmax()))
        basis = unit[taken].T
        fitted = torch.linalg.lstsq(basis, vector[:, None]).solution[:, 0]
        left = vector - basis @ fitted
        shares.append(float(1 - (left @ left) / (vector @ vector)))
    return taken, fitted.tolist(), shares
