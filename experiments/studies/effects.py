"""What an ablation did: paired changes with intervals against the unsteered arm, against the controls, and item by item.

1. Differences are paired by item (seeds averaged within an item); p-values of the targets of a run are one family per split (Holm 1979).
2. A target against its controls is the difference to the mean of their distribution, each control its own draw, over items and controls:
   what is left once any edit of that density and size is accounted for. A target that *lowers* accuracy has its rank from below.
3. Every function reads the stored rows; nothing is generated again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..statistics import against_directions, holm, paired_difference
from ..store.runs import Run
from .ablation import ArmFacts, item_values, token_counts

CONTROLS = ("control", "direction")


def _facts(run: Run) -> dict[str, ArmFacts]:
    return {arm.name: facts for arm in run.manifest.arms if (facts := ArmFacts.parse(arm.name)) is not None}


def effects(run: Run) -> pd.DataFrame:
    """One line per arm and split: `latents, size, operation, scope, kind, split, n, accuracy, unsteered, difference, low, high, p, p_holm`
    (p_holm for targets only), the change in tokens `tokens` with `_low, _high, _p`, how many items were helped and hurt, and for targets
    the difference to their matched latents `against` with `_low, _high` (over items and controls), their number `_count`, how many of them
    do at least as well `_as_good` and the one-sided rank `_rank_p`; and to random directions `against_direction...`.

    Shares and differences in [0, 1].
    """
    facts, correct, tokens = _facts(run), item_values(run, "correct"), token_counts(run)
    base = run.manifest.baseline.name
    lines: list[dict[str, Any]] = []
    for split in run.manifest.splits:
        for name, fact in facts.items():
            before, after = correct[split][base], correct[split][name]
            found = paired_difference(before, after)
            longer = paired_difference(tokens[split][base], tokens[split][name])
            line: dict[str, Any] = {
                "latents": "+".join(map(str, fact.latents)), "size": len(fact.latents), "operation": fact.operation,
                "scope": fact.scope, "kind": fact.kind.split()[0], "arm": name, "split": split, "n": found.n,
                "accuracy": float(after.mean()), "unsteered": float(before.mean()), "difference": found.difference,
                "low": found.interval.low, "high": found.interval.high, "p": found.p, "p_holm": np.nan,
                "tokens": longer.difference, "tokens_low": longer.interval.low, "tokens_high": longer.interval.high, "tokens_p": longer.p,
                "helped": found.helped, "hurt": found.hurt,
            }  # fmt: skip
            if fact.kind == "target":
                for kind, key in (("control", "against"), ("direction", "against_direction")):
                    others = _siblings(fact, kind, facts)
                    if others:
                        line |= _against(key, correct[split], name, others, found.difference < 0)
            lines.append(line)
    frame = pd.DataFrame(lines)
    for _, family in frame[frame["kind"] == "target"].groupby("split"):
        frame.loc[family.index, "p_holm"] = holm(family["p"].tolist())
    return frame


def _siblings(target: ArmFacts, kind: str, facts: dict[str, ArmFacts]) -> list[str]:
    same = (target.latents, target.operation, target.scope)
    return [n for n, f in facts.items() if (f.latents, f.operation, f.scope) == same and f.kind.split()[0] == kind]


def _against(key: str, values: dict[str, Any], target: str, others: list[str], lowers: bool) -> dict[str, float]:
    found = against_directions(values[target], np.stack([values[other] for other in others]), lowers=lowers)
    return {
        key: found.difference, f"{key}_low": found.interval.low, f"{key}_high": found.interval.high, f"{key}_rank_p": found.rank_p,
        f"{key}_as_good": found.as_good, f"{key}_count": found.directions,
    }  # fmt: skip


def flipped(run: Run, arm: str, split: str | None = None) -> pd.DataFrame:
    """Items whose verdict an arm changed: `split, item, seed, change` (helped or hurt) with both texts. Raises StoreError for an arm that
    the run does not have."""
    base = run.manifest.baseline.name
    columns = ["arm", "split", "item", "seed", "correct", "answer", "gold", "text"]
    frame = run.table(columns=columns, arms=[base, arm], split=split).to_pandas()
    key = ["split", "item", "seed"]
    both = frame[frame["arm"] == base].merge(frame[frame["arm"] == arm], on=key, suffixes=("_unsteered", "_steered"))
    changed = both[both["correct_unsteered"] != both["correct_steered"]].copy()
    changed["change"] = np.where(changed["correct_steered"], "helped", "hurt")
    shown = ["change", "gold_steered", "answer_unsteered", "answer_steered", "text_unsteered", "text_steered"]
    return changed[[*key, *shown]].rename(columns={"gold_steered": "gold"}).reset_index(drop=True)


def behaviour_changes(run: Run) -> pd.DataFrame:
    """Change of every labelled behaviour's rate (spans per 100 generated tokens) per arm and split, paired by item, with intervals:
    `arm, split, label, unsteered, rate, difference, low, high, p`."""
    columns = ["arm", "split", "order", "labels", "token_ids"]
    frame = run.table(columns=columns).to_pandas()
    labels = sorted({span["label"] for spans in frame["labels"] for span in spans})
    lengths = frame["token_ids"].map(len).clip(lower=1)
    for label in labels:
        counts = frame["labels"].map(lambda spans, label=label: sum(s["label"] == label for s in spans))
        frame[f"rate {label}"] = 100 * counts / lengths
    base, lines = run.manifest.baseline.name, []
    for split, part in frame.groupby("split", sort=False):
        for label in labels:
            rates = part.groupby(["arm", "order"])[f"rate {label}"].mean().unstack("order")
            for name in _facts(run):
                before, after = rates.loc[base].to_numpy(float), rates.loc[name].to_numpy(float)
                found = paired_difference(before, after)
                lines.append(
                    {
                        "arm": name,
                        "split": split,
                        "label": label,
                        "unsteered": before.mean(),
                        "rate": after.mean(),
                        "difference": found.difference,
                        "low": found.interval.low,
                        "high": found.interval.high,
                        "p": found.p,
                    }  # fmt: skip
                )
    return pd.DataFrame(lines, columns=["arm", "split", "label", "unsteered", "rate", "difference", "low", "high", "p"])
