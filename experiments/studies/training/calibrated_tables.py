"""How sure a model says it is behind its texts, and how right it is to be: several seeds of a training in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...statistics import Floats, Interval, paired_difference
from ...store.runs import Run
from ..elicitation.asked import Setting
from ..elicitation.confidence import FEW, auroc, calibration_error, sure_of
from ..elicitation.findings import Table
from ..elicitation.workroom import Workroom
from .rewarded import Grown
from .scales import SURE, Scale
from .seeds import spread


@dataclass(frozen=True, eq=False)
class Stated:
    """What one arm says of its texts, `[questions]`, in the order of the run; NaN where a text did not end."""

    items: tuple[str, ...]
    contexts: tuple[tuple[int, ...] | None, ...]
    """Prompt and text, behind which it is asked; None where the text did not end."""
    level: Floats
    """The likeliest level."""
    expected: Floats
    """The mean of the levels by their probability."""
    on_scale: Floats
    """Probability of any level."""
    right: Floats
    answer: Floats
    """The mean probability of the answer's tokens."""

    @property
    def read(self) -> np.ndarray:
        return ~np.isnan(self.level)


def stated_of(room: Workroom, run: Run, setting: Setting, arm: str, name: str, scale: Scale) -> Stated:
    """Asked behind every text of an arm that ended."""
    model = room.model(name)
    rows = [
        row
        for row in run.table(
            columns=["split", "item", "prompt_ids", "token_ids", "finish", "correct"], arms=[arm]
        ).to_pylist()
        if row["split"] == setting.split
    ]
    ended = [n for n, row in enumerate(rows) if row["finish"] in ("eos", "stop")]
    contexts = {n: (*rows[n]["prompt_ids"], *rows[n]["token_ids"]) for n in ended}
    level, expected, on_scale = (np.full(len(rows), np.nan) for _ in range(3))
    if ended:
        shares, whole = scale.stated(model, [contexts[n] for n in ended])
        level[ended] = np.array(SURE)[shares.argmax(1)]
        expected[ended] = shares @ np.array(SURE)
        on_scale[ended] = whole
    own = sure_of(room, run, setting, arm, name)
    answered = dict(zip(own.items, own.confidence, strict=True))
    return Stated(
        tuple(row["item"] for row in rows), tuple(contexts.get(n) for n in range(len(rows))), level, expected, on_scale,
        np.array([float(row["correct"]) for row in rows]), np.array([answered.get(row["item"], np.nan) for row in rows]),
    )  # fmt: skip


def calibration_lines(
    setting: Setting, grown: Sequence[Grown], stated: Mapping[str, Stated]
) -> tuple[Table, list[str]]:
    """A line per group, and whether the first group's statements beat a constant and the other groups'."""
    groups: dict[str, list[Grown]] = {}
    for one in grown:
        groups.setdefault(one.group, []).append(one)
    lines: list[tuple[Any, ...]] = []
    said: list[str] = []
    for members in groups.values():
        own = [stated[one.line.arm] for one in members]
        label = members[0].label
        unread = sum(int((~one.read).sum()) for one in own)
        if min(int(one.read.sum()) for one in own) < FEW:
            lines.append((label, len(own), unread, *[None] * 8))
            said.append(f"{setting.name}: {label}: fewer than {FEW} texts ended, too few for calibration.")
            continue
        lines.append((label, len(own), unread, *_cells(own)))
        said.append(_beside_a_constant(setting, label, own))
    said += _against_others(setting, groups, stated)
    return Table(
        title=f"{setting.name}: how sure it says that it is",
        heads=(
            "what", "seeds", "texts that did not end", "right %", "stated %", "on the scale %", "Brier, stated",
            "calibration error, stated",
            "AUROC, stated level", "AUROC, mean level", "AUROC, probability of the answer",
        ),
        lines=tuple(lines),
        notes=(
            "Mean (range) over seeds. The stated level is the likeliest of ten, the mean level their mean by probability; both are read "
            "with the cue given. AUROC of right against wrong texts.",
            f"The calibration error is of ten bins of equal numbers, and never 0 in a sample; below {FEW} texts nothing is stated.",
        ),
    ), said  # fmt: skip


def _cells(own: Sequence[Stated]) -> tuple[str | None, ...]:
    def each(of: Any, decimals: int = 3, scale: float = 1) -> str | None:
        values = [of(one) for one in own]
        return None if any(value is None for value in values) else spread(values, decimals, scale)

    return (
        each(lambda s: s.right.mean(), 1, 100),
        each(lambda s: np.nanmean(s.level), 1, 100),
        each(lambda s: np.nanmean(s.on_scale), 1, 100),
        each(lambda s: ((s.level - s.right)[s.read] ** 2).mean()),
        each(lambda s: calibration_error(s.level[s.read], s.right[s.read])),
        each(lambda s: auroc(s.level[s.read], s.right[s.read])),
        each(lambda s: auroc(s.expected[s.read], s.right[s.read])),
        each(_of_answers),
    )


def _between(interval: Interval) -> str:
    return f"{interval.low:+.3f} to {interval.high:+.3f}"


def _of_answers(one: Stated) -> float | None:
    known = ~np.isnan(one.answer)
    return auroc(one.answer[known], one.right[known]) if known.any() else None


def _beside_a_constant(setting: Setting, label: str, own: Sequence[Stated]) -> str:
    known = np.all([one.read for one in own], axis=0)
    scores = np.stack([(one.level - one.right)[known] ** 2 for one in own], 1)
    constant = np.stack([(one.right[known].mean() - one.right[known]) ** 2 for one in own], 1)
    found = paired_difference(scores, constant)
    return (
        f"{setting.name}: {label}: the Brier score of a constant minus that of what is stated: {found.difference:+.3f} "
        f"({_between(found.interval)}; n {int(known.sum())}); above 0 the statements say more "
        f"than how often it is right."
    )


def _against_others(setting: Setting, groups: Mapping[str, Sequence[Grown]], stated: Mapping[str, Stated]) -> list[str]:
    """The Brier score of every other group minus that of the first, paired by question and seed."""
    first, *others = groups
    said = []
    for other in others:
        one, two = ({g.seed: stated[g.line.arm] for g in groups[group]} for group in (first, other))
        seeds = sorted(set(one) & set(two))
        if not seeds:
            continue
        known = np.all([own[seed].read for own in (one, two) for seed in seeds], axis=0)
        if known.sum() < FEW:
            continue
        scores = [np.stack([(own[s].level - own[s].right)[known] ** 2 for s in seeds], 1) for own in (one, two)]
        found = paired_difference(*scores)
        said.append(
            f"{setting.name}: the Brier score of {groups[other][0].label} minus that of {groups[first][0].label}: "
            f"{found.difference:+.3f} ({_between(found.interval)}; n {int(known.sum())}, "
            f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''})."
        )
    return said
