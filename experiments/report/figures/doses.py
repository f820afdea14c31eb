"""The dose-response of a sweep or an ablation, beside its controls (`dose_response`).

1. A mark is the paired difference to the unsteered arm with its 95 % interval, hollow where that holds 0.
2. The band reaches from the smallest to the largest of the controls' own differences to the unsteered arm, each its own draw.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ...evaluation.controls import matched_controls
from ...looks import look
from ...statistics import paired_difference
from ..arm_frame import item_means
from ..evidence import Evidence, Unavailable
from .canvas import MUTED, PAPER, Drawing, cut, new_figure, p_words, points, styled
from .sweeps import axis_names, settings_words


def dose_frame(evidence: Evidence) -> pd.DataFrame:
    """One line per panel and dose: `panel, arm, dose, n`, `difference` to the unsteered arm with `low, high, p`, and where the arm has
    controls `controls` (how many), `control` (their mean's difference) and the extremes `control_low, control_high` of theirs. Splits
    pooled in a sweep, else the first one.

    Raises Unavailable where no dose varies.
    """
    doses = _doses(evidence)
    panels = pd.Series([panel for panel, _ in doses.values()])
    if not doses or panels.value_counts().max() < 2:
        raise Unavailable("no dose varies in it")
    own, base = matched_controls(evidence.manifest), evidence.manifest.baseline.name
    splits = list(evidence.comparable.manifest.splits)
    pooled = splits if evidence.sweep else splits[:1]
    parts = [item_means(evidence, "correct", split) for split in pooled]
    right = {
        arm: np.concatenate([part[arm] for part in parts]) for arm in parts[0] if all(arm in part for part in parts)
    }
    lines = []
    for arm, (panel, dose) in doses.items():
        if arm not in right or base not in right:
            continue
        found = paired_difference(right[base], right[arm])
        line = {"panel": panel, "arm": arm, "dose": dose, "n": found.n, "difference": found.difference, "low": found.interval.low,
                "high": found.interval.high, "p": found.p}  # fmt: skip
        controls = [name for name in own[arm].arms if name in right] if arm in own else []
        if controls:
            theirs = [float((right[name] - right[base]).mean()) for name in controls]
            line |= {"kind": own[arm].kind, "controls": len(controls), "control": float(np.mean(theirs)),
                     "control_low": min(theirs), "control_high": max(theirs)}  # fmt: skip
        lines.append(line)
    if not lines:
        raise Unavailable("no dose has all its rows yet")
    return pd.DataFrame(lines).sort_values(
        ["panel", "dose"], key=lambda s: s if s.name == "dose" else s.map(_place(panels))
    )


def _place(panels: pd.Series) -> dict[str, int]:
    return {panel: n for n, panel in enumerate(dict.fromkeys(panels))}


def _doses(evidence: Evidence) -> dict[str, tuple[str, float]]:
    """Panel and dose of every arm that has a dose."""
    if evidence.kind == "sweep, development":
        table, settings = evidence.cells, evidence.settings
        _, along, _ = axis_names(table, settings)
        if along is None or not pd.api.types.is_numeric_dtype(table[along]):
            return {}
        rest = [s for s in settings if s != along]
        return {str(l["cell"]): (settings_words(l, rest) or "all", float(l[along])) for l in table.to_dict("records")}  # noqa: E741
    if evidence.kind == "ablation":
        found = {}
        for arm in evidence.manifest.arms:
            latents, operation, scope, kind = (*arm.name.split("|"), "", "", "")[:4]
            dose = re.search(r" ([+-]?[\d.]+(?:e[+-]?\d+)?)", operation)
            if kind == "target" and dose:
                found[arm.name] = (f"{latents} {operation.split()[0]} on {scope}", float(dose[1]))
        return found
    return {}


def dose_response(evidence: Evidence) -> Drawing:
    """Change of accuracy over the dose, one panel per layer (and vector, or group of latents), with its controls' band.

    Raises Unavailable where no dose varies.
    """
    frame = dose_frame(evidence)
    panels = list(dict.fromkeys(frame["panel"]))
    wide = min(3, len(panels))
    tall = -(-len(panels) // wide)
    title = "Dose-response beside the controls"
    colour, other = look("steered").colour, look("control").colour
    tips: dict[str, str] = {}
    with styled():
        figure, axes_of = new_figure(
            title, max(4.8, 2.7 * wide), 2.2 * tall + 0.8, tall, wide, sharey=True, sharex=True
        )
        for axes in axes_of[len(panels) :]:
            axes.remove()
        for number, (axes, panel) in enumerate(zip(axes_of, panels, strict=False)):
            own = frame[frame["panel"] == panel]
            if "control" in own and own["control"].notna().any():
                held = own.dropna(subset=["control"])
                axes.fill_between(
                    held["dose"], 100 * held["control_low"], 100 * held["control_high"], facecolor=other, alpha=0.22, hatch="///",
                    edgecolor=other, linewidth=0.3, zorder=1,
                )  # fmt: skip
                axes.plot(
                    held["dose"], 100 * held["control"], color=other, linestyle=(0, (4, 2)), linewidth=1.3, zorder=2
                )
            axes.axhline(0, color=MUTED, linewidth=0.9, zorder=1)
            axes.plot(own["dose"], 100 * own["difference"], color=colour, linewidth=1.6, zorder=3)
            for place, line in enumerate(own.to_dict("records")):
                zero = line["low"] <= 0 <= line["high"]
                axes.plot(
                    [line["dose"]] * 2, [100 * line["low"], 100 * line["high"]], color=colour, linewidth=1.4, zorder=3
                )
                (mark,) = axes.plot(
                    [line["dose"]], [100 * line["difference"]], marker="D", markersize=5.5, color=colour, zorder=4,
                    markerfacecolor=PAPER if zero else colour, linestyle="none",
                )  # fmt: skip
                mark.set_gid(f"dose-{number}-{place}")
                tips[f"dose-{number}-{place}"] = _dose_tip(panel, line)
            axes.set_title(cut(panel, 34))
            if number + wide >= len(panels):  # nothing stands below it
                axes.set_xlabel("dose")
                axes.tick_params(labelbottom=True)
            axes.grid()
            axes.set_axisbelow(True)
        figure.supylabel("change to unsteered, points", fontsize=9)
        made: list[Any] = [Line2D([], [], color=colour, marker="D", markersize=5.5, label="steered, 95 % interval")]
        made.append(
            Line2D([], [], color=colour, marker="D", markerfacecolor=PAPER, linestyle="none", label="interval holds 0")
        )
        low, high = axes_of[0].get_ylim()
        axes_of[0].set_ylim(min(low, -5), max(high, 5))
        if "control" in frame and frame["control"].notna().any():
            kind = str(frame["kind"].dropna().iloc[0])
            named = f"its {kind if kind.endswith('s') else kind + 's'}: mean, smallest to largest"
            made.append(Patch(facecolor=other, alpha=0.3, hatch="///", edgecolor=other, label=named))
        figure.legend(handles=made, loc="outside lower center", ncols=3 if wide > 1 else 1, columnspacing=1.3)
    n = int(frame["n"].iloc[0])
    best = frame.loc[frame["difference"].idxmax()]
    words = (
        f"Change of accuracy to the unsteered arm over the dose, n = {n} items; the largest is {points(best['difference'])} points "
        f"({points(best['low'])} to {points(best['high'])}) at {best['panel']}, dose {best['dose']:g}. Not corrected for their number."
    )
    return Drawing("dose-response", title, words, frame, figure, tips)


def _dose_tip(panel: str, line: dict[str, Any]) -> str:
    tip = (
        f"{panel}, dose {line['dose']:g}\n{points(line['difference'])} points ({points(line['low'])} to {points(line['high'])}), "
        f"n = {line['n']}, {p_words(line['p'])}"
    )
    if line.get("control") is None or line["control"] != line["control"]:
        return tip
    many = f"{int(line['controls'])} {line['kind']}{'' if line['kind'].endswith('s') or line['controls'] == 1 else 's'}"
    return f"{tip}\n{many}: {points(line['control'])} ({points(line['control_low'])} to {points(line['control_high'])})"
