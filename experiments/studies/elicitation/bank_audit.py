"""Is a bank of vectors just words? The audit of `audit`, for vectors that a controller adds at chosen positions.

1. All arms act where the divergence selector takes its widest budget, with the bank's own coefficients: the bank; the bank without its
   words (each vector without the span of its first tokens by the logit lens, its length restored); its words as vectors; its mean effect
   on the logits, on all tokens and on these words alone; the thinking model's token; and banks of random vectors.
2. A share is of the bank's effect over the base on the same questions, and the verdict that of `audit_verdict`. Biases are as strong as
   the bank's own mean effect, which need not diverge as much from the base as the bank does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from steering.extraction.lens import lens_logits, lens_rows
from steering.hybrid import ShiftBank
from steering.model.models import LoadedModel

from ...statistics import Floats, against_directions, paired_difference
from .asked import Setting
from .audit_arms import NOTHING_LEFT
from .audit_verdict import share_of_effect, verdict, written
from .findings import Table
from .points import between

EXTRA = {
    "without": "the bank's vectors without their five words",
    "lens": "the directions of these words in the vectors' place",
}
"""Writers of this audit alone."""


def words_of_bank(base: LoadedModel, bank: ShiftBank, count: int) -> list[list[int]]:
    """Per category the first tokens of its vector by the logit lens; rows beyond the tokenizer are no tokens."""
    known = len(base.tokenizer)
    return [lens_logits(base, vector.float().cpu())[:known].topk(count).indices.tolist() for vector in bank.vectors]


def changed_bank(base: LoadedModel, bank: ShiftBank, which: str, count: int) -> ShiftBank:
    """The bank with its vectors `without` their words, or with the words' directions (`lens`) as long as they are in their place. A vector
    of which nothing is left without its words becomes zero."""
    made = []
    for vector, ids in zip(bank.vectors, words_of_bank(base, bank, count), strict=True):
        rows, own = lens_rows(base, ids).double(), vector.detach().cpu().double()
        made.append(_without(own, rows) if which == "without" else rows.mean(0) / rows.mean(0).norm() * own.norm())
    facts = {**bank.provenance, "vectors": EXTRA[which], "parent": bank.digest}
    return replace(bank, vectors=torch.stack(made).to(bank.vectors), provenance=facts)


def _without(own: Tensor, rows: Tensor) -> Tensor:
    basis = torch.linalg.qr(rows.T).Q
    left = own - basis @ (basis.T @ own)
    left = left - basis @ (basis.T @ left)  # once more, for the last bits
    return left / left.norm() * own.norm() if left.norm() >= NOTHING_LEFT * own.norm() else torch.zeros_like(own)


def audited(
    setting: Setting, base: LoadedModel, bank: ShiftBank, count: int, right: Mapping[str, Floats], about: Mapping[str, str],
    biases: tuple[str, ...], budget: float,
) -> tuple[Table, list[str]]:  # fmt: skip
    """Shares of the bank's effect by arm, and what they say. `about` is what each arm does, the bank first; `biases` are those among them
    that change logits and no activation; `right` holds every arm's answers `[items]`, those of random banks as `draw-N`."""
    own, *others = about
    start, whole = right["base"], right[own]
    effect = paired_difference(start, whole)
    lines: list[tuple[str | int | float | None, ...]] = []
    for arm, what in about.items():
        moved = paired_difference(start, right[arm])
        share = None if arm == own else written(share_of_effect(start, right[arm], whole))
        lines.append(
            (
                what, f"{100 * right[arm].mean():.1f}",
                f"{100 * moved.difference:+.1f} ({between(moved.interval.low, moved.interval.high)})", share,
            )
        )  # fmt: skip
    drawn = [values for arm, values in right.items() if arm.startswith("draw-")]
    head = f"{setting.name}: the bank at the {100 * budget:g} % of largest divergence"
    shares = {arm: share_of_effect(start, right[arm], whole) for arm in biases if arm in others}
    size = f"{100 * effect.difference:+.1f} points ({between(effect.interval.low, effect.interval.high)}; n {effect.n})"
    undefined = next((share.reason for share in shares.values() if not share.defined), None)
    if 0 in effect.interval or undefined:
        said = [f"{head}: the word share is not defined: {undefined or 'the effect may be zero'}."]
    elif effect.difference < 0:
        said = [f"{head}: it lowers accuracy, {size}, so that there is no gain which words could have a share of."]
    else:
        said = [f"{head}: {verdict(shares, start, right, whole, about, strength='')} (the bank's effect: {size})."]
        kept = next((arm for arm in others if arm.startswith("bank-without")), None)
        if kept is not None:
            said.append(
                f"{head}: without its words it keeps {written(share_of_effect(start, right[kept], whole))} of its effect."
            )
    if drawn:
        beside = against_directions(whole, np.stack(drawn), lowers=effect.difference < 0)
        p, draws = beside.rank_p, beside.directions
        told = (
            ""
            if p <= 0.05
            else ", too few to tell"
            if beside.few
            else ", so that nothing says that the effect is this bank's own"
        )
        said.append(
            f"{head}: {beside.as_good} of {draws} banks of random vectors do at least as much (one-sided p = {p:.3f}, never below "
            f"{1 / (1 + draws):.3f}; {100 * min(beside.means):.1f} to {100 * max(beside.means):.1f} % right){told}."
        )
    words = [
        " ".join(repr(base.tokenizer.decode([token]).strip()) for token in ids) for ids in words_of_bank(base, bank, count)
    ]  # fmt: skip
    return Table(
        title=f"{setting.name}: is the bank just words? All at the {100 * budget:g} % of largest divergence",
        heads=("arm", "right %", "minus the base (95 %)", "share of the bank's effect (95 %)"),
        lines=tuple(lines),
        notes=tuple(f"Category {number}: {own}." for number, own in enumerate(words)),
    ), said
