"""Thought switching (2501.18585), and suppression of words that switch, hedge or reflect (2506.08343, 2506.02867).

1. The penalty on switch words is run over its whole grid of strength and window: a best cell of a grid is no result.
2. Whole lists of words are suppressed, hard, beside R random lists of the text's own words that occur equally often: whether *these* words
   are special is told by the rank among them.
3. The underthinking score is exact where thoughts are: in the built-in task a thought is one candidate tried, and it is right if that
   candidate is the answer. Of a wrong text it is the share of tokens that come after the end of its first right thought, 0 where it has
   none.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
from pydantic import Field

from steering.model.models import LoadedModel

from ...statistics import rank_p
from ...statistics.shares import mean_interval
from ...store.runs import Run
from .asked import Elicit, Setting
from .card import Card, Options
from .findings import Point, Table
from .points import points_of, said_of
from .workroom import Workroom

LISTS: dict[str, dict[str, tuple[str, ...]]] = {
    "find-start": {"switch": ("back",), "hedging": ("hmm", "maybe"), "checking": ("wait", "check")},
    "": {
        "switch": ("Alternatively", "alternatively"),
        "NoWait": (
            *(
                "wait",
                "alternatively",
                "hmm",
                "but",
                "however",
                "alternative",
                "another",
                "check",
                "double-check",
                "oh",
            ),
            *("maybe", "verify", "other", "again", "now", "ah", "any"),
        ),
        "MI peaks": ("So", "Hmm", "Wait", "Therefore", "Let", "Okay", "First", "But", "Now", "Then"),
    },
}
"""Words that are suppressed, by task; `switch` is what the penalty's grid takes. NoWait's list is 2506.08343's, the other has tokens of
2506.02867 that carry most information on the answer; neither was compared with its source word by word: give your own in `lists`."""


class SwitchingOptions(Options):
    strengths: tuple[float, ...] = (3.0, 5.0, 10.0, 20.0)
    """Logits that are taken from the words of switching."""
    windows: tuple[int, ...] = (10, 20, 40, 80)
    """Tokens from the beginning of a thought; published for long texts: 300 to 700."""
    lists: dict[str, tuple[str, ...]] | None = None
    """Words that cannot be written, by a name of the list; by default those of the task."""
    draws: int = Field(default=20, ge=1)
    """Random lists beside each list."""


def run(room: Workroom, options: SwitchingOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    tables, said = [], []
    lists = options.lists or LISTS.get(room.asked.found.name.split(":")[0], LISTS[""])
    for setting in room.asked.settings:
        plain = room.evaluate(
            "switching-words", setting, [room.arm(setting, "base", "base, greedy", "baseline")], options.n
        )
        counts = words_of(plain, setting, room.base)
        grid = [
            room.arm(
                setting, f"tip-{strength:g}-{window}", f"switch penalty {strength:g} for {window} tokens",
                decoder={"kind": "suppression", "words": list(lists["switch"]), "strength": strength, "window": window},
            )
            for strength in options.strengths
            for window in options.windows
        ]  # fmt: skip
        whole, beside = [], []
        for name, words in lists.items():
            known = words_known(room.base, words)
            if not known:
                said.append(f"{setting.name}: no word of the list {name} is one of the model's.")
                continue
            whole.append(
                room.arm(setting, f"list-{name}", f"no {name} words", decoder={"kind": "suppression", "words": known})
            )
            for draw, chosen in enumerate(random_lists(counts, known, options.draws)):
                beside.append(
                    room.arm(
                        setting, f"random-{name}-{draw}", f"no random words like {name}, draw {draw}", "control",
                        decoder={"kind": "suppression", "words": chosen},
                    )
                )  # fmt: skip
        found = room.evaluate("switching", setting, [*room.references(setting), *grid, *whole, *beside], options.n)
        own = points_of(found, setting)
        points += [point for point in own if not point.arm.startswith("random-")]
        measured = {
            point.arm: measures(room, found, setting, point.arm) for point in own if not point.arm.startswith("random-")
        }
        tables.append(_grid(setting, own, measured, options))
        tables.append(_lists(setting, own, measured, counts, lists))
        said += _said(setting, own, lists)
        if room.asked.builtin:
            said.append(_underthinking(setting, measured))
    return points, tables, said


def words_of(found: Run, setting: Setting, model: LoadedModel, arm: str = "base") -> Counter[str]:
    """How often each word that can be suppressed stands in the texts of an arm."""
    rows = found.table(columns=["split", "text"], arms=[arm]).to_pylist()
    counts = Counter(word for row in rows if row["split"] == setting.split for word in row["text"].split())
    known = words_known(model, tuple(counts))
    return Counter({word: counts[word] for word in known})


def words_known(model: LoadedModel, words: tuple[str, ...]) -> list[str]:
    """Those of the words that the model's tokenizer knows."""
    from steering.errors import BadInput

    from ...decoders.suppression import first_tokens

    known = []
    for word in words:
        try:
            first_tokens(model, word)
        except BadInput:
            continue
        known.append(word)
    return known


def random_lists(counts: Counter[str], words: list[str], draws: int) -> list[list[str]]:
    """Distinct lists of as many other words, of those drawn the ones that come nearest to occurring equally often; fewer than `draws` where
    there are not so many."""
    others = sorted(word for word in counts if word not in words)
    if len(others) < len(words):
        return []
    wanted, rng = sum(counts[word] for word in words), random.Random("/".join(words))
    tried = sorted({tuple(sorted(rng.sample(others, len(words)))) for _ in range(100 * draws)})
    near = sorted(tried, key=lambda own: abs(sum(counts[word] for word in own) - wanted))[:draws]
    return [list(own) for own in sorted(near)]


def thoughts(words: list[str]) -> list[tuple[int, int, str]]:
    """(start, end, candidate) of every thought of a text of the built-in task: from one `try` to the next `not`."""
    starts = [n for n, word in enumerate(words[:-1]) if word == "try" and words[n + 1].isdigit()]
    found = []
    for place, start in enumerate(starts):
        last = starts[place + 1] if place + 1 < len(starts) else len(words)
        end = next((n for n in range(start + 1, last) if words[n] in ("not", "so", "enough")), last)
        found.append((start, end, words[start + 1]))
    return found


def underthinking(words: list[str], gold: str) -> float:
    """1 - (tokens up to the end of the first right thought)/(all tokens); 0 without a right thought (2501.18585, equation 1)."""
    end = next((end for _, end, candidate in thoughts(words) if candidate == gold), len(words))
    return 1 - end / len(words) if words else 0.0


def measures(room: Workroom, found: Run, setting: Setting, arm: str) -> dict[str, Any]:
    """Underthinking of an arm's wrong texts and thoughts per text; of other tasks than the built-in one, nothing."""
    if not room.asked.builtin:
        return {}
    rows = found.table(columns=["split", "text", "gold", "correct"], arms=[arm]).to_pylist()
    rows = [row for row in rows if row["split"] == setting.split]
    wrong = [underthinking(row["text"].split(), row["gold"]) for row in rows if not row["correct"]]
    per_text = {
        right: [len(thoughts(r["text"].split())) for r in rows if r["correct"] == right] for right in (True, False)
    }
    lengths = {right: [len(r["text"].split()) for r in rows if r["correct"] == right] for right in (True, False)}
    return {
        "wrong": wrong,
        "thoughts": {right: float(np.mean(own)) if own else None for right, own in per_text.items()},
        "tokens": {right: float(np.mean(own)) if own else None for right, own in lengths.items()},
    }


def _cell(point: Point) -> str:
    return f"{100 * point.accuracy:.1f} ({100 * point.low:.1f} to {100 * point.high:.1f})"


def _score(measured: dict[str, Any]) -> str | None:
    if not measured.get("wrong"):
        return None
    around = mean_interval(measured["wrong"])
    return f"{100 * np.mean(measured['wrong']):.1f} ({100 * around.low:.1f} to {100 * around.high:.1f}; n {len(measured['wrong'])})"


def _grid(
    setting: Setting, points: list[Point], measured: dict[str, dict[str, Any]], options: SwitchingOptions
) -> Table:
    named = {point.arm: point for point in points}
    lines = []
    for arm in ["base", *(f"tip-{s:g}-{w}" for s in options.strengths for w in options.windows)]:
        point = named[arm]
        lines.append((point.label, _cell(point), round(point.tokens, 1), _score(measured[arm]), point.truncated))
    return Table(
        title=f"{setting.name}: the penalty on switching, every cell",
        heads=("arm", "right % (95 %)", "tokens", "underthinking of wrong texts %", "cut"),
        lines=tuple(lines),
        notes=("The best of the cells is no result: it is the largest of many.",),
    )


def _lists(
    setting: Setting, points: list[Point], measured: dict[str, dict[str, Any]], counts: Counter[str],
    lists: dict[str, tuple[str, ...]],
) -> Table:  # fmt: skip
    lines = []
    for name in lists:
        own = next((point for point in points if point.arm == f"list-{name}"), None)
        beside = [point for point in points if point.arm.startswith(f"random-{name}-")]
        if own is None:
            continue
        drawn = [point.accuracy for point in beside]
        ranks: tuple[str | int | float | None, ...] = (0, None, None, None)
        if drawn:
            better, worse = rank_p(own.accuracy, drawn), rank_p(-own.accuracy, [-x for x in drawn])
            spread = f"{100 * np.mean(drawn):.1f} ({100 * min(drawn):.1f} to {100 * max(drawn):.1f})"
            ranks = (len(drawn), spread, round(better, 3), round(worse, 3))
        count = sum(counts[word] for word in lists[name])
        lines.append(
            (name, " ".join(lists[name]), count, _cell(own), round(own.tokens, 1), _score(measured[own.arm]), *ranks)
        )
    return Table(
        title=f"{setting.name}: lists of words that cannot be written",
        heads=(
            *("list", "words", "in the base's texts", "right % (95 %)", "tokens", "underthinking %", "random lists"),
            *("their right % (range)", "rank p, better", "rank p, worse"),
        ),
        lines=tuple(lines),
        notes=("Random lists: as many words of the base's own texts, occurring about equally often.",),
    )


def _said(setting: Setting, points: list[Point], lists: dict[str, tuple[str, ...]]) -> list[str]:
    cells = [point for point in points if point.arm.startswith("tip-")]
    found = [point.difference for point in cells if point.difference is not None]
    above = sum(p.difference_low is not None and p.difference_low > 0 for p in cells)
    below = sum(p.difference_high is not None and p.difference_high < 0 for p in cells)
    said = [
        f"{setting.name}: over {len(cells)} cells the penalty changes accuracy by {100 * min(found):+.1f} to {100 * max(found):+.1f} "
        f"points; in {above} of them the interval lies above 0, in {below} below."
    ]
    return said + [said_of(point) for point in points if point.arm.startswith("list-")]


def _underthinking(setting: Setting, measured: dict[str, dict[str, Any]]) -> str:
    words = []
    for arm in ("base", "thinking"):
        own = measured.get(arm)
        if own is None:
            continue
        right, wrong = own["thoughts"][True], own["thoughts"][False]
        counts = [
            f"{value:.1f} in {name} texts" for value, name in ((right, "right"), (wrong, "wrong")) if value is not None
        ]
        words.append(
            f"{arm}: thoughts {', '.join(counts)}, underthinking {_score(own) or 'not defined (no wrong text)'}"
        )
    return f"{setting.name}: {'; '.join(words)}."


def refuse(asked: Elicit, options: SwitchingOptions) -> None:
    from steering.errors import BadInput

    if not options.strengths or not all(strength > 0 for strength in options.strengths):
        raise BadInput("card switching: strengths are positive, in nats, such as --set strengths=[3,10].")
    if not options.windows or not all(window > 0 for window in options.windows):
        raise BadInput("card switching: windows are positive, in tokens, such as --set windows=[10,40].")
    if options.lists is not None and not options.lists.get("switch"):
        raise BadInput(
            "card switching: lists needs the words of `switch`, which the penalty's grid takes: --set 'lists={switch: [wait, hmm]}'."
        )


CARD = Card(
    name="switching",
    title="Thought switching and suppressed words",
    systems=("S9", "S27"),
    papers=("2501.18585", "2506.08343", "2506.02867"),
    measures="accuracy, tokens and underthinking under the whole grid of the switch penalty and under suppressed lists of words",
    control="random lists of the text's own words that occur equally often, each its own draw",
    quick=SwitchingOptions(n=40, draws=20),
    full=SwitchingOptions(n=200, draws=39),
    run=run,
    refuse=refuse,
    version=3,
)
