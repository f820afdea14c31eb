"""What a hybrid run shows: accuracy, gap, and what the controller did, per arm and split, with intervals.

1. `steered` is the share of generated tokens that were gated, `matched` the share of gated tokens that became the thinking model's own.
   Both are counts of stored choices, and so are the shares of categories.
2. `size` is the mean ‖shift‖ / ‖h‖ at shifted positions, as the hooks measured it; `alpha` the mean coefficient there.
3. `readings` is the cost: forward passes of one row per generated token, over both models. A second reading of a gated token counts one,
   the thinking model's reading of a token counts one.
4. `truncated_rate` and `unscorable_rate` are the shares of rows that were cut at the limit, and that hold no answer that could be compared.
5. Where the share of the gap is not defined, `gap_reason` says why, and so does the table.
6. `against` is the paired difference to the hybrid on the same problems, with its interval; below 0 the hybrid is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from ...statistics import gap_recovered, paired_difference, wilson
from ...store.runs import Arm, Run

HYBRID = "hybrid"
RATES = ("truncated_rate", "unscorable_rate")


def readings_per_token(arm: Arm, tokens: int, again: int) -> float:
    """Forward passes of one row per generated token."""
    if arm.controller is None:
        return 1.0
    own = 1 + again / max(1, tokens)
    return own + 1 if "thinking" in arm.controller else own


def hybrid_frame(run: Run) -> pd.DataFrame:
    """One line per split and arm, in the run's order; shares and differences in [0, 1], NaN where not defined."""
    lines = []
    columns = ["arm", "item", "correct", "truncated", "scorable", "token_ids", "edit_ratio", "edits_fired", "choices"]
    for split in run.manifest.splits:
        rows = run.table(columns=columns, split=split).to_pandas()
        right = {name: group.set_index("item")["correct"].astype(float) for name, group in rows.groupby("arm")}
        base = right[run.manifest.baseline.name]
        top = right[run.manifest.reference.name] if run.manifest.reference else None
        for arm in run.manifest.arms:
            if arm.name in right:
                own = rows[rows["arm"] == arm.name]
                lines.append({"split": split, "arm": arm.name, "label": arm.label, **_line(arm, own, right, base, top)})
    return pd.DataFrame(lines)


def random_lines(run: Run, name: str = "random_vectors", what: str = "banks of random vectors") -> pd.DataFrame:
    """The banks of random vectors of a run, arms that begin with `name`, as one line per split: means, with the extremes of the banks as
    ends."""
    frame = hybrid_frame(run)
    own = frame[frame["arm"].str.startswith(f"{name}_")]
    lines = []
    for split, part in own.groupby("split", sort=False):
        means = (
            part[["accuracy", "gap", "tokens", "steered", "matched", "alpha", "size", "readings", *RATES]]
            .mean()
            .to_dict()
        )
        why = next(iter(part["gap_reason"].dropna()), None) if "gap_reason" in part else None
        ends = {
            f"{start}{end}": getattr(part[column], how)()
            for column, start in (("accuracy", ""), ("gap", "gap_"))
            for end, how in (("low", "min"), ("high", "max"))
        }
        label = f"{len(part)} {what}: mean, extremes"
        counts = {
            "n": int(part["n"].max()),
            "truncated": int(part["truncated"].sum()),
            "unscorable": int(part["unscorable"].sum()),
        }
        lines.append({"split": split, "arm": name, "label": label, "gap_reason": why, **counts, **means, **ends})
    return pd.DataFrame(lines)


def _line(
    arm: Arm, rows: pd.DataFrame, right: dict[str, pd.Series], base: pd.Series, top: pd.Series | None
) -> dict[str, Any]:
    own = right[arm.name]
    n, tokens = len(own), int(rows["token_ids"].map(len).sum())
    interval = wilson(int(own.sum()), n)
    line: dict[str, Any] = {
        "n": n, "accuracy": own.mean(), "low": interval.low, "high": interval.high, "tokens": tokens / n,
        "truncated": int(rows["truncated"].sum()), "unscorable": int((~rows["scorable"]).sum()),
        "truncated_rate": float(rows["truncated"].mean()), "unscorable_rate": float((~rows["scorable"]).mean()), "gap_reason": None,
    }  # fmt: skip
    shared = base.index.intersection(own.index)
    if top is not None and arm.role not in ("baseline", "reference"):
        gap = gap_recovered(base[shared].to_numpy(), own[shared].to_numpy(), top[shared].to_numpy())
        line |= {"gap": np.nan if gap.value is None else gap.value, "gap_reason": gap.reason}
        if gap.interval is not None:
            line |= {"gap_low": gap.interval.low, "gap_high": gap.interval.high}
    if HYBRID in right and arm.name not in (HYBRID, "thinking", "base"):
        both = right[HYBRID].index.intersection(own.index)
        found = paired_difference(right[HYBRID][both].to_numpy(), own[both].to_numpy())
        line |= {
            "against": found.difference,
            "against_low": found.interval.low,
            "against_high": found.interval.high,
            "against_p": found.p,
        }
    if arm.controller is not None:
        line |= _choices(arm, rows, tokens)
    line["readings"] = readings_per_token(arm, tokens, _again(arm, rows))
    return line


def _again(arm: Arm, rows: pd.DataFrame) -> int:
    """Second readings of the base: every shift, but those that a rule makes within its own reading."""
    if arm.controller is None or arm.controller["how"] != "shift":
        return 0
    inside = not arm.controller.get("revert", True) and arm.controller["when"] in ("trigger", "sentence_starts")
    return 0 if inside else int(rows["edits_fired"].sum())


def _choices(arm: Arm, rows: pd.DataFrame, tokens: int) -> dict[str, Any]:
    made = [choice for row in rows["choices"] if row is not None for choice in row]
    sizes = np.concatenate([np.asarray(r, float) for r in rows["edit_ratio"]])
    judged = [c["matched"] for c in made if c["matched"] is not None]
    alphas = [c["alpha"] for c in made if c["alpha"] == c["alpha"]]
    kinds = np.array([c["category"] for c in made], int)
    shares = np.bincount(kinds[kinds >= 0]) / max(1, len(kinds)) if len(kinds) else np.zeros(0)
    shifted = sizes[sizes > 0]
    return {
        "steered": len(made) / tokens,
        "matched": np.mean(judged) if judged else np.nan,
        "alpha": np.mean(alphas) if alphas else np.nan,
        "size": shifted.mean() if len(shifted) else 0.0 if alphas else np.nan,
        "categories": [round(float(share), 4) for share in shares],
    }


def render(frame: pd.DataFrame, split: str) -> Table:
    """One split of the frame for the terminal; why a share of the gap is not defined stands below it."""
    part = frame[frame["split"] == split]
    table = Table(title=f"{split}: {int(part['n'].max())} problems", title_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("arm", min_width=12)
    heads = (
        "right %",
        "cut %",
        "no\nanswer %",
        "gap closed %",
        "against\nhybrid",
        "steered\n%",
        "matched\n%",
        "alpha",
        "‖shift‖\n/‖h‖",
        "tokens",
        "readings\n/token",
    )
    for head in heads:
        table.add_column(head, justify="right")
    for line in part.to_dict("records"):
        n = "" if line["n"] == part["n"].max() else f" (n={line['n']})"
        table.add_row(
            f"{line['label']}{n}",
            _with_ends(line, "accuracy", "low", "high", ".1f"),
            _cell(line["truncated_rate"], 100, ".1f"),
            _cell(line["unscorable_rate"], 100, ".1f"),
            _with_ends(line, "gap", "gap_low", "gap_high", ".0f") or ("not\ndefined" if gap_undefined(line) else ""),
            _with_ends(line, "against", "against_low", "against_high", "+.1f"),
            _cell(line.get("steered"), 100, ".1f"),
            _cell(line.get("matched"), 100, ".0f"),
            _cell(line.get("alpha"), 1, ".2f"),
            _cell(line.get("size"), 1, ".2f"),
            _cell(line["tokens"], 1, ".0f"),
            _cell(line["readings"], 1, ".2f"),
        )
    reasons = dict.fromkeys((why, line["n"]) for line in part.to_dict("records") if (why := gap_undefined(line)))
    table.caption = "\n".join(f"The gap closed is not defined on n = {n}: {why}." for why, n in reasons) or None
    table.caption_justify = "left"
    return table


def gap_undefined(line: Mapping[str, Any]) -> str:
    """Why an arm's share of the gap is not defined; empty where it is, and for the arms that the gap lies between."""
    why = line.get("gap_reason")
    return why if isinstance(why, str) else ""


def _cell(value: Any, scale: float, form: str) -> str:
    return "" if value is None or value != value else format(scale * value, form)


def _with_ends(line: dict[str, Any], name: str, low: str, high: str, form: str) -> str:
    if line.get(name) is None or line[name] != line[name]:
        return ""
    ends = [_cell(line.get(end), 100, ".0f") for end in (low, high)]
    return f"{_cell(line[name], 100, form)}\n{ends[0]} to {ends[1]}"
