"""Which controls belong to which arm.

1. A random direction belongs to a steered arm when it is named after it (`<arm>-random-<number>`), or when its plan is that arm's but for
   the vectors, of equal norms; in a hybrid, when its controller is that arm's but for the bank. Of an ablation, random directions and
   matched latents are named after their target.
2. Each control is its own draw; together they are the distribution that the arm is compared with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..store.manifest import Arm, Manifest

TOLERANCE, SINGLE = 0.1, 0.25
"""Relative difference of measured edit sizes up to which an arm's controls count as matched: their mean, and each by itself."""
VECTOR = ("vector", "vector_name")


@dataclass(frozen=True)
class Controls:
    """The controls of one arm: what they are, and their arms' names."""

    kind: str
    """`random directions`, `random vectors` or `matched latents`."""
    arms: tuple[str, ...]


@dataclass(frozen=True)
class Sizes:
    """Measured sizes of an arm's edits and of its controls', as shares of the activation's norm."""

    own: float | None
    theirs: float | None
    matched: bool
    why: str
    """What is not equal; empty where all is."""


def mean_size(total: float, planned: int, plan: Mapping[str, Any] | None) -> float | None:
    """Mean ‖Δ‖/‖h‖ over the positions that a plan covers, from the sum of the largest per position over sites and the edits planned: as
    many per position as the plan has pairs of step and site. None where nothing is covered."""
    return total * _pairs(plan) / planned if planned else None


def sizes_match(own: float | None, theirs: Sequence[float | None], plan: Mapping[str, Any] | None) -> Sizes:
    """Whether the controls' edits are as large as the arm's: on average, and each of them. Of a plan with several steps at one site the
    size of the whole change is not measured, and nothing is said to match."""
    known = [size for size in theirs if size is not None and size == size]
    if own is None or own != own or len(known) < len(theirs) or not known:
        return Sizes(own, None, False, "the sizes of the edits were not measured")
    mean = sum(known) / len(known)
    if _shared_site(plan):
        return Sizes(
            own, mean, False, "several steps edit one site, and the size of their whole change is not measured"
        )
    if abs(mean - own) > TOLERANCE * max(own, 1e-12):
        return Sizes(
            own, mean, False, f"the edits differ in size ({own:.2f} against {mean:.2f} of the activation's norm)"
        )
    far = [size for size in known if abs(size - own) > SINGLE * max(own, 1e-12)]
    if far:
        words = f"{len(far)} of {len(known)} controls have other edits than the arm ({min(known):.2f} to {max(known):.2f}, {own:.2f})"
        return Sizes(own, mean, False, words)
    return Sizes(own, mean, True, "")


def _steps(plan: Mapping[str, Any] | None) -> list[list[str]]:
    """The sites of each step."""
    found = [step.get("site") for step in (plan or {}).get("interventions", [])]
    return [[str(s) for s in site] if isinstance(site, list) else [str(site)] for site in found]


def _pairs(plan: Mapping[str, Any] | None) -> int:
    """Pairs of step and site, where all steps cover the same positions; else 1 (the mean is then over pairs)."""
    spans = {str(step.get("span")) for step in (plan or {}).get("interventions", [])}
    return max(1, sum(map(len, _steps(plan)))) if len(spans) == 1 else 1


def _shared_site(plan: Mapping[str, Any] | None) -> bool:
    sites = [site for own in _steps(plan) for site in own]
    return len(set(sites)) < len(sites)


def matched_controls(manifest: Manifest) -> dict[str, Controls]:
    """The controls of every steered arm that has some."""
    norms = {digest: facts.get("norm") for digest, facts in manifest.facts.get("vectors", {}).items()}
    others = [arm for arm in manifest.arms if arm.role == "control"]
    found = {}
    for arm in manifest.arms:
        if arm.role != "steered":
            continue
        named = re.compile(rf"{re.escape(arm.name)}[-_]random[-_]\d+")
        asked = (arm.model, arm.form, arm.opening)
        kind, own = (
            "random directions",
            [
                o.name
                for o in others
                if named.fullmatch(o.name) and asked == (o.model, o.form, o.opening) and (o.plan or o.controller)
            ],
        )
        if not own:
            own = [o.name for o in others if _random_of(arm, o, norms)]
        if not own and arm.controller:
            kind, own = "random vectors", [o.name for o in others if _random_bank(arm, o)]
        for word, name in (("direction", "random directions"), ("control", "matched latents")):
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
