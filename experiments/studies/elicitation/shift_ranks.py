"""The steered arm's changes of level and slopes among those of random directions in its vector's place.

A rank is one-sided, as high, and that stands beside it. Where the base guesses, what is compared with it says little, and that is said too.
"""

from __future__ import annotations

from ...statistics import rank_p
from ...statistics.directions import FEW_DIRECTIONS
from .asked import Setting
from .findings import Line, Table
from .shifted import LEVEL, Shifted


def guessing_said(base: str, own: str) -> str:
    """What is said of a comparison with a base that guesses, or of an arm that does."""
    if base:
        return f" The base is {base}, so that a level or slope against it says little."
    return f" It is {own}, so that its level and slopes say little." if own else ""


def ranked_changes(setting: Setting, found: Shifted, base: str = "") -> tuple[Table, str]:
    """The steered arm's changes among those of random directions; `base` says that the base guesses."""
    beside = {
        arm: change for arm in found.rights if arm.startswith("random-") and (change := _plain(found, arm)) is not None
    }
    own, lines, told = _plain(found, "steered"), list[Line](), list[str]()
    left = sum(arm.startswith("random-") for arm in found.rights) - len(beside)
    if own is not None and beside:
        for place, name in enumerate((LEVEL, *found.names)):
            theirs = [change[place] for change in beside.values()]
            p = rank_p(own[place], theirs)
            spread = f"{sum(theirs) / len(theirs):+.2f} ({min(theirs):+.2f} to {max(theirs):+.2f})"
            lines.append((name, len(set(found.items)), f"{own[place]:+.2f}", len(theirs), spread, round(p, 3)))
            told.append(f"{name} {own[place]:+.2f} against {spread}, p {p:.3f} (one-sided, as high)")
    few = ", too few to tell anything" if len(beside) < FEW_DIRECTIONS else ""
    whose = next(
        (
            f"of the {who}, {found.why_not(arm)}"
            for arm, who in (("base", "base"), ("steered", "steered arm"))
            if found.why_not(arm)
        ),
        None,
    )
    words = "; ".join(told) + few if told else f"no rank: {whose or 'no random direction has slopes'}"
    return Table(
        title=f"{setting.name}: the steered arm's changes among random directions",
        heads=(
            "change, log-odds",
            "questions",
            "steered",
            "random ones",
            "theirs (range)",
            "rank p, as high (one-sided)",
        ),
        lines=tuple(lines),
        notes=(
            f"Own symbols. {left} random directions without slopes (all right, all wrong, or separated) are left out.",
            "Rank p: the share of random directions whose change is as high, the arm's own counted; a p near 1 is a change at their low "
            "end, which is not tested.",
            *([f"The base is {base}: changes against it say little."] if base else []),
        ),
    ), (
        f"{setting.name}: steered, among {len(beside)} random directions (n {len(set(found.items))}): {words}."
        f"{guessing_said(base, '') if told else ''}"
    )


def _plain(found: Shifted, arm: str) -> tuple[float, ...] | None:
    own, base = found.fits[arm], found.fits["base"]
    if own is None or base is None or found.why_not(arm) or found.why_not("base"):
        return None
    return (own.level - base.level, *(a - b for a, b in zip(own.slopes, base.slopes, strict=True)))
