"""The product law (2602.08281): is a whole trace right as often as the product of its steps' accuracies says?

1. Steps are the computed lines of a trace, exact from the verifier: a right one says what the next rule makes of the present value. A wrong
   result that is repaired at once is right in the end.
2. An arm's step accuracy is that on problems as training has them (on all, where it computes nothing there), and predicts every trace by
   its number of lines. A trace fails in other ways too: it tests the goal before the last rule, gives up, is cut; how many do is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...pair.verifier import verify
from ...statistics import paired_difference
from ...store.runs import Arm, Run
from ...tasks.items import Item
from .axes import PLACES, place_of
from .findings import Table
from .points import difference_said


@dataclass(frozen=True)
class Chain:
    """A trace with its steps counted."""

    depth: int
    place: str
    lines: int
    wrong: int
    """Lines that are not right in the end."""
    whole: bool
    """Every line right, and the answer follows."""
    cut: bool = False
    early: bool = False
    """A goal was tested before the last rule."""
    gave_up: bool = False


def chains_of(run: Run, split: str, items: Mapping[str, Item], arm: str) -> list[Chain]:
    """The traces of an arm that compute at least one line."""
    found = []
    for row in run.table(columns=["split", "item", "text", "finish"], arms=[arm]).to_pylist():
        if row["split"] != split:
            continue
        problem = items[row["item"]].data
        verdict = verify(problem, row["text"])
        if verdict.lines:
            found.append(
                Chain(
                    len(problem.rules), place_of(problem), verdict.lines, verdict.false_lines, verdict.trace_ok, row["finish"] == "length",
                    verdict.early_goals > 0, any(label.label == "giving up" for label in verdict.labels),
                )
            )  # fmt: skip
    return found


def step_accuracy(chains: Sequence[Chain]) -> float:
    """Share of right lines."""
    return 1 - sum(chain.wrong for chain in chains) / sum(chain.lines for chain in chains)


def predicted(chains: Sequence[Chain], known: Sequence[Chain]) -> np.ndarray:
    """Per trace the product of its steps' accuracies `[traces]`, which are those of the `known` ones, or of all without any."""
    step = step_accuracy(known or chains)
    return np.array([step**chain.lines for chain in chains])


def product_law(name: str, arms: Sequence[Arm], traces: Mapping[str, Sequence[Chain]]) -> tuple[Table, list[str]]:
    """Predicted against observed by depth, and a sentence per arm; `name` is the setting's."""
    lines: list[tuple[str | int | float | None, ...]] = []
    said = []
    for arm in arms:
        chains = traces[arm.name]
        if not chains:
            said.append(f"{name}: {arm.label} computes no lines, so there is no product of steps.")
            continue
        known = [chain for chain in chains if chain.place == PLACES[0]]
        for depth in sorted({chain.depth for chain in chains}):
            own = [chain for chain in chains if chain.depth == depth]
            lines.append(
                (
                    arm.label, depth, len(own), round(float(np.mean([chain.lines for chain in own])), 1), f"{100 * step_accuracy(own):.2f}",
                    f"{100 * predicted(own, known or chains).mean():.1f}", f"{100 * predicted(own, own).mean():.1f}",
                    f"{100 * np.mean([not chain.wrong for chain in own]):.1f}",
                    f"{100 * np.mean([chain.whole for chain in own]):.1f}", sum(chain.cut for chain in own),
                )
            )  # fmt: skip
        foretold, whole = predicted(chains, known), [float(chain.whole) for chain in chains]
        depths = sorted({chain.depth for chain in chains})
        within = np.concatenate(
            [predicted(own, own) for depth in depths if (own := [c for c in chains if c.depth == depth])]
        )
        failed = [chain for chain in chains if not chain.whole]
        other = [chain for chain in failed if not chain.wrong]
        ways = {
            "test the goal before the last rule": sum(chain.early for chain in other),
            "give up": sum(chain.gave_up and not chain.early for chain in other),
            "are cut": sum(chain.cut and not chain.early for chain in other),
        }
        how = ", ".join(f"{count} {way}" for way, count in ways.items() if count)
        among = f"on {len(known)} problems as in training" if known else "on all its problems"
        said.append(
            f"{name}: product law of {arm.label}: {100 * step_accuracy(known or chains):.2f} % per step {among} predict "
            f"{100 * foretold.mean():.1f} % right traces (the steps of each depth "
            f"itself: {100 * within.mean():.1f} %), {100 * np.mean(whole):.1f} % are: "
            f"{difference_said(paired_difference(foretold, whole))} (n {len(chains)}); {len(other)} of the {len(failed)} wrong traces have "
            f"no wrong step{f' ({how})' if how else ''}."
        )
    table = Table(
        title=f"{name}: whole traces against the product of their steps",
        heads=(
            *("arm", "rules", "traces", "lines per trace", "step right %", "predicted from training's range %", "from this depth %"),
            *("no wrong step %", "whole trace right %", "cut"),
        ),
        lines=tuple(lines),
        notes=(
            "Predicted: the arm's step accuracy, on problems as training has them or on those of the same depth, to the power of each "
            "trace's lines. Texts that compute nothing are left out.",
        ),
    )  # fmt: skip
    return table, said
