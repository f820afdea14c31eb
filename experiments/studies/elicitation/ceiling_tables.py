"""Tables and sentences of the ceiling card, from a search and a run on held-out questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...statistics import IndependentDifference, rank_p, wilson
from ...store.runs import Run
from ...tasks.templated import Template
from .asked import Setting
from .findings import Point, Table
from .halving import Round
from .points import DIFFERENCES, arms_difference, between, difference_said, hedged, said_of
from .templates import Named, added
from .workroom import Workroom

SHOWN = 90
"""Characters of a template that a table shows."""


@dataclass(frozen=True)
class Search:
    """What a search found, and what it cost."""

    chosen: Named
    rounds: tuple[Round, ...]
    listed: dict[str, Named]
    read: int
    """Prompt tokens."""
    written: int
    left_out: int
    """Templates that leave no room for a text."""


def search_table(room: Workroom, setting: Setting, search: Search) -> Table:
    """What the search saw."""
    lines = []
    for words, one in search.listed.items():
        cells = [f"{r.right[words]} of {r.n}" if words in r.right else None for r in search.rounds]
        text = " ".join(one.text.split())
        shown = text if len(text) <= SHOWN else f"… {text[-SHOWN:]}"
        lines.append((words, shown, sum(added(room.base, one.text)), *cells))
    out = f" {search.left_out} templates leave no room for a text and are left out." if search.left_out else ""
    return Table(
        title=f"{setting.name}: the search on development questions, right answers per round",
        heads=("template", "its end", "tokens beside the question", *(f"round {n + 1}" for n in range(len(search.rounds)))),
        lines=tuple(lines),
        notes=(
            f"The better half goes on, ties to the first. {search.read} prompt tokens were read and {search.written} generated.{out}",
        ),
    )  # fmt: skip


def beside_table(setting: Setting, found: Run, own: Sequence[Point]) -> Table:
    """The searched prompt against every other arm, by question."""
    lines = []
    for point in own:
        if point.arm != "chosen":
            moved = arms_difference(found, setting.split, point.arm, "chosen")
            lines.append((point.label, f"{100 * point.accuracy:.1f}", difference_said(moved), f"{point.tokens:.0f}"))
    return Table(
        title=f"{setting.name}: the searched prompt against the other arms",
        heads=("arm", "right %", "searched prompt minus it (95 %; McNemar)", "tokens"),
        lines=tuple(lines),
        notes=("Held-out questions, paired.", DIFFERENCES),
    )


def control_table(
    setting: Setting, found: Run, noise: Mapping[str, Template], search: Search, room: Workroom
) -> tuple[Table, str]:
    """Random words in the searched prompt's place."""
    rows = found.table(columns=["arm", "correct"]).to_pylist()
    share = {
        name: sum(row["correct"] for row in rows if row["arm"] == name) / sum(row["arm"] == name for row in rows)
        for name in ("chosen", *noise)
    }
    drawn = sorted(share[name] for name in noise)
    lengths = [sum(added(room.base, form.template)) for form in noise.values()]
    words = "the searched prompt adds no words, so that nothing can be drawn in their place"
    line: tuple[str | int | float | None, ...] = (search.chosen.words, f"{100 * share['chosen']:.1f}", *(None,) * 6)
    if drawn:
        p = rank_p(share["chosen"], drawn)
        middle = f"{100 * drawn[len(drawn) // 2]:.1f}"
        around = f"{100 * drawn[0]:.1f} to {100 * drawn[-1]:.1f}"
        tokens = f"{min(lengths)} to {max(lengths)}"
        best = " ".join(noise[max(noise, key=lambda name: share[name])].template.split())
        line = (
            search.chosen.words, f"{100 * share['chosen']:.1f}", len(drawn), middle, around, tokens, round(p, 3), best[-SHOWN:],
        )  # fmt: skip
        as_good = round(p * (1 + len(drawn))) - 1
        words = f"of {len(drawn)} draws of random words in its place {as_good} are right at least as often ({around} %; rank p {p:.3f})"
    return Table(
        title=f"{setting.name}: random words in the place of the searched prompt's",
        heads=("searched prompt", "right %", "draws", "theirs, median %", "range %", "their tokens", "rank p", "the best of them"),
        lines=(line,),
        notes=("The same held-out questions. Random words, none of them the searched prompt's own; the question stands where it stood.",),
    ), words  # fmt: skip


def sentences(
    setting: Setting, search: Search, chosen: Point, optimism: IndependentDifference, rank: str, found: Run, own: Sequence[Point]
) -> list[str]:  # fmt: skip
    head, last = f"{setting.name}:", search.rounds[-1]
    right = last.right[search.chosen.words]
    around = wilson(right, last.n)
    low, high = optimism.interval.low, optimism.interval.high
    clear = "" if low > 0 or high < 0 else "no detectable optimism, "
    equals = sum(hits == right for hits in last.right.values()) - 1
    tie = f" {equals} other did as well in the last round, and the first in the list is taken." if equals else ""
    there = f"{100 * right / last.n:.1f} % ({between(around.low, around.high, signed=False)}; n {last.n})"
    here = f"{100 * chosen.accuracy:.1f} % ({between(chosen.low, chosen.high, signed=False)}; n {chosen.n})"
    said = [
        f"{head} of {len(search.listed)} templates the search chose {search.chosen.words!r}, which is right in {there} of the questions "
        f"that chose it and in {here} of held-out ones: {clear}{100 * optimism.difference:+.1f} points ({between(low, high)}). It cost "
        f"{search.read} tokens read and {search.written} generated.{tie}",
        f"{head} {rank}.",
    ]
    said += [said_of(point) for point in own if point.arm == "chosen"]
    for point in own:
        if point.role in ("steered", "reference") or point.arm in ("prompt", "one-shot"):
            moved = arms_difference(found, setting.split, point.arm, "chosen")
            verb = hedged(moved.interval.low, moved.interval.high, moved.p)
            said.append(f"{head} the searched prompt against {point.label}: {verb}{difference_said(moved)}.")
    return said
