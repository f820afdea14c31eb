"""Decision tokens (2605.06241, 2605.16874): which positions decide, and is a vector there worth more than a token?

1. Selectors say where (divergence of the predictions, another greedy token, entropy or a readout of the base, sentence starts, random,
   random among the first fifth of the tokens), writers what is done there (the thinking model's token, the bank's vectors, one vector, the
   mean effect on the logits, that effect on the vectors' top words alone), budgets how often. All stand on the same problems, paired.
2. Thresholds are set on development problems so that a selector takes its budget of the thinking model's tokens there; what it took on the
   test problems is reported, for a base that ends early gives it little to take.
3. Beside the bank at its widest budget stand R banks of random vectors of equal norms, each its own draw.
4. Cells of one and the same rule (a selector that takes all it can before the budget is reached) are one arm.
5. Where the token is worth as much as the vector, the vector writes a token: the sentence says in how many comparisons it is not, and what
   advantage the intervals leave it.
"""

from __future__ import annotations

from typing import Any

from steering.compile.text import token_facts
from steering.errors import BadInput
from steering.hybrid import Controller

from ...tasks.task import asked_ids
from ..hybrid.arms import Parts, hybrid_arm
from ..hybrid.making import Making
from ..hybrid.run import make_parts
from ..hybrid.spec import HybridSpec
from .asked import Elicit, Setting
from .audit_verdict import corrects
from .bank_audit import EXTRA, audited
from .card import Card
from .decision_tables import Cell, Grid, against_token, grid_table, told
from .findings import Point, Table
from .points import points_of
from .positions import enriched, ranks
from .selecting import DEVELOPMENT, SELECTORS, WORDS, WRITERS, DecisionOptions, biases_of, controller, taking
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
        biases = biases_of(room.base, parts)
        cells: dict[Cell, str] = {}
        rules: dict[str, Controller] = {}
        names: dict[str, str] = {}
        arms = []
        for (selector, budget), own in takings.items():
            for writer in options.writers:
                rule, name = controller(room.base, parts, own, writer, biases), f"{selector}-{writer}-{100 * budget:g}"
                if (known := names.setdefault(rule.digest, name)) == name:
                    rules[name] = rule
                    label = f"{WRITERS[writer]} at {SELECTORS[selector]}, {100 * budget:g} %"
                    role = "control" if selector in ("random", "early") else "steered"
                    arms.append(hybrid_arm(making.spec, name, label, rule, role))
                cells[selector, writer, budget] = known
        widest = takings.get(("divergence", max(options.budgets))) or next(iter(takings.values()))
        for writer, label in EXTRA.items():
            rules[f"bank-{writer}"] = controller(room.base, parts, widest, writer, biases)
            arms.append(hybrid_arm(making.spec, f"bank-{writer}", label, rules[f"bank-{writer}"], "control"))
        for seed in range(options.random):
            rules[f"draw-{seed}"] = controller(room.base, parts, widest, "bank", biases, seed)
            arms.append(hybrid_arm(making.spec, f"draw-{seed}", f"random vectors, draw {seed}", rules[f"draw-{seed}"]))
        found = room.evaluate(
            "decisions", setting, [*room.references(setting), *arms], options.n, controllers=list(rules.values())
        )
        own_points = points_of(found, setting)
        points += [point for point in own_points if not point.arm.startswith("draw-")]
        grid = Grid(found, setting, cells, takings)
        tables += [grid_table(grid, own_points, options), against_token(grid), ranks(setting, signals)]
        said += told(grid, own_points, options)
        table, sentences = _bank(room, grid, parts, options)
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


def _bank(room: Workroom, grid: Grid, parts: Parts, options: DecisionOptions) -> tuple[Table | None, list[str]]:
    budget = max(options.budgets)
    at = {
        writer: grid.cells["divergence", writer, budget]
        for writer in options.writers
        if "divergence" in options.selectors
    }
    if "bank" not in at:
        return None, []
    about = {at["bank"]: WRITERS["bank"]} | {f"bank-{writer}": label for writer, label in EXTRA.items()}
    about |= {at[writer]: WRITERS[writer] for writer in ("mean", "words", "token") if writer in at}
    biases = tuple(at[writer] for writer in ("mean", "words") if writer in at)
    right = corrects(grid.run, grid.setting.split)
    return audited(grid.setting, room.base, parts.bank, WORDS, right, about, biases, budget)


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
    version=3,
)
