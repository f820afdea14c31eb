"""Every number of the arms of a run as one table, and values by item."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..statistics import paired_difference
from .evidence import Evidence


def item_means(evidence: Evidence, column: str, split: str) -> dict[str, np.ndarray[Any, Any]]:
    """Mean of a column per item (seeds averaged) by arm `[items]`, over the comparable arms of a split, items in the same order."""
    keep = [arm.name for arm in evidence.comparable.manifest.arms]
    base = evidence.rows[(evidence.rows["split"] == split) & (evidence.rows["arm"] == evidence.manifest.baseline.name)]
    pairs = base[["item", "seed"]]
    part = evidence.rows[(evidence.rows["split"] == split) & evidence.rows["arm"].isin(keep)].merge(
        pairs, on=["item", "seed"]
    )
    wide = part.pivot_table(index="item", columns="arm", values=column, aggfunc="mean")
    return {str(arm): wide[arm].to_numpy(float) for arm in wide.columns}


def arms_frame(evidence: Evidence) -> pd.DataFrame:
    """One line per split and arm with every number of the summary, the interval of the tokens' paired difference, and the difference to
    the matched controls. Shares and differences in [0, 1]; None where not defined."""
    forms = {arm.name: arm for arm in evidence.manifest.arms}
    lines: list[dict[str, Any]] = []
    for split in evidence.summary.splits:
        tokens = item_means(evidence, "tokens", split.split)
        base = tokens.get(evidence.manifest.baseline.name)
        for arm in split.arms:
            share, found, gap = arm.accuracy, arm.versus_baseline, arm.gap
            longer = (
                paired_difference(base, tokens[arm.name]) if found and base is not None and arm.name in tokens else None
            )
            matched = arm.beyond
            lines.append({
                "split": split.split, "arm": arm.name, "label": arm.label, "role": arm.role, "model": forms[arm.name].model,
                "form": forms[arm.name].form, "n": arm.n, "items": arm.items, "accuracy": share.value if share else None,
                "accuracy_low": share.interval.low if share else None, "accuracy_high": share.interval.high if share else None,
                "right": share.count if share else None, "truncated": arm.truncated, "unscorable": arm.unscorable,
                "tokens": arm.mean_tokens, "difference": found.difference if found else None,
                "difference_low": found.interval.low if found else None, "difference_high": found.interval.high if found else None,
                "p": found.p if found else None, "test": found.test if found else None, "compared": found.n if found else None,
                "helped": found.helped if found else None, "hurt": found.hurt if found else None,
                "unchanged": found.n - found.helped - found.hurt if found else None, "missing": found.missing if found else None,
                "detectable": found.detectable if found else None, "token_difference": found.token_difference if found else None,
                "token_difference_low": longer.interval.low if longer else None,
                "token_difference_high": longer.interval.high if longer else None,
                "controls": matched.named if matched else None,
                "controls_mean": matched.mean if matched else None,
                "controls_low": matched.low if matched else None, "controls_high": matched.high if matched else None,
                "over_controls": matched.difference if matched else None,
                "over_controls_low": matched.interval.low if matched else None,
                "over_controls_high": matched.interval.high if matched else None,
                "over_controls_rank_p": matched.rank_p if matched else None,
                "over_controls_as_good": matched.as_good if matched else None,
                "over_controls_matched": matched.matched if matched else None,
                "gap_recovered": gap.value if gap else None,
                "gap_low": gap.interval.low if gap and gap.interval else None,
                "gap_high": gap.interval.high if gap and gap.interval else None, "gap_reason": gap.reason if gap else None,
                "gap_n": gap.n if gap else None, "edits_planned": arm.edits_planned, "edits_fired": arm.edits_fired,
                "edited_share": arm.steered_fraction, "edit_ratio": arm.median_edit_ratio,
            })  # fmt: skip
    return pd.DataFrame(lines)
