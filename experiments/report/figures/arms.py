"""Arms of a split: paired differences with their intervals (`forest`), and accuracy against tokens (`pareto`)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from ...evaluation.crowds import with_crowds
from ...evaluation.summary import ArmSummary, SplitSummary
from ...looks import look
from ...statistics import FrontPoint, pareto_front
from ..arm_frame import item_means
from ..evidence import Evidence, Unavailable
from .canvas import INK, MUTED, PAPER, Drawing, cut, new_figure, p_words, points, styled

MOST = 80
"""Arms drawn in one forest; beyond that the largest differences."""


def forest(split: SplitSummary) -> Drawing:
    """Paired difference of every arm to the baseline, in points, with interval, n and p; controls hollow and dashed.

    Raises Unavailable when no arm shares an item with the baseline.
    """
    every = [(arm, arm.versus_baseline) for arm in with_crowds(split.arms)]
    kept = [(arm, found) for arm, found in every if found is not None]
    if not kept:
        raise Unavailable("no arm shares an item with the baseline")
    frame = pd.DataFrame(
        [
            {
                "arm": arm.name, "label": arm.label, "role": arm.role, "n": found.n, "difference": found.difference,
                "low": found.interval.low, "high": found.interval.high, "p": found.p, "helped": found.helped, "hurt": found.hurt,
            }
            for arm, found in kept
        ]
    )  # fmt: skip
    shown = frame if len(frame) <= MOST else frame.loc[frame["difference"].abs().nlargest(MOST).sort_index().index]
    title = f"Paired differences to the baseline: {split.split}"
    tips: dict[str, str] = {}
    with styled():
        figure, (axes,) = new_figure(title, 7.2, 0.26 * len(shown) + 0.9)
        for place, line in enumerate(shown.to_dict("records")):
            appearance, control = look(line["role"]), line["role"] == "control"
            value, low, high = (100 * line[k] for k in ("difference", "low", "high"))
            (mark,) = axes.plot(
                [value], [place], marker=appearance.marker, markersize=9 if appearance.marker == "*" else 6.5, zorder=3,
                color=appearance.colour, markerfacecolor=PAPER if control else appearance.colour, linestyle="none",
            )  # fmt: skip
            (bar,) = axes.plot(
                [low, high], [place, place], color=appearance.colour, linewidth=1.8, zorder=2, solid_capstyle="butt",
                linestyle=(0, (3, 1.6)) if control else "solid",
            )  # fmt: skip
            tip = (
                f"{line['label']}\n{points(line['difference'])} points, interval {points(line['low'])} to {points(line['high'])}\n"
                f"{line['helped']} helped, {line['hurt']} hurt, n = {line['n']}, {p_words(line['p'])}"
            )
            for part, artist in (("mark", mark), ("bar", bar)):
                artist.set_gid(f"{part}-{place}")
                tips[f"{part}-{place}"] = tip
            words = (
                f"{points(line['difference'])}  ({points(line['low'])} to {points(line['high'])})  {p_words(line['p'])}"
            )
            axes.annotate(
                words, (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8,
                color=MUTED if line["low"] <= 0 <= line["high"] else INK, annotation_clip=False,
            )  # fmt: skip
        left, right = axes.get_xlim()
        axes.set_xlim(min(left, -5), max(right, 5))
        axes.axvline(0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.set_yticks(
            range(len(shown)), [f"{cut(a)}  (n = {n})" for a, n in zip(shown["label"], shown["n"], strict=True)]
        )
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.set_xlabel("difference to the baseline on the same items, points")
    said = "; ".join(
        f"{cut(a.label)} {points(f.difference)} ({points(f.interval.low)} to {points(f.interval.high)})"
        for a, f in kept
    )
    note = f" Drawn are the {MOST} largest of {len(frame)}." if len(shown) < len(frame) else ""
    words = (
        "Difference in right answers to the baseline, paired by item, with 95 % interval; controls are hollow and dashed, many controls "
        f"of one arm one line from their smallest to their largest.{note}"
    )
    return Drawing(f"forest-{slug(split.split)}", title, words, frame, figure, tips, f"{said}.")


def slug(text: str) -> str:
    """A name of a split as a part of a file name."""
    return "".join(c if c.isalnum() and c.isascii() or c in "-_" else "-" for c in text)[:60] or "split"


def front_frame(evidence: Evidence, split: str) -> pd.DataFrame:
    """Accuracy and mean tokens of every comparable arm with `on_front`, `front_share` (share of resamples of the items), who beats it
    (`beaten_by`) and by how much on the same items. Shares in [0, 1]. Raises Unavailable with fewer than two arms."""
    right, tokens = item_means(evidence, "correct", split), item_means(evidence, "tokens", split)
    arms = {arm.name: arm for arm in evidence.summary.split(split).arms}
    names = [name for name in arms if name in right]
    if len(names) < 2:
        raise Unavailable("fewer than two arms hold the baseline's items")
    if not any(values.any() for values in tokens.values()):
        raise Unavailable("its rows hold no tokens")
    found = pareto_front(names, np.stack([right[n] for n in names]), np.stack([tokens[n] for n in names]))
    return pd.DataFrame([_front_line(arms[point.name], point, len(right[point.name])) for point in found])


def _front_line(arm: ArmSummary, point: FrontPoint, n: int) -> dict[str, object]:
    line: dict[str, object] = {
        "arm": arm.name, "label": arm.label, "role": arm.role, "n": n, "accuracy": point.accuracy,
        "low": arm.accuracy.interval.low if arm.accuracy else None, "high": arm.accuracy.interval.high if arm.accuracy else None,
        "tokens": point.tokens, "on_front": point.on_front, "front_share": point.share, "beaten_by": point.beaten_by,
    }  # fmt: skip
    for name, found in (("accuracy_behind", point.accuracy_difference), ("tokens_behind", point.token_difference)):
        line |= {
            name: found.difference if found else None,
            f"{name}_low": found.interval.low if found else None,
            f"{name}_high": found.interval.high if found else None,
        }
    return line


def pareto(evidence: Evidence, split: str) -> Drawing:
    """Accuracy against mean tokens of a response; the arms that none beats on both are joined.

    Raises Unavailable with fewer than two comparable arms.
    """
    frame, title = front_frame(evidence, split), f"Accuracy against tokens: {split}"
    tips: dict[str, str] = {}
    with styled():
        figure, (axes,) = new_figure(title, 7.2, 4.4)
        front = frame[frame["on_front"]].sort_values(["tokens", "accuracy"])
        axes.plot(
            front["tokens"],
            100 * front["accuracy"],
            color=MUTED,
            linewidth=1.2,
            drawstyle="steps-post",
            zorder=1,
            label="front",
        )
        for place, line in enumerate(frame.to_dict("records")):
            appearance, control = look(line["role"]), line["role"] == "control"
            (bar,) = axes.plot(
                [line["tokens"]] * 2, [100 * line["low"], 100 * line["high"]], color=appearance.colour, zorder=2, linewidth=1.3,
                linestyle=(0, (3, 1.6)) if control else "solid", alpha=0.9 if line["on_front"] else 0.45, solid_capstyle="butt",
            )  # fmt: skip
            (mark,) = axes.plot(
                [line["tokens"]], [100 * line["accuracy"]], marker=appearance.marker, linestyle="none", color=appearance.colour,
                markersize=11 if appearance.marker == "*" else 7, markerfacecolor=PAPER if control else appearance.colour, zorder=3,
            )  # fmt: skip
            for part, artist in (("mark", mark), ("bar", bar)):
                artist.set_gid(f"{part}-{place}")
                tips[f"{part}-{place}"] = _front_tip(line, frame)
        axes.set_xlabel("mean tokens of a response")
        axes.set_ylabel("right answers, % (bar: Wilson interval)")
        axes.grid()
        axes.set_axisbelow(True)
        low, high = frame["tokens"].min(), frame["tokens"].max()
        spread = max(high - low, 0.1 * high, 1.0)
        axes.set_xlim(low - 0.08 * spread, high + 0.3 * spread)
        axes.set_ylim(max(-4, 100 * frame["low"].min() - 6), min(106, 100 * frame["high"].max() + 6))
        _legend(axes, frame)
        _label(figure, axes, frame)
    left = evidence.left_out
    note = f" Left out for lack of the baseline's items: {', '.join(cut(a) for a in left[:8])}." if left else ""
    on = ", ".join(
        f"{cut(a)} (in {100 * s:.0f} % of resamples)" for a, s in zip(front["label"], front["front_share"], strict=True)
    )
    words = (
        f"Accuracy against mean tokens, n = {int(frame['n'].iloc[0])} items. The line joins the arms that none beats on both; by how "
        f"much the others are beaten on the same items is in the marks' titles and in the data.{note}"
    )
    return Drawing(
        f"pareto-{slug(split)}",
        title,
        words,
        frame,
        figure,
        tips,
        f"On the front: {on or 'no arm, for none is right anywhere'}.",
    )


def _front_tip(line: dict[str, object], frame: pd.DataFrame) -> str:
    value, low, high, share = (100 * float(line[k]) for k in ("accuracy", "low", "high", "front_share"))  # type: ignore[arg-type]
    tip = (
        f"{line['label']}\n{value:.1f} % right ({low:.1f} to {high:.1f}), {line['tokens']:.1f} tokens, n = {line['n']}"
    )
    if line["beaten_by"] is None or line["beaten_by"] != line["beaten_by"]:
        return (
            f"{tip}\non the front; in {share:.0f} % of resamples"
            if line["on_front"]
            else f"{tip}\nright nowhere, so on no front"
        )
    by = frame.set_index("arm")["label"][str(line["beaten_by"])]
    behind = [points(float(line[k])) for k in ("accuracy_behind", "accuracy_behind_low", "accuracy_behind_high")]  # type: ignore[arg-type]
    tokens = [f"{float(line[k]):+.1f}" for k in ("tokens_behind", "tokens_behind_low", "tokens_behind_high")]  # type: ignore[arg-type]
    return (
        f"{tip}\nbeaten by {by}: {behind[0]} points ({behind[1]} to {behind[2]}), {tokens[0]} tokens ({tokens[1]} to {tokens[2]})\n"
        f"on the front in {share:.0f} % of resamples"
    )


def _legend(axes: Axes, frame: pd.DataFrame) -> None:
    for role in dict.fromkeys(frame["role"]):
        appearance, control = look(role), role == "control"
        axes.plot(
            [], [], marker=appearance.marker, linestyle="none", color=appearance.colour, label=role,
            markerfacecolor=PAPER if control else appearance.colour, markersize=7,
        )  # fmt: skip
    axes.figure.legend(loc="outside lower center", ncols=7, handletextpad=0.4, columnspacing=1.2)


def _label(figure: Figure, axes: Axes, frame: pd.DataFrame) -> None:
    """Name the front, the arms without steering, and the steered ones where they are few; each mark once, where the words cover no mark and
    no other words. What finds no place is left to the hover."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    marks = [axes.transData.transform((t, 100 * a)) for t, a in zip(frame["tokens"], frame["accuracy"], strict=True)]
    taken = [Bbox.from_extents(x - 6, y - 6, x + 6, y + 6) for x, y in marks]
    inside = axes.get_window_extent(renderer)
    offsets = [(9, 0, "left", "center"), (9, 9, "left", "bottom"), (9, -9, "left", "top"), (-9, 0, "right", "center")]
    offsets += [
        (-9, 9, "right", "bottom"),
        (-9, -9, "right", "top"),
        (0, 12, "center", "bottom"),
        (0, -12, "center", "top"),
    ]
    offsets += [
        (14, 20, "left", "bottom"),
        (14, -20, "left", "top"),
        (14, 32, "left", "bottom"),
        (14, -32, "left", "top"),
    ]
    leader = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkB": 4, "relpos": (0, 0.5)}
    others = frame["role"] != "control"
    named = frame[
        frame["on_front"] | (others if others.sum() <= 8 else frame["role"].isin(("baseline", "reference", "prompt")))
    ]
    named = named.sort_values(
        "role", key=lambda roles: roles.map({"baseline": 0, "reference": 1, "prompt": 2}).fillna(3), kind="stable"
    )
    for (tokens, accuracy), same in named.groupby(["tokens", "accuracy"], sort=False):
        text = cut(same["label"].iloc[0], 34) + (f"  (and {len(same) - 1} the same)" if len(same) > 1 else "")
        for dx, dy, ha, va in offsets:
            note = axes.annotate(
                text, (tokens, 100 * accuracy), (dx, dy), textcoords="offset points", ha=ha, va=va, fontsize=8, color=INK, zorder=6,
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.8},
                arrowprops=leader if abs(dy) > 12 else None,
            )  # fmt: skip
            note.update_positions(renderer)
            box = Text.get_window_extent(note, renderer).padded(1.5)  # the words alone, without the line to the mark
            within = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if within and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            note.remove()
