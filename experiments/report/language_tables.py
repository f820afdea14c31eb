"""Tables, texts and sentences of the language study's page. Nothing is computed here but what is read off summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..evaluation.crowds import with_crowds
from ..evaluation.summary import ArmSummary, SplitSummary, from_json
from ..store.runs import Run
from ..studies.language.directions import Direction
from ..studies.language.grader_error import UNTOLD
from ..studies.language.run import Finding
from ..sweeps.cells import random_name
from .tables import DASH, Cell, Table, percent, with_interval

SHOWN = 3
"""Prompts whose texts are shown, of either run."""
MORE_REPEATED = 0.1
"""Share of repeated 3-grams beyond that of unsteered texts from which on damage is pointed out."""
LESS_LIKELY = 0.5
"""Nats per token below the text that the request in words gives from which on damage is pointed out."""


@dataclass(frozen=True)
class Written:
    """What arms wrote for one prompt: (label, text)."""

    title: str
    prompt: str
    texts: tuple[tuple[str, str], ...]


def test_split(finding: Finding) -> SplitSummary:
    """The summary of the test run."""
    data = finding.test.summary()
    assert data is not None  # run_evaluation seals a run with its summary
    return from_json(data).split("test")


def shown(finding: Finding) -> str:
    """What the run shows of a direction, and what of it may be damage, in words."""
    split, cell, verdict = test_split(finding), finding.sweep.winner.name, finding.sweep.verdict
    own, base, asked = split.arm(cell), split.arm(finding.test.manifest.baseline.name), split.arm("prompted")
    right = finding.direction.graded
    said = f"{right[0].upper()}{right[1:]} in {_share(own)} with the direction and {_share(base)} without, on {own.items} prompts."
    if own.beyond is not None:
        said += f" With {own.beyond.count} random directions it is {percent(own.beyond.low)} to {percent(own.beyond.high)} %."
    said += f" Asked for it in words, the model does it in {_share(asked)}."
    if verdict.real:
        head = "The direction does what it is named after, more than random directions of its size do."
    else:
        head = "This run shows no effect of the direction beyond that of random ones."
    return f"{head} {said} {_cost(finding)}"


def _cost(finding: Finding) -> str:
    costs = finding.damage[finding.test.manifest.run_id]
    own, base, asked = (costs[n] for n in (finding.sweep.winner.name, finding.test.manifest.baseline.name, "prompted"))
    said = (
        f"What it costs: {percent(own['repeated'])} % of 3-grams are repeated (unsteered {percent(base['repeated'])} %), and to the "
        f"unsteered model a token has log-probability {_nats(own)} (its own text {_nats(base)}, text written on request {_nats(asked)})."
    )
    notes = []
    if own["repeated"] > base["repeated"] + MORE_REPEATED:
        likewise = ", as those written on request do" if asked["repeated"] > own["repeated"] - MORE_REPEATED / 2 else ""
        notes.append(f"the steered texts repeat themselves more than unsteered ones{likewise}")
    if None not in (own["logprob"], asked["logprob"]) and own["logprob"] < asked["logprob"] - LESS_LIKELY:
        notes.append("they are less likely than text written on request")
    return said + (f" Part of the effect may be damage: {'; '.join(notes)}." if notes else "")


def _nats(cost: Mapping[str, Any]) -> str:
    return DASH if cost["logprob"] is None else f"{cost['logprob']:.2f}"


def _share(arm: ArmSummary, unit: str = " %") -> str:
    share = arm.accuracy
    if share is None:
        return DASH
    return f"{percent(share.value)}{unit} ({percent(share.interval.low)} to {percent(share.interval.high)})"


def overview(findings: Sequence[Finding]) -> Table:
    """One line per direction: the chosen cell on test prompts."""
    rows = []
    for finding in findings:
        split = test_split(finding)
        own, base = split.arm(finding.sweep.winner.name), split.arm(finding.test.manifest.baseline.name)
        beyond, real = own.beyond, finding.sweep.verdict.real
        said = "not told" if real is None else "real" if real else "not called real"
        drawn = f"{percent(beyond.mean)} ({percent(beyond.low)} to {percent(beyond.high)})" if beyond else DASH
        as_good = f"{beyond.as_good} of {beyond.count}" if beyond else DASH
        shares = [_share(arm, "") for arm in (base, own, split.arm("prompted"))]
        first = Cell(finding.direction.title, role="steered")
        rows.append((first, *_cells(finding.sweep.winner.label, own.items, *shares, drawn, as_good, said)))
    columns = (
        *("direction", "cell", "n", "unsteered %", "steered %", "asked in words %"),
        *("random %: mean, extremes", "random as good", "verdict"),
    )
    note = "Shares of texts that are what the direction is named after, with 95 % intervals (Wilson). Unscorable texts count as not."
    return Table("The chosen cell on test prompts", columns, tuple(rows), (note,))


def _cells(*values: object) -> tuple[Cell, ...]:
    return tuple(Cell(str(value)) for value in values)


def quality_table(finding: Finding) -> Table:
    """The vectors, one line per layer."""
    rows, notes = [], []
    for layer, found in finding.quality.items():
        half, auc = found["split_half"], found["separability"]["auc"]
        accuracy = found["separability"]["accuracy"]
        measured = [
            f"{half['mean']:.2f} ({half['low']:.2f} to {half['high']:.2f})",
            f"{auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})",
        ]
        rows.append(
            _cells(
                *(found["site"], f"{found['norm']:.1f}", f"{found['norm_ratio']:.2f}", *measured),
                *(f"{accuracy['value']:.2f}", f"{found['token_accuracy']:.2f}"),
            )
        )
        notes += [f"Layer {layer}: {remark}." for remark in found["remarks"]]
    columns = (
        "site",
        "norm",
        "norm / stream",
        "split-half cosine",
        "held-out AUC",
        "held-out accuracy",
        "by the token ids alone",
    )
    return Table("The vectors, measured on held-out pairs", columns, tuple(rows), tuple(notes))


def grader_words(direction: Direction) -> str:
    """A grader with everything that its verdicts depend on."""
    facts = direction.grading().facts
    options = {k: ", ".join(map(str, v)) if isinstance(v, list) else v for k, v in facts.items()}
    said = "; ".join(f"{k} {v}" for k, v in options.items() if k not in ("grader", "version", "lenient"))
    return f"the grader {facts['grader']!r} ({said}; docs/datasets.md)"


def error_table(finding: Finding) -> Table:
    """What the grader calls the sentences of each class."""
    answers = [one.label for one in finding.error]
    rows = []
    for one in finding.error:
        low, high = one.interval.low, one.interval.high
        counts = [one.said.get(name, 0) for name in (*answers, UNTOLD)]
        rows.append(
            _cells(one.label, one.n, *counts, f"{percent(one.wrong / one.n)} ({percent(low)} to {percent(high)})")
        )
    return Table(
        "The grader's error on labelled sentences that it has not seen",
        ("class", "n", *answers, UNTOLD, "called something else %"),
        tuple(rows),
        ("Sentences of this project, short and clean; intervals: Wilson, 95 %.",),
    )


def cell_table(finding: Finding) -> Table:
    """The cells on development prompts, with what each costs."""
    costs = finding.damage[finding.development.manifest.run_id]
    base = costs[finding.development.manifest.baseline.name]
    rows = []
    for line in finding.sweep.table.to_dict("records"):
        cost, drawn = costs[line["cell"]], line.get("directions")
        differences = [
            with_interval(line, "difference", "low", "high"),
            with_interval(line, "over_control", "over_control_low", "over_control_high"),
        ]
        theirs = f"{percent(line['control_low'])} to {percent(line['control_high'])}" if drawn else DASH
        as_good = f"{line['as_good']:.0f} of {drawn:.0f}" if drawn else DASH
        size = f"{line['edit']:.2f}"
        shown = _cells(
            percent(line["accuracy"]), *differences, theirs, as_good, size, percent(cost["repeated"]), _nats(cost)
        )
        rows.append((Cell(f"layer {line['layer']}, dose {line['dose']:g}", role="steered"), *shown))
    lines = finding.sweep.table
    columns = (
        *("cell", "right %", "points over unsteered", "points over random", "random %", "random as good"),
        *("‖Δ‖/‖h‖", "repeated %", "log-prob."),
    )
    note = (
        f"Unsteered: {percent(float(lines['unsteered'].iloc[0]))} % right, {percent(base['repeated'])} % repeated, log-probability "
        f"{_nats(base)}. Cells are described, not tested; the best of many looks better than it is."
    )
    return Table(f"Doses on {int(lines['n'].iloc[0])} development prompts", columns, tuple(rows), (note,))


def arm_table(finding: Finding) -> Table:
    """The arms of the test run; many random directions are one line."""
    costs, split = finding.damage[finding.test.manifest.run_id], test_split(finding)
    rows = []
    for arm in with_crowds(split.arms):
        cost = costs.get(arm.name)
        tokens = DASH if arm.mean_tokens is None else f"{arm.mean_tokens:.0f}"
        repeated = percent(cost["repeated"]) if cost else _span(costs, "repeated", percent)
        likely = _nats(cost) if cost else _span(costs, "logprob", _two)
        rows.append(
            (Cell(arm.label, role=arm.role), *_cells(arm.n, _share(arm, ""), arm.unscorable, tokens, repeated, likely))
        )
    note = (
        "A line for many controls has their mean and extremes. Log-probability: nats per token where the unsteered model reads the text "
        "after the plain prompt; of random directions, of a few."
    )
    return Table(
        f"The chosen cell ({finding.sweep.winner.label}) on {split.items} test prompts",
        ("arm", "n", "right %", "unscorable", "tokens", "repeated %", "log-prob."),
        tuple(rows),
        (note,),
    )


def _two(value: float) -> str:
    return f"{value:.2f}"


def _span(costs: Mapping[str, Mapping[str, Any]], name: str, written: Any) -> str:
    """Extremes over random directions."""
    found = [c[name] for arm, c in costs.items() if "-random-" in arm and c[name] is not None]
    return f"{written(min(found))} to {written(max(found))}" if found else DASH


def examples(finding: Finding) -> list[Written]:
    """Texts of a few prompts: every dose of the chosen layer on development prompts, the chosen one on test prompts."""
    winner = finding.sweep.winner
    layer = winner.settings["layer"]
    cells = [line for line in finding.sweep.table.to_dict("records") if line["layer"] == layer]
    drawn = random_name(winner, 0)
    development = {
        finding.development.manifest.baseline.name: "unsteered",
        **{str(line["cell"]): f"dose {line['dose']:g}" for line in cells},
        drawn: f"a random direction at dose {float(winner.settings['dose']):g}",
    }
    tested = {
        finding.test.manifest.baseline.name: "unsteered",
        winner.name: f"steered, {winner.label}",
        "prompted": "asked for it in words",
    }
    return [
        *_texts(finding.development, development, "Development prompt"),
        *_texts(finding.test, tested, "Test prompt"),
    ]


def _texts(run: Run, labels: Mapping[str, str], head: str) -> list[Written]:
    columns = ["arm", "item", "order", "prompt", "text"]
    rows = run.table(columns=columns, arms=list(labels)).to_pylist()
    base = sorted((r for r in rows if r["arm"] == run.manifest.baseline.name), key=lambda r: r["order"])
    found = []
    for number, first in enumerate(base[:SHOWN], 1):
        own = {r["arm"]: r["text"] for r in rows if r["item"] == first["item"]}
        texts = tuple((label, str(own[arm])) for arm, label in labels.items() if arm in own)
        found.append(Written(f"{head} {number}", str(first["prompt"]), texts))
    return found


def probe_table(findings: Sequence[Finding]) -> Table:
    """The probes beside their controls."""
    rows = []
    for finding in findings:
        found = finding.probe
        if found is None:
            continue
        own = found["auroc"], found["selectivity"]["other"], found["tokens"]["other"], found["balanced_accuracy"]
        rows.append(
            _cells(" against ".join(reversed(found["classes"])), found["site"], found["n"], *map(_measured, own))
        )
    columns = ("probe", "site", "held-out sentences", "AUROC", "shuffled labels", "token ids alone", "accuracy")
    return Table("Probes on held-out sentences", columns, tuple(rows), ("Intervals over sentences, 95 %.",))


def _measured(value: Mapping[str, float]) -> str:
    return f"{value['value']:.2f} ({value['low']:.2f} to {value['high']:.2f})"
