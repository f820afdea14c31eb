"""Figures of an ablation: forest plot, dose-response, and the cumulative curve of groups against their controls.

1. Every point has its 95 % interval and its n; controls are drawn beside their target in grey.
2. Functions take the table of `effects` and return plotly figures.
"""

from __future__ import annotations

import re

import pandas as pd
import plotly.graph_objects as go

from steering.errors import BadInput

COLOURS = {"target": "#1f6feb", "control": "#8b949e", "direction": "#bf8700", "splice": "#57606a"}
NAMES = {
    "target": "target",
    "control": "matched latents",
    "direction": "random direction",
    "splice": "read, nothing changed",
}


def _part(table: pd.DataFrame, split: str | None) -> pd.DataFrame:
    split = split if split is not None else str(table["split"].iloc[0])
    part = table[table["split"] == split]
    if part.empty:
        raise BadInput(f"The table has no split {split!r}; it has {', '.join(sorted(set(table['split'])))}.")
    return part


def forest(table: pd.DataFrame, split: str | None = None) -> go.Figure:
    """Paired change of accuracy of every arm, targets first, each above its controls."""
    part = _part(table, split)
    order = {"target": 0, "control": 1, "direction": 2, "splice": 3}
    part = part.assign(rank=part["kind"].map(order)).sort_values(
        ["scope", "operation", "latents", "rank"], kind="stable"
    )
    figure = go.Figure()
    for kind, own in part.groupby("kind", sort=False):
        labels = [_label(line) for line in own.to_dict("records")]
        figure.add_scatter(
            x=100 * own["difference"], y=labels, mode="markers", name=NAMES[str(kind)], marker={"color": COLOURS[str(kind)], "size": 9},
            error_x={"array": 100 * (own["high"] - own["difference"]), "arrayminus": 100 * (own["difference"] - own["low"])},
            customdata=own[["n", "accuracy", "p", "helped", "hurt"]],
            hovertemplate="%{y}<br>%{x:+.1f} points, n = %{customdata[0]}<br>p = %{customdata[2]:.2g}, helped %{customdata[3]}, "
            "hurt %{customdata[4]}<extra></extra>",
        )  # fmt: skip
    names = [_label(line) for line in part.to_dict("records")]
    figure.update_yaxes(
        categoryorder="array", categoryarray=list(reversed(list(dict.fromkeys(names)))), automargin=True
    )
    figure.update_xaxes(
        title="change of accuracy in points, paired, 95 % interval", zeroline=True, zerolinecolor="#57606a"
    )
    n = int(part["n"].iloc[0])
    title = f"{part['split'].iloc[0]}: {100 * part['unsteered'].iloc[0]:.1f} % right unsteered, n = {n}"
    figure.update_layout(title=title, template="plotly_white", height=140 + 26 * len(set(names)))
    return figure


def _label(line: dict[str, object]) -> str:
    what = f"{line['latents']} {line['operation']} on {line['scope']}"
    arm = str(line["arm"]).rsplit("|", 1)[-1]
    return what if line["kind"] == "target" else f"{what} · {arm}"


def dose_response(table: pd.DataFrame, split: str | None = None) -> go.Figure:
    """Change of accuracy over the dose of an operation, one line per group of latents, its matched latents' mean in grey.

    Raises BadInput when no operation of the table has a dose.
    """
    part = _part(table, split)
    part = (
        part[part["kind"].isin(("target", "control"))].assign(dose=part["operation"].map(_dose)).dropna(subset=["dose"])
    )
    if part.empty:
        raise BadInput(
            "No operation of the table has a dose; a dose-response needs some, as in scale 0f, scale 0.5f, scale 2f."
        )
    figure = go.Figure()
    for (latents, scope, verb), own in part.assign(verb=part["operation"].str.split().str[0]).groupby(
        ["latents", "scope", "verb"], sort=False
    ):
        target = own[own["kind"] == "target"].sort_values("dose")
        figure.add_scatter(
            x=target["dose"], y=100 * target["difference"], mode="lines+markers", name=f"{latents} {verb} on {scope}",
            error_y={"array": 100 * (target["high"] - target["difference"]),
                     "arrayminus": 100 * (target["difference"] - target["low"])},
        )  # fmt: skip
        control = own[own["kind"] == "control"].groupby("dose")["difference"].mean()
        if len(control):
            figure.add_scatter(
                x=control.index, y=100 * control, mode="lines", line={"color": COLOURS["control"], "dash": "dot"},
                name=f"matched to {latents}, mean",
            )  # fmt: skip
    figure.update_xaxes(title="dose")
    figure.update_yaxes(title="change of accuracy in points", zeroline=True, zerolinecolor="#57606a")
    figure.update_layout(title=f"{part['split'].iloc[0]}, n = {int(part['n'].iloc[0])}", template="plotly_white")
    return figure


def _dose(operation: str) -> float | None:
    found = re.search(r" ([+-]?[\d.]+(?:e[+-]?\d+)?)", operation)
    return float(found[1]) if found else None


def cumulative(table: pd.DataFrame, split: str | None = None) -> go.Figure:
    """Change of accuracy over how many latents are edited together: the ranked groups, and the range of their matched groups."""
    part = _part(table, split)
    target = part[part["kind"] == "target"].sort_values("size")
    control = part[part["kind"] == "control"].groupby("size")["difference"]
    figure = go.Figure()
    figure.add_scatter(
        x=target["size"], y=100 * target["difference"], mode="lines+markers", name="ranked", line={"color": COLOURS["target"]},
        error_y={"array": 100 * (target["high"] - target["difference"]), "arrayminus": 100 * (target["difference"] - target["low"])},
    )  # fmt: skip
    if len(control):
        mean, low, high = 100 * control.mean(), 100 * control.min(), 100 * control.max()
        figure.add_scatter(
            x=mean.index, y=mean, mode="lines+markers", name="matched groups, mean and range", line={"color": COLOURS["control"]},
            error_y={"array": high - mean, "arrayminus": mean - low},
        )  # fmt: skip
    figure.update_xaxes(title="latents edited together", type="log", dtick=0.30103)
    figure.update_yaxes(title="change of accuracy in points", zeroline=True, zerolinecolor="#57606a")
    figure.update_layout(title=f"{part['split'].iloc[0]}, n = {int(part['n'].iloc[0])}", template="plotly_white")
    return figure
