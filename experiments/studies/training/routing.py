"""Routing (S34, S19): can a model learn by reward when to think, and does it keep both modes?

1. The first word chooses the mode: a right answer at once earns 1, a right one after a trace less, any other -1. Coupled, every token of a
   text weighs alike, so that the choice of a short text weighs more than that of a long one; decoupled, it has a weight of its own and the
   rest of the text another (2505.13379).
2. Reported is the share of questions that are thought about, by the number of rules of the question, with accuracy and tokens; a model
   that thinks about nearly none, or nearly all, has collapsed, and it is said.
3. Of the base: the dose of the mean difference of prompts at which the first word of each question turns, and its rank correlation with the
   question's difficulty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field
from scipy import stats

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.extraction import Reading, mean_difference
from steering.model.sites import Site
from steering.plan.plan import Plan

from ...pair.problem import Problem
from ...pair.vocabulary import REASONING_STARTS
from ...statistics import wilson
from ...store.runs import Run
from ...tasks.task import asked_ids
from ..elicitation.asked import Elicit, Setting
from ..elicitation.card import Card
from ..elicitation.findings import Point, Table
from ..elicitation.workroom import Workroom
from .bench import adding
from .questions import training_items
from .rewarded import Grown, RewardedOptions, graded_everywhere, refuse_rewarded
from .rewards import Reward
from .side_by_side import trainings
from .trained_models import Job

COLLAPSED = 0.05
"""Share of questions, at either end."""


class RoutingOptions(RewardedOptions):
    thought: float = Field(default=0.5, gt=0, lt=1)
    """What a right answer after a trace earns."""
    alphas: tuple[float, ...] = Field(default=(0.001, 0.1), min_length=1)
    """Weights of the first token, decoupled."""
    doses: tuple[float, ...] = Field(default=tuple(n / 10 for n in range(1, 21)), min_length=2)
    """Of the mean difference, in units of its norm, that turn the first word of the base."""
    layer: int | None = Field(default=None, ge=0)
    """Where it is added; by default the last."""


def run(room: Workroom, options: RoutingOptions) -> tuple[list[Point], list[Table], list[str]]:
    first = room.asked.settings[0]
    items = training_items(room.asked, options.read, options.pool, "routing")
    arms: dict[str, tuple[str, dict[str, Any]]] = {"coupled": ("coupled", {"control": "coupled"})}
    for alpha in options.alphas:
        arms[f"decoupled-{alpha:g}"] = (f"decoupled, weight {alpha:g}", {"control": "decoupled", "alpha": alpha})
    reward, named = (
        Reward("routed", thought=options.thought),
        [(group, seed) for group in arms for seed in options.seeds],
    )
    jobs = [
        Job(tuple(items), first.form, reward, options.recipe(seed, **arms[group][1]), f"{arms[group][0]}, seed {seed}")
        for group, seed in named
    ]
    grown = [
        Grown(group, arms[group][0], seed, own, "control" if group == "coupled" else "steered")
        for (group, seed), own in zip(named, trainings(room, jobs), strict=True)
    ]
    against = [(group, "coupled") for group in arms if group != "coupled"]
    points, tables, said, runs = graded_everywhere(room, "routing", grown, options, against)
    table, words = _routes(room, first, runs[first.name], grown)
    turned, told = _turning(room, first, options)
    return points, [table, *tables, turned], said + words + told


def thought_about(run: Run, problems: Mapping[str, Problem]) -> dict[str, dict[int, list[tuple[float, float]]]]:
    """By arm and number of rules: per question whether it is thought about, and whether its answer is right."""
    found: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for row in run.table(columns=["arm", "item", "text", "correct"]).to_pylist():
        begun = (row["text"] or "").split()[:1]
        thinks = bool(begun) and begun[0] in REASONING_STARTS
        rules = len(problems[row["item"]].rules)
        found.setdefault(row["arm"], {}).setdefault(rules, []).append((float(thinks), float(row["correct"])))
    return found


def _routes(room: Workroom, first: Setting, run: Run, grown: list[Grown]) -> tuple[Table, list[str]]:
    items = room.asked.found.items(first.split, run.manifest.splits[first.split])
    told = thought_about(run, {item.id: item.data for item in items})
    rules = sorted({len(item.data.rules) for item in items})
    names = {"base": ("base, greedy", ["base"])}
    for one in grown:
        names.setdefault(one.group, (one.label, []))[1].append(one.line.arm)
    if room.asked.thinking is not None:
        names["thinking"] = ("thinking model", ["thinking"])
    lines, said = [], []
    for label, arms in names.values():
        cells = []
        for count in rules:
            shares = [100 * float(np.mean([thinks for thinks, _ in told[arm][count]])) for arm in arms]
            right = [100 * float(np.mean([right for _, right in told[arm][count]])) for arm in arms]
            spread = f" ({min(shares):.0f} to {max(shares):.0f})" if len(shares) > 1 else ""
            cells.append(f"{np.mean(shares):.0f}{spread}; {np.mean(right):.0f}")
        lines.append((label, *cells))
        for arm in arms:
            every = [thinks for own in told[arm].values() for thinks, _ in own]
            share, n = float(np.mean(every)), len(every)
            if arm not in ("base", "thinking"):
                interval = wilson(round(share * n), n)
                mode = "all" if share >= 1 - COLLAPSED else "none" if share <= COLLAPSED else ""
                said.append(
                    f"{first.name}: {label} ({arm}) thinks about {100 * share:.0f} % of the questions ({100 * interval.low:.0f} to "
                    f"{100 * interval.high:.0f}; n {n}){f': collapsed, nearly {mode}' if mode else ''}."
                )
    return Table(
        title=f"{first.name}: % of questions thought about; % right, by number of rules",
        heads=("model", *(f"{count} rules" for count in rules)),
        lines=tuple(lines),
        notes=("Greedy; mean over seeds, the share of thought with its range.",),
    ), said


def _turning(room: Workroom, first: Setting, options: RoutingOptions) -> tuple[Table, list[str]]:
    """The smallest dose at which the base's first word opens a trace, per question."""
    base, task = room.base, room.asked.found
    site = base.layout.check(Site(base.n_layers - 1 if options.layer is None else options.layer))
    read = training_items(room.asked, {}, options.pool, "routing")
    think, plain = (
        Reading.last_token([tuple(asked_ids(task, base, item, form)) for item in read])
        for form in (room.asked.think, first.form)
    )
    contrast = f"mean at the last token of prompts in the form {room.asked.think} minus in the form {first.form}"
    found = mean_difference(base, think, plain, [site], name="asked to think minus asked plainly", contrast=contrast)
    vector = found[site]
    items = task.items(first.split, options.n)
    starts = {base.tokenizer.convert_tokens_to_ids(word) for word in REASONING_STARTS}
    doses = (0.0, *sorted(options.doses))
    turned = np.full(len(items), np.nan)
    for dose in reversed(doses):
        plan = adding([vector], "last_prompt", dose=dose) if dose else Plan()
        rows = [Row(tuple(asked_ids(task, base, item, first.form)), plan) for item in items]
        texts = generate(base, rows, GenerationSettings(1), batch_size=256, detail="tokens")
        opened = np.array([text.token_ids[0] in starts for text in texts])
        turned = np.where(opened, dose, turned)
    known = ~np.isnan(turned)
    lines: list[tuple[Any, ...]] = []
    rules = np.array([len(item.data.rules) for item in items])
    candidates = np.array([len(item.data.candidates) for item in items])
    for label, values in (("rules", rules), ("candidates", candidates), ("rules times candidates", rules * candidates)):
        if known.sum() >= 8 and len(set(turned[known])) > 1:
            rank = stats.spearmanr(values[known], turned[known])
            lines.append((label, f"{rank.statistic:+.2f}", f"{rank.pvalue:.3f}", int(known.sum())))
        else:
            lines.append((label, None, None, int(known.sum())))
    middle = f"{np.median(turned[known]):.1f}v" if known.any() else "none"
    return Table(
        title=f"{first.name}: the dose at which the base's first word turns to thinking, and difficulty",
        heads=("difficulty", "Spearman's correlation", "p", "questions that turn"),
        lines=tuple(lines),
        notes=(f"Mean difference of prompts at {site}, over the last prompt token, at {len(doses) - 1} doses up to {doses[-1]:g}v.",),
    ), [
        f"{first.name}: {int(known.sum())} of {len(items)} questions turn to thinking at a dose of at most {doses[-1]:g}v of the mean "
        f"difference; median {middle}."
    ]  # fmt: skip


def refuse(asked: Elicit, options: RoutingOptions) -> None:
    if not asked.builtin:
        raise BadInput(
            "card routing: the first word tells the modes of the built-in task apart; another task has no such word. Leave --task out."
        )
    if bad := [alpha for alpha in options.alphas if not alpha > 0]:
        raise BadInput(f"card routing: alphas has {bad[0]:g}; give weights above 0, such as 0.001.")
    if bad := [dose for dose in options.doses if not dose > 0]:
        raise BadInput(f"card routing: doses has {bad[0]:g}; give doses above 0.")
    if asked.settings[0].form == asked.think:
        raise BadInput(
            f"card routing: the first setting asks to think already ({asked.think}), so that nothing is routed."
        )
    refuse_rewarded(asked, options, "routing")


CARD = Card(
    name="routing",
    title="Routing",
    systems=("S34", "S19"),
    papers=("2505.13379",),
    measures="which questions are thought about after reward training, the choice weighed with the text or apart from it",
    control="the coupled form; the base and the thinking model, which route nothing",
    quick=RoutingOptions(n=200),
    full=RoutingOptions(n=400, seeds=(0, 1, 2, 3, 4), updates=60, prompts=16, alphas=(0.001, 0.01, 0.1)),
    run=run,
    refuse=refuse,
)
