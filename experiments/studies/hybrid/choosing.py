"""What development questions decide: seeds of banks, the rate of random positions, and thresholds of gates without a thinking model."""

from __future__ import annotations

import pandas as pd

from steering.hybrid import Controller, Readout, ShiftBank

from ...store.runs import Run
from .arms import Parts, free_rules, hybrid_arm, reference_arms
from .making import Making


def means(run: Run) -> pd.Series:
    """Accuracy of each arm, averaged over splits."""
    table = run.table(columns=["arm", "split", "correct"]).to_pandas()
    return table.groupby(["arm", "split"])["correct"].mean().groupby("arm").mean()


def best_seeds(
    making: Making, read: Readout, found: tuple[dict[int, ShiftBank], dict[int, ShiftBank]]
) -> tuple[int, int, float, dict[str, float]]:
    """Seeds of both banks by accuracy on development problems (all share a gap, so it orders them as the gap does), the share of tokens
    that the chosen one gates, and every accuracy."""
    spec, rules = making.spec, {}
    for seed in spec.seeds:
        rules[f"bank-{seed}"] = Controller("disagreement", "thinking", bank=found[0][seed], categories=read)
        rules[f"one-{seed}"] = Controller("disagreement", "only", bank=found[1][seed])
    arms = [*reference_arms(spec), *(hybrid_arm(spec, name, name, rule, "steered") for name, rule in rules.items())]
    run = making.evaluate(
        "hybrid-seeds", arms, list(rules.values()), spec.chosen_on(), "choosing seeds on development problems"
    )
    accuracy = means(run)

    def best(name: str) -> int:
        return max(spec.seeds, key=lambda seed: (round(accuracy[f"{name}-{seed}"], 9), -seed))

    many, one = best("bank"), best("one")
    chosen = run.table(columns=["token_ids", "choices"], arms=[f"bank-{many}"]).to_pandas()
    rate = sum(map(len, chosen["choices"])) / sum(map(len, chosen["token_ids"]))
    return many, one, float(rate), {name: float(value) for name, value in accuracy.items()}


def best_thresholds(
    making: Making, parts: Parts, candidates: dict[str, list[float]]
) -> tuple[dict[str, float], dict[str, float]]:
    """Threshold of each free rule by accuracy on development problems; ties go to the one that opens less."""
    spec, rules, values = making.spec, {}, {}
    for n, (hot, unsure) in enumerate(zip(candidates["trigger"], candidates["entropy"], strict=True)):
        here = free_rules(parts, {"probe": hot, "probe_kept": hot, "entropy": unsure})
        for name in ("probe", "probe_kept", "entropy"):
            rules[f"{name}-{n}"] = here[name][1]
            values[f"{name}-{n}"] = unsure if name == "entropy" else hot
    arms = [*reference_arms(spec)[:1], *(hybrid_arm(spec, name, name, rule, "steered") for name, rule in rules.items())]
    run = making.evaluate(
        "hybrid-thresholds", arms, list(rules.values()), spec.chosen_on(), "choosing thresholds on development problems"
    )
    accuracy = means(run)
    chosen = {}
    for name in ("probe", "probe_kept", "entropy"):
        own = [n for n in rules if n.rsplit("-", 1)[0] == name]
        chosen[name] = values[max(own, key=lambda n: (round(accuracy[n], 9), values[n]))]
    return chosen, {name: float(value) for name, value in accuracy.items()}
