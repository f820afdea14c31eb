"""How much each step of a trace tells of the answer (2506.02126), measured on the answer's own tokens.

1. IG_i = log p(answer | prompt, steps <= i, cue) - log p(answer | prompt, steps < i, cue), mean per token of the right answer, in nats.
   Each model of the pair reads it as scorer, whoever wrote the trace, where both read one vocabulary. Sums telescope: their total is what
   the whole trace tells.
2. The published measure is a fall of the perplexity of the *whole* text (question, steps, cue, answer). A long predictable trace lowers it
   whatever the answer is, so it stands beside IG and not in its place.
3. Two controls are read as the trace is: another problem's trace, and steps said once more behind the trace, which are post hoc by
   construction: what they say was known. A measure of information is about 0 on the latter.
4. The deep-thinking ratio of the same texts stands beside it (`deep_thinking`): a measure of effort, which knows no answer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from steering.engine.forced import unsteered_logprob
from steering.extraction.settling import THRESHOLD
from steering.model.models import LoadedModel

from ...decoders.paths import cue_ids
from ...statistics import paired_difference, wilson_clustered
from .asked import Setting
from .card import Card, Options
from .deep_thinking import deep_thinking
from .findings import Point, Table
from .points import points_of
from .steps import Trace, answer_ids, cue_of, distinct, trace_run, traces_of
from .workroom import Workroom

BELOW = 0.01
"""Nats that a step loses before it counts as one below 0: less is the last bits of two readings."""
KINDS = {
    "own": "the trace", "again": "its last third once more behind it (post hoc)", "other": "another problem's trace",
}  # fmt: skip


class GainOptions(Options):
    cue: str | None = None
    """Asks for an answer; by default the task's own words, or `So the answer is`."""
    shuffles: int = Field(default=40, ge=1)
    """Random orders of each text's tokens; with fewer than 39 no ratio is told from theirs."""
    threshold: float = Field(default=THRESHOLD, ge=0, lt=1)
    """Bits from the last layer's prediction within which a prediction has settled."""


@dataclass(frozen=True)
class Reading:
    """One trace read by one scorer: before its first step and after each one `[steps + 1]`, nats per token of the answer, and the whole
    text's perplexity."""

    answer: tuple[float, ...]
    perplexity: tuple[float, ...]

    @property
    def gains(self) -> np.ndarray:
        """IG `[steps]`."""
        return np.diff(np.asarray(self.answer))

    @property
    def published(self) -> np.ndarray:
        """Fall of the perplexity `[steps]`."""
        return -np.diff(np.asarray(self.perplexity))


def run(room: Workroom, options: GainOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    tables: list[Table] = []
    said: list[str] = []
    cue = cue_of(room, options.cue)
    for setting in room.asked.settings:
        points += points_of(trace_run(room, "information-gain", setting, options.n), setting)
    for setting in distinct(room.asked.settings):
        found = trace_run(room, "information-gain", setting, options.n)
        traces, words = traces_of(room, found, setting, len(cue_ids(room.base, cue)) + 16)
        said += words
        for own in traces.values():
            if not own:
                continue
            scorers, others = _scorers(room, own[0].model)
            said += [
                f"{setting.name}: {own[0].label}: {name} reads another vocabulary and scores none of its traces."
                for name in others
            ]
            readings = {
                (scorer, kind): part
                for scorer in scorers
                for kind in KINDS
                if (part := readings_of(room, scorer, own, kind, cue))
            }
            tables.append(_table(setting, own, readings))
            if room.asked.builtin:
                tables.append(_kinds(setting, own, {s: readings[s, "own"] for s in scorers}))
            said += [_sentence(setting, own[0].label, scorer, readings) for scorer in scorers]
        beside, words = deep_thinking(room, found, setting, options.shuffles, options.threshold)
        tables += beside
        said += words
    return points, tables, said


def _scorers(room: Workroom, writer: str) -> tuple[list[str], list[str]]:
    """The models that read the ids of `writer`'s traces as it wrote them, and the others."""
    own = room.model(writer).tokenizer_fingerprint
    same = [name for name, model in room.pair.items() if model.tokenizer_fingerprint == own]
    return same, [name for name in room.pair if name not in same]


def readings_of(room: Workroom, scorer: str, own: list[Trace], kind: str, cue: str) -> list[Reading]:
    """What a scorer reads of the traces, or of what stands in their place; those that do not fit into its context are left out."""
    model, found = room.model(scorer), []
    for place, trace in enumerate(own):
        prefixes = replaced(own, place, kind)
        answer = answer_ids(model, cue, trace.item.gold)
        if len(prefixes) < 2 or not answer:
            continue
        if len(trace.prompt_ids) + len(prefixes[-1]) + len(cue_ids(model, cue)) + len(answer) > model.context:
            continue
        facts = {
            "scorer": scorer, "prompt": trace.prompt_ids, "cue": cue, "gold": trace.item.gold,
            "prefixes": hashlib.sha256(repr(prefixes).encode()).hexdigest()[:16],
        }  # fmt: skip

        def make(prompt: tuple[int, ...] = trace.prompt_ids, prefixes=prefixes, answer=answer) -> list[list[float]]:  # type: ignore[no-untyped-def]
            made = read(model, prompt, prefixes, cue_ids(model, cue), answer)
            return [list(made.answer), list(made.perplexity)]

        one, two = room.part("gain", facts, make)
        found.append(Reading(tuple(one), tuple(two)))
    return found


def replaced(own: list[Trace], place: int, kind: str) -> list[tuple[int, ...]]:
    """The prefixes that are read after a trace's prompt: its own, another problem's, or its own whole and then its last third of steps
    again, step by step. None of another problem where there is none."""
    trace = own[place]
    if kind == "own":
        return list(trace.prefixes)
    if kind == "other":
        other = next((t for t in (*own[place + 1 :], *own[:place]) if t.item.id != trace.item.id), None)
        return list(other.prefixes) if other else []
    whole = trace.prefixes[-1]
    again = trace.steps[-max(1, len(trace.steps) // 3) :]
    return [whole, *((*whole, *trace.ids[again[0].start : step.end]) for step in again)]


def read(
    model: LoadedModel, prompt: tuple[int, ...], prefixes: list[tuple[int, ...]], cue: tuple[int, ...], answer: tuple[int, ...]
) -> Reading:  # fmt: skip
    """One reading of the whole text per prefix; its first token is given."""
    texts = [(prompt[:1], (*prompt[1:], *prefix, *cue, *answer)) for prefix in prefixes]
    scored = unsteered_logprob(model, texts)
    return Reading(
        tuple(float(np.mean(one[-len(answer) :])) for one in scored),
        tuple(float(np.exp(-np.mean(one))) for one in scored),
    )


def last_share(readings: list[Reading]) -> float | None:
    """The last step's part of the gains above 0 of all steps; None where no step has one."""
    above = [np.maximum(one.gains, 0) for one in readings]
    total = sum(own.sum() for own in above)
    return float(sum(own[-1] for own in above) / total) if total > 0 else None


def _table(setting: Setting, own: list[Trace], readings: dict[tuple[str, str], list[Reading]]) -> Table:
    lines = []
    for (scorer, kind), part in readings.items():
        before, after = [one.answer[0] for one in part], [one.answer[-1] for one in part]
        total = paired_difference(before, after)
        fall = paired_difference([one.perplexity[-1] for one in part], [one.perplexity[0] for one in part])
        below = [int((one.gains < -BELOW).sum()) for one in part]
        steps = [len(one.gains) for one in part]
        share = wilson_clustered(below, steps)
        last = last_share(part)
        lines.append(
            (
                KINDS[kind], scorer, len(part),
                f"{total.difference:+.2f} ({total.interval.low:+.2f} to {total.interval.high:+.2f})",
                f"{np.mean(np.concatenate([one.gains for one in part])):+.3f}",
                f"{100 * sum(below) / sum(steps):.0f} ({100 * share.low:.0f} to {100 * share.high:.0f})",
                None if last is None else round(100 * last, 1),
                f"{fall.difference:+.2f} ({fall.interval.low:+.2f} to {fall.interval.high:+.2f})",
                f"{np.mean(np.concatenate([one.published for one in part])):+.3f}",
            )
        )  # fmt: skip
    return Table(
        title=f"{setting.name}: traces of {own[0].label}: what they tell of the right answer",
        heads=(
            *("text", "scorer", "traces", "IG of the whole", "IG per step", "steps below 0 %", "last step's part %"),
            *("published, whole", "published, per step"),
        ),
        lines=tuple(lines),
        notes=(
            f"IG: nats per token of the right answer; below 0: by more than {BELOW:g}. Last step's part: of the gains above 0. Published: "
            "fall of the whole text's perplexity, which says how predictable the text is. Intervals: 95 % over problems.",
        ),
    )  # fmt: skip


def _kinds(setting: Setting, own: list[Trace], readings: dict[str, list[Reading]]) -> Table:
    lines = []
    kinds = sorted({step.kind for trace in own for step in trace.steps})
    for kind in kinds:
        line: list[str | int | float | None] = [kind, sum(s.kind == kind for trace in own for s in trace.steps)]
        for part in readings.values():
            gains = [
                gain
                for trace, one in zip(own, part, strict=True)
                for step, gain in zip(trace.steps, one.gains, strict=True)
                if step.kind == kind
            ]
            line += [round(float(np.mean(gains)), 3), round(100 * float(np.mean(np.array(gains) < -BELOW)), 1)]
        lines.append(tuple(line))
    heads = [head for scorer in readings for head in (f"IG, {scorer}", f"below 0 %, {scorer}")]
    return Table(
        title=f"{setting.name}: traces of {own[0].label}: IG by kind of step",
        heads=("kind", "steps", *heads),
        lines=tuple(lines),
        notes=("Means over steps, nats per token of the right answer.",),
    )


def _sentence(setting: Setting, label: str, scorer: str, readings: dict[tuple[str, str], list[Reading]]) -> str:
    words = []
    for kind in KINDS:
        part = readings.get((scorer, kind))
        if part:
            total = paired_difference([one.answer[0] for one in part], [one.answer[-1] for one in part])
            fall = float(np.mean([one.perplexity[0] - one.perplexity[-1] for one in part]))
            clear = not total.interval.low <= 0 <= total.interval.high
            words.append(
                f"{KINDS[kind]} {'' if clear else 'tells nothing detectable, '}{total.difference:+.2f} nats ({total.interval.low:+.2f} to "
                f"{total.interval.high:+.2f}; published {fall:+.2f}; n {len(part)})"
            )
    return f"{setting.name}: {label}, read by {scorer}: {'; '.join(words)}."


CARD = Card(
    name="information-gain",
    title="Information gain of steps",
    systems=("S14",),
    papers=("2506.02126", "2602.13517"),
    measures="gain in log-probability of the right answer per step, read by both models, beside the fall of the whole text's "
    "perplexity; the deep-thinking ratio of the texts",
    control="another problem's trace; steps said once more behind the trace, which are post hoc by construction; of the ratio the "
    "same tokens in random orders, and another question's text of equal length",
    quick=GainOptions(n=24),
    full=GainOptions(n=200),
    run=run,
    version=3,
)
