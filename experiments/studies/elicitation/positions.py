"""Decision tokens along the thinking model's own texts: how the base ranks what it would write, and in which behaviours they lie."""

from __future__ import annotations

import numpy as np

from ...statistics import rank_p, wilson
from .asked import Setting
from .findings import Table
from .selecting import DEVELOPMENT, DecisionOptions, Taking, taking
from .signals import TOPS, Signals
from .workroom import Workroom


def ranks(setting: Setting, signals: Signals) -> Table:
    """The base's rank of the thinking model's token where the two differ."""
    held = signals.rank[signals.differs]
    lines = []
    for top in TOPS:
        inside = int((held <= top).sum())
        share = wilson(inside, len(held)) if len(held) else None
        lines.append(
            (
                top,
                inside,
                len(held),
                f"{100 * inside / len(held):.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})" if share else None,
            )
        )
    return Table(
        title=f"{setting.name}: rank under the base of the token that the thinking model would write, where the two differ",
        heads=("top", "tokens", "of", "% (95 %)"),
        lines=tuple(lines),
        notes=(
            f"Along the thinking model's own texts of development problems: {signals.n} tokens, of which the base would write another at "
            f"{100 * signals.differs.mean():.1f} %.",
        ),
    )


def enriched(
    room: Workroom,
    setting: Setting,
    signals: Signals,
    takings: dict[tuple[str, float], Taking],
    options: DecisionOptions,
) -> Table:
    """Which behaviours the divergence selector takes, against selections of equal number moved round within each text."""
    from ...pair.verifier import Span, verify

    task = room.asked.found
    items = task.items(DEVELOPMENT[setting.split], options.n_development)
    labels = np.full(signals.n, "other", dtype=object)
    ends = room.model(str(room.asked.thinking)).eos_ids
    for number, (item, body) in enumerate(zip(items, signals.texts, strict=True)):
        words = room.base.tokenizer.decode([token for token in body if token not in ends])
        spans: list[Span] = verify(item.data, words).labels
        inside = np.flatnonzero(signals.text == number)
        for span in spans:
            labels[inside[span.start : span.end]] = span.label
    budget = min(options.budgets, key=lambda b: abs(b - 0.08))
    own = takings.get(("divergence", budget)) or taking(signals, "divergence", budget)
    chosen = signals.apart > own.threshold
    rng, null = np.random.default_rng(0), []
    starts = [np.flatnonzero(signals.text == number) for number in range(len(signals.texts))]
    for _ in range(999):
        moved = chosen.copy()
        for inside in starts:
            moved[inside] = np.roll(chosen[inside], int(rng.integers(len(inside))))
        null.append({name: int((moved & (labels == name)).sum()) for name in set(labels)})
    lines = []
    for name in sorted(set(labels)):
        held = labels == name
        count = int((chosen & held).sum())
        ratio = (count / held.sum()) / max(chosen.mean(), 1e-12)
        lines.append(
            (
                name,
                int(held.sum()),
                count,
                round(float(ratio), 2),
                round(rank_p(float(count), [float(draw[name]) for draw in null]), 3),
            )
        )
    return Table(
        title=f"{setting.name}: behaviours at the {100 * budget:g} % of tokens with the largest divergence",
        heads=("behaviour", "tokens", "selected", "times the average rate", "p"),
        lines=tuple(sorted(lines, key=lambda line: -line[3])),
        notes=("p: against 999 selections moved round within each text, one-sided.",),
    )
