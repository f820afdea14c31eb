"""Every elicitor of a store in one table: what it recovers, with its interval, and what it costs to train and to use.

1. A line is an arm of a stored card, or a training of several seeds: seeds are averaged within a question, and their range stands beside
   the mean. Numbers are read from the runs' rows anew; the cost of a training is that of its card's table.
2. Lines that hold the same rows (a training that cards share) are one. Cards ask different numbers of questions, the first ones of a split,
   so that n stands in every line and two lines of different n are not paired.
3. Lines of one name that hold other rows say what tells them apart: the card's fields, the tokens per text, the card.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from steering.errors import BadInput, unknown

from ...statistics import Floats, GapRecovered, PairedDifference, paired_difference
from ...store.runs import Store, StoreError
from ..elicitation.audit_verdict import corrects
from ..elicitation.findings import Findings, Point, Table
from ..elicitation.points import between
from .reinforced_tables import BUDGET, as_often, gap_of, gap_said

_SEED = re.compile(r", seed \d+$")
ROLES = ("baseline", "prompt", "steered", "control", "reference")


@dataclass(frozen=True, eq=False)
class Elicitor:
    """One line. Shares in [0, 1]."""

    label: str
    role: str
    cards: tuple[str, ...]
    n: int
    seeds: tuple[float, ...]
    """Share of right answers by seed."""
    difference: PairedDifference | None
    """Against the greedy base on the same questions; None for the base itself."""
    gap: GapRecovered | None
    tokens: float
    """Generated per question."""
    generated: int | None = None
    """While training, mean over seeds; None where nothing was trained."""
    trained: int | None = None
    facts: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """How the card was asked, by name: what tells lines of one label apart."""
    rows: tuple[bytes, ...] = field(default=(), repr=False)
    """The verdicts by seed: what tells equal lines."""

    @property
    def right(self) -> float:
        return float(np.mean(self.seeds))


def settings_of(found: Sequence[Findings]) -> list[str]:
    """Names of the settings that the cards were asked in, in order of appearance."""
    return list(dict.fromkeys(point.setting for one in found for point in one.points))


def elicitors(store: Store, found: Sequence[Findings], setting: str, roles: Sequence[str] = ROLES) -> list[Elicitor]:
    """The lines of a setting: base, prompts, elicitors and controls in the order of the cards, thinking model last.

    Raises BadInput for a store without findings, an unknown setting, findings of several pairs or tasks, and StoreError for rows that
    cannot be read.
    """
    if not found:
        raise BadInput(
            f"{store.root} holds no findings of cards; `steer elicit CARD` and `steer train CARD` make them."
        )
    if setting not in settings_of(found):
        raise unknown("setting", setting, settings_of(found))
    asked = {(one.pair, tuple(sorted(one.models.items())), one.task) for one in found}
    if len(asked) > 1:
        named = sorted({f"--pair {','.join(filter(None, one.pair))} --task {one.task}" for one in found})
        raise BadInput(
            f"{store.root} holds findings of several pairs, tasks or weights, which are not one table; name one of {'; '.join(named)}."
        )
    lines: list[Elicitor] = []
    for one in found:
        for group in _groups(one, setting):
            if (line := _line(store, one, group, setting)).role in roles:
                lines = _merged(lines, line)
    order = {"baseline": 0, "prompt": 1, "reference": 3}
    return _told_apart(sorted(lines, key=lambda line: order.get(line.role, 2)))


def _told_apart(lines: list[Elicitor]) -> list[Elicitor]:
    """Labels that several lines have, each with the facts in which these differ; n and the number of seeds have columns of their own."""
    named: dict[tuple[str, int, int], list[Elicitor]] = {}
    for line in lines:
        named.setdefault((line.label, line.n, len(line.seeds)), []).append(line)
    told: dict[int, str] = {}
    for same in named.values():
        facts = [dict(line.facts) for line in same]
        keys = [key for key in facts[0] if len({fact.get(key) for fact in facts}) > 1]
        for line, fact in zip(same, facts, strict=True):
            if len(same) > 1 and keys:
                told[id(line)] = f"{line.label} ({', '.join(f'{key} {fact[key]}' for key in keys if key in fact)})"
    return [replace(line, label=told.get(id(line), line.label)) for line in lines]


def _groups(one: Findings, setting: str) -> list[list[Point]]:
    """Points of a card by label without the seed, in order."""
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in one.points:
        if point.setting == setting:
            groups.setdefault((_SEED.sub("", point.label), point.run), []).append(point)
    return list(groups.values())


def _line(store: Store, one: Findings, group: Sequence[Point], setting: str) -> Elicitor:
    first = group[0]
    try:
        right = corrects(store.open(first.run), first.split)
        values: Floats = np.stack([right[point.arm] for point in group], 1)
    except (StoreError, KeyError, StopIteration) as error:
        raise BadInput(
            f"The rows of run {first.run}, which the findings of card {one.card} are of, are not whole ({str(error)[:120]}). Delete that "
            f"run and the card's findings, and run the card again; or leave it out with --card."
        ) from error
    label = _SEED.sub("", first.label)
    baseline = next((p.arm for p in one.points if p.role == "baseline" and p.run == first.run), None)
    baseline = "base" if baseline is None and "base" in right else baseline
    own, gap = None, None
    if baseline is not None and first.role != "baseline":
        base = as_often(right, baseline, values)
        own = paired_difference(base, values)
        gap = gap_of(right, values) if baseline == "base" else None
    generated, trained = _cost(one, setting, label)
    return Elicitor(
        label, first.role, (one.card,), len(values), tuple(float(x) for x in values.mean(0)), own, gap,
        float(np.mean([point.tokens for point in group])), generated, trained, _facts(store, one, first),
        tuple(np.ascontiguousarray(values[:, seed]).tobytes() for seed in range(values.shape[1])),
    )  # fmt: skip


def _facts(store: Store, one: Findings, point: Point) -> tuple[tuple[str, str], ...]:
    """How a card was asked: tokens per text, its fields, its name, the version of its code."""
    own = store.open(point.run).manifest.spec.get("generation", {})
    facts = {"tokens per text": own.get("max_new_tokens")} | {k: v for k, v in one.options.items() if k != "n"}
    facts |= {"card": one.card, "version": one.version}
    return tuple((name, str(value)) for name, value in facts.items())


def _cost(one: Findings, setting: str, label: str) -> tuple[int | None, int | None]:
    """Tokens generated and trained on, by the card's own table."""
    for table in one.tables:
        if table.title == f"{setting}: {BUDGET}":
            for line in table.lines:
                if line[0] == label:
                    generated, trained = line[-2:]
                    return (
                        int(generated) if isinstance(generated, int | float) else None,
                        int(trained) if isinstance(trained, int | float) else None,
                    )
    return None, None


def _merged(lines: list[Elicitor], line: Elicitor) -> list[Elicitor]:
    """With a line, or with its card beside the line that holds the same rows under the same name."""
    for place, other in enumerate(lines):
        if (other.label, other.rows, other.tokens) == (line.label, line.rows, line.tokens):
            both = replace(other, cards=tuple(dict.fromkeys((*other.cards, *line.cards))))
            return [*lines[:place], both, *lines[place + 1 :]]
    return [*lines, line]


def overview_table(lines: Sequence[Elicitor], setting: str) -> Table:
    """The lines as a table."""
    shown = []
    for line in lines:
        spread = f" ({100 * min(line.seeds):.1f} to {100 * max(line.seeds):.1f})" if len(line.seeds) > 1 else ""
        own = line.difference
        shown.append(
            (
                line.label, "" if line.role in ("baseline", "reference", "prompt", "steered") else line.role, line.n, len(line.seeds),
                f"{100 * line.right:.1f}{spread}",
                None if own is None else f"{100 * own.difference:+.1f} ({between(own.interval.low, own.interval.high)})",
                gap_said(line.gap), f"{line.tokens:.0f}", line.generated, line.trained, ", ".join(line.cards),
            )
        )  # fmt: skip
    return Table(
        title=f"{setting}: every elicitor of the store",
        heads=(
            "elicitor", "role", "n", "seeds", "right %, mean (range over seeds)", "minus the base (95 %)", "gap recovered (95 %)",
            "tokens per question", "tokens generated in training", "tokens trained on", "cards",
        ),
        lines=tuple(shown),
        notes=(
            "Intervals are over questions, seeds averaged within a question; other seeds are not covered by them. Cards ask the first n "
            "questions of the split: lines of different n are not paired. Nothing is corrected for the number of lines.",
        ),
    )  # fmt: skip


def overview_records(lines: Sequence[Elicitor], setting: str) -> list[dict[str, Any]]:
    """The lines as numbers, for a program: shares, differences and their bounds in [0, 1] and unrounded, None where there is none."""
    records: list[dict[str, Any]] = []
    for line in lines:
        own, gap = line.difference, line.gap
        records.append(
            {
                "setting": setting, "elicitor": line.label, "role": line.role, "cards": list(line.cards), "n": line.n,
                "right": line.right, "right_by_seed": list(line.seeds),
                "over_base": None if own is None else own.difference,
                "over_base_low": None if own is None else own.interval.low,
                "over_base_high": None if own is None else own.interval.high,
                "gap_recovered": None if gap is None else gap.value,
                "gap_recovered_low": None if gap is None or gap.interval is None else gap.interval.low,
                "gap_recovered_high": None if gap is None or gap.interval is None else gap.interval.high,
                "tokens_per_question": line.tokens, "tokens_generated": line.generated, "tokens_trained": line.trained,
            }
        )  # fmt: skip
    return records
