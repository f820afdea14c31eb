"""Which controls belong to which arm.

1. A random direction belongs to a steered arm when it is named after it (`<arm>-random-<number>`), or when its plan is that arm's but for
   the vectors, of equal norms; in a hybrid, when its controller is that arm's but for the bank. Of an ablation, random directions and
   matched latents are named after their target.
2. Each control is its own draw; together they are the distribution that the arm is compared with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..store.manifest import Arm, Manifest

TOLERANCE = 0.1
"""Relative difference of measured edit sizes up to which an arm and its controls count as matched."""
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


def matched_controls(manifest: Manifest) -> dict[str, Controls]:
    """The controls of every steered arm that has some."""
    norms = {digest: facts.get("norm") for digest, facts in manifest.facts.get("vectors", {}).items()}
    others = [arm for arm in manifest.arms if arm.role == "control"]
    found = {}
    for arm in manifest.arms:
        if arm.role != "steered":
            continue
        named = re.compile(rf"{re.escape(arm.name)}[-_]random[-_]\d+")
        kind, own = "random direction", [o.name for o in others if named.fullmatch(o.name)]
        if not own:
            own = [o.name for o in others if _random_of(arm, o, norms)]
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
