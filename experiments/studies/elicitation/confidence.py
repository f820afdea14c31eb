"""Confidence (S33): how sure is the model of its answer, is it right to be, and does eliciting reasoning change that?

1. The confidence of a text is the mean probability of its answer's tokens, as the model gave them when it wrote them. Texts whose answer
   does not stand in them have none; they are counted.
2. Calibration is measured by the Brier score, the expected calibration error over ten bins of equal numbers of texts, and the AUROC of
   right against wrong texts; beside them stands an answer that always says the arm's own accuracy, whose Brier score is a (1 - a).
3. Whether the base's confidence tells which questions an elicitor helps is a rank correlation over questions with the change that it makes
   (2605.05715 reports none for 29 linear steerings). The change is the arm's verdict minus the base's, so a confidence that tells the
   base's right answers correlates with it whatever the elicitor does: the correlation with the arm's own verdict stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydantic import Field
from scipy import stats
from sklearn.metrics import roc_auc_score

from ...decoders.candidates import answer_place
from ...statistics import Floats, paired_difference
from ...store.runs import Run
from .asked import Setting
from .card import Card, Options
from .findings import Point, Table
from .points import points_of
from .workroom import Workroom

BINS = 10
FEW = 20
"""Texts below which no calibration is stated."""


class ConfidenceOptions(Options):
    resamples: int = Field(default=1000, ge=100)
    """Of the bootstrap over questions."""


@dataclass(frozen=True, eq=False)
class Sure:
    """Confidence and verdict of the texts of an arm that have both, `[texts]`, by question."""

    items: tuple[str, ...]
    confidence: Floats
    right: Floats
    unread: int
    """Texts without an answer that stands in them."""


def run(room: Workroom, options: ConfidenceOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    tables, said = [], []
    for setting in room.asked.settings:
        arms = [
            *room.references(setting),
            room.arm(setting, "sample", "one sample", "control", decoder={"kind": "samples", "n": 1, "choose_by": "first"}),
        ]  # fmt: skip
        found = room.evaluate("confidence", setting, arms, options.n)
        points += points_of(found, setting)
        sure = {arm.name: sure_of(room, found, setting, arm.name, arm.model) for arm in arms}
        labels = {arm.name: arm.label for arm in arms}
        tables.append(_calibration(setting, labels, sure, options))
        said += _said(setting, labels, sure, options)
    return points, tables, said


def sure_of(room: Workroom, found: Run, setting: Setting, arm: str, model: str) -> Sure:
    """Confidence of every text of an arm."""
    rows = found.table(columns=["split", "item", "answer", "correct", "token_ids", "logprob"], arms=[arm]).to_pylist()
    items, confidence, right, unread = [], [], [], 0
    for row in rows:
        if row["split"] != setting.split:
            continue
        place = answer_place(room.model(model), row["token_ids"], row["answer"]) if row["answer"] else None
        if place is None:
            unread += 1
            continue
        items.append(row["item"])
        confidence.append(float(np.exp(row["logprob"][place[0] : place[1]]).mean()))
        right.append(float(row["correct"]))
    return Sure(tuple(items), np.array(confidence), np.array(right), unread)


def calibration_error(confidence: Floats, right: Floats) -> float:
    """Expected calibration error: |mean confidence - accuracy| over bins of equal numbers, weighted by them."""
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, min(BINS, len(order))) if len(part)]
    return float(sum(len(p) * abs(confidence[p].mean() - right[p].mean()) for p in parts) / len(order))


def _bootstrap(
    sure: Sure, measure: Callable[[Floats, Floats], float | None], resamples: int
) -> tuple[float, float] | None:
    """95 % of a measure over resampled questions; None where it is not defined in half of the samples."""
    rng, drawn = np.random.default_rng(0), []
    for _ in range(resamples):
        chosen = rng.integers(len(sure.right), size=len(sure.right))
        value = measure(sure.confidence[chosen], sure.right[chosen])
        if value is not None:
            drawn.append(value)
    if len(drawn) < resamples / 2:
        return None
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def auroc(confidence: Floats, right: Floats) -> float | None:
    return float(roc_auc_score(right, confidence)) if 0 < right.sum() < len(right) else None


def _calibration(setting: Setting, labels: dict[str, str], sure: dict[str, Sure], options: ConfidenceOptions) -> Table:
    lines: list[tuple[str | int | float | None, ...]] = []
    for arm, own in sure.items():
        if len(own.right) < FEW:
            lines.append((labels[arm], len(own.right), own.unread, None, None, None, None, None, None))
            continue
        accuracy = float(own.right.mean())
        scores = (own.confidence - own.right) ** 2
        constant = (accuracy - own.right) ** 2
        better = paired_difference(scores, constant)
        mixed = 0 < own.right.sum() < len(own.right)  # where all are alike, resampled questions are too
        error = _bootstrap(own, calibration_error, options.resamples) if mixed else None
        area, around = auroc(own.confidence, own.right), _bootstrap(own, auroc, options.resamples)
        lines.append(
            (
                labels[arm], len(own.right), own.unread, f"{100 * accuracy:.1f}", f"{100 * own.confidence.mean():.1f}",
                f"{scores.mean():.3f}",
                f"{better.difference:+.3f} ({better.interval.low:+.3f} to {better.interval.high:+.3f})",
                f"{calibration_error(own.confidence, own.right):.3f}" + (f" ({error[0]:.3f} to {error[1]:.3f})" if error else ""),
                None if area is None else f"{area:.3f}" + (f" ({around[0]:.3f} to {around[1]:.3f})" if around else ""),
            )
        )  # fmt: skip
    return Table(
        title=f"{setting.name}: how sure, and how right to be",
        heads=(
            *("arm", "texts", "no answer read", "right %", "confidence %", "Brier", "constant's Brier minus it", "calibration error"),
            "AUROC",
        ),
        lines=tuple(lines),
        notes=(
            "Confidence: mean probability of the answer's tokens. A constant answer at the arm's accuracy is beaten where the difference "
            "lies above 0.",
            f"The calibration error is of {BINS} bins of equal numbers, and never 0 in a sample; below {FEW} texts nothing is stated.",
        ),
    )  # fmt: skip


def _correlation(known: Floats, values: Floats, resamples: int) -> str:
    """Spearman's rho with 95 % over resampled questions, in words; why there is none."""
    if len(known) < FEW or len(set(values)) < 2 or len(set(known)) < 2:
        return "(not defined: too few questions, or all alike)"
    drawn, rng = [], np.random.default_rng(0)
    for _ in range(resamples):
        chosen = rng.integers(len(known), size=len(known))
        if len(set(values[chosen])) > 1 and len(set(known[chosen])) > 1:
            drawn.append(float(stats.spearmanr(known[chosen], values[chosen]).statistic))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"with rho {float(stats.spearmanr(known, values).statistic):+.2f} ({low:+.2f} to {high:+.2f})"


def _said(setting: Setting, labels: dict[str, str], sure: dict[str, Sure], options: ConfidenceOptions) -> list[str]:
    base, said = sure["base"], []
    if len(base.right) < FEW:
        return [
            f"{setting.name}: {len(base.right)} texts of the base have an answer that can be read, too few for calibration."
        ]
    before = dict(zip(base.items, zip(base.confidence, base.right, strict=True), strict=True))
    for arm, own in sure.items():
        if arm == "base":
            continue
        pairs = [(*before[item], verdict) for item, verdict in zip(own.items, own.right, strict=True) if item in before]
        known, first, second = (
            (np.array(values) for values in zip(*pairs, strict=True)) if pairs else (np.zeros(0),) * 3
        )
        change, verdict = (_correlation(known, values, options.resamples) for values in (second - first, second))
        said.append(
            f"{setting.name}: {labels[arm]}: over {len(pairs)} questions the base's confidence correlates with the change that it makes "
            f"{change}, and with its being right {verdict}."
        )
    return said


CARD = Card(
    name="confidence",
    title="Confidence and calibration",
    systems=("S33",),
    papers=("2605.05715", "2507.16806"),
    measures="Brier score, calibration error and AUROC of the answer's probability, before and after eliciting; which questions gain",
    control="a constant answer at the arm's accuracy; one sample beside greedy decoding",
    quick=ConfidenceOptions(n=100),
    full=ConfidenceOptions(n=400),
    run=run,
)
