"""The tables of arms of one split: one row per arm, one definition per column.

1. Two halves: what an arm did by itself, and how it stands against the baseline, with its receipt. Together they
   hold every column.
2. A cell that is not defined is empty in a column of numbers; in a column of words it says why.
3. Every column has its definition in `DEFINITIONS`, shown as the tooltip of its head and in the drawer of methods.
4. The receipt says how many of the planned edits fired, and is marked when it is not all of them.
"""

from __future__ import annotations

from typing import Any

from app.escaping import one_line
from app.roles import look
from experiments.evaluation.summary import ArmSummary, Gap

DEFINITIONS: dict[str, str] = {
    "arm": "The condition; its symbol stands for its role.",
    "role": "baseline, prompt, steered, control or reference (the thinking model).",
    "n": "Rows: one per question and seed.",
    "right %": "Share of rows whose answer is right. Unscorable rows are counted as not right.",
    "interval": "Interval of the share of right answers (Wilson score). Of a line for many controls: their extremes.",
    "trace right %": "Share of rows in which every line of the trace is right and the answer follows from it. "
    "Empty where the task has no such verifier.",
    "well-formed %": "Share of rows whose whole text is in the task's grammar. Empty where the task has no grammar.",
    "cut": "Rows that hit the token limit.",
    "unscorable": "Rows in which no answer could be read. Counted apart, and not right.",
    "unclosed": "Rows that end inside their thinking segment, without an answer; in brackets those that hold the right answer there.",
    "tokens": "Generated tokens per row, mean.",
    "Δ points": "Right answers minus those of the baseline, on the same questions and seeds, in points of per cent.",
    "Δ interval": "Paired interval of the difference: score interval (Tango) over items. Of a line for many controls: their extremes.",
    "p": "Two-sided, of no difference: exact McNemar test, or with several seeds a permutation test over items.",
    "helped": "Items on which the arm is above the baseline.",
    "hurt": "Items on which the arm is below the baseline.",
    "Δ tokens": "Mean difference in generated tokens per row to the baseline.",
    "over its controls": "Right answers minus the mean of its random directions of equal edit size (or matched latents), "
    "with the interval over items and directions.",
    "rank p": "One-sided: (1 + its controls that do at least as well) / (1 + how many there are), and so never below 1 / (1 + how many).",
    "gap recovered": "(arm - baseline) / (reference - baseline), with interval. Undefined while the gap may be zero.",
    "steered %": "Share of positions, prompt and generated, with an edit of non-zero size.",
    "‖Δ‖/‖h‖": "Size of the edits: norm of the change over norm of the activation, median over the edited positions.",
    "receipt": "Edits fired / edits planned, over all rows. If they differ, the arm is not what its plan says.",
}

ALONE = (
    *(
        "arm",
        "role",
        "n",
        "right %",
        "interval",
        "trace right %",
        "well-formed %",
        "cut",
        "unscorable",
        "unclosed",
        "tokens",
    ),
    *("steered %", "‖Δ‖/‖h‖", "receipt"),
)
"""Columns of an arm by itself."""
COMPARED = (
    *(
        "arm",
        "Δ points",
        "Δ interval",
        "p",
        "helped",
        "hurt",
        "over its controls",
        "rank p",
        "Δ tokens",
        "gap recovered",
    ),
)
"""Columns of an arm against the baseline."""


def percent(value: float | None) -> float | None:
    """A share in per cent, to one decimal."""
    return None if value is None else round(100 * value, 1) + 0.0


def between(low: float, high: float, sign: str = "") -> str:
    """An interval of shares in per cent or points."""
    return f"{100 * low:{sign}.1f} to {100 * high:{sign}.1f}"


def gap_words(gap: Gap | None) -> str:
    """The gap recovered with its interval, or why it is not defined."""
    if gap is None:
        return ""
    if gap.value is None or gap.interval is None:
        return f"not defined: {gap.reason}"
    return f"{100 * gap.value:.0f} % ({between(gap.interval.low, gap.interval.high)})"


def beyond_words(arm: ArmSummary) -> str:
    """Points over the arm's controls, and what speaks against reading them so."""
    found = arm.beyond
    if found is None:
        return "none in this run" if arm.role == "steered" else ""
    said = f"{100 * found.difference:+.1f} ({between(found.interval.low, found.interval.high, '+')})"
    return said + (", few" if found.few else "") + ("" if found.matched else ", not matched in size")


def receipt_words(arm: ArmSummary) -> str:
    """Edits fired over edits planned, marked when they differ, and rows whose numbers became NaN or infinite."""
    broken = f", {arm.nonfinite} rows not finite" if arm.nonfinite else ""
    if arm.edits_planned == arm.edits_fired:
        return (f"{arm.edits_fired}/{arm.edits_planned} ✓" if arm.edits_planned else "no edits") + broken
    return f"{arm.edits_fired}/{arm.edits_planned} ✗{broken}"


def record(arm: ArmSummary) -> dict[str, Any]:
    """The row of an arm."""
    accuracy, found = arm.accuracy, arm.versus_baseline
    return {
        "arm": f"{look(arm.role).glyph} {one_line(arm.label, 80)}",
        "role": arm.role,
        "n": arm.n,
        "right %": percent(accuracy.value) if accuracy else None,
        "interval": between(accuracy.interval.low, accuracy.interval.high) if accuracy else "no rows yet",
        "trace right %": percent(arm.trace_accuracy.value) if arm.trace_accuracy else None,
        "well-formed %": percent(arm.well_formed_rate),
        "cut": arm.truncated,
        "unscorable": arm.unscorable,
        "unclosed": f"{arm.unclosed} ({arm.lenient})" if arm.unclosed else "",
        "tokens": None if arm.mean_tokens is None else round(arm.mean_tokens, 1),
        "Δ points": percent(found.difference) if found else None,
        "Δ interval": between(found.interval.low, found.interval.high, "+") if found else "",
        "p": ("< 0.001" if found.p < 0.001 else f"{found.p:.3f}") if found and found.p == found.p else "",
        "helped": found.helped if found else None,
        "hurt": found.hurt if found else None,
        "Δ tokens": round(found.token_difference, 1) if found else None,
        "over its controls": beyond_words(arm),
        "rank p": f"{arm.beyond.rank_p:.3f} ({arm.beyond.as_good} of {arm.beyond.count})" if arm.beyond else "",
        "gap recovered": gap_words(arm.gap),
        "steered %": percent(arm.steered_fraction),
        "‖Δ‖/‖h‖": None if arm.median_edit_ratio is None else round(arm.median_edit_ratio, 3),
        "receipt": receipt_words(arm),
    }
