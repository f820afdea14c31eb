"""What training did to weights: how many numbers it moved, at which tolerance and precision, of which rank, and in which directions.

1. "Unchanged" is a statement about a tolerance and a precision (2505.11711 counts |delta| <= 1e-5; in bfloat16 small updates round away,
   2509.04259), so it is given as a curve in both, beside dense noise of equal norm per tensor.
2. Effective rank is exp of the entropy of the normalised singular values (Roy and Vetterli 2007); the principal share is
   ||U_k^T delta V_k||^2 / ||delta||^2 with the k first singular directions of the weights (2511.08567).
3. A transplant gives the base the new values of some of its numbers: those that moved furthest, or drawn ones that hold as much of the
   update's squared norm, which are many more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from steering.errors import BadInput

Weights = Mapping[str, Tensor]
TOLERANCES = (0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
KINDS = {"attn": "attention", "mlp": "MLP", "norm": "norms", "embed": "embedding", "lm_head": "unembedding"}


def own_weights(model: torch.nn.Module) -> dict[str, Tensor]:
    """Every weight once, float32 on the CPU; of tied ones the first name."""
    return {name: value.detach().float().cpu() for name, value in model.named_parameters()}


def check_alike(before: Weights, after: Weights) -> None:
    """Raises BadInput for models that are not of one shape."""
    odd = sorted(set(before) ^ set(after)) or [n for n in before if before[n].shape != after[n].shape]
    if odd:
        raise BadInput(
            f"The two models are not of one shape ({odd[0]} differs), so that no update leads from one to the other."
        )


def kind_of(name: str) -> str:
    """Attention, MLP, norms, embedding, unembedding, or other."""
    return next((kind for part, kind in KINDS.items() if part in name), "other")


def unchanged(before: Weights, after: Weights, tolerance: float, dtype: torch.dtype = torch.float32) -> float:
    """Share of all numbers whose value in a precision moved by at most `tolerance`."""
    same = sum(
        int(((after[name].to(dtype).float() - old.to(dtype).float()).abs() <= tolerance).sum())
        for name, old in before.items()
    )
    return same / sum(old.numel() for old in before.values())


def dense_noise(before: Weights, after: Weights, seed: int = 0) -> dict[str, Tensor]:
    """The base with Gaussian noise on every number of the tensors that moved, of the update's norm in each: what a dense update of
    equal size looks like."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, old in sorted(before.items()):
        noise = torch.randn(old.shape, generator=generator)
        made[name] = old + noise / noise.norm() * (after[name] - old).norm()
    return made


def effective_rank(matrix: Tensor) -> float:
    """exp of the entropy of the normalised singular values: 1 for rank one, min(shape) where all are equal; 0 of a zero matrix."""
    values = torch.linalg.svdvals(matrix.double())
    if not float(values.sum()):
        return 0.0
    share = values / values.sum()
    return float(torch.exp(-(share * share.clamp_min(1e-300).log()).sum()))


def principal_share(weights: Tensor, delta: Tensor, k: int) -> float:
    """Share of a delta's squared norm within the weights' first `k` left and right singular directions; NaN of a zero delta."""
    if not float(delta.norm()):
        return math.nan
    u, _, v = torch.linalg.svd(weights.double(), full_matrices=False)
    return float((u[:, :k].T @ delta.double() @ v[:k].T).norm() ** 2 / delta.double().norm() ** 2)


def _flat(weights: Weights) -> Tensor:
    return torch.cat([weights[name].reshape(-1) for name in sorted(weights)])


def _split(values: Tensor, like: Weights) -> dict[str, Tensor]:
    sizes = [like[name].numel() for name in sorted(like)]
    return {name: part.reshape(like[name].shape) for name, part in zip(sorted(like), values.split(sizes), strict=True)}


def transplant(before: Weights, after: Weights, share: float, seed: int | None = None) -> tuple[dict[str, Tensor], int]:
    """The base with the new values of a share of all its numbers, those that moved furthest, and how many they are; with a seed those of
    numbers that are drawn until they hold as much of the update's squared norm."""
    old, new = _flat(before), _flat(after)
    squares = (new - old).double() ** 2
    furthest = torch.topk(squares, round(share * len(old)))
    chosen = furthest.indices
    if seed is not None:
        order = torch.randperm(len(old), generator=torch.Generator().manual_seed(seed))
        held = squares[order].cumsum(0)
        chosen = order[: int((held < furthest.values.sum() * (1 - 1e-9)).sum()) + 1]
    made = old.clone()
    made[chosen] = new[chosen]
    return _split(made, before), len(chosen)


def moved(before: Weights, after: Weights, share: float) -> float:
    """Share of the update's squared norm that lies in the `share` of the numbers that moved furthest."""
    squares = (_flat(after) - _flat(before)).double() ** 2
    return float(torch.topk(squares, round(share * len(squares))).values.sum() / squares.sum())


def matrices(before: Weights, after: Weights) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Weights and deltas of every matrix that moved, by kind."""
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for name, old in before.items():
        delta = after[name] - old
        if old.ndim == 2 and float(delta.norm()):
            found.setdefault(kind_of(name), []).append((old, delta))
    return found


def curve(
    before: Weights, after: Weights, tolerances: Sequence[float] = TOLERANCES
) -> list[tuple[float, float, float]]:
    """Tolerance, and the shares unchanged in float32 and in bfloat16."""
    return [(t, unchanged(before, after, t), unchanged(before, after, t, torch.bfloat16)) for t in tolerances]
