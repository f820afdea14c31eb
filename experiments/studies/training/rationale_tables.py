"""The table of what thoughts give, and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...statistics import PairedDifference, paired_difference
from ..elicitation.findings import Table
from .rationale_reading import DOUBTED, WAYS, Read
from .seeds import spread


def thoughts_table(
    setting: str, labels: Mapping[str, str], reads: Mapping[tuple[str, int], Read], thought: int
) -> tuple[Table, list[str]]:
    """`reads` by arm and seed; `labels` of the arms that were trained."""
    lines: list[tuple[Any, ...]] = []
    said = []
    for arm, label in labels.items():
        own = [found for (of, _), found in reads.items() if of == arm]
        for way, words in WAYS.items():
            if arm == "plain" and way != "without":
                continue
            whole, doubted = (np.stack([getattr(one, part)[way] for one in own], 1) for part in ("whole", "doubted"))
            right = np.stack([one.right[way] for one in own], 1)
            moved = [paired_difference(np.zeros_like(values), values) for values in (whole, doubted)]
            lines.append(
                (
                    label, words, *(_nats(one) for one in moved), spread(right.mean(0)),
                    None if way == "without" else f"{np.mean([one.weight for one in own]):.2f}",
                )
            )  # fmt: skip
        if arm != "plain":
            for other in ("other", "without"):
                apart = paired_difference(*(np.stack([one.whole[way] for one in own], 1) for way in (other, "with")))
                said.append(
                    f"fresh documents: {label}: the next token {WAYS['with']} minus {WAYS[other]}: {_nats(apart)} nats; numbers behind "
                    f"`answer` {_share(own, 'with')} and {_share(own, other)} % right (n {len(own[0].right['with'])})."
                )
    read = len(next(iter(reads.values())).whole["with"])
    return Table(
        title="Next tokens of fresh documents, and numbers behind `answer`",
        heads=(
            "trained with", "read", "gain of the next token, nats (95 %)", f"at the {100 * DOUBTED:.0f} % that the base doubts most",
            f"{setting}: right behind `answer` %, mean (range over seeds)", "weight of the thought",
        ),
        lines=tuple(lines),
        notes=(
            f"Gain: log-probability minus the base's before training, {read} documents, seeds averaged; intervals over documents. "
            f"Thoughts of {thought} sampled tokens behind every token.",
        ),
    ), said  # fmt: skip


def _share(own: Sequence[Read], way: str) -> str:
    return f"{100 * np.mean([one.right[way] for one in own]):.1f}"


def _nats(found: PairedDifference) -> str:
    return f"{found.difference:+.4f} ({found.interval.low:+.4f} to {found.interval.high:+.4f})"
