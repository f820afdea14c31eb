"""Semantics against symbols (2305.14825): what are the familiar symbols of a question worth, and does an elicitor make it less?

1. Every question is asked beside its twins, which have the same structure: of the built-in task renamed, permuted and in operands that
   training does not have (`tasks.twins`), elsewhere in other words that the user names (`tasks.rewording`). Right answers are as exact.
2. An arm's gap is paired by question, and so is its difference from the base's. An arm at the level of guessing has no gap to speak of.
3. Another draw of the renaming is the control: what rewording alone changes. The steered arm's gap is ranked among those of random
   directions in its vector's place.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from steering.errors import BadInput

from ...statistics import Floats
from ...store.runs import Arm
from ...tasks.twins import TwinFindStart, trained_chains
from .asked import Elicit, Setting
from .card import Card
from .findings import Line, Point, Table, filled
from .gaps import Gap, gap_between, marks_of, other_gap, rank_of, verdict, why_not
from .points import DIFFERENCES, difference_said, points_of
from .steered import Steered, SteeredOptions, steered_by
from .variants import Variant, absent_words, frequent_words, guessing_of, variants
from .workroom import Workroom

TRACES, DRAW = "whole trace right %, question, twin", "first draw minus this one"
UNSAID = {
    TRACES: "Whether whole traces are right is verified in the built-in task alone.",
    DRAW: "There is no other draw of these twins to compare with: words can be given to each other from two of them on.",
}
"""What is said of columns that are left out, because no line has them."""
Marked = dict[str, dict[str, dict[str, float]]]
"""By what was asked, by arm, by question."""
OWN = "the questions"


class SymbolsOptions(SteeredOptions):
    words: dict[str, str] = Field(default_factory=dict)
    """Of a data set: words of its questions, and those in their place."""

    @field_validator("words", mode="before")
    @classmethod
    def _pairs(cls, data: Any) -> Any:
        wanted = "give old words with new ones, a blank behind each colon: {apples: blickets, red: wug}"
        if not isinstance(data, dict):
            raise ValueError(f"{data!r} maps no words to others; {wanted}")
        for old, new in data.items():
            if new is None:
                raise ValueError(f"{old!r} has no new word; {wanted}")
            if not (isinstance(old, str) and isinstance(new, str)):
                raise ValueError(
                    f"{old!r}: {new!r} is no pair of words, for what stands without quotes is read as a number, a truth, a list or a map; "
                    f"{wanted}, in quotes what looks like one: {{'2': '5'}}"
                )
        return data


def refuse(asked: Elicit, options: SymbolsOptions) -> None:
    for variant in variants(asked, options.words):
        for setting in asked.settings:
            among = variant.among(asked.found, setting.split, options.n)
            if among:
                variant.task.items(setting.split, among)
            elif not asked.builtin:
                often = ", ".join(frequent_words(asked.found, setting.split, options.n))
                raise BadInput(
                    f"card symbols: words: none of the first {options.n} questions of {setting.split} has one of the words "
                    f"{', '.join(options.words)}; give words that stand there{f', such as {often}' if often else ''}, or more questions, "
                    "--set n=N."
                )


def run(room: Workroom, options: SymbolsOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    tables, said = [], []
    steered = steered_by(room, options)
    for setting in room.asked.settings:
        arms = room.references(setting) + ([steered.arm(room, setting)] if steered else [])
        first = room.evaluate("symbols", setting, arms, options.n, steered.vectors if steered else None)
        points += points_of(first, setting)
        own = variants(room.asked, options.words)
        if nowhere := absent_words(room.asked.found, setting.split, options.n, options.words):
            said.append(
                f"{setting.name}: {', '.join(nowhere)}: in none of the first {options.n} questions of {setting.split}, so changed nowhere."
            )
        marked, traced, cut = _marked(room, setting, own, arms, options.n, steered)
        guessing = guessing_of(room.asked.found, setting.split, options.n)
        gaps = {
            variant.name: {arm.name: gap_between(marked[OWN][arm.name], marked[variant.name][arm.name], guessing) for arm in arms}
            for variant in own
        }  # fmt: skip
        tables.append(_gaps(setting, own, arms, gaps, (marked, traced, cut)))
        ranks: dict[str, str] = {}
        if steered:
            count = min(options.n, options.n_directions)
            random = steered.random(room, setting)
            drawn = _marked(room, setting, [one for one in own if one.beside], random, count, steered)[0]
            table, ranks = _among(setting, own, gaps, marked, drawn, guessing)
            tables.append(table)
        else:
            said.append(f"{setting.name}: no vector was named, so no arm is steered; give --set file=FILE.")
        for one in own:
            said.append(_sentence(room, setting, one, arms, gaps[one.name], cut, ranks.get(one.name, ""), options.n))
    return points, tables, said


def _marked(
    room: Workroom, setting: Setting, own: list[Variant], arms: list[Arm], n: int, steered: Steered | None
) -> tuple[Marked, Marked, Marked]:
    """Which questions and twins the arms answer rightly, with a trace that is right in every line, and with a text that was cut."""
    base = room.references(setting)[0]
    given = arms if any(arm.role == "baseline" for arm in arms) else [base, *arms]
    vectors = steered.vectors if steered else None
    found: tuple[Marked, Marked, Marked] = ({}, {}, {})
    columns = ("correct", "trace_ok", "truncated")
    for variant in (None, *own):
        count = n if variant is None else variant.among(room.asked.found, setting.split, n)
        if not count:
            continue
        name = OWN if variant is None else variant.name
        task = None if variant is None else variant.spec
        made = room.evaluate("symbols", setting, given, count, vectors, what=name, task=task)
        for marked, column in zip(found, columns, strict=True):
            marked[name] = marks_of(made, setting.split, column)
    for marked in found:
        for variant in own:
            marked.setdefault(variant.name, {arm.name: {} for arm in given})
    return found


def _ended(cut: Marked, arm: str, variant: Variant, gap: Gap) -> list[int]:
    """How many texts of an arm end at the token limit: on the questions, and on their twins."""
    return [int(sum(cut[name][arm][item] for item in gap.items)) for name in (OWN, variant.name)]


def _cut_said(ends: list[int], gap: Gap) -> str:
    if not any(ends):
        return ""
    return f", cut at the limit {ends[0]} of its {len(gap.items)} texts on questions and {ends[1]} of those on twins"


def _share(values: Floats | list[float]) -> str | None:
    return f"{100 * sum(values) / len(values):.1f}" if len(values) else None


def _gaps(
    setting: Setting, own: list[Variant], arms: list[Arm], gaps: dict[str, dict[str, Gap | None]], told: tuple[Marked, Marked, Marked]
) -> Table:  # fmt: skip
    marked, traced, cut = told
    lines: list[Line] = []
    for variant in own:
        base = gaps[variant.name]["base"]
        for arm in arms:
            gap = gaps[variant.name][arm.name]
            if gap is None or base is None:
                lines.append((variant.name, arm.label, 0, *(None,) * 7))
                continue
            whole = [
                _share([traced[name][arm.name][item] for item in gap.items if item in traced[name][arm.name]])
                for name in (OWN, variant.name)
            ]
            ends = _ended(cut, arm.name, variant, gap)
            change = _compared(base, gap, arm.name == "base")
            drawn = gap_between(marked[variant.again][arm.name], marked[variant.name][arm.name], {}) if variant.again else None  # fmt: skip
            lines.append(
                (
                    variant.name, arm.label, len(gap.items), _share(gap.own), _share(gap.twin), difference_said(gap.found), change,
                    None if whole[0] is None else f"{whole[0]}, {whole[1]}", f"{ends[0]}, {ends[1]}", None if drawn is None else drawn.said,
                )
            )  # fmt: skip
    heads, filled_ = filled(
        (
            *(
                "twins",
                "arm",
                "n",
                "question right %",
                "twin right %",
                "gap (95 %; p)",
                "minus the base's gap (95 %; p)",
            ),
            *(TRACES, "cut, question, twin", DRAW),
        ),
        lines,
    )
    missing = [words for head, words in UNSAID.items() if head not in heads]
    return Table(
        title=f"{setting.name}: the questions against the same in other symbols",
        heads=heads,
        lines=filled_,
        notes=(
            "Gap: questions minus twins, paired. Minus the base's: does the arm need the familiar symbols less? Where one of the "
            "two is not detectably above guessing, that is not asked. A trace is right in every "
            "line where it applies the rules as they are written.",
            DIFFERENCES,
            *missing,
        ),
    )  # fmt: skip


def _compared(base: Gap, gap: Gap, own: bool) -> str | None:
    """An arm's gap minus the base's; of the base itself, and where one of the two guesses, what the sentence says."""
    if own:
        return "none to compare with: it guesses" if base.guesses else None
    why = why_not(base, gap)
    return f"none: {why}" if why else difference_said(other_gap(base, gap))


def _among(
    setting: Setting, own: list[Variant], gaps: dict[str, dict[str, Gap | None]], marked: Marked, drawn: Marked,
    guessing: dict[str, float],
) -> tuple[Table, dict[str, str]]:  # fmt: skip
    """The steered arm's gap among those of random directions, and its rank in words by variant."""
    lines: list[Line] = []
    ranks: dict[str, str] = {}
    for variant in (one for one in own if one.beside):
        names = [name for name in drawn[OWN] if name.startswith("random-")]
        others = [gap_between(drawn[OWN][name], drawn[variant.name][name], guessing) for name in names]
        whole = [gap for gap in others if gap is not None]
        if not whole or gaps[variant.name]["steered"] is None:
            lines.append((variant.name, 0, *(None,) * 6, "none: no question"))
            ranks[variant.name] = "; no question that the random directions answer has such a twin"
            continue
        items = whole[0].items
        arm, base = (
            gap_between({item: marked[OWN][name][item] for item in items}, marked[variant.name][name], guessing)
            for name in ("steered", "base")
        )
        assert arm is not None and base is not None
        rank, words = rank_of(arm, whole)
        levels, theirs = [gap.own.mean() for gap in whole], [gap.each.mean() for gap in whole]
        lines.append(
            (
                variant.name, len(items), _share(base.own), _share(arm.own), f"{100 * arm.each.mean():+.1f}", len(whole),
                f"{100 * sum(theirs) / len(theirs):+.1f} ({100 * min(theirs):+.1f} to {100 * max(theirs):+.1f}); right on the questions "
                f"{100 * sum(levels) / len(levels):.1f} % ({100 * min(levels):.1f} to {100 * max(levels):.1f})",
                sum(gap.guesses for gap in whole), rank,
            )
        )  # fmt: skip
        ranks[variant.name] = f"; {words}"
    table = Table(
        title=f"{setting.name}: the steered arm's gap among random directions",
        heads=("twins", "n", "base right %", "steered right %", "its gap", "random ones", "their gaps (range)", "guess", "rank p, as low"),
        lines=tuple(lines),
        notes=(
            "One-sided: how many random directions of the same length have a gap as low. One that makes everything wrong has none. No rank "
            "is stated where the steered arm guesses, or most random ones do.",
        ),
    )  # fmt: skip
    return table, ranks


def _sentence(
    room: Workroom, setting: Setting, variant: Variant, arms: list[Arm], gaps: dict[str, Gap | None], cut: Marked, ranks: str,
    n: int,
) -> str:  # fmt: skip
    base = gaps["base"]
    if base is None:
        return f"{setting.name}: {variant.name}: no question has such a twin."
    first = f"{arms[0].label} {base.said}{_cut_said(_ended(cut, arms[0].name, variant, base), base)}"
    words = [first + (", at the level of guessing: no gap to compare with" if base.guesses else "")]
    for arm in arms[1:]:
        gap = gaps[arm.name]
        if gap is not None:
            rank = ranks if arm.name == "steered" else ""
            ends = _cut_said(_ended(cut, arm.name, variant, gap), gap)
            words.append(f"{arm.label} {gap.said}{ends}{'' if base.guesses else f': {verdict(base, gap)}'}{rank}")
    task, what = variant.task, ""
    among = variant.among(room.asked.found, setting.split, n)
    if isinstance(task, TwinFindStart) and task.twin == "renamed":
        chains = trained_chains(task.items(setting.split, among))
        what = f" {chains} of the {among} renamed rule chains lie in the part that training is drawn from."
    if among < n:
        what += f" {among} of the {n} questions have such a twin; the others are left out."
    return f"{setting.name}: gap of {variant.name} (n {len(base.items)}): {'; '.join(words)}.{what}"


CARD = Card(
    name="symbols",
    title="Semantics against symbols",
    systems=("S16",),
    papers=("2305.14825",),
    measures="accuracy on questions minus that on twins of the same structure in other symbols, and whether an elicitor lowers the gap",
    control="another draw of the renaming; the same candidates in another order; random directions in the steered vector's place",
    quick=SymbolsOptions(n=60),
    full=SymbolsOptions(n=400, n_choice=48, n_directions=100),
    run=run,
    refuse=refuse,
    version=2,
)
