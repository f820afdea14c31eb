"""CoT-decoding (2402.10200): are reasoning paths among the likeliest first tokens, and does the answer's confidence find them?

1. The same k greedy paths are chosen from in five ways: aggregated and largest confidence of the answer, log-probability as a whole and per
   token, and the likeliest first token (which is greedy decoding). A control differs in the choice alone.
2. Self-consistency draws k samples of the same prompt: as many texts, without branching at the first token.
3. Confidence is compared between right and wrong paths (AUROC), and where the task says whether a text reasons, between those that do and
   those that do not: a confidence that prefers answers without reasoning would be one of format.
4. Which layers read the first token, and so which one commits, is tried by putting another path's first token in its place (`committing`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field
from sklearn.metrics import roc_auc_score

from ...statistics import wilson
from ...store.runs import Run
from .asked import Setting
from .card import Card, Options
from .committing import committing
from .findings import Point, Table
from .points import points_of, said_of
from .workroom import Workroom

WAYS = {
    "aggregated": "CoT-decoding, aggregated confidence",
    "max": "CoT-decoding, largest confidence",
    "logprob": "the same paths by log-probability",
    "normalised": "the same paths by log-probability per token",
    "greedy": "the likeliest first token's path, asked by the cue where it is silent",
}
FEW = 20
ROLES = {"aggregated": "steered", "max": "steered"}
CUES = {"find-start": "so answer"}
"""What asks for an answer, in the words of a task."""


class PathOptions(Options):
    k: int = Field(default=10, ge=2)
    """First tokens that a path is begun with, the likeliest ones."""
    cue: str | None = None
    """Asks for an answer where a path has none; by default the task's own words, or `So the answer is`."""
    questions: int = Field(default=20, ge=1)
    """Questions in which the first token's activations are replaced."""
    tokens: int = Field(default=8, ge=2)
    """Of the other path that are read, its first one included."""
    randoms: int = Field(default=20, ge=1)
    """Random first tokens beside the other path's."""


def run(room: Workroom, options: PathOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    tables, said = [], []
    for setting in room.asked.settings:
        cue = options.cue or cue_of(room)
        shared = {"kind": "cot-decoding", "k": options.k, "cue": cue}
        arms = [
            *room.references(setting),
            *(
                room.arm(setting, way, label, ROLES.get(way, "control"), decoder={**shared, "choose_by": way})
                for way, label in WAYS.items()
            ),
            room.arm(
                setting, "self-consistency", f"majority of {options.k} samples", "control",
                decoder={"kind": "samples", "n": options.k, "choose_by": "majority"},
            ),
        ]  # fmt: skip
        found = room.evaluate("cot-decoding", setting, arms, options.n)
        own = points_of(found, setting, {"aggregated": "greedy", "max": "logprob"})
        points += own
        paths = paths_of(found, setting)
        tables.append(_ranks(paths, setting))
        said += [said_of(point) for point in own if point.arm in ("aggregated", "max", "self-consistency")]
        said.append(_separates(paths, setting))
        layers, words = committing(room, found, setting, options.questions, options.tokens, options.randoms, cue)
        tables += layers
        said += words
    return points, tables, said


def cue_of(room: Workroom) -> str:
    """What asks for an answer: the task's own words, those of the built-in models, or English."""
    if room.asked.base.startswith("builtin:"):
        return CUES["find-start"]
    return CUES.get(room.asked.found.name.split(":")[0], "\nSo the answer is")


def paths_of(found: Run, setting: Setting) -> list[dict[str, Any]]:
    """Every path of every question, with its rank among the first tokens and its confidence."""
    rows = found.table(columns=["split", "item", "candidates"], arms=["max"]).to_pylist()
    return [
        {**path, "rank": rank, "item": row["item"]}
        for row in rows
        if row["split"] == setting.split
        for rank, path in enumerate(row["candidates"], 1)
    ]


def _ranks(paths: list[dict[str, Any]], setting: Setting) -> Table:
    lines = []
    for rank in sorted({path["rank"] for path in paths}):
        own = [path for path in paths if path["rank"] == rank]
        right = sum(path["correct"] for path in own)
        share = wilson(right, len(own))
        sure = [path["score"] for path in own if path["score"] is not None]
        top = sum(path["chosen"] for path in own)
        lines.append(
            (
                rank, len(own), f"{100 * right / len(own):.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})",
                round(float(np.mean(sure)), 3) if sure else None, len(own) - len(sure), sum(path["asked"] for path in own),
                round(float(np.mean([path["tokens"] for path in own])), 1), top,
            )
        )  # fmt: skip
    return Table(
        title=f"{setting.name}: paths by the rank of their first token",
        heads=(
            *("rank", "paths", "right % (95 %)", "mean confidence", "no answer found", "asked by the cue", "tokens"),
            "surest path",
        ),
        lines=tuple(lines),
        notes=(
            "Confidence: mean of p(first) - p(second) over the answer's tokens, of paths whose answer stands in the text.",
        ),
    )


def _separates(paths: list[dict[str, Any]], setting: Setting) -> str:
    known = [path for path in paths if path["score"] is not None]
    right = [path["correct"] for path in known]
    if len({path["item"] for path in known}) < FEW:
        return f"{setting.name}: fewer than {FEW} questions have paths with an answer; no AUROC is stated of so few."
    if len(set(right)) < 2:
        return f"{setting.name}: the {len(known)} paths with an answer are all {'right' if all(right) else 'wrong'}: no AUROC."
    items = sorted({path["item"] for path in known})
    by_item = {item: [path for path in known if path["item"] == item] for item in items}
    rng, drawn = np.random.default_rng(0), []
    for _ in range(400):
        sample = [path for item in rng.choice(items, len(items)) for path in by_item[item]]
        labels = [path["correct"] for path in sample]
        if len(set(labels)) == 2:
            drawn.append(roc_auc_score(labels, [path["score"] for path in sample]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    value = roc_auc_score(right, [path["score"] for path in known])
    return (
        f"{setting.name}: the answer's confidence tells right paths from wrong ones with AUROC {value:.3f} ({low:.3f} to {high:.3f}; "
        f"{len(known)} of {len(paths)} paths, {len(items)} questions)."
    )


CARD = Card(
    name="cot-decoding",
    title="CoT-decoding",
    systems=("S4",),
    papers=("2402.10200",),
    measures="accuracy of the path with the surest answer among the greedy paths from the k likeliest first tokens; which "
    "layers read the first token",
    control="the same paths by log-probability; a majority of as many samples; the prompt that asks to think first; random first tokens "
    "put in the place of the first one",
    quick=PathOptions(n=60),
    full=PathOptions(n=200, questions=60),
    run=run,
    version=4,
)
