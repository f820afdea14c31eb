"""Arithmetic on steering vectors that keeps where they came from.

1. Every function returns a new vector; its operands are left as they are.
2. The result records what was done (`provenance.method`), the operands' digests (`parents`) and the whole expression (`contrast`).
3. Vectors of different sites, widths or models are refused, and so is a pair of which one does not say its model.
4. A result that cancels to nothing is refused. Sums are taken in float64 and stored in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import BadInput
from .vectors import UNKNOWN, Provenance, SteeringVector

CANCELLED = 1e-6
"""A result shorter than this fraction of its longest operand is rounding error: float32 keeps 6e-8 per element."""

_METHODS = ("sum", "difference", "multiple", "rescaled", "mean", "orthogonal part")


def add(*vectors: SteeringVector, name: str | None = None) -> SteeringVector:
    """Sum of two or more vectors `[d_model]` at one site of one model."""
    if len(vectors) < 2:
        raise BadInput(f"add needs two or more vectors, got {len(vectors)}. To change a length use scale or rescale.")
    expression = " + ".join(map(_term, vectors))
    return _combine("sum", expression, vectors, _stack(vectors).sum(0), name)


def subtract(vector: SteeringVector, other: SteeringVector, *, name: str | None = None) -> SteeringVector:
    """`vector - other`, `[d_model]`, at one site of one model."""
    high, low = _stack((vector, other))
    return _combine("difference", f"{_term(vector)} - {_term(other)}", (vector, other), high - low, name)


def scale(vector: SteeringVector, factor: float, *, name: str | None = None) -> SteeringVector:
    """`factor * vector`. A negative factor turns the direction round; zero is refused."""
    if not math.isfinite(factor) or factor == 0:
        raise BadInput(f"Cannot scale {vector.name!r} by {factor}. Pass a finite factor other than 0.")
    return _combine("multiple", f"{factor:g} * {_term(vector)}", (vector,), vector.direction.double() * factor, name)


def rescale(vector: SteeringVector, norm: float, *, name: str | None = None) -> SteeringVector:
    """The same direction with Euclidean length `norm`, in residual-stream units."""
    if not math.isfinite(norm) or norm <= 0:
        raise BadInput(f"Cannot rescale {vector.name!r} to norm {norm}. Pass a finite norm above 0.")
    exact = vector.direction.double()
    return _combine("rescaled", f"rescale({_term(vector)}, {norm:g})", (vector,), exact / exact.norm() * norm, name)


def normalise(vector: SteeringVector, *, name: str | None = None) -> SteeringVector:
    """The same direction with length 1."""
    return rescale(vector, 1.0, name=name)


def mean(vectors: Sequence[SteeringVector], *, name: str | None = None) -> SteeringVector:
    """Plain mean of several vectors `[d_model]` at one site of one model; longer vectors weigh more."""
    if not vectors:
        raise BadInput("mean needs at least one vector, got none.")
    expression = f"mean({', '.join(map(_term, vectors))})"
    return _combine("mean", expression, tuple(vectors), _stack(vectors).mean(0), name)


def orthogonalise(vector: SteeringVector, against: SteeringVector, *, name: str | None = None) -> SteeringVector:
    """The part of `vector` at right angles to `against`: v - (v·u) u with u = against / ‖against‖ (one Gram-Schmidt step)."""
    v, u = _stack((vector, against))
    u = u / u.norm()
    expression = f"orthogonalise({_term(vector)}, {_term(against)})"
    return _combine("orthogonal part", expression, (vector, against), v - (v @ u) * u, name)


def _stack(vectors: Sequence[SteeringVector]) -> Tensor:
    """Directions in float64, `[n, d_model]`. Raises BadInput when they do not belong together."""
    first = vectors[0]
    for other in vectors[1:]:
        pair = f"{first.name!r} and {other.name!r}"
        if other.site != first.site:
            raise BadInput(
                f"{pair} live at different sites, {first.site} and {other.site}: their sum means nothing. "
                "Extract or import both at one site."
            )
        if other.direction.shape != first.direction.shape:
            raise BadInput(
                f"{pair} have different widths, {len(first.direction)} and {len(other.direction)}. "
                "Use vectors of one model."
            )
        same = first.provenance.same_model(other.provenance)
        if same is None:
            silent = first if first.provenance.model == UNKNOWN and not first.provenance.model_id else other
            raise BadInput(
                f"{silent.name!r} does not say which model it belongs to, so {pair} cannot be combined. "
                "Import with model_id= where the file does not say."
            )
        if not same:
            raise BadInput(
                f"{pair} come from different models, {_model(first.provenance)} and {_model(other.provenance)}. "
                "Extract both from one model."
            )
    return torch.stack([vector.direction.double() for vector in vectors])


def _combine(
    method: str, expression: str, operands: Sequence[SteeringVector], result: Tensor, name: str | None
) -> SteeringVector:
    longest = max(operand.norm for operand in operands)
    if method not in ("multiple", "rescaled") and float(result.norm()) <= CANCELLED * longest:
        raise BadInput(f"{expression} cancels to nothing: the operands are equal, opposite or parallel.")
    sources = [operand.provenance for operand in operands]
    fingerprints, ids = {s.model for s in sources}, {s.model_id for s in sources}
    provenance = Provenance(
        method,
        fingerprints.pop() if len(fingerprints) == 1 else UNKNOWN,
        ids.pop() if len(ids) == 1 else "",
        contrast=expression,
        parents=tuple(operand.digest for operand in operands),
    )
    return SteeringVector(name or expression, operands[0].site, result, provenance)


def _term(vector: SteeringVector) -> str:
    """An operand in an expression: a derived vector by its own expression in brackets, any other by its name."""
    if vector.provenance.method in _METHODS:
        return f"({vector.provenance.contrast})"
    return repr(vector.name)


def _model(provenance: Provenance) -> str:
    return f"{provenance.model_id or 'unnamed'} ({provenance.model})"
