"""Outcomes item by item: how many an arm helped and hurt (`outcomes`), and which (`outcome_matrix`).

1. A pair is one item with one seed, in an arm and in the baseline: right in both, helped, hurt, or wrong in both.
2. Items stand in the same order in every row: those that the baseline has right first, then by how many arms have them right.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.patches import Patch, Rectangle

from ..evidence import Evidence, Unavailable
from .arms import slug
from .canvas import DOWN, FIXED_DARK, GRID, INK, PAPER, UP, Drawing, bare, cut, new_figure, styled

LOOKS = {
    "both right": ("#9AA7B4", None, FIXED_DARK), "helped": (UP, None, FIXED_DARK), "hurt": (DOWN, "////", "#fffffe"),
    "both wrong": (GRID, None, INK),
}  # fmt: skip
"""Colour, hatch and colour of the text on it."""
MEANING = {
    "both right": "right in both", "helped": "helped: wrong to right", "hurt": "hurt: right to wrong", "both wrong": "wrong in both",
}  # fmt: skip
ONE_BY_ONE = 1_600
"""Up to this many cells a matrix draws each by itself, with its answer in the hover."""
WIDEST = 1_500
MOST = 40
"""Arms drawn; beyond that without the controls, and of the others those that change most."""


def outcome_pairs(evidence: Evidence, split: str) -> pd.DataFrame:
    """One line per comparable arm (but the baseline) and pair of the baseline: `arm, label, role, item, seed, place, gold, answer,
    outcome`; `place` is the pair's place in the common order. Raises Unavailable without a pair."""
    names = [arm.name for arm in evidence.comparable.manifest.arms]
    rows = evidence.rows[(evidence.rows["split"] == split) & evidence.rows["arm"].isin(names)]
    base = rows[rows["arm"] == evidence.manifest.baseline.name].set_index(["item", "seed"])
    if base.empty or len(names) < 2:
        raise Unavailable("no arm holds the baseline's items")
    right = rows.groupby(["item", "seed"])["correct"].sum()
    order = pd.DataFrame(
        {"base": base["correct"], "right": right.reindex(base.index), "order": base["order"]}
    ).reset_index()
    order = order.sort_values(["base", "right", "order", "seed"], ascending=[False, False, True, True], kind="stable")
    place = {key: n for n, key in enumerate(zip(order["item"], order["seed"], strict=True))}
    arms = {arm.name: arm for arm in evidence.manifest.arms}
    lines = []
    for name in names:
        if name == evidence.manifest.baseline.name:
            continue
        own = rows[rows["arm"] == name].set_index(["item", "seed"]).reindex(base.index)
        for key, mine, theirs, answer, gold in zip(
            base.index, own["correct"], base["correct"], own["answer"], own["gold"], strict=True
        ):
            same = "both right" if mine else "both wrong"
            outcome = same if bool(mine) == bool(theirs) else "helped" if mine else "hurt"
            lines.append({
                "arm": name, "label": arms[name].label, "role": arms[name].role, "item": key[0], "seed": key[1], "place": place[key],
                "gold": gold, "answer": answer, "outcome": outcome,
            })  # fmt: skip
    found = pd.DataFrame(lines).sort_values("place", kind="stable").reset_index(drop=True)
    found.attrs["arms"] = [name for name in names if name != evidence.manifest.baseline.name]
    return found


def outcomes(evidence: Evidence, split: str) -> Drawing:
    """Per arm, the pairs that are right in both, helped, hurt and wrong in both. Raises Unavailable without a pair."""
    pairs = outcome_pairs(evidence, split)
    counts = outcome_counts(pairs)
    names, note = _shown(pairs, counts)
    labels = dict(zip(pairs["arm"], pairs["label"], strict=True))
    n = int(counts.iloc[0].sum())
    tips, title = {}, f"Outcomes against the baseline: {split}"
    with styled():
        figure, (axes,) = new_figure(title, 7.2, 0.3 * len(names) + 0.9)
        for row, name in enumerate(names):
            start = 0
            for kind, count in counts.loc[name].items():
                colour, hatch, ink = LOOKS[str(kind)]
                if count:
                    bar = Rectangle(
                        (start, row - 0.36),
                        count,
                        0.72,
                        facecolor=colour,
                        hatch=hatch,
                        edgecolor="#fffffe" if hatch else PAPER,
                        linewidth=0.8,
                    )
                    bar.set_gid(f"bar-{row}-{str(kind).replace(' ', '-')}")
                    axes.add_patch(bar)
                    tips[str(bar.get_gid())] = f"{labels[name]}\n{MEANING[str(kind)]}: {count} of {n} pairs"
                if count >= 0.035 * n:
                    box = {"facecolor": colour, "edgecolor": "none", "pad": 1.0} if hatch else None
                    axes.text(
                        start + count / 2, row, str(count), ha="center", va="center", color=ink, fontsize=8, bbox=box
                    )
                start += count
        axes.set_xlim(0, n)
        axes.set_ylim(len(names) - 0.45, -0.55)
        axes.set_yticks(range(len(names)), [cut(labels[name]) for name in names])
        axes.set_xlabel(f"pairs of an item and a seed, n = {n}")
        bare(axes)
        _key(figure)
    frame = counts.reset_index().assign(n=n)
    frame.insert(1, "label", frame["arm"].map(labels))
    said = "; ".join(f"{cut(labels[a])} {counts.loc[a, 'helped']} helped, {counts.loc[a, 'hurt']} hurt" for a in names)
    words = f"Each arm against the baseline on the same {n} pairs of an item and a seed.{note}"
    return Drawing(f"outcomes-{slug(split)}", title, words, frame, figure, tips, f"{said}.")


def outcome_counts(pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs per arm (index, in the run's order) and outcome (columns)."""
    counts = pairs.groupby(["arm", "outcome"]).size().unstack(fill_value=0)
    return counts.reindex(index=pd.Index(list(pairs.attrs["arms"]), name="arm"), columns=list(LOOKS), fill_value=0)


def _shown(pairs: pd.DataFrame, counts: pd.DataFrame) -> tuple[list[str], str]:
    """The arms that are drawn, and what to say of the others."""
    names = list(counts.index)
    if len(names) <= MOST:
        return names, ""
    roles = dict(zip(pairs["arm"], pairs["role"], strict=True))
    kept = [name for name in names if roles[name] != "control"]
    changed = (counts["helped"] + counts["hurt"]).loc[kept].sort_values(ascending=False, kind="stable")
    most = set(changed.index[:MOST])
    kept = [name for name in kept if name in most]
    return kept, f" Drawn are {len(kept)} of {len(names)} arms, without the controls."


def outcome_matrix(evidence: Evidence, split: str) -> Drawing:
    """Items by arms: what each arm did to each item. Raises Unavailable without a pair, or with too many to draw."""
    pairs = outcome_pairs(evidence, split)
    names, note = _shown(pairs, outcome_counts(pairs))
    n = int(pairs["place"].max()) + 1
    if n > WIDEST:
        raise Unavailable(f"{n:,} items are too many for a matrix; the counts are in the outcomes")
    single, tips, title = n * len(names) <= ONE_BY_ONE, {}, f"Items by arms: {split}"
    labels = dict(zip(pairs["arm"], pairs["label"], strict=True))
    with styled():
        figure, (axes,) = new_figure(title, 7.2, 0.24 * len(names) + 0.9)
        for row, name in enumerate(names):
            own = pairs[pairs["arm"] == name]
            kinds = own["outcome"].to_numpy()
            ends = np.arange(1, n + 1) if single else np.append(np.flatnonzero(kinds[1:] != kinds[:-1]) + 1, n)
            start = 0
            for end in ends.tolist():
                colour, _, _ = LOOKS[kinds[start]]
                cell = Rectangle(
                    (start, row - 0.42), end - start, 0.84, facecolor=colour, edgecolor=colour, linewidth=0.3
                )
                cell.set_gid(f"cell-{row}-{start}")
                axes.add_patch(cell)
                tips[f"cell-{row}-{start}"] = _cell_tip(labels[name], own.iloc[start:end], kinds[start])
                start = end
        axes.set_xlim(0, n)
        axes.set_ylim(len(names) - 0.45, -0.55)
        axes.set_yticks(range(len(names)), [cut(labels[name]) for name in names])
        axes.set_xlabel(f"{n} pairs of an item and a seed, those that the baseline has right first")
        bare(axes)
        _key(figure, hatched=False)
    words = (
        f"What each arm did to each of {n} items, in the same order in every row.{note} The counts are in the outcomes."
    )
    return Drawing(f"matrix-{slug(split)}", title, words, pairs, figure, tips)


def _cell_tip(label: str, cell: pd.DataFrame, kind: str) -> str:
    if len(cell) > 1:
        return f"{label}\n{len(cell)} items, {MEANING[kind]}"
    line = cell.iloc[0]
    answer = (
        "no answer"
        if line["answer"] is None or line["answer"] != line["answer"]
        else f"answered {cut(line['answer'], 80)}"
    )
    return f"{label}\n{cut(line['item'], 80)}: {MEANING[kind]}\n{answer}, right is {cut(line['gold'], 80)}"


def _key(figure: object, hatched: bool = True) -> None:
    made = [
        Patch(
            facecolor=colour,
            hatch=hatch if hatched else None,
            edgecolor="#fffffe" if hatch and hatched else PAPER,
            linewidth=0.5,
            label=MEANING[kind],
        )
        for kind, (colour, hatch, _) in LOOKS.items()
    ]
    figure.legend(handles=made, loc="outside lower center", ncols=4, handletextpad=0.5, columnspacing=1.4)  # type: ignore[attr-defined]
