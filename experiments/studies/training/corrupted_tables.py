"""Tables and sentences of corrupted traces: answers and traces apart, what the first word does, and loss by tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...statistics import Floats
from ..elicitation.asked import Setting
from ..elicitation.findings import Table
from ..elicitation.points import difference_said
from ..elicitation.workroom import Workroom
from .continued import START, Continued
from .seeds import compared, ratio, seeds_said, spread, told
from .verified import Axes

PARTS = 5
"""Of a training, at whose ends its loss is shown."""
Found = Mapping[str, Axes]


def stacked(axes: Found, arm: str, seeds: Sequence[int], field: str) -> Floats:
    """A measure of an arm, `[questions, seeds]`."""
    return np.stack([getattr(axes[f"{arm}-{seed}"], field) for seed in seeds], 1)


def chance_of(room: Workroom, setting: Setting, n: int) -> float:
    """Share that a candidate drawn at random gets right."""
    return float(np.mean([1 / len(item.data.candidates) for item in room.asked.found.items(setting.split, n)]))


def axes_table(
    setting: Setting, axes: Found, arms: Sequence[str], seeds: Sequence[int], labels: Mapping[str, str], chance: float
) -> Table:
    lines: list[tuple[Any, ...]] = []
    groups = {START: ["start"], **{labels[arm]: [f"{arm}-{seed}" for seed in seeds] for arm in arms}}
    for label, names in groups.items():
        own = [axes[name] for name in names]
        held = int(np.mean([one.holds.sum() for one in own]))
        lines.append(
            (
                label, spread([one.right.mean() for one in own]), spread([one.verified.mean() for one in own]),
                spread([one.holds.mean() for one in own]), spread([ratio(one.true, one.equations) for one in own]),
                spread([ratio(one.right * one.holds, one.holds) for one in own]), held,
                spread([ratio(one.right * one.holds, one.right) for one in own]), spread([one.tokens.mean() for one in own], 0, 1),
            )
        )  # fmt: skip
    n = len(axes["start"].right)
    return Table(
        title=f"{setting.name}: answers and traces, mean of {len(seeds)} trainings (their range)",
        heads=(
            "learned from", "answer right %", "trace verified %", "every line holds %", "equations right %",
            "right where every line holds, %", "such texts", "every line holds where right, %", "tokens",
        ),
        lines=tuple(lines),
        notes=(
            f"n {n} questions per training; a candidate drawn at random is right in {100 * chance:.1f} %. A trace is verified when its "
            "lines, its verdicts and its answer are right; every line holds when each applies the next rule to the present value, whatever "
            "answer follows. Equations count wherever they stand.",
        ),
    )  # fmt: skip


def difference_table(
    setting: Setting, axes: Found, arms: Sequence[str], seeds: Sequence[int], labels: Mapping[str, str]
) -> Table:
    lines: list[tuple[Any, ...]] = []
    for reference in [arm for arm in ("valid", "answers") if arm in arms]:
        for arm in arms:
            if (
                arm == reference
                or (arm, reference) == ("valid", "answers")
                or (reference == "answers" and arm == "answers")
            ):
                continue
            answers = compared(*(stacked(axes, one, seeds, "right") for one in (reference, arm)))
            traces = compared(*(stacked(axes, one, seeds, "verified") for one in (reference, arm)))
            lines.append(
                (
                    f"{labels[arm]} - {labels[reference]}", difference_said(answers[0]), seeds_said(answers[1]),
                    difference_said(traces[0]), seeds_said(traces[1]),
                )
            )  # fmt: skip
    return Table(
        title=f"{setting.name}: differences, points",
        heads=(
            "", "answers, over questions (95 %; p)", "answers by seed (95 % over seeds)", "verified traces, over questions (95 %; p)",
            "verified traces by seed (95 % over seeds)",
        ),
        lines=tuple(lines),
        notes=("Paired over questions, seeds averaged within a question; the interval over seeds is Student's.",),
    )  # fmt: skip


def told_of(
    setting: Setting, axes: Found, arms: Sequence[str], seeds: Sequence[int], labels: Mapping[str, str]
) -> list[str]:
    said = []
    n = len(axes["start"].right)
    for arm in arms:
        own = stacked(axes, arm, seeds, "right")
        verified = stacked(axes, arm, seeds, "verified")
        parts = [
            f"{100 * own.mean():.1f} % of the answers right and {100 * verified.mean():.1f} % of the traces verified"
        ]
        for reference in ("valid", "answers"):
            if reference in arms and reference != arm:
                parts.append(
                    told("answers", labels[reference], *compared(stacked(axes, reference, seeds, "right"), own))
                )
        said.append(f"{setting.name}: {labels[arm]}: {'; '.join(parts)} (n {n}, {len(seeds)} trainings).")
    return said


def first_word_table(
    bare: Found, think: Found, arms: Sequence[str], seeds: Sequence[int], labels: Mapping[str, str]
) -> Table:
    lines: list[tuple[Any, ...]] = []
    for arm in arms:
        plain, asked = (stacked(axes, arm, seeds, "right") for axes in (bare, think))
        opened = bare.get(f"{arm}-{seeds[0]}-opened")
        found, by_seed = compared(plain, asked)
        given: tuple[str | None, str | None] = (None, None)
        if opened is not None:
            given = (
                f"{100 * opened.right.mean():.1f}, {100 * opened.verified.mean():.1f}",
                difference_said(compared(plain[:, :1], opened.right[:, None])[0]),
            )
        lines.append(
            (
                labels[arm], spread(plain.mean(0)), spread(asked.mean(0)), difference_said(found), seeds_said(by_seed), *given,
            )
        )  # fmt: skip
    return Table(
        title="What the first word does: bare prompts, prompts that ask to think first, and bare prompts with the arm's own first word",
        heads=(
            "learned from", "bare, right %", "asked to think, right %", "difference, over questions (95 %; p)", "by seed (95 % over seeds)",
            f"bare, first word given, seed {seeds[0]}: right %, verified %", "that against bare, over questions (95 %; p)",
        ),
        lines=tuple(lines),
        notes=(
            "Standard problems. In training bare prompts are answered quickly in every arm, others as the arm has it.",
        ),
    )  # fmt: skip


def curve_table(
    trained: Mapping[tuple[str, int], Continued], arms: Sequence[str], seeds: Sequence[int], labels: Mapping[str, str]
) -> Table:
    lines: list[tuple[Any, ...]] = []
    for arm in arms:
        own = [trained[arm, seed] for seed in seeds]
        lines.append((labels[arm], round(float(np.mean([one.tokens for one in own]))), *losses(own)))
    return Table(
        title="Loss in training, nats per token, mean of the seeds",
        heads=(
            "learned from",
            "tokens",
            *(f"{100 * part // PARTS} to {100 * (part + 1) // PARTS} %" for part in range(PARTS)),
        ),
        lines=tuple(lines),
        notes=(
            "Of words that nothing determines, such as random numbers, the loss cannot fall: arms are not comparable by it.",
        ),
    )


def losses(own: Sequence[Continued]) -> list[str]:
    """Mean loss over each part of a training; `none` of a part without an update."""
    parts = [np.array_split([loss for _, loss in one.curve], PARTS) for one in own]
    return [
        spread([float(part[at].mean()) if len(part[at]) else float("nan") for part in parts], 2, 1)
        for at in range(PARTS)
    ]
