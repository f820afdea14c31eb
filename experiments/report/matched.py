"""Which controls belong to which arm, and what is left of an effect beyond them.

1. A random direction belongs to a steered arm when its plan is that arm's but for the vectors, of equal norms; in a hybrid, when its
   controller is that arm's but for the bank. Of an ablation, random directions and matched latents are named after their target.
2. An arm over its controls is the paired difference to their mean on each item.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..statistics import PairedDifference, paired_difference
from ..store.runs import Arm, Manifest
from .evidence import Evidence

VECTOR = ("vector", "vector_name")


@dataclass(frozen=True)
class Controls:
    """The controls of one arm: what they are, and their arms' names."""

    kind: str
    """`random direction`, `random vectors` or `matched latents`."""
    arms: tuple[str, ...]

    @property
    def words(self) -> str:
        """`5 random directions`."""
        plural = self.kind if self.kind.endswith("s") or len(self.arms) == 1 else f"{self.kind}s"
        return f"{len(self.arms)} {plural}"


@dataclass(frozen=True)
class Beyond:
    """One arm against its controls on one split: the controls' own difference to the baseline, and the arm's difference to them."""

    controls: Controls
    theirs: PairedDifference
    over: PairedDifference


def matched_controls(manifest: Manifest) -> dict[str, Controls]:
    """The controls of every steered arm that has some."""
    norms = {digest: facts.get("norm") for digest, facts in manifest.facts.get("vectors", {}).items()}
    others = [arm for arm in manifest.arms if arm.role == "control"]
    found = {}
    for arm in manifest.arms:
        if arm.role != "steered":
            continue
        kind, own = "random direction", [o.name for o in others if _random_of(arm, o, norms)]
        if not own and arm.controller:
            kind, own = "random vectors", [o.name for o in others if _random_bank(arm, o)]
        for word, name in (("direction", "random direction"), ("control", "matched latents")):
            if not own and arm.name.endswith("|target"):
                stem = arm.name.removesuffix("target")
                kind, own = name, [o.name for o in others if o.name.startswith(f"{stem}{word} ")]
        if own:
            found[arm.name] = Controls(kind, tuple(own))
    return found


def _random_of(arm: Arm, other: Arm, norms: dict[str, Any]) -> bool:
    if not arm.plan or not other.plan or (arm.model, arm.form) != (other.model, other.form):
        return False
    mine, theirs = arm.plan.get("interventions", []), other.plan.get("interventions", [])
    if len(mine) != len(theirs) or not mine:
        return False
    for a, b in zip(mine, theirs, strict=True):
        if {k: v for k, v in a.items() if k not in VECTOR} != {k: v for k, v in b.items() if k not in VECTOR}:
            return False
        first, second = norms.get(a.get("vector")), norms.get(b.get("vector"))
        if a.get("vector") == b.get("vector") or (first and second and abs(first - second) > 1e-3 * first):
            return False
        if "random" not in f"{b.get('vector_name', '')} {other.name}".lower():
            return False
    return True


def _random_bank(arm: Arm, other: Arm) -> bool:
    if not arm.controller or not other.controller or "random_vectors" not in other.name:
        return False
    mine, theirs = dict(arm.controller), dict(other.controller)
    return mine.pop("bank", None) != theirs.pop("bank", None) and mine == theirs


def item_means(evidence: Evidence, column: str, split: str) -> dict[str, np.ndarray[Any, Any]]:
    """Mean of a column per item (seeds averaged) by arm `[items]`, over the comparable arms of a split, items in the same order."""
    keep = [arm.name for arm in evidence.comparable.manifest.arms]
    base = evidence.rows[(evidence.rows["split"] == split) & (evidence.rows["arm"] == evidence.manifest.baseline.name)]
    pairs = base[["item", "seed"]]
    part = evidence.rows[(evidence.rows["split"] == split) & evidence.rows["arm"].isin(keep)].merge(
        pairs, on=["item", "seed"]
    )
    wide = part.pivot_table(index="item", columns="arm", values=column, aggfunc="mean")
    return {str(arm): wide[arm].to_numpy(float) for arm in wide.columns}


def beyond_controls(evidence: Evidence) -> dict[tuple[str, str], Beyond]:
    """Every steered arm against its controls, by split and arm, where all of them hold the baseline's items."""
    found: dict[tuple[str, str], Beyond] = {}
    controls, base = matched_controls(evidence.manifest), evidence.manifest.baseline.name
    for split in evidence.manifest.splits if controls else ():
        right = item_means(evidence, "correct", split)
        for arm, own in controls.items():
            if base in right and arm in right and all(name in right for name in own.arms):
                mean = np.mean([right[name] for name in own.arms], axis=0)
                theirs = paired_difference(right[base], mean)
                found[split, arm] = Beyond(own, theirs, paired_difference(mean, right[arm]))
    return found


def arms_frame(evidence: Evidence, beyond: dict[tuple[str, str], Beyond] | None = None) -> pd.DataFrame:
    """One line per split and arm with every number of the summary, the interval of the tokens' paired difference, and the difference to
    the matched controls. Shares and differences in [0, 1]; None where not defined."""
    beyond = beyond_controls(evidence) if beyond is None else beyond
    forms = {arm.name: arm for arm in evidence.manifest.arms}
    lines: list[dict[str, Any]] = []
    for split in evidence.summary.splits:
        tokens = item_means(evidence, "tokens", split.split)
        base = tokens.get(evidence.manifest.baseline.name)
        for arm in split.arms:
            share, found, gap = arm.accuracy, arm.versus_baseline, arm.gap
            longer = (
                paired_difference(base, tokens[arm.name]) if found and base is not None and arm.name in tokens else None
            )
            matched = beyond.get((split.split, arm.name))
            lines.append({
                "split": split.split, "arm": arm.name, "label": arm.label, "role": arm.role, "model": forms[arm.name].model,
                "form": forms[arm.name].form, "n": arm.n, "items": arm.items, "accuracy": share.value if share else None,
                "accuracy_low": share.interval.low if share else None, "accuracy_high": share.interval.high if share else None,
                "right": share.count if share else None, "truncated": arm.truncated, "unscorable": arm.unscorable,
                "tokens": arm.mean_tokens, "difference": found.difference if found else None,
                "difference_low": found.interval.low if found else None, "difference_high": found.interval.high if found else None,
                "p": found.p if found else None, "test": found.test if found else None, "compared": found.n if found else None,
                "helped": found.helped if found else None, "hurt": found.hurt if found else None,
                "unchanged": found.n - found.helped - found.hurt if found else None, "missing": found.missing if found else None,
                "detectable": found.detectable if found else None, "token_difference": found.token_difference if found else None,
                "token_difference_low": longer.interval.low if longer else None,
                "token_difference_high": longer.interval.high if longer else None,
                "controls": matched.controls.words if matched else None,
                "controls_difference": matched.theirs.difference if matched else None,
                "controls_low": matched.theirs.interval.low if matched else None,
                "controls_high": matched.theirs.interval.high if matched else None,
                "over_controls": matched.over.difference if matched else None,
                "over_controls_low": matched.over.interval.low if matched else None,
                "over_controls_high": matched.over.interval.high if matched else None,
                "over_controls_p": matched.over.p if matched else None, "gap_recovered": gap.value if gap else None,
                "gap_low": gap.interval.low if gap and gap.interval else None,
                "gap_high": gap.interval.high if gap and gap.interval else None, "gap_reason": gap.reason if gap else None,
                "gap_n": gap.n if gap else None, "edits_planned": arm.edits_planned, "edits_fired": arm.edits_fired,
                "edited_share": arm.steered_fraction, "edit_ratio": arm.median_edit_ratio,
            })  # fmt: skip
    return pd.DataFrame(lines)
