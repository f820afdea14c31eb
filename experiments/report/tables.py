"""The tables of a report: headline, effects and receipts of a split; cells of a sweep, targets of an ablation, controllers of a hybrid.

1. A cell holds a number with its interval, or says why there is none; n stands in every line.
2. Numbers are those of `arms_frame` and of the verbs' own tables, rounded; nothing is computed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..evaluation.sentences import FEW, nonfinite_sentence, sentence, unclosed_said
from ..evaluation.summary import Gap
from ..statistics import sweep_winner
from .arm_frame import item_means
from .evidence import Evidence, Unavailable

DASH = "–"


@dataclass(frozen=True)
class Cell:
    """One cell: its text, the role whose colour marks it, and whether it reports a fault."""

    text: str
    role: str = ""
    bad: bool = False


@dataclass(frozen=True)
class Table:
    """A table of text. The first column is left-aligned, the others right; `notes` stand below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


def defined(value: Any) -> bool:
    """Whether a number is there."""
    return value is not None and value == value


def percent(value: float, digits: int = 1) -> str:
    """A share in per cent."""
    return f"{round(100 * value, digits) + 0.0:.{digits}f}"


def with_interval(line: dict[str, Any], name: str, low: str, high: str, scale: float = 100, sign: str = "+") -> str:
    """`+4.2 (+0.9 to +7.6)`, or a dash."""
    if not defined(line.get(name)) or not defined(line.get(low)):
        return DASH
    value, first, last = (round(scale * float(line[key]), 1) + 0.0 for key in (name, low, high))
    return f"{value:{sign}.1f} ({first:{sign}.1f} to {last:{sign}.1f})"


def p_text(p: Any) -> str:
    """A p-value, or a dash."""
    return DASH if not defined(p) else "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _arm(line: dict[str, Any]) -> Cell:
    return Cell(str(line["label"]), role=str(line["role"]))


def arm_tables(evidence: Evidence, frame: pd.DataFrame, split: str) -> list[Table]:
    """Headline, effects and receipts of one split, from `arms_frame`."""
    lines = frame[frame["split"] == split].to_dict("records")
    return [_headline(evidence, lines, split), *_effects(evidence, lines, split), _receipts(evidence, lines, split)]


def _headline(evidence: Evidence, lines: list[dict[str, Any]], split: str) -> Table:
    counted = any(line["tokens"] for line in lines if defined(line["tokens"]))
    rows = [
        (
            _arm(line), Cell(str(line["n"])), Cell(with_interval(line, "accuracy", "accuracy_low", "accuracy_high", sign="")),
            Cell(str(line["truncated"])), Cell(str(line["unscorable"])),
            Cell(f"{line['tokens']:.1f}" if counted and defined(line["tokens"]) else DASH),
            Cell(with_interval(line, "token_difference", "token_difference_low", "token_difference_high", 1) if counted else DASH),
        )
        for line in lines
    ]  # fmt: skip
    asked = evidence.summary.split(split).items
    short = [f"{line['label']}: {line['items']} of {asked} items." for line in lines if line["items"] < asked]
    few = (f"Exploratory: fewer than {FEW} items.",) if any(0 < line["items"] < FEW for line in lines) else ()
    inside = [f"{arm.label}: {unclosed_said(arm)}." for arm in evidence.summary.split(split).arms if arm.unclosed]
    unknown = () if counted else ("The rows hold no tokens.",)
    level = 100 * evidence.summary.level
    notes = (
        f"Intervals: {level:g} %; of shares Wilson, of differences score (Tango); of points over controls, over items and directions.",
        *unknown,
        *short[:12],
        *inside[:12],
        *(f"{arm.label}: {nonfinite_sentence(arm)}" for arm in evidence.summary.split(split).arms if arm.nonfinite),
        *few,
    )
    heads = ("arm", "n", "right %", "cut", "unscorable", "tokens", "tokens to baseline")
    return Table(f"Accuracy: {split}", heads, tuple(rows), notes)


def _effects(evidence: Evidence, lines: list[dict[str, Any]], split: str) -> list[Table]:
    kept = [line for line in lines if defined(line["difference"])]
    if not kept:
        return []
    gaps = evidence.manifest.reference is not None
    rows = []
    for line in kept:
        cells = [
            _arm(line), Cell(f"{line['compared']:.0f}"), Cell(with_interval(line, "difference", "difference_low", "difference_high")),
            Cell(p_text(line["p"])), Cell(f"{line['helped']:.0f} / {line['hurt']:.0f} / {line['unchanged']:.0f}"),
            Cell(_controls(line)), Cell(with_interval(line, "over_controls", "over_controls_low", "over_controls_high")),
            Cell(_rank(line)),
        ]  # fmt: skip
        rows.append((*cells, Cell(_gap(line))) if gaps else tuple(cells))
    heads = (
        "arm",
        "n",
        "points to baseline",
        "p",
        "helped / hurt / same",
        "its matched controls",
        "points over them",
        "rank p",
    )
    tests = ", ".join(sorted({str(line["test"]) for line in kept}))
    reasons = {
        f"{line['label']}: the gap recovered is not defined: {line['gap_reason']}."
        for line in kept
        if defined(line["gap_reason"])
    }
    missing = [
        f"{line['label']}: {line['missing']:.0f} pairs are missing on one side and left out."
        for line in kept
        if line["missing"]
    ]
    alone = [line["label"] for line in kept if line["role"] == "steered" and not defined(line["over_controls"])]
    bare = (
        f"Without a matched random direction in this run: {', '.join(alone[:6])}{', …' if len(alone) > 6 else ''}.",
    )
    title = f"Paired effects against {evidence.manifest.baseline.label}: {split}"
    ranks = (
        "Controls: mean and extremes of their shares of right answers; rank p: one-sided, never below 1/(controls + 1)."
    )
    notes = (
        f"p: {tests}; two-sided.",
        *((ranks,) if any(defined(line["controls"]) for line in kept) else ()),
        *missing[:6],
        *sorted(reasons)[:6],
        *(bare if alone else ()),
    )
    return [Table(title, (*heads, "gap recovered %") if gaps else heads, tuple(rows), notes)]


def _controls(line: dict[str, Any]) -> str:
    if not defined(line["controls"]):
        return "none" if line["role"] == "steered" else DASH
    sizes = "" if line["over_controls_matched"] else "; edits of other size"
    return f"{line['controls']}: {with_interval(line, 'controls_mean', 'controls_low', 'controls_high', sign='')} % right{sizes}"


def _rank(line: dict[str, Any]) -> str:
    """One-sided rank of an arm among its controls, and how many do as well."""
    if not defined(line["over_controls_rank_p"]):
        return DASH
    return f"{p_text(line['over_controls_rank_p'])} ({line['over_controls_as_good']:.0f} as good)"


def _gap(line: dict[str, Any]) -> str:
    if line["role"] == "reference":
        return "the top"
    return (
        with_interval(line, "gap_recovered", "gap_low", "gap_high", sign="")
        if defined(line["gap_recovered"])
        else "not defined"
    )


def gap_words(gap: Gap | None) -> str:
    """The gap recovered in words."""
    if gap is None:
        return ""
    if gap.value is None or gap.interval is None:
        return f"Gap recovered: not defined, {gap.reason}."
    low, high = percent(gap.interval.low), percent(gap.interval.high)
    return f"Gap recovered: {percent(gap.value)} % ({low} to {high}), n = {gap.n}."


def _receipts(evidence: Evidence, lines: list[dict[str, Any]], split: str) -> Table:
    rows = []
    for line in lines:
        planned, fired = int(line["edits_planned"]), int(line["edits_fired"])
        wrong = planned != fired
        said = f"{planned - fired:,} missing" if wrong else "all made" if planned else "no edits"
        rows.append((
            _arm(line), Cell(str(line["n"])), Cell(f"{planned:,}"), Cell(f"{fired:,}", bad=wrong),
            Cell(f"{percent(line['edited_share'], 2)}" if defined(line["edited_share"]) else DASH),
            Cell(f"{line['edit_ratio']:.3g}" if defined(line["edit_ratio"]) else DASH), Cell(said, bad=wrong),
        ))  # fmt: skip
    heads = ("arm", "rows", "edits planned", "edits made", "positions edited %", "‖Δ‖/‖h‖, median", "receipt")
    bad = any(cell.bad for row in rows for cell in row)
    notes = ("Edits are missing: the numbers of those arms do not show what their plans would do.",) if bad else ()
    named = {str(line["arm"]): line["label"] for line in lines}
    about = [entry for kind in ("origins", "sinks") for entry in evidence.manifest.facts.get(kind, {}).items()]
    remarks = tuple(f"{named[arm]}: {' '.join(sentences)}" for arm, sentences in about if arm in named)
    remarks += tuple(evidence.manifest.facts.get("questions", ()))
    return Table(f"Receipts: {split}", heads, tuple(rows), (*notes, *remarks))


def special_tables(evidence: Evidence) -> list[Table]:
    """The cells of a sweep, the targets of an ablation, the controllers of a hybrid."""
    makers = {"sweep, development": _cells, "sweep, test": _verdict, "ablation": _targets, "hybrid": _controllers}
    try:
        return [makers[evidence.kind](evidence)] if evidence.kind in makers else []
    except Unavailable:
        return []


def _cells(evidence: Evidence) -> Table:
    table = evidence.cells.sort_values(["score", "tokens", "cell"], ascending=[False, True, True])
    rows = []
    for line in table.to_dict("records"):
        settings = tuple(
            Cell(f"{line[s]:g}" if isinstance(line[s], float) else str(line[s])) for s in evidence.settings
        )
        rows.append((
            Cell(line["cell"] + (" (best)" if line["chosen"] else "")), *settings, Cell(str(line["n"])), Cell(percent(line["accuracy"])),
            Cell(with_interval(line, "over_control", "over_control_low", "over_control_high")),
            Cell(f"{p_text(line['rank_p'])} ({line['as_good']:.0f} of {line['directions']:.0f})" if defined(line.get("rank_p")) else DASH),
            Cell(with_interval(line, "difference", "low", "high")), Cell(f"{line['tokens']:.1f}"), Cell(_edits(line)),
        ))  # fmt: skip
    heads = (
        "cell",
        *evidence.settings,
        "n",
        "right %",
        "points over random",
        "rank p (as good)",
        "points to unsteered",
        "tokens",
        "‖Δ‖/‖h‖, its random",
    )
    note = "Cells are described, not tested: points over random are over items and directions; rank p is a cell's own, one-sided."
    verdict = "Whether the best cell is real, the report of the sweep's test run says."
    parts = [item_means(evidence, "correct", split) for split in evidence.comparable.manifest.splits]
    base, *cells = (
        np.concatenate([part[name] for part in parts])
        for name in (evidence.manifest.baseline.name, *evidence.cells["cell"])
    )
    best = sweep_winner(base, cells)
    luck = f"Against {evidence.manifest.baseline.label}, largest of all: {evidence.cells['cell'].iloc[best.cell]}. {best.note}"
    return Table(f"Cells: {len(rows)}, best first", heads, tuple(rows), (note, verdict, luck))


def _verdict(evidence: Evidence) -> Table:
    """Whether the sweep's winner is real, with both of its p-values."""
    from ..sweeps.verdict import of_test

    found = of_test(evidence.run)
    word = {True: "real", False: "not called real", None: "not tested"}[found.real]
    choice = found.choice.p if found.choice else None
    alone = found.against.rank_p if found.against else None
    row = (Cell(found.cell or DASH), Cell(word), Cell(p_text(choice)), Cell(p_text(alone)), Cell(str(found.directions)))
    heads = ("cell", "verdict", "p of the choice", "rank p on these problems", "random directions")
    return Table("Is the sweep's winner real?", heads, (row,), (found.sentence,))


def _edits(line: dict[str, Any]) -> str:
    if not defined(line["edit"]):
        return DASH
    theirs = f", {line['control_edit']:.2f}" if defined(line.get("control_edit")) else ""
    return f"{line['edit']:.2f}{theirs}" + ("" if line.get("matched", True) else " (not matched)")


def _targets(evidence: Evidence) -> Table:
    from ..studies.effects import effects

    frame = effects(evidence.comparable)
    rows = []
    for line in frame[frame["kind"] == "target"].to_dict("records"):
        rows.append((
            Cell(str(line["latents"])), Cell(str(line["operation"])), Cell(str(line["scope"])), Cell(str(line["split"])),
            Cell(str(line["n"])), Cell(with_interval(line, "difference", "low", "high")), Cell(p_text(line["p_holm"])),
            Cell(with_interval(line, "against", "against_low", "against_high")),
            Cell(with_interval(line, "against_direction", "against_direction_low", "against_direction_high")),
            Cell(with_interval(line, "tokens", "tokens_low", "tokens_high", 1)),
        ))  # fmt: skip
    first = ("latents", "operation", "scope", "split", "n", "points to unsteered", "p (Holm)")
    heads = (*first, "points to matched latents", "points to random directions", "tokens to unsteered")
    return Table("Targets of the ablation", heads, tuple(rows))


def _controllers(evidence: Evidence) -> Table:
    from ..studies.hybrid.report import hybrid_frame

    rows = []
    for line in hybrid_frame(evidence.comparable).to_dict("records"):
        if defined(line.get("steered")):
            numbers = [
                ("steered", 100, ".1f"),
                ("matched", 100, ".0f"),
                ("alpha", 1, ".2f"),
                ("size", 1, ".3f"),
                ("readings", 1, ".2f"),
            ]
            cells = [
                Cell(format(k * line[name], form) if defined(line.get(name)) else DASH) for name, k, form in numbers
            ]
            against = with_interval(line, "against", "against_low", "against_high")
            rows.append((Cell(str(line["label"])), Cell(line["split"]), Cell(str(line["n"])), Cell(against), *cells))
    heads = (
        "arm",
        "split",
        "n",
        "points to the hybrid",
        "tokens steered %",
        "matched %",
        "coefficient",
        "‖shift‖/‖h‖",
        "readings/token",
    )
    return Table("What the controllers did", heads, tuple(rows))


def sentences(evidence: Evidence, split: str) -> list[tuple[str, str, str]]:
    """Role, label and sentence of every arm but the controls, as the app and the terminal say it."""
    arms = [arm for arm in evidence.summary.split(split).arms if arm.role != "control"]
    return [(arm.role, arm.label, f"{sentence(arm)} {gap_words(arm.gap)}".strip()) for arm in arms]
