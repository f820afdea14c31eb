"""What stopping a text costs: at its first candidate answer, elsewhere, and after any share of its steps.

The shares of the texts at which first candidates end are permuted among the texts, each permutation a draw: the same shares are left out,
of other texts, and the answer is forced there by a cue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from steering.model.models import LoadedModel

from ...decoders.paths import cue_ids
from ...statistics import paired_difference, rank_p
from ...statistics.shares import mean_interval
from ...store.runs import Arm
from .asked import Setting
from .findings import Table
from .points import DIFFERENCES, between, difference_said
from .stated import Reflected
from .steps import cue_of, forced_grades, ids_hash
from .workroom import Workroom

FORCED = 16
"""Tokens of a forced answer."""
TENTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of a text's steps after which answers are forced."""


@dataclass(frozen=True)
class Stopping:
    """What is asked of `n` questions whose texts are sampled at `temperature`."""

    n: int
    temperature: float
    permutations: int
    cue: str | None
    """What asks for an answer; by default the task's."""


def stopping(
    room: Workroom, setting: Setting, arms: list[Arm], texts: dict[str, list[Reflected]], options: Stopping
) -> tuple[list[Table], list[str]]:
    """Stopping at the first candidate, and forced answers along the texts."""
    stops: list[tuple[str | int | float | None, ...]] = []
    along: list[tuple[str | int | float | None, ...]] = []
    said = []
    for arm in arms:
        model, own = room.model(str(arm.model)), texts[arm.name]
        cue = cue_of(room, options.cue)
        room_for = len(cue_ids(model, cue)) + FORCED
        own = [text for text in own if text.ids and len(text.prompt) + len(text.ids) + room_for <= model.context]
        if left_out := len(texts[arm.name]) - len(own):
            said.append(
                f"{setting.name}: {arm.label}: {left_out} texts are not stopped anywhere: they are empty, or no answer fits behind them."
            )
        if not own:
            stops.append((arm.label, 0, *(None,) * 6))
            continue
        right = forced_along(room, setting, arm, own, cue, model, options)
        full = np.array([float(text.right) for text in own])
        at = np.array([text.candidates[0].end if text.candidates else text.tokens for text in own])
        early = np.array([float(t.candidates[0].right) if t.candidates else float(t.right) for t in own])
        tokens = np.array([text.tokens for text in own])
        rng, drawn = np.random.default_rng(0), []
        for _ in range(options.permutations):
            share = (at / tokens)[rng.permutation(len(own))]
            drawn.append(float(np.mean([_at(text, right[n], share[n]) for n, text in enumerate(own)])))
        found = paired_difference(full, early)
        p = rank_p(float(early.mean()), drawn)
        stops.append(
            (
                arm.label, len(own), f"{100 * full.mean():.1f}", f"{100 * early.mean():.1f}", difference_said(found),
                f"{100 * (1 - at.sum() / tokens.sum()):.1f}",
                f"{100 * np.mean(drawn):.1f} ({100 * min(drawn):.1f} to {100 * max(drawn):.1f})", round(p, 3),
            )
        )  # fmt: skip
        along.append((arm.label, len(own), *(_accuracy(own, right, share) for share in TENTHS)))
        said.append(
            f"{setting.name}: {arm.label}: stopping at the first candidate leaves out {100 * (1 - at.sum() / tokens.sum()):.1f} % of the "
            f"tokens and changes accuracy by {100 * found.difference:+.1f} points ({between(found.interval.low, found.interval.high)}; "
            f"n {len(own)})."
        )
    return [
        Table(
            title=f"{setting.name}: stopping at the first candidate",
            heads=(
                *("arm", "texts", "whole right %", "stopped right %", "stopped minus whole (95 %; McNemar)", "tokens left out %"),
                *("stopped elsewhere right % (range)", "rank p"),
            ),
            lines=tuple(stops),
            notes=(
                f"Elsewhere: {options.permutations} permutations of the shares of the text at which first candidates end, the answer "
                "forced there. Texts without a candidate run to their end. Published for large models: 24.5 % fewer tokens for 2.9 "
                "points.",
                DIFFERENCES,
            ),
        ),
        Table(
            title=f"{setting.name}: answers forced along the texts, right %",
            heads=("arm", "texts", *(f"after {100 * share:.0f} % of the steps" for share in TENTHS)),
            lines=tuple(along),
            notes=("The last column is the end of the last step, where the text mostly says its answer.",),
        ),
    ], said  # fmt: skip


def forced_along(
    room: Workroom, setting: Setting, arm: Arm, texts: list[Reflected], cue: str, model: LoadedModel, options: Stopping
) -> list[list[bool]]:  # fmt: skip
    """Whether the forced answer is right, per text before its first step and after each one."""
    task = room.asked.found
    items = {item.id: item for item in task.items(setting.split, options.n)}

    def make() -> list[list[bool]]:
        contexts = [(items[text.item], (*text.prompt, *text.ids[:end])) for text in texts for end in (0, *text.ends)]
        grades = iter(forced_grades(model, task, contexts, cue, FORCED))
        return [[next(grades).correct for _ in (0, *text.ends)] for text in texts]

    read = [token for text in texts for token in (len(text.prompt), *text.prompt, len(text.ids), *text.ids)]
    facts = {"model": str(arm.model), "cue": cue, "items": [text.item for text in texts], "texts": ids_hash(read)}
    return list(room.part("forced-along", facts, make))


def _at(text: Reflected, right: list[bool], share: float) -> bool:
    """Whether the text is right if stopped at the step's end nearest to a share of its tokens; at its end it is what it was."""
    if share >= 1:
        return text.right
    ends = np.array((0, *text.ends))
    return right[int(np.abs(ends - share * text.tokens).argmin())]


def _accuracy(texts: list[Reflected], right: list[list[bool]], share: float) -> str:
    values = [float(own[round(share * (len(own) - 1))]) for own in right]
    around = mean_interval(values)
    return f"{100 * np.mean(values):.1f} ({100 * around.low:.1f} to {100 * around.high:.1f})"
