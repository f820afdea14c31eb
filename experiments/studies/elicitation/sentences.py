"""Which sentences of a trace matter (2506.19143, 2510.27484): the answer's distribution with a sentence and without it.

1. `forced`: KL between the distributions of the answer that is forced before the sentence and after it; exact, over the prompt's candidates
   where it lists them, else over the answers seen.
2. `resampling`: KL between the answers of N continuations that write the sentence anew and of N that keep it. `counterfactual`: the same,
   of those alone whose new sentence says something else. Both are without what chance puts between two histograms; all KLs are of the
   distribution without the sentence from the one with it.
3. In the built-in task it is known which sentences decide (`steps.CHOICES`). Every measure is asked how well it ranks them first (AUROC,
   its interval over problems), beside random scores and the place in the text, which know nothing of the sentence.
4. Attention to a sentence is not read here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from probes.measures import auroc, group_weights, interval

from ...statistics import histogram_kl, kl, rank_p
from .asked import Setting
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

MEASURES = ("forced", "resampling", "counterfactual")
FEW = 4
"""Resamples that say something else, below which a sentence has no counterfactual importance."""
ANSWERS = 8
"""Answers seen that are weighed against each other where the prompt lists none."""


class SentenceOptions(Options):
    samples: int = Field(default=32, ge=FEW)
    """Continuations per sentence."""
    temperature: float = Field(default=1.0, gt=0)
    draws: int = Field(default=200, ge=20)
    """Random scores."""
    cue: str | None = None
    """Asks for an answer; by default the task's own words, or `So the answer is`."""


@dataclass(frozen=True)
class Importance:
    """One sentence of one trace: KLs in nats, standard errors of the two that are sampled, the p of `resampling`, and how many of the
    resamples say something else (`others`)."""

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
        for own in traces.values():
            every = [one for trace in own for one in importances(room, trace, options, cue)]
            if not every:
                continue
            label = own[0].label
            tables.append(_by_kind(setting, label, every, room.asked.builtin))
            said.append(_detectable(setting, label, every, options))
            if room.asked.builtin:
                table, sentence = ranks(setting, label, every, options.draws)
                tables.append(table)
                said.append(sentence)
    said.append("Attention to sentences (suppressed, or by receiver heads) is not read by this card.")
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
    smaller = len({one.item for one in every if one.choice})
    weights = group_weights(groups)
    rng = np.random.default_rng(0)
    null = [auroc(truth, scores)(np.ones(len(truth))) for scores in rng.random((draws, len(truth)))]
    low, high = np.quantile(null, [0.025, 0.975])
    lines, values = [], {}
    for name in (*MEASURES, "earlier in the text"):
        scores = np.array([-one.share if name.startswith("earlier") else getattr(one, name) for one in every])
        found = interval(auroc(truth, scores), weights, smaller=smaller)
        values[name] = _auroc(found.value, found.low, found.high)
        p = round(rank_p(found.value, null), 3) if np.isfinite(found.value) else None
        lines.append((name, values[name], p))
    table = Table(
        title=f"{setting.name}: {label}: sentences that decide, ranked by their importance",
        heads=("measure", "AUROC (95 % over problems)", "p against random scores"),
        lines=tuple(lines),
        notes=(
            f"{int(truth.sum())} of {len(truth)} sentences decide ({', '.join(CHOICES)}), in {len(set(groups))} problems. {draws} random "
            f"scores reach {low:.3f} to {high:.3f} (95 %). Below 0.5 a measure ranks other sentences first.",
        ),
    )
    sentence = (
        f"{setting.name}: {label}: sentences that decide are told from others with AUROC "
        f"{'; '.join(f'{name} {values[name]}' for name in MEASURES)}; random scores reach {low:.2f} to {high:.2f}."
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
                sum(one.p <= 0.05 for one in own), len(own) - len(errors),
            )
        )  # fmt: skip
    return Table(
        title=f"{setting.name}: {label}: importance by {'kind' if builtin else 'place'} of sentence, nats",
        heads=(
            *("kind" if builtin else "place", "sentences", "forced", "resampling (SE of one)", "counterfactual (SE of one)"),
            *("resampling p <= 0.05", "always written so"),
        ),
        lines=tuple(lines),
        notes=(
            f"Means over sentences. Always written so: fewer than {FEW} resamples say something else, so that the counterfactual "
            f"importance is 0. By chance 5 % of the sentences have p <= 0.05.",
        ),
    )  # fmt: skip


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
    measures="KL between the answer's distributions with a sentence and without it: forced, resampled, and where it says something else",
    control="random scores and the place in the text, against the sentences that are known to decide",
    quick=SentenceOptions(n=6),
    full=SentenceOptions(n=40, samples=100),
    run=run,
)
