"""What an audit says: the share of a vector's effect that a word has, and what the vector keeps without its words.

1. A share is a ratio of paired differences to the base on the same questions, with the interval of `statistics.gap`. It is not defined
   where the interval of the vector's own effect holds 0, and then the reason is said.
2. A vector *writes a token* where some bias certainly has most of its effect (`MOST`; the level is divided by the number of biases that
   were tried), and *does more* where no bias reaches the whole; where a bias certainly has more than the whole, the words do more without
   the vector. Between these nothing is decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ...statistics import Floats, GapRecovered, against_directions, gap_recovered, paired_difference
from ...store.runs import Run
from .asked import Setting
from .audit_subjects import Subject
from .findings import Point, Table
from .points import between

MOST = 0.8
"""Share of an effect that is called most of it."""
LEVEL = 0.95


def share_of_effect(base: ArrayLike, part: ArrayLike, whole: ArrayLike, level: float = LEVEL) -> GapRecovered:
    """(part - base)/(whole - base), means over the same items `[items]` of values in [0, 1]; of an effect that lowers them the same ratio.
    Not defined where the interval of whole - base holds 0."""
    values = [np.asarray(one, dtype=float) for one in (base, part, whole)]
    effect = paired_difference(values[0], values[2], level=level)
    if 0 in effect.interval:
        reason = (
            f"the vector's own effect may be zero ({100 * level:g} % interval {100 * effect.interval.low:+.1f} to "
            f"{100 * effect.interval.high:+.1f} points)"
        )
        return GapRecovered(False, None, None, effect.difference, effect.interval, effect.n, reason)
    if effect.difference < 0:
        values = [1 - one for one in values]
    return gap_recovered(*values, level=level)


def corrects(run: Run, split: str) -> dict[str, Floats]:
    """Per arm, whether each question of the split was answered right, in one order."""
    rows = run.table(columns=["arm", "split", "item", "correct"]).to_pylist()
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["split"] == split:
            found.setdefault(row["arm"], {})[row["item"]] = float(row["correct"])
    items = sorted(next(iter(found.values())))
    return {arm: np.array([own[item] for item in items]) for arm, own in found.items()}


def written(share: GapRecovered) -> str:
    """A share with its interval, or that it has none."""
    if share.value is None or share.interval is None:
        return "not defined"
    return f"{share.value:.2f} ({share.interval.low:.2f} to {share.interval.high:.2f})"


def verdict_table(
    setting: Setting, subject: Subject, points: Sequence[Point], about: Mapping[str, str], right: Mapping[str, Floats],
    writes: Mapping[str, str], notes: Sequence[str],
) -> Table:  # fmt: skip
    """One line per arm; `about` says what each arm does, `writes` which tokens it writes first where the span lies."""
    lines: list[tuple[str | int | float | None, ...]] = []
    whole = right[subject.key]
    for point in points:
        share = share_of_effect(right["base"], right[point.arm], whole) if point.arm in about else None
        difference = point.difference
        own = point.arm == subject.key
        lines.append(
            (
                about.get(point.arm, point.label), f"{100 * point.accuracy:.1f} ({100 * point.low:.1f} to {100 * point.high:.1f})",
                round(point.tokens, 1),
                None if difference is None or point.difference_low is None or point.difference_high is None
                else f"{100 * difference:+.1f} ({between(point.difference_low, point.difference_high)})",
                None if share is None or own else written(share), writes.get(point.arm),
            )
        )  # fmt: skip
    drawn = [values.mean() for arm, values in right.items() if arm.startswith(f"{subject.key}-random-")]
    if drawn:
        spread = f"{100 * np.mean(drawn):.1f} ({100 * min(drawn):.1f} to {100 * max(drawn):.1f})"
        lines.append((f"{len(drawn)} random directions: mean (range)", spread, None, None, None, None))
    return Table(
        title=f"{setting.name}: {subject.label}, {subject.dose} on {subject.span} at {subject.vector.site}",
        heads=(
            "arm",
            "right % (95 %)",
            "tokens",
            "vs base",
            "share of the vector's effect (95 %)",
            "writes first in the span",
        ),
        lines=tuple(lines),
        notes=(*notes, f"Vector {subject.digest or subject.vector.digest}."),
    )


def sentences(
    setting: Setting, subject: Subject, right: Mapping[str, Floats], about: Mapping[str, str]
) -> list[str]:  # fmt: skip
    """The verdict, what is left without the words, and the random directions."""
    head = f"{setting.name}: {subject.label}"
    base, whole = right["base"], right[subject.key]
    effect = paired_difference(base, whole)
    size = f"{100 * effect.difference:+.1f} points ({between(effect.interval.low, effect.interval.high)}; n {effect.n})"
    said = []
    biases = [arm for arm in about if arm.startswith(f"{subject.key}-bias-")]
    shares = {arm: share_of_effect(base, right[arm], whole) for arm in biases}
    undefined = next((share.reason for share in shares.values() if not share.defined), None)
    if 0 in effect.interval or undefined:
        said.append(f"{head}: the word share is not defined: {undefined or 'no word was found'}.")
    else:
        said.append(f"{head}: {verdict(shares, base, right, whole, about)} (the vector's effect: {size}).")
        kept = [arm for arm in about if arm.startswith(f"{subject.key}-without-")]
        if kept:
            words = "; ".join(f"{about[arm]} {written(share_of_effect(base, right[arm], whole))}" for arm in kept)
            said.append(f"{head}: of its effect it keeps: {words}.")
    drawn = [values for arm, values in right.items() if arm.startswith(f"{subject.key}-random-")]
    if drawn:
        said.append(f"{head}: {against_directions(whole, np.stack(drawn), lowers=effect.difference < 0).note}.")
    if subject.expected:
        said.append(f"{head}: {_planted(subject, shares, effect.difference, 0 in effect.interval)}")
    return said


def verdict(
    shares: Mapping[str, GapRecovered], base: Floats, right: Mapping[str, Floats], whole: Floats, about: Mapping[str, str],
    strength: str = ", at equal divergence",
) -> str:  # fmt: skip
    """What the shares of biases say of a vector's effect; `strength` says how strong they are."""
    if not shares:
        return "no bias stands beside it"
    best = max(shares, key=lambda arm: shares[arm].value or 0.0)
    strict = share_of_effect(base, right[best], whole, 1 - (1 - LEVEL) / len(shares))
    words = f"{about[best]} has {written(shares[best])} of its effect"
    if strict.interval is not None and strict.interval.low > 1:
        return f"its words do more without it{strength}: {words}"
    if strict.interval is not None and strict.interval.low >= MOST:
        return f"it writes a token: {words}"
    if all(share.interval is not None and share.interval.high < 1 for share in shares.values()):
        return f"it does more than write a token: the best of {len(shares)} biases, {words}"
    return f"not decided whether it does more than write a token: the best of {len(shares)} biases, {words}"


def _planted(subject: Subject, shares: Mapping[str, GapRecovered], effect: float, silent: bool) -> str:
    """Whether a planted vector was found to be what it is."""
    first = next((share for arm, share in shares.items() if arm.endswith("-1")), None)
    interval = None if first is None else first.interval
    if subject.expected == "word":
        if interval is None:
            return "it was planted to be a word, and has no effect here in which that could show."
        found = interval.low <= 1 <= interval.high
        return f"it was planted to be a word, and is {'' if found else 'NOT '}found to be one (word share {written(first)})."  # type: ignore[arg-type]
    if interval is None:
        return f"it was planted to be no word, and has no detectable effect ({100 * effect:+.1f} points)."
    found = interval.low <= 0 <= interval.high
    return (
        f"it was planted to be no word, and is {'' if found else 'NOT '}found to be none (word share {written(first)})."  # type: ignore[arg-type]
    )
