"""Which sentences of a trace matter (2506.19143, 2510.27484): the answer's distribution with a sentence and without it.

1. `forced`: KL between the distributions of the answer that is forced before the sentence and after it; exact, over the prompt's candidates
   where it lists them, else over the answers seen.
2. `resampling`: KL between the answers of N continuations that write the sentence anew and of N that keep it. `counterfactual`: the same,
   of those alone whose new sentence says something else. Both are without what chance puts between two histograms; all KLs are of the
   distribution without the sentence from the one with it.
3. `suppression` and `receiver`: what becomes of later sentences when nothing attends to the sentence, and the attention that it receives
   from the heads that look back (`attended`).
4. In the built-in task it is known which sentences decide (`steps.CHOICES`). Every measure is asked how well it ranks them first (AUROC,
   its interval over problems), beside random scores and the place in the text, which know nothing of the sentence. In every task it is
   said how the measures go together.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import Field

from probes.measures import auroc, group_weights, interval

from ...statistics import histogram_kl, kl, rank_p
from .asked import Setting
from .attended import Attended, attended, correlations, heads_table
from .card import Card, Options
from .findings import Point, Table
from .points import points_of
from .steps import (
    CHOICES,
    Trace,
    answer_distributions,
    answer_ids,
    cue_of,
    distinct,
    resampled,
    trace_run,
    traces_of,
)
from .workroom import Workroom

MEASURES = ("forced", "resampling", "counterfactual", "suppression", "receiver")
FEW = 4
"""Resamples that say something else, below which a sentence has no counterfactual importance."""
LATER = {"share": "later in the text"}
"""What a place in the text is called beside the measures."""
ANSWERS = 8
"""Answers seen that are weighed against each other where the prompt lists none."""


class SentenceOptions(Options):
    samples: int = Field(default=32, ge=FEW)
    """Continuations per sentence."""
    temperature: float = Field(default=1.0, gt=0)
    draws: int = Field(default=200, ge=20)
    """Random scores."""
    heads: int = Field(default=3, ge=1)
    """Receiver heads, at most half of the model's."""
    cue: str | None = None
    """Asks for an answer; by default the task's own words, or `So the answer is`."""


@dataclass(frozen=True)
class Importance:
    """One sentence of one trace: KLs in nats, standard errors of the two that are sampled, the p of `resampling`, how many of the
    resamples say something else (`others`), and the two measures of attention, NaN where there is none."""

    item: str
    share: float
    """Where in the trace: 0 its first sentence, 1 its last."""
    kind: str
    choice: bool
    forced: float
    resampling: float
    resampling_se: float
    p: float
    counterfactual: float
    counterfactual_se: float | None
    others: int
    suppression: float = float("nan")
    receiver: float = float("nan")


def run(room: Workroom, options: SentenceOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    tables: list[Table] = []
    said: list[str] = []
    cue = cue_of(room, options.cue)
    for setting in room.asked.settings:
        points += points_of(trace_run(room, "sentences", setting, options.n), setting)
    for setting in distinct(room.asked.settings):
        found = trace_run(room, "sentences", setting, options.n)
        traces, words = traces_of(room, found, setting, len(answer_ids(room.base, "", cue)) + 16)
        said += words
        looked: dict[str, Attended] = {}
        for own in traces.values():
            if not own:
                continue
            label = own[0].label
            looked[label] = attended(room, own, options.heads)
            said += [f"{setting.name}: {label}: {reason}." for reason in looked[label].reasons]
            parts = [
                with_attention(importances(room, trace, options, cue), looked[label], number)
                for number, trace in enumerate(own)
            ]
            every = [one for part in parts for one in part]
            tables.append(_by_kind(setting, label, every, room.asked.builtin))
            said.append(_detectable(setting, label, every, options))
            if room.asked.builtin:
                table, sentence = ranks(setting, label, every, options.draws)
                tables.append(table)
                said.append(sentence)
            by_measure = [
                {name: [getattr(one, name) for one in part] for name in (*MEASURES, "share")} for part in parts
            ]
            together = correlations(
                setting, label, [{LATER.get(name, name): own[name] for name in own} for own in by_measure]
            )
            tables += [together] if together else []
        heads, words = heads_table(setting, looked)
        tables += heads
        said += words
    return points, tables, said


def importances(room: Workroom, trace: Trace, options: SentenceOptions, cue: str) -> list[Importance]:
    """Every sentence of a trace."""
    drawn = resampled(room, trace, options.samples, options.temperature)
    seen = Counter(answer for own in drawn["answers"] for answer in own if answer is not None)
    answers = list(trace.candidates) or [answer for answer, _ in sorted(seen.items(), key=lambda a: (-a[1], a[0]))]
    model = room.model(trace.model)
    forced = [0.0] * len(trace.steps)
    known = [answer for answer in answers[: None if trace.candidates else ANSWERS] if answer_ids(model, cue, answer)]
    if len(known) > 1 or trace.candidates:
        contexts = [(*trace.prompt_ids, *prefix) for prefix in trace.prefixes]
        facts = {"model": trace.model, "contexts": _digest(contexts), "cue": cue, "answers": known}
        spread = room.part("forced", facts, lambda: answer_distributions(model, contexts, cue, known).tolist())
        forced = forced_importance(np.array(spread))
    return measured(trace, drawn, forced)


def with_attention(every: list[Importance], found: Attended, number: int) -> list[Importance]:
    """The sentences of the trace of that number, with the measures of attention."""
    return [
        replace(one, suppression=found.suppression[number][place], receiver=found.receiver[number][place])
        for place, one in enumerate(every)
    ]


def forced_importance(spread: np.ndarray) -> list[float]:
    """KL(before || after) of every sentence, from the answer's distributions `[sentences + 1, answers]`."""
    return [float(value) for value in kl(spread[:-1], spread[1:])]


def measured(trace: Trace, drawn: dict[str, list[list[Any]]], forced: list[float]) -> list[Importance]:
    """The importances of a trace's sentences from the continuations of its prefixes (`steps.resampled`)."""
    named = [[trace.category(answer) for answer in own] for own in drawn["answers"]]
    names = sorted({name for own in named for name in own} | set(trace.candidates))
    counts = [[own.count(name) for name in names] for own in named]
    found = []
    for place, step in enumerate(trace.steps):
        whole = histogram_kl(counts[place], counts[place + 1], seed=place)
        other = [name for name, differs in zip(named[place], drawn["differs"][place], strict=True) if differs]
        value, se = 0.0, None
        if len(other) >= FEW:
            part = histogram_kl([other.count(name) for name in names], counts[place + 1], seed=place)
            value, se = part.value, part.se
        found.append(
            Importance(
                trace.item.id, place / max(1, len(trace.steps) - 1), step.kind, step.choice, forced[place], whole.value, whole.se, whole.p,
                value, se, len(other),
            )
        )  # fmt: skip
    return found


def ranks(setting: Setting, label: str, every: list[Importance], draws: int) -> tuple[Table, str]:
    """How well the measures rank the sentences that decide first, beside scores that cannot know."""
    truth = np.array([float(one.choice) for one in every])
    groups = np.array([one.item for one in every])
    rng = np.random.default_rng(0)
    drawn = rng.random((draws, len(truth)))
    earlier = np.array([-one.share for one in every])
    asked = {name: np.array([getattr(one, name) for one in every]) for name in MEASURES}
    asked = {name: own for name, own in asked.items() if np.isfinite(own).any()}
    subjects = [*asked.items(), ("earlier in the text", earlier)]
    if "receiver" in asked and not np.isfinite(asked["receiver"]).all():
        subjects.append(("earlier, of those that receive", np.where(np.isfinite(asked["receiver"]), earlier, np.nan)))
    lines, values = [], {}
    for name, scores in subjects:
        known = np.isfinite(scores)
        smaller = len(set(groups[known & (truth == 1)]))
        null = [auroc(truth[known], random[known])(np.ones(int(known.sum()))) for random in drawn]
        found = interval(auroc(truth[known], scores[known]), group_weights(groups[known]), smaller=smaller)
        values[name] = _auroc(found.value, found.low, found.high)
        p = round(rank_p(found.value, null), 3) if np.isfinite(found.value) else None
        lines.append((name, int(known.sum()), values[name], p))
    low, high = np.quantile([auroc(truth, random)(np.ones(len(truth))) for random in drawn], [0.025, 0.975])
    table = Table(
        title=f"{setting.name}: {label}: sentences that decide, ranked by their importance",
        heads=("measure", "sentences", "AUROC (95 % over problems)", "p against random scores"),
        lines=tuple(lines),
        notes=(
            f"{int(truth.sum())} of {len(truth)} sentences decide ({', '.join(CHOICES)}), in {len(set(groups))} problems. {draws} random "
            f"scores reach {low:.3f} to {high:.3f} (95 %) on all of them. Below 0.5 a measure ranks other sentences first. "
            f"A sentence that no other follows far enough on has no receiver score, and one that is alone before all that follow it has "
            f"no suppression.",
        ),
    )
    sentence = (
        f"{setting.name}: {label}: sentences that decide are told from others with AUROC "
        f"{'; '.join(f'{name} {values[name]}' for name in asked)}; random scores reach {low:.2f} to {high:.2f}."
    )
    return table, sentence


def _auroc(value: float, low: float, high: float) -> str:
    if not np.isfinite(value):
        return "not defined (one class)"
    around = f"{low:.3f} to {high:.3f}" if np.isfinite(low) else "too few problems for an interval"
    return f"{value:.3f} ({around})"


def _by_kind(setting: Setting, label: str, every: list[Importance], builtin: bool) -> Table:
    def part(one: Importance) -> str:
        return one.kind if builtin else ("first third", "middle third", "last third")[min(2, int(3 * one.share))]

    lines = []
    for name in sorted({part(one) for one in every}, key=lambda name: (name not in CHOICES, name)):
        own = [one for one in every if part(one) == name]
        errors = [one.counterfactual_se for one in own if one.counterfactual_se is not None]
        lines.append(
            (
                name, len(own), round(float(np.mean([one.forced for one in own])), 3),
                f"{np.mean([one.resampling for one in own]):.3f} ({np.mean([one.resampling_se for one in own]):.3f})",
                f"{np.mean([one.counterfactual for one in own]):.3f} ({np.mean(errors):.3f})" if errors else "0",
                sum(one.p <= 0.05 for one in own), len(own) - len(errors), _mean([one.suppression for one in own]),
                _mean([one.receiver for one in own]),
            )
        )  # fmt: skip
    return Table(
        title=f"{setting.name}: {label}: importance by {'kind' if builtin else 'place'} of sentence, nats",
        heads=(
            *("kind" if builtin else "place", "sentences", "forced", "resampling (SE of one)", "counterfactual (SE of one)"),
            *("resampling p <= 0.05", "always written so", "suppression", "receiver"),
        ),
        lines=tuple(lines),
        notes=(
            f"Means over sentences. Always written so: fewer than {FEW} resamples say something else, so that the counterfactual "
            f"importance is 0. By chance 5 % of the sentences have p <= 0.05. Suppression: ln KL of later sentences less what these are "
            f"moved by any; receiver: attention over the mean of the trace's sentences.",
        ),
    )  # fmt: skip


def _mean(values: list[float]) -> str | None:
    known = [value for value in values if np.isfinite(value)]
    return f"{np.mean(known):.2f}" if known else None


def _detectable(setting: Setting, label: str, every: list[Importance], options: SentenceOptions) -> str:
    clear = sum(one.p <= 0.05 for one in every)
    top = sorted((one.resampling for one in every), reverse=True)
    count = max(1, len(top) // 10)
    total = sum(value for value in top if value > 0)
    share = f"; the tenth that matters most holds {100 * sum(top[:count]) / total:.0f} % of it" if total > 0 else ""
    return (
        f"{setting.name}: {label}: of {len(every)} sentences {clear} change the answers of {options.samples} continuations detectably (p "
        f"<= 0.05 each; {0.05 * len(every):.0f} would by chance), mean resampling importance {np.mean(top):.3f} nats{share}."
    )


def _digest(contexts: list[tuple[int, ...]]) -> str:
    import hashlib

    return hashlib.sha256(repr(contexts).encode()).hexdigest()[:16]


CARD = Card(
    name="sentences",
    title="Which sentences matter",
    systems=("S26",),
    papers=("2506.19143", "2510.27484"),
    measures="KL between the answer's distributions with a sentence and without it, and attention to it: suppressed, and by receiver heads",
    control="random scores and the place in the text, against the sentences that are known to decide",
    quick=SentenceOptions(n=6),
    full=SentenceOptions(n=40, samples=100),
    run=run,
    version=2,
)
