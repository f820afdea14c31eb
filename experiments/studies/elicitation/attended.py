"""Attention to the sentences of traces: what suppressing it does to what follows, and what they receive from the heads that look back.

1. `suppression`: ln KL of the predictions at every later sentence's tokens when nothing after the sentence attends to it, the later
   sentence's mean over all earlier ones taken off, averaged over the later sentences, the last one of the text included.
2. `receiver`: attention from sentences at least `NEAREST` further on, in the heads whose vertical profile has the largest kurtosis, over
   the mean of the head's profile. Heads that a trace is read by are chosen on the other half of the traces.
3. A model that cannot be read so is named with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from steering.attribution import receiving, suppression

from .asked import Setting
from .findings import Table
from .steps import Trace, ids_hash
from .workroom import Workroom

Head = tuple[int, int]
"""Layer and head."""
DIGITS = 6
"""Significant digits of what is kept."""
SHOWN = 5
"""Heads in the table."""


@dataclass(frozen=True)
class Attended:
    """Per trace and sentence the two scores, NaN where there is none; per trace the kurtosis of every head `[traces, layers, heads]`."""

    suppression: tuple[tuple[float, ...], ...]
    receiver: tuple[tuple[float, ...], ...]
    kurtosis: np.ndarray
    chosen: tuple[tuple[Head, ...], tuple[Head, ...]] = ((), ())
    """The heads by which traces of even and of odd number are read."""
    reasons: tuple[str, ...] = ()
    """Why something is not measured."""

    @property
    def mean_kurtosis(self) -> np.ndarray:
        """Of every head, over the traces that have one; NaN where none has."""
        return mean_over(self.kurtosis)


def attended(room: Workroom, traces: Sequence[Trace], heads: int) -> Attended:
    """Both measures of traces of one model; at most `heads` receiver heads, and no more than half of all."""
    model = room.model(traces[0].model)
    none = tuple((float("nan"),) * len(trace.steps) for trace in traces)
    suppressed = received = none
    kurtosis, reasons = np.zeros((len(traces), 0, 0)), []
    chosen: tuple[tuple[Head, ...], tuple[Head, ...]] = ((), ())
    if (reason := suppression.refusal(model)) is not None:
        reasons.append(f"attention is not suppressed in {model.id}: {reason}")
    else:
        suppressed = tuple(_suppressed(room, trace) for trace in traces)
    if (reason := receiving.refusal(model)) is not None:
        reasons.append(f"receiver heads of {model.id} are not read: {reason}")
    else:
        kurtosis = np.array([_kurtosis(room, trace) for trace in traces])
        most = max(1, min(heads, kurtosis[0].size // 2))
        chosen = halves(kurtosis, most)
        if all(chosen):
            received = tuple(_received(room, trace, chosen[n % 2]) for n, trace in enumerate(traces))
        else:
            reasons.append(
                f"receiver heads are not chosen: each half of the traces needs one of at least {receiving.FEWEST + receiving.NEAREST - 1} "
                f"sentences before the last one"
            )
    return Attended(suppressed, received, kurtosis, chosen, tuple(reasons))


def halves(kurtosis: np.ndarray, most: int) -> tuple[tuple[Head, ...], tuple[Head, ...]]:
    """Heads for the traces of even number, chosen on those of odd number, and the other way round. `kurtosis [traces, layers, heads]`."""
    return top_heads(mean_over(kurtosis[1::2]), most), top_heads(mean_over(kurtosis[::2]), most)


def top_heads(kurtosis: np.ndarray, most: int) -> tuple[Head, ...]:
    """The heads of largest kurtosis `[layers, heads]`, the largest first; heads without one are none of them."""
    order = np.argsort(-np.where(np.isfinite(kurtosis), kurtosis, -np.inf), axis=None, kind="stable")[:most]
    places = [np.unravel_index(place, kurtosis.shape) for place in order]
    return tuple((int(layer), int(head)) for layer, head in places if np.isfinite(kurtosis[layer, head]))


def mean_over(kurtosis: np.ndarray) -> np.ndarray:
    """Mean over traces `[traces, ...]`, those without a number left out; NaN where all are."""
    known = np.isfinite(kurtosis)
    count = known.sum(0)
    return np.where(count > 0, np.where(known, kurtosis, 0.0).sum(0) / np.maximum(1, count), np.nan)


def scores(attention: np.ndarray) -> np.ndarray:
    """Receiver score `[sentences]` from the vertical profiles of some heads `[heads, sentences]`: each over its own mean, averaged."""
    known = np.isfinite(attention).all(0)
    level = attention[:, known].mean(1, keepdims=True) if known.any() else np.ones((len(attention), 1))
    return np.where(known, (attention / np.where(level > 0, level, 1.0)).mean(0), np.nan)


def _text(trace: Trace) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
    """All ids that are read, and the spans of the trace's sentences in them, the last one included."""
    at, last = len(trace.prompt_ids), trace.steps[-1].end
    spans = [(at + step.start, at + step.end) for step in trace.steps]
    return (*trace.prompt_ids, *trace.ids), [
        *spans,
        *([(at + last, at + len(trace.ids))] if last < len(trace.ids) else []),
    ]


def _facts(trace: Trace) -> dict[str, Any]:
    ids, spans = _text(trace)
    return {"model": trace.model, "text": ids_hash(ids), "spans": ids_hash([place for span in spans for place in span])}


def _suppressed(room: Workroom, trace: Trace) -> tuple[float, ...]:
    ids, spans = _text(trace)

    def make() -> list[float | None]:
        found = suppression.suppressed_divergence(room.model(trace.model), ids, spans[: len(trace.steps)])
        each = suppression.effects(found, spans)
        known = np.isfinite(each)
        total = np.where(known, each, 0.0).sum(1)
        return [_kept(total[n] / known[n].sum()) if known[n].any() else None for n in range(len(each))]

    return tuple(_number(value) for value in room.part("suppression", _facts(trace), make))


def _profiles(room: Workroom, trace: Trace) -> np.ndarray:
    """Vertical profiles `[layers, heads, sentences]` of the sentences before the last one."""
    ids, spans = _text(trace)
    found = receiving.attention_between(room.model(trace.model), ids, spans)
    return receiving.vertical(found)[..., : len(trace.steps)]


def _kurtosis(room: Workroom, trace: Trace) -> list[list[float]]:
    def make() -> list[list[float | None]]:
        return [[_kept(value) for value in layer] for layer in receiving.kurtosis(_profiles(room, trace))]

    return [[_number(value) for value in layer] for layer in room.part("kurtosis", _facts(trace), make)]


def _received(room: Workroom, trace: Trace, heads: Sequence[Head]) -> tuple[float, ...]:
    def make() -> list[float | None]:
        profiles = _profiles(room, trace)
        return [_kept(value) for value in scores(np.array([profiles[layer, head] for layer, head in heads]))]

    facts = _facts(trace) | {"heads": [list(head) for head in heads]}
    return tuple(_number(value) for value in room.part("received", facts, make))


def _kept(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def heads_table(setting: Setting, found: dict[str, Attended]) -> tuple[list[Table], list[str]]:
    """Which heads look back, model beside model (`found` by label), and sentences about how sure that is."""
    lines: list[tuple[str | int | float | None, ...]] = []
    said = []
    for label, own in found.items():
        if not own.kurtosis.size or not np.isfinite(own.mean_kurtosis).any():
            continue
        mean = own.mean_kurtosis
        one, two = mean_over(own.kurtosis[::2]), mean_over(own.kurtosis[1::2])
        both = np.isfinite(one) & np.isfinite(two)
        agree = _rho(one[both], two[both])
        top = top_heads(mean, SHOWN)
        named = ", ".join(f"{layer}.{head} ({mean[layer, head]:.1f})" for layer, head in top)
        counted = int(np.isfinite(own.kurtosis).any((1, 2)).sum())
        read = [", ".join(f"{layer}.{head}" for layer, head in heads) or None for heads in own.chosen]
        lines.append((label, counted, mean.size, named, round(float(np.nanmedian(mean)), 2), agree, *read))
    if not lines:
        return [], []
    measured = [label for label, *_ in lines]
    if len(measured) > 1:
        one, two = (found[str(label)].mean_kurtosis for label in measured[-2:])
        if one.shape == two.shape:
            both = np.isfinite(one) & np.isfinite(two)
            shared = len(set(top_heads(one, SHOWN)) & set(top_heads(two, SHOWN)))
            moved = [f"{found[str(label)].mean_kurtosis[both].mean():.2f}" for label in measured[-2:]]
            said.append(
                f"{setting.name}: {measured[-2]} and {measured[-1]}: the kurtosis of {int(both.sum())} heads goes with rho "
                f"{_rho(one[both], two[both])}, {shared} of the {min(SHOWN, one.size)} largest are the same, and its mean is {moved[0]} "
                f"and {moved[1]}."
            )
    table = Table(
        title=f"{setting.name}: heads that look back to few sentences",
        heads=(
            *("model", "traces", "heads", "largest kurtosis, layer.head", "median", "rho between halves of the traces"),
            *("even traces are read by", "odd traces are read by"),
        ),
        lines=tuple(lines),
        notes=(
            f"Kurtosis of the attention that sentences receive from sentences at least {receiving.NEAREST} further on, over traces "
            f"with at least {receiving.FEWEST} such sentences.",
        ),
    )  # fmt: skip
    return [table], said


def _rho(one: np.ndarray, two: np.ndarray) -> str:
    if len(one) < 3 or len(set(one.tolist())) < 2 or len(set(two.tolist())) < 2:
        return "not defined"
    return f"{float(stats.spearmanr(one, two).statistic):+.2f}"


def correlations(setting: Setting, label: str, values: Sequence[dict[str, Sequence[float]]]) -> Table | None:
    """How the measures go together inside traces: Spearman's rho of every pair, averaged over the traces, with the interval of that mean.
    `values` is per trace, by measure, over its sentences. None where no pair is defined."""
    lines: list[tuple[str | int | float | None, ...]] = []
    names = list(values[0])
    for place, one in enumerate(names):
        for two in names[place + 1 :]:
            rhos = [rho for own in values if (rho := _within(own[one], own[two])) is not None]
            if rhos:
                mean = float(np.mean(rhos))
                around = None
                if len(rhos) > 2 and np.ptp(rhos) > 0:
                    low, high = stats.t.interval(0.95, len(rhos) - 1, mean, stats.sem(rhos))
                    around = f"{max(-1.0, low):+.2f} to {min(1.0, high):+.2f}"
                lines.append((one, two, len(rhos), f"{mean:+.2f}", around))
    if not lines:
        return None
    return Table(
        title=f"{setting.name}: {label}: how the measures go together inside traces",
        heads=("measure", "and", "traces", "mean rho", "95 %"),
        lines=tuple(lines),
        notes=(
            "Spearman's rho over the sentences of a trace that have both and of which neither measure is constant, of 4 at least.",
        ),
    )


def _within(one: Sequence[float], two: Sequence[float]) -> float | None:
    pair = np.array([one, two])
    pair = pair[:, np.isfinite(pair).all(0)]
    if pair.shape[1] < 4 or (pair.max(1) - pair.min(1) < 1e-12).any():
        return None
    return float(stats.spearmanr(*pair).statistic)
