"""The deep-thinking ratio (2602.13517) of the texts of a run, each read by its own writer, beside what else has such a ratio.

1. A token is deep-thinking where the logit lens settles late (`steering.extraction.settling`), by two rules: it stays near the last layer's
   prediction from there on, and, as published, it is near it for the first time. The end token is no token of a text.
2. The same tokens in random orders behind the same prompt hold no reasoning. One order per text makes one draw of an arm's ratio.
3. Another question's text behind this prompt, both cut to equal length, is as long and of the same kind, and answers something else.
4. Right and wrong texts differ in length and difficulty. They are compared as they are, and in pairs of nearest length, both cut to equal
   length, in which no text occurs twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steering.extraction.settling import late_from, lens_divergence, settling_layers
from steering.model.models import LoadedModel

from ...decoders.candidates import own_seed
from ...statistics import LEVEL, paired_difference, permutation_test, rank_p, wilson_clustered
from ...statistics.shares import mean_interval
from ...store.runs import Arm, Run
from ...tasks.items import stream_seed
from .asked import Setting
from .findings import Table
from .points import DIFFERENCES, difference_said
from .steps import ids_hash
from .workroom import Workroom

RULES = {"stays": "it stays near from there on", "first": "it is near for the first time (published)"}
FEW = 5
"""Texts, right or wrong, below which the two are not compared."""
Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Text:
    """A response without its end token."""

    item: str
    prompt: Tokens
    ids: Tokens
    right: bool


@dataclass(frozen=True)
class Settled:
    """Of one text by one rule: whether each token settles late, its own `[tokens]` and another question's behind its prompt (none where
    there is no other), and how many do in each random order `[orders]`."""

    own: np.ndarray
    other: np.ndarray
    shuffled: np.ndarray

    def share(self, length: int | None = None) -> float:
        """Of its first tokens."""
        return float(self.own[:length].mean())


def deep_thinking(
    room: Workroom, run: Run, setting: Setting, shuffles: int, threshold: float
) -> tuple[list[Table], list[str]]:
    """Two tables and a sentence per arm of the run."""
    lines: list[tuple[str | int | float | None, ...]] = []
    halves: list[tuple[str | int | float | None, ...]] = []
    said, notes = [], []
    for arm in run.manifest.arms:
        model, texts, bare = room.model(str(arm.model)), *texts_of(room, run, setting, arm)
        if bare:
            said.append(
                f"{setting.name}: {arm.label}: {bare} texts of one token or none have no other order and are left out."
            )
        if not texts:
            continue
        note = f"{arm.model}: late is layer {late_from(model.n_layers)} or later of {model.n_layers}."
        notes += [note] if note not in notes else []
        read = [settled(room, str(arm.model), texts, n, shuffles, threshold) for n in range(len(texts))]
        for rule in RULES:
            own = [one[rule] for one in read]
            lines.append(_line(arm.label, rule, own))
            halves.append(_halves(arm.label, rule, texts, own))
        said.append(f"{setting.name}: {arm.label}: {_sentence(texts, [one['stays'] for one in read])}")
    where = f"near: a Jensen-Shannon divergence of at most {threshold:g} bits from the last layer's prediction"
    orders = (
        f"Shuffled: the same tokens in {shuffles} random orders behind the same prompt; rank p: two-sided, never below "
        f"{2 / (1 + shuffles):.3g}. Another's text: another question's of the same arm behind this prompt, both cut to equal length; means "
        "over texts."
    )
    return [
        Table(
            title=f"{setting.name}: deep-thinking ratio",
            heads=(
                *("arm", "settled where", "texts", "tokens", "deep % (95 % over texts)", "shuffled % (range)"),
                *("orders with fewer", "rank p", "another's text %", "own minus another's (95 %; p)"),
            ),
            lines=tuple(lines),
            notes=(f"Deep: settled late, {where}. {' '.join(notes)}", orders, DIFFERENCES),
        ),
        Table(
            title=f"{setting.name}: deep-thinking ratio of right and of wrong texts",
            heads=(
                *("arm", "settled where", "right", "deep % (95 %)", "wrong", "deep %, wrong (95 %)"),
                *("right minus wrong (permutation p)", "pairs", "right minus wrong at equal length (95 %; p)"),
            ),
            lines=tuple(halves),
            notes=(
                "Means over texts, of each its own share. Pairs: right and wrong texts of nearest length, both cut to the shorter. They "
                f"answer other questions, which may be harder. With fewer than {FEW} of either nothing is compared.",
                DIFFERENCES,
            ),
        ),
    ], said  # fmt: skip


def texts_of(room: Workroom, run: Run, setting: Setting, arm: Arm) -> tuple[list[Text], int]:
    """An arm's texts of at least two tokens, and how many have fewer."""
    model = room.model(str(arm.model))
    found, bare = [], 0
    rows = run.table(columns=["split", "item", "prompt_ids", "token_ids", "correct"], arms=[arm.name]).to_pylist()
    for row in rows:
        if row["split"] != setting.split:
            continue
        ids = tuple(token for token in row["token_ids"] if token not in model.eos_ids)
        bare += len(ids) < 2
        if len(ids) > 1:
            found.append(Text(row["item"], tuple(row["prompt_ids"]), ids, bool(row["correct"])))
    return found, bare


def nearest(texts: Sequence[Text], place: int) -> Text | None:
    """Another question's text whose length is nearest."""
    own = texts[place]
    others = [text for text in (*texts[place + 1 :], *texts[:place]) if text.item != own.item]
    return min(others, key=lambda text: abs(len(text.ids) - len(own.ids))) if others else None


def settled(
    room: Workroom, name: str, texts: Sequence[Text], place: int, shuffles: int, threshold: float
) -> dict[str, Settled]:
    """What is read of one text, by rule. A part: made once."""
    own, other, model = texts[place], nearest(texts, place), room.model(name)
    beside = other.ids[: len(own.ids)] if other else ()
    facts = {
        "model": name, "prompt": ids_hash(own.prompt), "text": ids_hash(own.ids), "other": ids_hash(beside), "item": own.item,
        "shuffles": shuffles, "threshold": threshold,
    }  # fmt: skip
    made = room.part("deep", facts, lambda: _layers(model, own, beside, shuffles, threshold))
    late = late_from(model.n_layers)
    return {
        rule: Settled(
            np.asarray(made[rule]["own"]) >= late,
            np.asarray(made[rule]["other"]) >= late,
            np.asarray([sum(layer >= late for layer in one) for one in made[rule]["shuffled"]]),
        )
        for rule in RULES
    }


def _layers(
    model: LoadedModel, own: Text, beside: Tokens, shuffles: int, threshold: float
) -> dict[str, dict[str, list[object]]]:
    """Settling layers, counted from 1, of the text, of the other one, and of every order."""
    orders = [
        np.random.default_rng(own_seed(stream_seed(own.item, 0), n)).permutation(own.ids).tolist()
        for n in range(shuffles)
    ]
    read = lens_divergence(model, [(own.prompt, ids) for ids in (own.ids, *([beside] if beside else []), *orders)])
    found = [settling_layers(one, threshold) for one in read]
    layers = {rule: [one[n].tolist() for one in found] for n, rule in enumerate(RULES)}
    return {
        rule: {"own": own[0], "other": own[1] if beside else [], "shuffled": own[1 + bool(beside) :]}
        for rule, own in layers.items()
    }


def _drawn(own: Sequence[Settled]) -> np.ndarray:
    """An arm's ratio by order `[orders]`."""
    return np.sum([one.shuffled for one in own], axis=0) / sum(len(one.own) for one in own)


def two_sided(share: float, drawn: np.ndarray) -> float:
    """Rank p of a share among drawn ones `[orders]`, in either direction."""
    return min(1.0, 2 * min(rank_p(share, drawn), rank_p(-share, -drawn)))


def _line(label: str, rule: str, own: Sequence[Settled]) -> tuple[str | int | float | None, ...]:
    hits, counts = [int(one.own.sum()) for one in own], [len(one.own) for one in own]
    share, interval, drawn = sum(hits) / sum(counts), wilson_clustered(hits, counts), _drawn(own)
    beside = [one for one in own if len(one.other)]
    line: list[str | int | float | None] = [
        label, RULES[rule], len(own), sum(counts),
        f"{100 * share:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})",
        f"{100 * drawn.mean():.1f} ({100 * drawn.min():.1f} to {100 * drawn.max():.1f})",
        int((drawn < share - 1e-12).sum()), round(two_sided(share, drawn), 3),
    ]  # fmt: skip
    if not beside:
        return (*line, None, None)
    others = [float(one.other.mean()) for one in beside]
    against = paired_difference(others, [one.share(len(one.other)) for one in beside])
    return (*line, f"{100 * np.mean(others):.1f}", difference_said(against))


def pairs_of(texts: Sequence[Text]) -> list[tuple[int, int, int]]:
    """(right, wrong, length of the shorter): each wrong text with the right one of nearest length that is not taken yet."""
    free = [n for n, text in enumerate(texts) if text.right]
    found = []
    for n, text in enumerate(texts):
        if not text.right and free:
            best = min(free, key=lambda m: abs(len(texts[m].ids) - len(text.ids)))
            free.remove(best)
            found.append((best, n, min(len(text.ids), len(texts[best].ids))))
    return found


def _halves(
    label: str, rule: str, texts: Sequence[Text], own: Sequence[Settled]
) -> tuple[str | int | float | None, ...]:
    shares = {
        want: [one.share() for one, text in zip(own, texts, strict=True) if text.right is want]
        for want in (True, False)
    }
    line: list[str | int | float | None] = [label, RULES[rule]]
    for part in shares.values():
        around = mean_interval(part) if part else None
        line += [
            len(part),
            f"{100 * np.mean(part):.1f} ({100 * around.low:.1f} to {100 * around.high:.1f})" if around else None,
        ]
    if min(map(len, shares.values())) < FEW:
        return (*line, None, None, None)
    pairs = pairs_of(texts)
    matched = paired_difference(
        [own[wrong].share(length) for _, wrong, length in pairs],
        [own[right].share(length) for right, _, length in pairs],
    )
    apart = f"{100 * (np.mean(shares[True]) - np.mean(shares[False])):+.1f} ({permutation_test(shares[True], shares[False]):.3f})"
    return (*line, apart, len(pairs), difference_said(matched))


def _sentence(texts: Sequence[Text], own: Sequence[Settled]) -> str:
    hits, counts = [int(one.own.sum()) for one in own], [len(one.own) for one in own]
    share, interval, drawn = sum(hits) / sum(counts), wilson_clustered(hits, counts), _drawn(own)
    verb = "not told from"
    if 2 / (1 + len(drawn)) > LEVEL:
        verb = f"which {len(drawn)} orders are too few to tell from"
    elif two_sided(share, drawn) <= LEVEL:
        verb = "more than in" if share > drawn.mean() else "fewer than in"
    words = (
        f"{100 * share:.1f} % of the tokens are deep-thinking ({100 * interval.low:.1f} to {100 * interval.high:.1f}; {len(own)} texts), "
        f"{verb} the same tokens shuffled ({100 * drawn.mean():.1f}; {100 * drawn.min():.1f} to {100 * drawn.max():.1f} in "
        f"{len(drawn)} orders)"
    )
    beside = [one for one in own if len(one.other)]
    if beside:
        against = paired_difference(
            [float(one.other.mean()) for one in beside], [one.share(len(one.other)) for one in beside]
        )
        words += f", {difference_said(against)} points against another question's text of equal length"
    right = sum(text.right for text in texts)
    if min(right, len(texts) - right) < FEW:
        return f"{words}; {right} of {len(texts)} texts are right, too few of one kind to compare right and wrong ones."
    pairs = pairs_of(texts)
    matched = paired_difference(
        [own[wrong].share(length) for _, wrong, length in pairs],
        [own[right].share(length) for right, _, length in pairs],
    )
    return f"{words}; right minus wrong at equal length {difference_said(matched)} in {len(pairs)} pairs."
