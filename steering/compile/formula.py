"""Every operation on a direction as one formula over rows, so that rows of any plans share a batch.

With unit direction u, projection p = h·u, multiplier m (the schedule) and per-row numbers:

    amount  = clip(m (constant + relative ‖h‖ + factor p) - project p, low, high)
    h'      = h + amount u
    rotate:   h' = ‖h‖ (cos φ' u + sin φ' w), φ' = clip(φ - m angle, 0, π), w the unit part of h across u, φ the angle from u to h
    keep norm: h' <- h' ‖h‖ / ‖h'‖

1. A row or position that is not edited keeps its activation bit for bit.
2. Arithmetic is in float32 whatever the model's precision.
3. There is no Python branch on data and no host synchronisation; what a slot needs is known when plans are compiled.
4. This module needs nothing but torch, so that it can be sent to where a model runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

COLUMNS = ("constant", "relative", "factor", "project", "low", "high", "angle", "keep")
TINY = 1e-12


@dataclass(frozen=True)
class Needs:
    """What the interventions of one slot make necessary; everything else is left out of the forward pass."""

    only_constant: bool
    """Nothing but additions of a constant: one fused multiply-add."""
    bounds: bool
    rotate: bool
    keep_norm: bool


@dataclass
class SlotRows:
    """The numbers of one slot for the rows of one forward pass."""

    direction: Tensor
    """`[rows, 1, width]`, unit length, float32; zero for rows that the slot does not touch."""
    numbers: Tensor
    """`[rows, len(COLUMNS)]`, float32."""
    delta: Tensor
    """`[rows, 1, width]`: constant * direction."""


def apply(
    hidden: Tensor, rows: SlotRows, needs: Needs, mask: Tensor, multiplier: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Edit `hidden [rows, positions, width]` where `mask [rows, positions]`; also returns ‖h' - h‖ / ‖h‖ `[rows, positions]`."""
    if needs.only_constant:
        share = mask.to(torch.float32) if multiplier is None else mask * multiplier
        edited, norm = add_constant(hidden, rows, share)
        return edited, plain_ratio(rows, share, norm)
    constant, relative, factor, project, low, high, angle, keep = (
        c[:, :, None] for c in rows.numbers[:, :, None].unbind(1)
    )
    h, u = hidden.float(), rows.direction
    m = 1.0 if multiplier is None else multiplier[..., None]
    norm = torch.linalg.vector_norm(h, dim=-1, keepdim=True)
    p = (h * u).sum(-1, keepdim=True)
    amount = m * (constant + relative * norm + factor * p) - project * p
    if needs.bounds:
        amount = torch.maximum(torch.minimum(amount, high), low)
    edited = h + amount * u
    if needs.rotate:
        edited = torch.where(angle != 0, _rotated(h, u, p, norm, m * angle), edited)
    if needs.keep_norm:
        kept = edited * (norm / torch.linalg.vector_norm(edited, dim=-1, keepdim=True).clamp_min(TINY))
        edited = torch.where(keep != 0, kept, edited)
    size = amount.abs()
    if needs.rotate or needs.keep_norm:
        size = torch.linalg.vector_norm(edited - h, dim=-1, keepdim=True)
    ratio = torch.where(mask, (size / norm.clamp_min(TINY)).squeeze(-1), 0.0)
    return torch.where(mask[..., None], edited.to(hidden.dtype), hidden), ratio


def add_constant(hidden: Tensor, rows: SlotRows, share: Tensor) -> tuple[Tensor, Tensor]:
    """`hidden` with `share [rows, positions]` of each row's constant added; also returns ‖h‖ `[rows, positions]` before that."""
    norm = torch.linalg.vector_norm(hidden, dim=-1, dtype=torch.float32)
    if hidden.dtype == torch.float32:
        return torch.addcmul(hidden, share[..., None], rows.delta), norm
    return torch.addcmul(hidden.float(), share[..., None], rows.delta).to(hidden.dtype), norm


def plain_ratio(rows: SlotRows, share: Tensor, norm: Tensor) -> Tensor:
    """‖delta‖ / ‖h‖ `[rows, positions]` of an added constant."""
    return (share * rows.numbers[:, :1]).abs() / norm.clamp_min(TINY)


def _rotated(h: Tensor, u: Tensor, p: Tensor, norm: Tensor, angle: Tensor) -> Tensor:
    """h turned towards u; an activation that is parallel to u has no plane to turn in and stays."""
    cosine = (p / norm.clamp_min(TINY)).clamp(-1.0, 1.0)
    sine = (1.0 - cosine * cosine).clamp_min(0.0).sqrt()
    turned = (torch.acos(cosine) - angle).clamp(0.0, math.pi)
    rotated = (h - p * u) * (turned.sin() / sine.clamp_min(1e-6)) + norm * turned.cos() * u
    return torch.where(sine > 1e-6, rotated, h)
