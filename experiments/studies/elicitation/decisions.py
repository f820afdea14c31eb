"""Decision tokens (2605.06241, 2605.16874): which positions decide, and is a vector there worth more than a token?

1. Selectors say where (divergence of the predictions, another greedy token, entropy or a readout of the base, sentence starts, random,
   random among the first fifth of the tokens), writers what is done there (the thinking model's token, the bank's vectors, one vector, the
   mean effect on the logits, that effect on the vectors' top words alone), budgets how often. All stand on the same problems, paired.
2. Thresholds are set on development problems so that a selector takes its budget of the thinking model's tokens there; what it took on the
   test problems is reported, for a base that ends early gives it little to take.
3. Beside the bank at its widest budget stand R banks of random vectors of equal norms, each its own draw.
4. Where the token is worth as much as the vector, the vector writes a token: the sentence says in how many comparisons it is not, and what
   advantage the intervals leave it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from steering.compile.text import token_facts
from steering.errors import BadInput

from ...statistics import PairedDifference, rank_p
from ...store.runs import Run
from ...tasks.task import asked_ids
from ..hybrid.arms import Parts, hybrid_arm
from ..hybrid.making import Making
from ..hybrid.run import make_parts
from ..hybrid.spec import HybridSpec
from .asked import Elicit, Setting
from .audit_verdict import corrects
from .bank_audit import EXTRA, audited
from .card import Card
from .findings import Point, Table
from .points import arms_difference, between, points_of
from .positions import enriched, ranks
from .selecting import DEVELOPMENT, SELECTORS, WORDS, WRITERS, DecisionOptions, Taking, controller, taking
from .signals import Signals, read_signals
from .workroom import Workroom


def refuse(asked: Elicit, options: DecisionOptions) -> None:
    if asked.thinking is None:
        raise BadInput("The card decisions compares two models: give --pair BASE,THINKING.")
    if not asked.builtin and not (options.read and options.development):
        raise BadInput(
            "card decisions: another task names the questions that the bank is made from and that thresholds are set on, as "
            "--set 'read={train: 400}' --set 'development={dev: 48}'."
        )
    for name, known in (("selectors", SELECTORS), ("writers", WRITERS)):
        if extra := set(getattr(options, name)) - set(known):
            raise BadInput(f"card decisions: {name} has {sorted(extra)[0]!r}; there are {', '.join(known)}.")


def run(room: Workroom, options: DecisionOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    tables, said = [], []
    for setting in room.asked.settings:
        making = Making(hybrid_spec(room, setting, options), room.store, room.console)
        room.models.update(making.models)
        parts = make_parts(making).parts
        dev = {DEVELOPMENT[setting.split]: options.n_development} if room.asked.builtin else options.development
        signals = _signals(room, setting, parts, dev)
        takings = {(s, b): taking(signals, s, b) for s in options.selectors for b in options.budgets}
        rules, arms = {}, []
        for (selector, budget), own in takings.items():
            for writer in options.writers:
                name = f"{selector}-{writer}-{100 * budget:g}"
                rules[name] = controller(room.base, parts, own, writer)
                label = f"{WRITERS[writer]} at {SELECTORS[selector]}, {100 * budget:g} %"
                role = "control" if selector in ("random", "early") else "steered"
                arms.append(hybrid_arm(making.spec, name, label, rules[name], role))
        widest = takings.get(("divergence", max(options.budgets))) or next(iter(takings.values()))
        for writer, label in EXTRA.items():
            rules[f"bank-{writer}"] = controller(room.base, parts, widest, writer)
            arms.append(hybrid_arm(making.spec, f"bank-{writer}", label, rules[f"bank-{writer}"], "control"))
        for seed in range(options.random):
            rules[f"draw-{seed}"] = controller(room.base, parts, widest, "bank", seed)
            arms.append(hybrid_arm(making.spec, f"draw-{seed}", f"random vectors, draw {seed}", rules[f"draw-{seed}"]))
        found = room.evaluate(
            "decisions", setting, [*room.references(setting), *arms], options.n, controllers=list(rules.values())
        )
        own_points = points_of(found, setting)
        points += [point for point in own_points if not point.arm.startswith("draw-")]
        tables += [
            _grid(found, setting, own_points, options, takings),
            _against(found, setting, options),
            ranks(setting, signals),
        ]
        said += _said(found, setting, own_points, options)
        table, sentences = _bank(room, found, setting, parts, options)
        tables += [table] if table else []
        said += sentences
        if room.asked.builtin:
            tables.append(enriched(room, setting, signals, takings, options))
    return points, tables, said


def hybrid_spec(room: Workroom, setting: Setting, options: DecisionOptions) -> HybridSpec:
    """How the bank of a setting is made."""
    facts: dict[str, Any] = {
        "base": room.asked.base, "thinking": room.asked.thinking, "form": setting.form, "reasoning": room.asked.think,
        "max_new_tokens": room.asked.max_new_tokens, "loading": room.asked.loading, "n": options.n,
    }  # fmt: skip
    if not room.asked.builtin:
        facts |= {
            "task": room.asked.task, "read": options.read, "development": options.development, "test": {setting.split: options.n},
        }  # fmt: skip
    return HybridSpec.model_validate(facts | options.hybrid)


def _signals(room: Workroom, setting: Setting, parts: Parts, splits: dict[str, int]) -> Signals:
    task, thinking = room.asked.found, room.model(str(room.asked.thinking))
    items = [item for split, n in splits.items() for item in task.items(split, n)]
    prompts = [tuple(asked_ids(task, model, item, setting.form) for model in (room.base, thinking)) for item in items]
    facts = token_facts(room.base)
    ends = [facts.ends_sentence(token) for token in range(len(room.base.tokenizer))]
    return read_signals(room.base, thinking, prompts, parts.trigger, ends, room.asked.max_new_tokens)  # type: ignore[arg-type]


def _reached(found: Run, setting: Setting) -> dict[str, float]:
    """Share of an arm's tokens that its gate opened at."""
    rows = found.table(columns=["arm", "split", "token_ids", "choices"]).to_pandas()
    rows = rows[(rows["split"] == setting.split) & rows["choices"].notna()]
    gated, written = (
        rows["choices"].map(len).groupby(rows["arm"]).sum(),
        rows["token_ids"].map(len).groupby(rows["arm"]).sum(),
    )
    return {str(arm): float(gated[arm] / written[arm]) for arm in gated.index}


def _grid(
    found: Run,
    setting: Setting,
    points: list[Point],
    options: DecisionOptions,
    takings: dict[tuple[str, float], Taking],
) -> Table:
    named, reached = {point.arm: point for point in points}, _reached(found, setting)
    lines: list[tuple[Any, ...]] = []
    for (selector, budget), own in takings.items():
        cells = []
        for writer in options.writers:
            name = f"{selector}-{writer}-{100 * budget:g}"
            point = named[name]
            cells.append(
                f"{100 * point.accuracy:.1f} ({100 * point.low:.0f}-{100 * point.high:.0f}), {100 * reached.get(name, 0):.1f} %"
            )
        lines.append((SELECTORS[selector], f"{100 * budget:g}", f"{100 * own.took:.1f}", *cells))
    return Table(
        title=f"{setting.name}: right % (95 %) and share of tokens reached",
        heads=("selector", "budget %", "took on development %", *(WRITERS[writer] for writer in options.writers)),
        lines=tuple(lines),
        notes=(f"n {named['base'].n}; base {100 * named['base'].accuracy:.1f} %.",),
    )


def _pairs(found: Run, setting: Setting, options: DecisionOptions) -> list[tuple[str, float, PairedDifference]]:
    """Vector minus token at equal selector and budget."""
    if not {"token", "bank"} <= set(options.writers):
        return []
    return [
        (selector, budget, arms_difference(found, setting.split, *(f"{selector}-{w}-{100 * budget:g}" for w in ("token", "bank"))))
        for selector in options.selectors
        for budget in options.budgets
    ]  # fmt: skip


def _against(found: Run, setting: Setting, options: DecisionOptions) -> Table:
    lines = tuple(
        (
            SELECTORS[selector], f"{100 * budget:g}", f"{100 * one.difference:+.1f} ({between(one.interval.low, one.interval.high)})",
            one.helped, one.hurt, one.n,
        )
        for selector, budget, one in _pairs(found, setting, options)
    )  # fmt: skip
    return Table(
        title=f"{setting.name}: the bank's vectors minus the thinking model's token, same selector and budget",
        heads=("selector", "budget %", "points (95 %)", "vector alone right", "token alone right", "n"),
        lines=lines,
    )


def _bank(
    room: Workroom, found: Run, setting: Setting, parts: Parts, options: DecisionOptions
) -> tuple[Table | None, list[str]]:
    budget = max(options.budgets)
    at = {writer: f"divergence-{writer}-{100 * budget:g}" for writer in options.writers}
    if "divergence" not in options.selectors or "bank" not in at:
        return None, []
    about = {at["bank"]: WRITERS["bank"]} | {f"bank-{writer}": label for writer, label in EXTRA.items()}
    about |= {at[writer]: WRITERS[writer] for writer in ("mean", "words", "token") if writer in at}
    biases = tuple(at[writer] for writer in ("mean", "words") if writer in at)
    return audited(setting, room.base, parts.bank, WORDS, corrects(found, setting.split), about, biases, budget)


def _said(found: Run, setting: Setting, points: list[Point], options: DecisionOptions) -> list[str]:
    pairs = _pairs(found, setting, options)
    named = {point.arm: point for point in points}
    said = []
    if pairs:
        more = [one for one in pairs if one[2].interval.low > 0]
        less = [one for one in pairs if one[2].interval.high < 0]
        places = ", ".join(f"{SELECTORS[selector]} {100 * budget:g} %" for selector, budget, _ in more)
        most = max(one[2].interval.high for one in pairs)
        verdict = (
            f"in {len(more)} the vector is worth more ({places}), one of many such comparisons being so by chance"
            if more
            else "in none the vector is"
        )
        said.append(
            f"{setting.name}: of {len(pairs)} comparisons of vector and token at equal selector and budget, in {len(less)} the token is "
            f"worth more, and {verdict}; the intervals leave the vector an advantage of at most {100 * most:+.1f} points."
        )
    name = f"divergence-bank-{100 * max(options.budgets):g}"
    drawn = [point.accuracy for point in points if point.arm.startswith("draw-")]
    if name in named and drawn:
        own = named[name]
        said.append(
            f"{setting.name}: the bank's vectors at the {100 * max(options.budgets):g} % of largest divergence are right in "
            f"{100 * own.accuracy:.1f} %, {len(drawn)} banks of random vectors of equal norms in {100 * np.mean(drawn):.1f} "
            f"({100 * min(drawn):.1f} to {100 * max(drawn):.1f}), rank p {rank_p(own.accuracy, drawn):.3f}; n {own.n}."
        )
    return said


QUICK = {
    "traces": 120,
    "rollouts": 160,
    "held_out": 40,
    "sizes": (5,),
    "layers": (1,),
    "seeds": (42,),
    "epochs": 4,
    "hidden": 128,
    "n_dev": 12,
}
CARD = Card(
    name="decisions",
    title="Decision tokens: vector against token",
    systems=("S21",),
    papers=("2605.06241", "2605.16874", "2510.07364"),
    measures="accuracy of every selector, writer and budget on the same problems; vector minus token at equal positions",
    control="random positions, random early positions, banks of random vectors, the mean effect on the logits",
    quick=DecisionOptions(n=16, budgets=(0.03, 0.20), hybrid=QUICK),
    full=DecisionOptions(n=200),
    run=run,
    refuse=refuse,
    version=2,
)
