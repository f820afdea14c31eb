"""Contamination by partial prompts (2507.10532): can a model write the rest of a question that it is shown a part of?

1. Questions are cut after shares of their words and fed as they stand, without form or template; the greedy completion is compared with the
   rest (`prefixes`). A model that has read a question often can write its rest; so can one for which the rest is predictable.
2. So two controls are completed in the same way: the same questions with other numbers, paired, and fresh questions. Each question's
   ROUGE-L is set against theirs: the mean paired difference from its twin, and the AUROC against the fresh ones. No verdict is given, only
   where the questions lie among the controls.
3. Answers asked for behind a part of a question, in the setting's form, are a measure of their own; fresh questions have answers too. A
   part that already determines the answer, or a short list of answers, is answered without having been read before.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy import stats
from sklearn.metrics import roc_auc_score

from steering.errors import BadInput
from steering.model.prompts import unknown_in

from ...statistics import Floats, paired_difference, wilson
from ...statistics.shares import mean_interval
from ...tasks.task import Task
from .asked import Elicit, Setting
from .card import Card, Options
from .completing import Asked, Completed, completed
from .findings import Point, Table
from .points import points_of
from .prefixes import fresh, question_of, with_other_numbers
from .steps import distinct
from .workroom import Workroom

FEW = 20
"""Questions below which no AUROC is stated."""
OWN, TWINS = "the questions", "the same with other numbers"


class ContaminationOptions(Options):
    shares: tuple[float, ...] = Field(default=(0.4, 0.6, 0.8), min_length=1)
    """Of a question's words that are shown, each in (0, 1)."""
    longest: int = Field(default=128, ge=1)
    """Tokens of a rest; questions with a longer one are left out at that share."""
    resamples: int = Field(default=1000, ge=100)
    """Of the bootstrap over questions."""


def refuse(asked: Elicit, options: ContaminationOptions) -> None:
    if wrong := [share for share in options.shares if not 0 < share < 1]:
        raise BadInput(f"card contamination: a share of {wrong[0]:g} cuts nothing; give shares between 0 and 1.")
    for setting in asked.settings:
        for item in asked.found.items(setting.split, options.n):
            question_of(asked.found, item)
        fresh(asked.found, setting.split, options.n)


def run(room: Workroom, options: ContaminationOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    tables, said = [], []
    for setting in room.asked.settings:
        points += points_of(room.evaluate("contamination", setting, room.references(setting), options.n), setting)
    for setting in distinct(room.asked.settings):
        groups = groups_of(room.asked.found, setting, options.n)
        for name, model in room.pair.items():
            known = [not any(unknown_in(model, text) for text in group.texts) for group in groups]
            found = {
                (group.name, share): completed(room, setting, model, name, group, share, options.longest)
                for group in groups
                for share in options.shares
            }
            tables += [
                _completions(setting, name, groups, found, options),
                _against(setting, name, groups, found, options),
            ]
            said.append(_sentence(setting, name, groups, found, options))
            said += [
                f"{setting.name}: {name}: its tokenizer does not know all of {group.name}, which are no control for it."
                for group, whole in zip(groups, known, strict=True)
                if not whole and group.name != OWN
            ]
    return points, tables, said


def groups_of(task: Task, setting: Setting, n: int) -> list[Asked]:
    """The questions, their twins with other numbers where any has a number, and fresh questions."""
    items = task.items(setting.split, n)
    texts = [question_of(task, item) for item in items]
    twins = {
        place: twin for place, text in enumerate(texts) if (twin := with_other_numbers(text, task.name)) is not None
    }
    name, drawn = fresh(task, setting.split, n)
    groups = [Asked(OWN, tuple(texts), tuple(range(len(texts))), tuple(items))]
    if twins:
        groups.append(Asked(TWINS, tuple(twins.values()), tuple(twins), None))
    return [
        *groups,
        Asked(name, tuple(text for _, text in drawn), tuple(range(len(drawn))), tuple(item for item, _ in drawn)),
    ]


def area(own: Floats, beside: Floats, resamples: int) -> tuple[float, float, float] | None:
    """AUROC of the questions' scores against a control's, with 95 % over resampled questions of both; None of too few, or all alike."""
    if min(len(own), len(beside)) < FEW or len({*own, *beside}) < 2:
        return None

    def measured(one: Floats, two: Floats) -> float:
        return float(roc_auc_score([1] * len(one) + [0] * len(two), np.concatenate([one, two])))

    around = stats.bootstrap(
        (own, beside), measured, vectorized=False, n_resamples=resamples, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval  # fmt: skip
    return measured(own, beside), float(around.low), float(around.high)


def _around(size: tuple[float, float, float] | None) -> str | None:
    return None if size is None else f"{size[0]:.3f} ({size[1]:.3f} to {size[2]:.3f})"


Found = dict[tuple[str, float], Completed]


def _share(values: Floats) -> str | None:
    if not len(values):
        return None
    around = wilson(int(values.sum()), len(values))
    return f"{100 * values.mean():.1f} ({100 * around.low:.1f} to {100 * around.high:.1f})"


def _completions(
    setting: Setting, name: str, groups: list[Asked], found: Found, options: ContaminationOptions
) -> Table:
    lines: list[tuple[str | int | float | None, ...]] = []
    for share in options.shares:
        for group in groups:
            own = found[group.name, share]
            mean = None
            if len(own.rouge):
                around = mean_interval(own.rouge)
                mean = f"{100 * own.rouge.mean():.1f} ({100 * around.low:.1f} to {100 * around.high:.1f})"
            right, asked = (None, None) if own.right is None else (_share(own.right), len(own.right))
            lines.append(
                (f"{100 * share:.0f} %", group.name, len(own.keys), own.left_out, _share(own.exact), mean, asked, right)
            )  # fmt: skip
    return Table(
        title=f"{setting.name}: {name}: the rest of a question from a part of it",
        heads=("shown", "questions", "n", "left out", "rest exact %", "ROUGE-L", "n asked", "answer right %"),
        lines=tuple(lines),
        notes=(
            f"Completions: greedy, the part as it stands. Answers: the part in the form {setting.form!r}. Left out: a rest of more than "
            f"{options.longest} tokens, or nothing to cut. ROUGE-L by words as written, 0 to 100.",
        ),
    )  # fmt: skip


def _against(setting: Setting, name: str, groups: list[Asked], found: Found, options: ContaminationOptions) -> Table:
    lines: list[tuple[str | int | float | None, ...]] = []
    for share in options.shares:
        own = found[OWN, share]
        for group in groups[1:]:
            beside = found[group.name, share]
            paired, spread, above = None, None, None
            if group.name == TWINS and (both := [key for key in own.keys if key in beside.keys]):
                score, twin = (dict(zip(part.keys, part.rouge, strict=True)) for part in (own, beside))
                gap = paired_difference([twin[key] for key in both], [score[key] for key in both])
                paired = f"{100 * gap.difference:+.1f} ({100 * gap.interval.low:+.1f} to {100 * gap.interval.high:+.1f}; n {gap.n})"
            if len(beside.rouge):
                low, middle, high = np.quantile(beside.rouge, [0.05, 0.5, 0.95])
                spread = f"{100 * low:.0f}, {100 * middle:.0f}, {100 * high:.0f}"
                above = int((own.rouge > beside.rouge.max()).sum())
            size = area(own.rouge, beside.rouge, options.resamples)
            lines.append(
                (f"{100 * share:.0f} %", group.name, len(beside.keys), spread, above, paired, _around(size))
            )  # fmt: skip
    return Table(
        title=f"{setting.name}: {name}: the questions among their controls",
        heads=(
            *("shown", "control", "n", "its ROUGE-L, 5 %, median, 95 %", "questions above all of it", "ROUGE-L over the twin's", "AUROC"),
        ),
        lines=tuple(lines),
        notes=(
            f"AUROC of ROUGE-L, questions against the control: 0.5 where both are completed alike; none is stated below {FEW} of either or "
            "where all are alike. 95 % over questions.",
        ),
    )  # fmt: skip


def _sentence(setting: Setting, name: str, groups: list[Asked], found: Found, options: ContaminationOptions) -> str:
    share = sorted(options.shares)[len(options.shares) // 2]
    own = found[OWN, share]
    start = (
        f"{setting.name}: {name}: from {100 * share:.0f} % of a question its rest is written exactly in {_share(own.exact)} % (n "
        f"{len(own.keys)})"
    )
    if not len(own.exact):
        return f"{setting.name}: {name}: no question could be cut and read at {100 * share:.0f} %."
    words, over, judged = [], 0, 0
    for group in groups[1:]:
        beside = found[group.name, share]
        size = area(own.rouge, beside.rouge, options.resamples)
        told = (
            "no AUROC: too few, or all alike"
            if size is None
            else f"AUROC {size[0]:.3f}, {size[1]:.3f} to {size[2]:.3f}"
        )
        words.append(f"of {group.name} in {_share(beside.exact)} % (n {len(beside.keys)}; {told})")
        judged += size is not None
        over += size is not None and size[1] > 0.5
    if not judged:
        end = "nothing is shown about whether it has read them"
    elif over == len(groups) - 1:
        end = "the questions are completed better than every control, as questions that were read before are, and more predictable ones"
    elif over:
        end = "the questions are completed better than one control and not detectably better than the other, so nothing is shown"
    else:
        end = "the questions are not completed detectably better than text that it cannot have read"
    return f"{start}, {', '.join(words)}; {end}."


CARD = Card(
    name="contamination",
    title="Contamination by partial prompts",
    systems=("S12",),
    papers=("2507.10532",),
    measures="exact match and ROUGE-L of a question's rest from parts of it, and answers to those parts",
    control="the same questions with other numbers; freshly drawn problems, or random calculations",
    quick=ContaminationOptions(n=60),
    full=ContaminationOptions(n=400),
    run=run,
    refuse=refuse,
)
