"""Tables and sentences of the coherence card, from judged texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from ...statistics import LEVEL, paired_difference, rank_p, wilson, wilson_clustered
from .asked import Setting
from .exploring import ERRORS
from .findings import Table
from .judged import Text, moved, pooled, shuffled, strangers, with_pairs
from .points import DIFFERENCES, between, difference_said

Labels = Mapping[str, str]
Texts = Mapping[str, Sequence[Text]]
Cell = str | int | float | None


def share_said(hits: int, n: int) -> str | None:
    """A share in per cent with its interval; None of nothing."""
    if not n:
        return None
    around = wilson(hits, n)
    return f"{100 * hits / n:.1f} ({between(around.low, around.high, signed=False)})"


def pairs_said(texts: Sequence[Text]) -> str | None:
    """The share of coherent pairs with its interval over texts."""
    if not texts:
        return None
    around = wilson_clustered([sum(text.pairs) for text in texts], [len(text.pairs) for text in texts])
    return f"{100 * (pooled([text.pairs for text in texts]) or 0.0):.1f} ({between(around.low, around.high, signed=False)})"


def overview(setting: Setting, labels: Labels, texts: Texts, builtin: bool) -> Table:
    """How coherent the texts of each arm are, and how valid."""
    lines: list[tuple[Cell, ...]] = []
    for name, label in labels.items():
        own = with_pairs(texts[name])
        whole = [all(text.pairs) for text in own]
        valid = [bool(text.valid) for text in own]
        lines.append(
            (
                label, len(texts[name]), len(own), sum(text.cut for text in own), sum(len(text.pairs) for text in own), pairs_said(own),
                share_said(sum(whole), len(own)), share_said(sum(valid), len(own)) if builtin else None,
                difference_said(paired_difference(np.array(valid, float), np.array(whole, float))) if own and builtin else None,
            )
        )  # fmt: skip
    exact = (
        "Coherent: the line goes on from the value before it and is right or repaired at once, the test is true, the check repeats its "
        "line; valid: every line, every test and the answer are right."
        if builtin
        else "A weaker judge: equations that are written out are recomputed, and what they compute with must stand in the question or "
        "before. Whether a trace is valid is not known here."
    )
    return Table(
        title=f"{setting.name}: local coherence and global validity",
        heads=(
            *("arm", "texts", "with a pair to test", "of them cut", "pairs", "coherent pairs %", "wholly coherent traces %"),
            *("valid traces %", "coherent minus valid (95 %; McNemar)"),
        ),
        lines=tuple(lines),
        notes=(
            f"{exact} Intervals over texts. Texts without a pair to test are left out of all shares.",
            *([DIFFERENCES] if builtin else []),
        ),
    )  # fmt: skip


def kinds(setting: Setting, labels: Labels, texts: Texts, builtin: bool) -> Table:
    """Coherent or not, valid or not, right or not: how many texts of each kind."""
    heads, picks = [], []
    for whole, valid, right in product((True, False), (True, False) if builtin else (None,), (True, False)):
        words = ["coherent" if whole else "not coherent", "right" if right else "wrong"]
        words[1:1] = [] if valid is None else ["valid" if valid else "not valid"]
        heads.append(", ".join(words))
        picks.append((whole, valid, right))
    lines = []
    for name, label in labels.items():
        own = [(all(text.pairs), text.valid, text.right) for text in with_pairs(texts[name])]
        lines.append((label, *(own.count(pick) for pick in picks)))
    notes = ("Two kinds are empty by what the words mean: a valid trace is coherent, and its answer is right.",)
    return Table(
        title=f"{setting.name}: wholly coherent traces among the right and the wrong ones",
        heads=("arm", *heads),
        lines=tuple(lines),
        notes=notes if builtin else (),
    )


def controls(
    setting: Setting, labels: Labels, texts: Texts, draws: int
) -> tuple[Table, dict[str, tuple[float, float, float]]]:
    """The share of coherent pairs where other steps stand before, and per arm: its own share, the mean of random orders, and its rank."""
    lines: list[tuple[Cell, ...]] = []
    power: dict[str, tuple[float, float, float]] = {}
    for name, label in labels.items():
        own = with_pairs(texts[name])
        share = pooled([text.pairs for text in own])
        if share is None:
            lines.append((label, *(None,) * 7))
            continue
        cells: list[Cell] = [f"{100 * share:.1f}", draws]
        for what, found in (("orders", shuffled(own, draws)), ("others", strangers(texts[name], draws))):
            p = rank_p(share, found) if found else None
            if found and p is not None and what == "orders":
                power[name] = share, float(np.mean(found)), p
            spread = f"{100 * np.mean(found):.1f}" if found else None
            around = f"{100 * min(found):.1f} to {100 * max(found):.1f}" if found else None
            cells += [None if spread is None else f"{spread} ({around})", None if p is None else round(p, 3)]
        lines.append((label, *cells, sum(len(text.pairs) for text in own)))
    return Table(
        title=f"{setting.name}: the judge on steps that do not belong together, coherent %",
        heads=(
            *("arm", "as written", "draws", "steps in random orders (range)", "rank p", "another question's steps before (range)"),
            *("rank p", "pairs"),
        ),
        lines=tuple(lines),
        notes=("A judge that sees anything finds fewer coherent pairs there; the rank is that of the texts as written.",),
    ), power  # fmt: skip


def changes(setting: Setting, labels: Labels, texts: Texts, reference: str) -> tuple[Table, list[str]]:
    """Every arm against the base that is asked to think first, by question."""
    lines: list[tuple[Cell, ...]] = []
    said = []
    base = {text.item: text for text in texts[reference]}
    for name, label in labels.items():
        if name == reference:
            continue
        both = [(base[text.item], text) for text in texts[name] if text.item in base]
        pairs = [(one, two) for one, two in both if one.pairs and two.pairs]
        gained = [(one, two) for one, two in pairs if two.right and not one.right]
        cells: list[Cell] = [len(both), len(pairs)]
        for chosen in (pairs, gained):
            shift = moved(chosen)
            cells.append(None if shift is None else shift.said)
            if chosen is pairs:
                whole = np.array([[all(one.pairs), all(two.pairs)] for one, two in chosen], float)
                cells.append(difference_said(paired_difference(*whole.T)) if chosen else None)
                known = both and all(one.valid is not None for pair in both for one in pair)
                valid = np.array([[bool(one.valid), bool(two.valid)] for one, two in both], float)
                cells += [difference_said(paired_difference(*valid.T)) if known else None, len(gained)]
        lines.append((label, *cells))
        found = moved(pairs)
        if found:
            said.append(
                f"{setting.name}: {label}: {'' if found.clear else 'no detectable difference, '}{found.by:+.1f} points of coherent pairs "
                f"against {labels[reference]} ({found.low:+.1f} to {found.high:+.1f}; n {found.n})."
            )
    return Table(
        title=f"{setting.name}: against {labels[reference]}, by question",
        heads=(
            *("arm", "questions", "both with pairs", "coherent pairs (95 %; p)", "wholly coherent (95 %; McNemar)"),
            *("valid, all questions (95 %; McNemar)", "newly right, both with pairs", "coherent pairs there (95 %; p)"),
        ),
        lines=tuple(lines),
        notes=(
            "Shares of coherent pairs are averaged over texts here; below 20 questions their interval is the wider one of 0/1 values. "
            "Newly right: wrong in the arm that is compared with.",
            DIFFERENCES,
        ),
    ), said  # fmt: skip


def beside_random(
    setting: Setting, label: str, own: Sequence[Text], noise: Sequence[Sequence[Text]], builtin: bool
) -> tuple[Table, str]:
    """A steered arm beside random directions of its length on the same questions."""
    measures: dict[str, list[float | None]] = {
        "coherent pairs": [pooled([text.pairs for text in texts]) for texts in (own, *noise)],
        "texts with a pair to test": [len(with_pairs(texts)) / len(texts) for texts in (own, *noise)],
        "answers right": [float(np.mean([text.right for text in texts])) for texts in (own, *noise)],
    }
    if builtin:
        measures["valid traces, all questions"] = [
            float(np.mean([bool(t.valid) for t in texts])) for texts in (own, *noise)
        ]
    lines: list[tuple[Cell, ...]] = []
    words = "no coherence is compared with random directions, for there is no pair to test on one side."
    for name, (mine, *theirs) in measures.items():
        drawn = [one for one in theirs if one is not None]
        if mine is None or not drawn:
            lines.append((name, None if mine is None else f"{100 * mine:.1f}", len(drawn), None, None, None))
            continue
        more, fewer = rank_p(mine, drawn), rank_p(-mine, [-one for one in drawn])
        around = f"{100 * min(drawn):.1f} to {100 * max(drawn):.1f}"
        lines.append(
            (name, f"{100 * mine:.1f}", len(drawn), f"{100 * np.mean(drawn):.1f} ({around})", round(more, 3), round(fewer, 3))
        )  # fmt: skip
        if name == "coherent pairs":
            words = (
                f"coherent pairs {100 * mine:.1f} %, of {len(drawn)} random directions {around} % (rank p {more:.3f} for more, {fewer:.3f} "
                f"for fewer; n {len(own)})."
            )
    return Table(
        title=f"{setting.name}: {label}, beside random directions of its length",
        heads=("share of", "own %", "random ones that have it", "theirs % (range)", "rank p, more", "rank p, fewer"),
        lines=tuple(lines),
        notes=(f"{len(own)} questions, {len(noise)} directions. One whose texts hold no pair to test has no share of coherent ones.",),
    ), f"{setting.name}: {label}: {words}"  # fmt: skip


def explorations(setting: Setting, labels: Labels, texts: Texts) -> Table:
    """Errors of exploring, per trace."""
    lines = []
    for name, label in labels.items():
        own = [text for text in texts[name] if len(text.steps) > 1]
        cells: list[Cell] = []
        for error in ERRORS:
            share = share_said(sum(text.counts[error] > 0 for text in own), len(own))
            cells.append(None if share is None else f"{share}; {sum(text.counts[error] for text in own)}")
        lines.append((label, len(own), *cells))
    return Table(
        title=f"{setting.name}: traces as explorations, % of traces with the error; how often in all",
        heads=("arm", "traces", *ERRORS),
        lines=tuple(lines),
        notes=(
            "Candidates that are not listed, tried again after their test failed (later, or at once), never tested by a text that ends "
            "without a passed test; tests that are untrue of the candidate; going back from a candidate that it is not at, or going on "
            "from a rejected one.",
        ),
    )


def equations(setting: Setting, labels: Labels, texts: Texts) -> Table:
    """Equations and numbers of natural text."""
    lines = []
    for name, label in labels.items():
        cells: list[Cell] = []
        for part, whole in (("right", "equations"), ("from nowhere", "numbers")):
            own = [text for text in texts[name] if text.counts[whole]]
            total = sum(text.counts[whole] for text in own)
            hits = [text.counts[part] for text in own]
            share = None
            if own:
                around = wilson_clustered(hits, [text.counts[whole] for text in own])
                share = f"{100 * sum(hits) / total:.1f} ({between(around.low, around.high, signed=False)})"
            cells += [total, len(own), share]
        lines.append((label, sum(len(text.steps) for text in texts[name]), *cells))
    return Table(
        title=f"{setting.name}: equations that are stated, and numbers that come from nowhere",
        heads=("arm", "steps", "equations", "in texts", "right %", "numbers", "in texts", "from nowhere %"),
        lines=tuple(lines),
        notes=(
            "A number comes from nowhere where neither the prompt nor an earlier step nor the step's own result has it.",
        ),
    )


def sentences(
    setting: Setting, labels: Labels, texts: Texts, power: Mapping[str, tuple[float, float, float]]
) -> list[str]:
    """What each arm's texts show, and whether the judge sees anything in them."""
    said = []
    for name, label in labels.items():
        own = with_pairs(texts[name])
        head = f"{setting.name}: {label}:"
        if not own:
            steps = sum(len(text.steps) > 1 for text in texts[name])
            why = f"none of its {len(texts[name])} texts holds a pair to test ({steps} have two steps or more)"
            said.append(f"{head} {why}, so nothing is said of their coherence.")
            continue
        whole = np.array([all(text.pairs) for text in own], float)
        words = (
            f"{pairs_said(own)} % of {sum(len(text.pairs) for text in own)} pairs are coherent, "
            f"{share_said(int(whole.sum()), len(own))} % of {len(own)} traces wholly"
        )
        if all(text.valid is not None for text in own):
            valid = np.array([bool(text.valid) for text in own], float)
            gap = paired_difference(valid, whole)
            more = (
                "more traces are coherent than valid"
                if gap.clear and gap.difference > 0
                else "coherent and valid traces do not differ detectably"
            )
            words += f"; {share_said(int(valid.sum()), len(own))} % are valid: {more}, {difference_said(gap)}"
        else:
            words += ", by a weaker judge: equations that are written out, and the numbers that they compute with"
        if name in power:
            _, mean, p = power[name]
            sees = "" if p <= LEVEL else ", so that the judge does not tell these texts from shuffled ones"
            words += f". With their steps in random orders {100 * mean:.1f} % of pairs are (rank p {p:.3f}){sees}"
        said.append(f"{head} {words}.")
    return said
