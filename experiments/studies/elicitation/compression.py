"""Compression (S28): does anything make texts shorter at no cost, beyond cutting them at as many tokens?

1. What is shortened is the base that is asked to think first. Compressors: lists of words that cannot be written, a penalty, a prompt
   that asks for less, the length direction along the text (`shortening`), and stopping at the first candidate answer (`stated`).
2. Each stands beside the same texts cut so that they cost as many tokens, with the answer forced: what is left over that is compression,
   the rest is a budget.
3. Lists stand beside R random lists that occur equally often, the direction beside R random ones of its length at each dose.

Sources: 2507.04742 (the direction), 2506.08343 (lists), 2501.18585 (the penalty).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydantic import Field

from steering.errors import BadInput, unknown
from steering.model.reader import load_reader
from steering.vector.vectors import random_like

from ...decoders.paths import cue_ids
from ...statistics import Floats, paired_difference, pareto_front, rank_p
from ...statistics.shares import wilson
from ...store.runs import Arm, Run
from .asked import Elicit, Setting
from .card import Card, Options
from .findings import Point, Table
from .points import DIFFERENCES, between, cut_said, difference_said, points_of
from .shortening import along, cut_to, development, length_direction
from .stated import Reflected, texts_of
from .steps import cue_of, distinct
from .stopping import FORCED, Stopping, forced_along
from .switching import LISTS, random_lists, words_known, words_of
from .workroom import Workroom

BRIEF = {"find-start": "quick"}
"""The form that asks for less, by task."""
FEWEST = 20
"""Texts below which intervals of tokens, which are resampled, are too narrow."""


class CompressionOptions(Options):
    brief: str | None = None
    """The form that asks for less; by default the built-in task's `quick`, and of other tasks none."""
    lists: dict[str, tuple[str, ...]] | None = None
    """Words that cannot be written; by default those of the card `switching`."""
    strength: float = Field(default=3.0, gt=0)
    """Of the switch penalty, in nats."""
    window: int = Field(default=40, ge=1)
    """Of the switch penalty, in tokens."""
    doses: tuple[float, ...] = (0.1, 0.3, 1.0)
    """Of the length direction, in units of the activation's norm."""
    layer: int | None = Field(default=None, ge=0)
    """By default the last of the first 20/28 of the blocks, as published."""
    dev: str | None = None
    """The split that the direction is read from."""
    n_dev: int = Field(default=48, ge=4)
    """Questions that doses are chosen on."""
    samples: int = Field(default=8, ge=2)
    """Texts per development question."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the samples."""
    draws: int = Field(default=20, ge=1)
    """Random lists beside each list, random directions beside each dose."""
    cue: str | None = None
    """What asks for an answer."""


def run(room: Workroom, options: CompressionOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    tables, said = [], []
    asked_once = distinct(room.asked.settings)
    for setting in room.asked.settings:
        references = room.references(setting)
        if setting not in asked_once:
            points += points_of(room.evaluate("compression", setting, references, options.n), setting)
            said.append(f"{setting.name}: the same questions asked to think first stand under another setting.")
            continue
        whole = next(arm for arm in references if arm.form == room.asked.think and arm.model == room.asked.base)
        direction = length_direction(
            room, setting, development(room.asked, setting, options.dev), options.n_dev, options.samples, options.temperature, options.layer
        )  # fmt: skip
        said.append(f"{setting.name}: {direction.said}")
        shorter, beside, vectors = [*_worded(room, setting, options)], [], {}
        plain = room.evaluate("compression-words", setting, references[:2], options.n)
        counts = words_of(plain, setting, room.base, whole.name)
        for name, words in (options.lists or LISTS.get(_task(room.asked), LISTS[""])).items():
            known = words_known(room.base, words)
            if not sum(counts[word] for word in known):
                said.append(f"{setting.name}: no word of the list {name} stands in these texts, so it shortens none.")
                continue
            shorter.append(_arm(room, setting, f"list-{name}", f"no {name} words", decoder=_unwritable(known)))
            beside += [
                _arm(
                    room, setting, f"random-list-{name}-{n}", f"no random words like {name}, draw {n}", "control",
                    decoder=_unwritable(own),
                )
                for n, own in enumerate(random_lists(counts, known, options.draws))
            ]  # fmt: skip
        if direction.vector is not None:
            drawn = [random_like(direction.vector, seed) for seed in range(options.draws)]
            vectors = {one.digest: one for one in (direction.vector, *drawn)}
            for dose in (*options.doses, -max(options.doses)):
                plan = along(direction.vector, dose).to_dict()
                shorter.append(_arm(room, setting, f"length-{dose:g}", f"length direction {dose:+g}r", plan=plan))
                beside += [
                    _arm(
                        room, setting, f"random-length-{dose:g}-{n}", f"random direction {n}, {dose:g}r", "control",
                        plan=along(noise, dose).to_dict(),
                    )
                    for n, noise in enumerate(drawn if dose > 0 else [])
                ]  # fmt: skip
        found = room.evaluate("compression", setting, [*references, *shorter, *beside], options.n, vectors)
        own = points_of(found, setting, {arm.name: whole.name for arm in shorter})
        points += [point for point in own if not point.arm.startswith("random-")]
        table, sentences = _pareto(room, setting, found, whole, shorter, options)
        tables += [table, _against_random(setting, own, shorter)]
        said += sentences
    return points, tables, said


def _task(asked: Elicit) -> str:
    return asked.found.name.split(":")[0]


def _arm(room: Workroom, setting: Setting, name: str, label: str, role: str = "steered", **given: Any) -> Arm:
    return room.arm(setting, name, label, role, **({"form": room.asked.think} | given))


def _unwritable(words: list[str]) -> dict[str, Any]:
    return {"kind": "suppression", "words": words}


def _worded(room: Workroom, setting: Setting, options: CompressionOptions) -> list[Arm]:
    """The prompt that asks for less, and the switch penalty."""
    arms = []
    if brief := options.brief or BRIEF.get(_task(room.asked)):
        arms.append(_arm(room, setting, "brief", f"asked in the form {brief}", form=brief))
    lists = options.lists or LISTS.get(_task(room.asked), LISTS[""])
    if known := words_known(room.base, lists.get("switch", ())):
        penalty = {"kind": "suppression", "words": known, "strength": options.strength, "window": options.window}
        label = f"switch penalty {options.strength:g} for {options.window} tokens"
        arms.append(_arm(room, setting, "penalty", label, decoder=penalty))
    return arms


def _pareto(
    room: Workroom, setting: Setting, found: Run, whole: Arm, shorter: list[Arm], options: CompressionOptions
) -> tuple[Table, list[str]]:
    """Every compressor beside the whole texts, and beside these cut at equal tokens."""
    texts = texts_of(room, found, setting, whole)
    cue = cue_of(room, options.cue)
    asks = len(cue_ids(room.base, cue))
    kept = [t for t in texts if t.ids and len(t.prompt) + len(t.ids) + asks + FORCED <= room.base.context]
    said = []
    if left_out := len(texts) - len(kept):
        said.append(f"{setting.name}: {left_out} texts are cut nowhere: they are empty, or no answer fits behind them.")
    if not kept:
        return Table(title=f"{setting.name}: compression", heads=("arm",), lines=()), said
    how = Stopping(options.n, 0.0, 1, options.cue)
    forced = forced_along(room, setting, whole, kept, cue, room.base, how)
    full, spent = _both([(float(text.right), float(text.tokens)) for text in kept])
    arms: list[tuple[str, Floats, Floats]] = [(whole.label, full, spent)]
    ended = [sum(text.cut for text in kept)]
    if words := cut_said(ended[0], len(kept), room.asked.max_new_tokens):
        said.append(f"{setting.name}: {whole.label}, which is shortened: {words.removeprefix('; ')}.")
    for arm in shorter:
        own = texts_of(room, found, setting, arm)
        own = [text for text in own if text.item in {t.item for t in kept}]
        arms.append((arm.label, *_both([(float(text.right), float(text.tokens)) for text in own])))
        ended.append(sum(text.cut for text in own))
    arms.append(("stopped at its first candidate", *_both([_first(text) for text in kept])))
    ended.append(sum(text.cut for text in kept if not text.candidates))
    if not any(right.any() for _, right, _ in arms):
        said.append(f"{setting.name}: no arm is right anywhere, so there is no front of accuracy and tokens.")
    front = pareto_front([name for name, *_ in arms], [right for _, right, _ in arms], [cost for *_, cost in arms])
    lines: list[tuple[str | int | float | None, ...]] = []
    for (label, right, cost), cuts, place in zip(arms, ended, front, strict=True):
        around = wilson(int(right.sum()), len(right))
        level = f"{100 * right.mean():.1f} ({between(around.low, around.high, False)})"
        stated = (label, len(right), level, f"{cost.mean():.1f}", cuts)
        share = f"{100 * place.share:.0f}" if right.any() else "none: nothing is right"
        if label == whole.label:
            lines.append((*stated, None, None, None, None, share))
            continue
        if (cost == spent).all() and (right == full).all():
            lines.append((*stated, "no text changes", None, None, None, share))
            said.append(f"{setting.name}: {label}: no text has another length or another verdict (n {len(kept)}).")
            continue
        saved, moved = paired_difference(spent, cost), paired_difference(full, right)
        cut, price = cut_to(kept, forced, float(cost.mean()), asks)
        over = paired_difference(cut, right)
        around = saved.interval
        shown = f"{saved.difference:+.1f} ({around.low:+.1f} to {around.high:+.1f}), {100 * saved.difference / spent.mean():+.0f} %"
        if len(cost) < FEWEST:
            shown = f"{saved.difference:+.1f} (no interval of tokens below {FEWEST} texts)"
        shown = shown if (cost != spent).any() else "none saved"
        lines.append(
            (
                *stated,
                shown,
                difference_said(moved),
                f"{100 * cut.mean():.1f} at {price:.1f}",
                difference_said(over),
                share,
            )
        )
        said.append(
            f"{setting.name}: {label}: tokens {shown}, accuracy {difference_said(moved)} points against the whole texts, "
            f"{difference_said(over)} against these cut at {price:.1f} tokens (n {len(kept)})"
            f"{cut_said(cuts, len(cost), room.asked.max_new_tokens)}."
        )
    return Table(
        title=f"{setting.name}: shorter texts beside the whole ones, and beside these cut at equal tokens",
        heads=(
            *("arm", "texts", "right % (95 %)", "tokens", "at the limit", "tokens minus the whole (95 %)"),
            *("right, minus the whole (95 %; McNemar)", "whole texts cut at equal tokens, right %"),
            *("minus the cut texts (95 %; McNemar)", "on the front in % of resamples"),
        ),
        lines=tuple(lines),
        notes=(
            "Tokens are without the end token. "
            "Cut texts cost what is kept and the cue; the forced answer itself is not counted, which favours them. Where an arm costs "
            "less than a bare cue, the answer is forced before the first step. Front: no other arm of this table is as accurate with as "
            "few tokens, over resampled questions; an arm that is right nowhere is on none. At the limit: texts that end because "
            f"{room.asked.max_new_tokens} tokens are written, with their answers, if any, unfinished.",
            DIFFERENCES,
        ),
    ), said  # fmt: skip


def _both(pairs: list[tuple[float, float]]) -> tuple[Floats, Floats]:
    right, tokens = np.array(pairs).T
    return right, tokens


def _first(text: Reflected) -> tuple[float, float]:
    """Right and tokens of a text that stops at its first candidate; whole where it has none."""
    if not text.candidates:
        return float(text.right), float(text.tokens)
    return float(text.candidates[0].right), float(text.candidates[0].end)


def _against_random(setting: Setting, points: list[Point], shorter: list[Arm]) -> Table:
    """Lists and doses among their random ones."""
    lines: list[tuple[str | int | float | None, ...]] = []
    named = {point.arm: point for point in points}
    for arm in shorter:
        beside = [point for point in points if point.arm.rpartition("-")[0] == f"random-{arm.name}"]
        if not beside:
            continue
        own, right, tokens = named[arm.name], [p.accuracy for p in beside], [p.tokens for p in beside]
        lines.append(
            (
                arm.label, len(beside), f"{100 * own.accuracy:.1f}",
                f"{100 * np.mean(right):.1f} ({100 * min(right):.1f} to {100 * max(right):.1f})", round(rank_p(own.accuracy, right), 3),
                f"{own.tokens:.1f}", f"{np.mean(tokens):.1f} ({min(tokens):.1f} to {max(tokens):.1f})",
                round(rank_p(-own.tokens, [-value for value in tokens]), 3),
            )
        )  # fmt: skip
    full = sum(point.truncated == point.n for point in points if point.arm.startswith("random-"))
    return Table(
        title=f"{setting.name}: the same by random lists and directions",
        heads=(
            *("arm", "random ones", "right %", "random right % (range)", "rank p, better"),
            *("tokens", "random tokens (range)", "rank p, shorter"),
        ),
        lines=tuple(lines),
        notes=(
            *([f"Random ones of which every text ends at the token limit: {full}."] if full else []),
            "Random lists occur about equally often in the whole texts; random directions are as long and added at the same tokens.",
        ),
    )


def refuse(asked: Elicit, options: CompressionOptions) -> None:
    if options.brief is not None and options.brief not in asked.found.forms:
        raise unknown("prompt form", options.brief, asked.found.forms, where="card compression: brief")
    if not options.doses or not all(math.isfinite(dose) and dose > 0 for dose in options.doses):
        raise BadInput(
            "card compression: doses are positive, in units of the activation's norm, such as --set doses=[0.1,0.3,1]."
        )
    if options.layer is not None and options.layer >= (layers := load_reader(asked.base).n_layers):
        raise BadInput(f"card compression: layer is {options.layer}; {asked.base} has layers 0 to {layers - 1}.")
    for setting in asked.settings:
        if split := development(asked, setting, options.dev):
            asked.found.items(split, options.n_dev)


CARD = Card(
    name="compression",
    title="Compression of texts",
    systems=("S28",),
    papers=("2507.04742", "2506.08343", "2501.18585"),
    measures="accuracy and tokens of suppressed words, a switch penalty, a brief prompt, the length direction and an early stop",
    control="the whole texts cut at equal tokens; random lists and directions",
    quick=CompressionOptions(n=30, doses=(0.3, 1.0)),
    full=CompressionOptions(n=200, n_dev=200, draws=39),
    run=run,
    refuse=refuse,
    version=2,
)
