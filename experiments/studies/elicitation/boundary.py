"""The boundary of what a model can reach (2504.13837, 2506.14245, 2507.14843): pass@k of both models, with traces verified.

1. Both models draw the same number of samples of the same problems. pass@k is the unbiased estimator, for right answers and, where the task
   verifies traces, for right answers with right traces: a short answer is guessed sooner or later.
2. Support sets say which problems only one of the two solves. A crossing of the curves is stated with an interval or not at all.
3. Product law (2602.08281): a chain succeeds as often as the product of its steps' accuracies says, predicted against observed over
   problems.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field
from scipy import stats

from steering.errors import BadInput

from ...pair.verifier import verify
from ...statistics import Floats, crossing, curve, paired_difference, pass_curves, support
from ...store.runs import Run
from .asked import Elicit, Setting
from .card import Card, Options
from .findings import Point, Table
from .points import points_of
from .workroom import Workroom


class BoundaryOptions(Options):
    samples: int = Field(default=128, ge=2)
    """Texts per question: the largest k of pass@k."""
    most: int = Field(default=64, ge=1)
    """Largest k; at most half of the samples, beyond which the estimate is one of few subsets."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the samples."""


def refuse(asked: Elicit, options: BoundaryOptions) -> None:
    if asked.thinking is None:
        raise BadInput("The card boundary compares two models: give --pair BASE,THINKING.")
    if 2 * options.most > options.samples:
        raise BadInput(
            f"card boundary: most is {options.most} of {options.samples} samples; give at least {2 * options.most} samples, or most of at "
            f"most {options.samples // 2}."
        )


def run(room: Workroom, options: BoundaryOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    tables, said = [], []
    ks = [2**power for power in range(options.most.bit_length()) if 2**power <= options.most]
    for setting in room.asked.settings:
        arms = [arm for arm in room.references(setting) if arm.role != "prompt"]
        greedy = room.evaluate("boundary-greedy", setting, room.references(setting), options.n)
        points += points_of(greedy, setting)
        found = room.evaluate(
            "boundary", setting, arms, options.n, what=f"{options.samples} samples", temperature=options.temperature,
            seeds=tuple(range(options.samples)),
        )  # fmt: skip
        for verified in (False, True):
            counts = right(found, setting, verified)
            if counts is None:
                said.append(f"{setting.name}: the task verifies no traces, so right answers may be guessed.")
                continue
            name = "right answer and trace" if verified else "right answer"
            each = {arm: pass_curves(own, options.samples, ks) for arm, own in counts.items()}
            tables.append(_curves(setting, name, ks, each))
            said += [_crosses(setting, name, ks, each), _supports(setting, name, counts)]
        if room.asked.builtin:
            said += [_product(room, found, setting, arm.name) for arm in arms]
    return points, tables, said


def right(found: Run, setting: Setting, verified: bool) -> dict[str, Floats] | None:
    """Right samples per problem of the two models; None where traces are asked for and the task verifies none."""
    counts = counts_of(found, setting, verified)
    return None if counts is None else {arm: counts[arm] for arm in ("base", "thinking")}


def counts_of(found: Run, setting: Setting, verified: bool) -> dict[str, Floats] | None:
    """Right samples per problem by arm, in one order; None where traces are asked for and the task verifies none."""
    rows = found.table(columns=["arm", "split", "item", "correct", "trace_ok"]).to_pandas()
    rows = rows[rows["split"] == setting.split]
    if verified and rows["trace_ok"].isna().all():
        return None
    rows["right"] = rows["correct"] & (rows["trace_ok"].fillna(False).astype(bool) if verified else True)
    table = rows.groupby(["arm", "item"])["right"].sum().unstack()
    return {str(arm): table.loc[arm].to_numpy() for arm in table.index}


def _curves(setting: Setting, name: str, ks: list[int], each: dict[str, Floats]) -> Table:
    curves = {arm: curve(own, ks) for arm, own in each.items()}
    lines: list[tuple[Any, ...]] = []
    for place, k in enumerate(ks):
        gap = paired_difference(each["base"][:, place], each["thinking"][:, place])
        lines.append(
            (
                k,
                *(
                    f"{100 * c.value[place]:.1f} ({100 * c.low[place]:.1f} to {100 * c.high[place]:.1f})"
                    for c in (curves["base"], curves["thinking"])
                ),
                f"{100 * gap.difference:+.1f} ({100 * gap.interval.low:+.1f} to {100 * gap.interval.high:+.1f})",
            )
        )
    return Table(
        title=f"{setting.name}: pass@k, {name}",
        heads=("k", "base %", "thinking %", "thinking - base"),
        lines=tuple(lines),
        notes=(f"Unbiased estimate from samples of {len(each['base'])} problems; 95 % intervals over problems.",),
    )


def _crosses(setting: Setting, name: str, ks: list[int], each: dict[str, Floats]) -> str:
    found = crossing(each["base"], each["thinking"], ks)
    start = (
        f"{100 * found.ahead_at_one:+.1f} points at k = 1 ({100 * found.ahead_interval.low:+.1f} to "
        f"{100 * found.ahead_interval.high:+.1f})"
    )
    end = (
        f"{100 * found.behind_at_most:+.1f} at k = {ks[-1]} ({100 * found.behind_interval.low:+.1f} to "
        f"{100 * found.behind_interval.high:+.1f})"
    )
    words = f"{setting.name}, {name}: the thinking model is {start} and {end}; "
    if found.clear:
        return words + f"the curves cross at k = {found.k} ({found.low} to {found.high})."
    if found.k is not None:
        return (
            words + f"no crossing is shown: in {100 * found.share:.0f} % of resamples the curves meet by k = {ks[-1]}."
        )
    return words + "the curves do not cross."


def _supports(setting: Setting, name: str, counts: dict[str, Floats]) -> str:
    found = support(counts["base"], counts["thinking"])
    words = (
        f"{setting.name}, {name}: of {len(counts['base'])} problems both solve {found.preserved}, the thinking model alone "
        f"{found.expanded}, the base alone {found.shrunk}, neither {found.neither}"
    )
    for what, value, around in (
        ("retention", found.retention, found.retention_interval),
        ("discovery", found.discovery, found.discovery_interval),
    ):
        if value is not None and around is not None:
            words += f"; {what} {100 * value:.0f} % ({100 * around.low:.0f} to {100 * around.high:.0f})"
    return words + "."


def _product(room: Workroom, found: Run, setting: Setting, arm: str) -> str:
    rows = found.table(columns=["split", "item", "text"], arms=[arm]).to_pylist()
    items = {item.id: item for item in room.asked.found.items(setting.split, found.manifest.splits[setting.split])}
    traces: dict[str, list[tuple[int, int]]] = {}
    for row in rows:
        if row["split"] == setting.split:
            verdict = verify(items[row["item"]].data, row["text"])
            if verdict.lines:
                traces.setdefault(row["item"], []).append((verdict.lines, verdict.wrong_lines - verdict.repaired_lines))
    every = [trace for own in traces.values() for trace in own]
    if not every:
        return f"{setting.name}: {arm} writes no lines whose steps could be counted."
    step = 1 - sum(wrong for _, wrong in every) / sum(lines for lines, _ in every)
    predicted = np.array([np.mean([step**lines for lines, _ in own]) for own in traces.values()])
    observed = np.array([np.mean([wrong == 0 for _, wrong in own]) for own in traces.values()])
    words = (
        f"{setting.name}: product law of {arm}: a step is right in {100 * step:.2f} %, so that a text without a wrong line is predicted in "
        f"{100 * predicted.mean():.1f} % and seen in {100 * observed.mean():.1f} % of {len(every)} traces"
    )
    if len(set(predicted)) < 2 or len(set(observed)) < 2:
        return words + "; no correlation over problems, which are all alike."
    rho = stats.spearmanr(predicted, observed)
    low, high = stats.bootstrap(
        (predicted, observed), lambda a, b: stats.spearmanr(a, b).statistic, paired=True, vectorized=False, n_resamples=500,
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return words + f"; over {len(predicted)} problems rho {rho.statistic:.2f} ({low:.2f} to {high:.2f})."


CARD = Card(
    name="boundary",
    title="The boundary: pass@k",
    systems=("S11",),
    papers=("2504.13837", "2506.14245", "2507.14843", "2602.08281"),
    measures="unbiased pass@k of base and thinking model, answers alone and with verified traces; support sets; crossing with its interval",
    control="the same numbers of samples of both; answers without a verified trace apart",
    quick=BoundaryOptions(n=24, samples=32, most=16),
    full=BoundaryOptions(n=100, samples=256, most=128),
    run=run,
    refuse=refuse,
    version=2,
)
