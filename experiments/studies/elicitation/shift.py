"""Level or slope (S32): does an elicitor lift success everywhere, or does it make success fall less steeply with difficulty?

1. Success is fitted by logistic regression on axes of difficulty (`axes`), per arm: the level at a reference question, a slope per axis.
   All interactions of arms and axes in one model are the differences of these fits; their intervals resample questions, each with all
   arms.
2. An arm that is all right or all wrong has no slope, and none is stated where a combination of axes tells right from wrong.
3. Slopes stand beside those after the axes were permuted among the questions, the steered arm's changes among those of random directions.
4. In the built-in task whole traces stand beside the product of their steps (`chains`).
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from scipy.special import expit

from steering.errors import BadInput

from ...statistics import Floats, wilson
from ...statistics.slopes import around, slopes_of, varies
from ...store.runs import Arm, Run
from ...tasks.findstart import FindStart
from ...tasks.items import Item
from ...tasks.task import resolve_task
from ...tasks.twins import TwinFindStart
from .asked import Elicit, Setting
from .axes import PLACES, axes_of, place_of, table_of, wide
from .card import Card
from .chains import chains_of, product_law
from .findings import Line, Point, Table, filled
from .gaps import marks_of
from .points import p_said, points_of
from .shift_ranks import guessing_said, ranked_changes
from .shifted import OWN, Shifted, change_of, number, shifted, verdict
from .steered import Steered, SteeredOptions, steered_by
from .variants import guessing_of
from .workroom import Workroom

TWINS = {"renamed": "renamed", "unseen operands": "unseen"}


class ShiftOptions(SteeredOptions):
    twins: bool = True
    """Ask the built-in task's problems in other symbols too: two more axes."""
    resamples: int = Field(default=200, ge=20)
    """Of the bootstrap over questions."""
    permutations: int = Field(default=200, ge=19)
    """Of the test of the slope."""


def refuse(asked: Elicit, options: ShiftOptions) -> None:
    for setting in asked.settings:
        place, task = _wide(asked, setting)
        items, variants = task.items(place.split, options.n), list(_variants(asked, task, options))
        axes = axes_of(task, items, variants)
        if not varies(table_of(axes, [(item, variant) for item in items for variant in variants])):
            twins = (
                ", or ask them in other symbols too, --set twins=true" if asked.builtin and not options.twins else ""
            )
            raise BadInput(
                f"card shift: none of the axes {', '.join(axis.name for axis in axes)} varies among the first {options.n} questions of "
                f"{place.split}, so there is no slope; give more questions, --set n=N, or others that differ in these axes{twins}."
            )


def _wide(asked: Elicit, setting: Setting) -> tuple[Setting, Any]:
    """The setting and the task that are asked: of the built-in task all difficulties."""
    spec, split = wide(asked.found)
    return (setting.model_copy(update={"split": split}), resolve_task(spec)) if spec else (setting, asked.found)


def _variants(asked: Elicit, task: Any, options: ShiftOptions) -> dict[str, str | dict[str, Any]]:
    """What is asked, by variant: the task itself, and its twins where it has any."""
    own: dict[str, str | dict[str, Any]] = {OWN: task.name if wide(asked.found)[0] else asked.task}
    if options.twins and isinstance(task, FindStart) and not isinstance(task, TwinFindStart):
        own |= {name: TwinFindStart(task.rules, task.candidates, twin).name for name, twin in TWINS.items()}
    return own


def run(room: Workroom, options: ShiftOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    tables, said = [], []
    steered = steered_by(room, options)
    for given in room.asked.settings:
        setting, task = _wide(room.asked, given)
        variants = _variants(room.asked, task, options)
        arms = room.references(setting) + ([steered.arm(room, setting)] if steered else [])
        items = {item.id: item for item in task.items(setting.split, options.n)}
        runs = {name: _asked(room, setting, arms, options.n, spec, name, steered) for name, spec in variants.items()}
        points += points_of(runs[OWN], setting)
        axes = axes_of(task, list(items.values()), list(variants))
        found = shifted(axes, items, {name: marks_of(one, setting.split) for name, one in runs.items()})
        drawn = found.resampled(options.resamples)
        guessing = guessing_of(task, setting.split, options.n)
        guessers = {arm.name: found.guesses(arm.name, guessing, _lowest(drawn.get(arm.name))) for arm in arms}
        if room.asked.builtin:
            tables.append(_observed(setting, arms, runs[OWN], items))
        tables.append(_levels(room, setting, arms, found, drawn, items, options, guessers))
        if len(arms) > 1:
            tables.append(_changes(setting, arms, found, drawn, guessers))
        said += _sentences(setting, arms, found, drawn, marks_of(runs[OWN], setting.split, "truncated"), guessers)
        if steered:
            count = min(options.n, options.n_directions)
            random = steered.random(room, setting)
            beside = _asked(
                room, setting, [*arms[:1], arms[-1], *random], count, variants[OWN], "random directions", steered
            )
            few = {item.id: item for item in task.items(setting.split, count)}
            own = axes_of(task, list(few.values()), [OWN])
            table, sentence = ranked_changes(
                setting, shifted(own, few, {OWN: marks_of(beside, setting.split)}), guessers["base"]
            )
            tables += [table] if table.lines else []
            said.append(sentence)
        else:
            said.append(f"{setting.name}: no vector was named, so no arm is steered; give --set file=FILE.")
        if room.asked.builtin:
            traces = {arm.name: chains_of(runs[OWN], setting.split, items, arm.name) for arm in arms}
            table, sentences = product_law(setting.name, arms, traces)
            tables.append(table)
            said += sentences
    return points, tables, said


def _lowest(drawn: Floats | None) -> float:
    """The lower end of an arm's resampled level; none where nothing was fitted."""
    return float("-inf") if drawn is None else around(drawn[:, 0]).low


def _asked(
    room: Workroom, setting: Setting, arms: list[Arm], n: int, spec: str | dict[str, Any], what: str, steered: Steered | None
) -> Run:  # fmt: skip
    return room.evaluate("shift", setting, arms, n, steered.vectors if steered else None, what=what, task=spec)


def _observed(setting: Setting, arms: list[Arm], made: Run, items: dict[str, Item]) -> Table:
    marks, lines = marks_of(made, setting.split), list[Line]()
    for arm in arms:
        cells: list[str | None] = []
        for place in PLACES:
            own = [marks[arm.name][item] for item in items if place_of(items[item].data) == place]
            around_ = wilson(int(sum(own)), len(own)) if own else None
            share = f"{100 * sum(own) / len(own):.1f}" if own else ""
            cells.append(
                f"{share} ({100 * around_.low:.1f} to {100 * around_.high:.1f}; n {len(own)})" if around_ else None
            )
        lines.append((arm.label, *cells))
    return Table(
        title=f"{setting.name}: right within what training has, and beyond", heads=("arm", *(f"{place} %" for place in PLACES)),
        lines=tuple(lines), notes=("The questions in their own symbols. Training has 2 to 5 rules and 3 to 8 candidates.",),
    )  # fmt: skip


def _levels(
    room: Workroom, setting: Setting, arms: list[Arm], found: Shifted, drawn: dict[str, Floats], items: dict[str, Item],
    options: ShiftOptions, guessers: dict[str, str],
) -> Table:  # fmt: skip
    lines: list[Line] = []
    for arm in arms:
        right, fit = found.rights[arm.name], found.fits[arm.name]
        start: Line = (arm.label, len(right), f"{100 * right.mean():.1f}")
        if fit is None or found.why_not(arm.name):
            lines.append((*start, *(None,) * (1 + len(found.names)), found.why_not(arm.name)))
            continue
        level = around(drawn[arm.name][:, 0])
        ps = found.permutation_ps(arm.name, options.permutations)
        slopes = [
            f"{number(slope, around(drawn[arm.name][:, place]))}; {p_said(p)}"
            for place, (slope, p) in enumerate(zip(fit.slopes, ps, strict=True), 1)
        ]
        reference = f"{100 * fit.share:.1f} ({100 * expit(level.low):.1f} to {100 * expit(level.high):.1f})"
        lines.append(
            (
                *start,
                reference,
                *slopes,
                f"{guessers[arm.name]}: level and slopes say little" if guessers[arm.name] else None,
            )
        )
    if room.asked.builtin and found.names:
        guessed = slopes_of([1 / len(items[item].data.candidates) for item in found.items], found.table)
        if guessed is not None:
            falls = (f"{slope:+.2f}" for slope in guessed.slopes)
            lines.append(("one who guesses", len(found.items), None, f"{100 * guessed.share:.1f}", *falls, None))
    where = "3 rules, 5 candidates and own symbols" if room.asked.builtin else "the questions' mean words and numbers"
    left = f" Without variation, and left out: {', '.join(found.constant)}." if found.constant else ""
    heads, filled_ = filled(
        ("arm", "rows", "right %", "right at the reference %", *(f"slope of {name}, log-odds" for name in found.names), "remark"), lines
    )  # fmt: skip
    return Table(
        title=f"{setting.name}: level and slopes",
        heads=heads,
        lines=filled_,
        notes=(
            f"Reference: {where}.{left}",
            f"The interval (95 %) is that of slopes over {options.resamples} resamples of the questions; p is two-sided, the place of the "
            f"slope among those after {options.permutations} permutations of the axes among the questions. They are different methods, and "
            "near the edge one can leave 0 out where the other does not: a slope is clear where both do.",
            *(() if room.asked.builtin else ("Length and numbers are a proxy of difficulty: long questions need not be hard.",)),
        ),
    )  # fmt: skip


def _changes(
    setting: Setting, arms: list[Arm], found: Shifted, drawn: dict[str, Floats], guessers: dict[str, str]
) -> Table:
    lines: list[Line] = []
    for arm in arms[1:]:
        change = change_of(found, arm.name, drawn)
        if change is None:
            lines.append((arm.label, *(None,) * (1 + len(found.names))))
        else:
            lines.append((arm.label, *(number(*pair) for pair in zip(change.values, change.intervals, strict=True))))
    return Table(
        title=f"{setting.name}: level and slopes minus the base's",
        heads=("arm", "level, log-odds", *(f"slope of {name}" for name in found.names)),
        lines=tuple(lines),
        notes=(
            "Interactions of arm and axis; intervals (95 %) over resampled questions, without a test. A level is one at the reference: "
            "where slopes differ, it is another elsewhere.",
            *(
                [f"The base is {guessers['base']}: slopes and levels against it say little."]
                if guessers["base"]
                else []
            ),
        ),
    )


def _sentences(
    setting: Setting, arms: list[Arm], found: Shifted, drawn: dict[str, Floats], cut: dict[str, dict[str, float]],
    guessers: dict[str, str],
) -> list[str]:  # fmt: skip
    said = []
    for arm in arms[1:]:
        ends = int(sum(cut[arm.name].values()))
        limit = (
            f" Cut at the limit: {ends} of its {len(cut[arm.name])} texts on the questions themselves." if ends else ""
        )
        if (found.rights[arm.name] == found.rights["base"]).all():
            right = int(found.rights["base"].sum())
            where = (
                f"right where the base is, {right} of {len(found.rights['base'])} times"
                if right
                else "right nowhere, as the base is"
            )
            said.append(f"{setting.name}: {arm.label} is {where}: there is no level or slope to tell apart.{limit}")
            continue
        change = change_of(found, arm.name, drawn)
        if change is None:
            who, why = (
                ("base", found.why_not("base")) if found.why_not("base") else (arm.label, found.why_not(arm.name))
            )
            said.append(f"{setting.name}: {arm.label}: nothing can be said of level and slope: of {who} {why}.{limit}")
            continue
        each = zip(change.names, change.values, change.intervals, strict=True)
        numbers = "; ".join(f"{name} {number(value, around_)}" for name, value, around_ in each)
        said.append(
            f"{setting.name}: {arm.label} against the base: {verdict(change)} ({numbers} log-odds; "
            f"{len(set(found.items))} questions).{guessing_said(guessers['base'], guessers[arm.name])}{limit}"
        )
    return said


CARD = Card(
    name="shift",
    title="Shift: level or slope",
    systems=("S32",),
    papers=("2602.08281",),
    measures="level and slopes of success over depth, distance and other symbols, per arm; whole traces against the product of their steps",
    control="axes permuted among the questions; random directions in the steered vector's place; the slope of one who guesses",
    quick=ShiftOptions(n=60),
    full=ShiftOptions(n=400, n_choice=48, n_directions=100, resamples=1000, permutations=1000),
    run=run,
    refuse=refuse,
    version=2,
)
