"""A hybrid experiment end to end, resumable: every part is a file that is made once, every evaluation a run of the store.

1. Parts lie in a folder of the store (`making`) and are made once.
2. Seeds of banks, thresholds and the rate of random positions are decided on development problems; test problems are run once.
3. The test run holds references, hybrid, controls and the gates that need no thinking model on the same problems.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
from rich.console import Console
from safetensors.torch import load_file, save_file

from probes.endpoint import Endpoint
from saes.sentences import SentenceSAE
from steering.hybrid import Readout, ShiftBank
from steering.hybrid.alignment import Aligned
from steering.hybrid.disagreement import Disagreements, disagreements
from steering.hybrid.kept import adapt_to_cache
from steering.hybrid.training import fit_bank, mean_effect

from ...progress import progress, talk
from ...store.files import write_whole
from ...store.runs import Run, Store
from .arms import (
    Parts,
    control_rules,
    free_rules,
    hybrid_arm,
    hybrid_rule,
    legacy_rule,
    random_gate_rules,
    random_rules,
    reference_arms,
)
from .choosing import best_seeds, best_thresholds
from .making import Making
from .report import HYBRID, hybrid_frame, random_lines
from .spec import HybridSpec
from .taxonomy import category_readout, choose_taxonomy, greedy_traces
from .texts import rollouts, sentence_labels
from .when import Positions, fit_categories, fit_trigger, probe_readout, read_positions, thresholds


@dataclass(frozen=True, eq=False)
class HybridResult:
    """The test run, its table, and what was decided on the way."""

    run: Run
    random: Run
    """The hybrid beside banks of random vectors."""
    gated: Run | None
    """The entropy gate beside banks of random vectors."""
    legacy: Run | None
    frame: pd.DataFrame
    parts: Parts
    decided: dict[str, Any]
    """Taxonomy, seeds, thresholds, rate, quality of the readouts: plain data."""


TAXONOMY = ("judge", "traces", "sentences", "sizes", "layers", "asked", "max_new_tokens")
TEXTS = ("rollouts", "held_out", "form", "asked", "max_new_tokens")
BANKS = (*TAXONOMY, *TEXTS, "epochs", "hidden", "steering_layer")


def taxonomy(making: Making) -> tuple[SentenceSAE, dict[str, Any]]:
    """The chosen sentence autoencoder and its card."""
    spec, place = making.spec, making.place("taxonomy", *TAXONOMY)
    if not place.with_suffix(".json").exists():
        making.console.print(
            f"Sentences of {spec.traces} traces of {spec.thinking}, autoencoders of {spec.sizes} categories ..."
        )
        asked = making.prompts(making.thinking, "traces", spec.asked)
        traces = greedy_traces(making.thinking, asked, spec.max_new_tokens)
        labelled = sentence_labels(making.thinking, traces, making.items["traces"], making.label)
        layers = spec.layers or tuple(range(making.thinking.n_layers))
        judge = (
            None if spec.judge is None else Endpoint(spec.judge[0], spec.judge[1], os.environ.get("STEER_JUDGE_KEY"))
        )
        labels = "exact labels of the grammar" if spec.builtin else f"labels of the {making.detector}, which errs"
        by = labels if judge is None else f"the judgement of {judge.model}"
        found = choose_taxonomy(making.thinking, traces, labelled, layers, spec.sizes, spec.sentences, by, judge=judge)
        found.sae.save(place.with_suffix(".safetensors"))
        card = {
            "grid": [{**asdict(point), "score": point.score} for point in found.grid],
            "titles": found.sae.titles, "shares": found.shares, "exemplars": found.exemplars, "scored_by": found.scored_by,
            "site": str(found.sae.site),
        }  # fmt: skip
        write_whole(place.with_suffix(".json"), json.dumps(card, indent=1).encode())
    return SentenceSAE.load(place.with_suffix(".safetensors")), json.loads(place.with_suffix(".json").read_text())


def texts(making: Making) -> tuple[list[Aligned], list[Aligned]]:
    """Rollouts that banks are trained on, and those held out."""
    path, spec = making.place("rollouts", *TEXTS).with_suffix(".json"), making.spec
    if not path.exists():
        making.console.print(f"Sampling {spec.rollouts + spec.held_out} rollouts of {spec.thinking} ...")
        found = {
            use: [
                asdict(r)
                for r in rollouts(
                    making.base,
                    making.thinking,
                    making.prompts(making.base, use, spec.form),
                    making.prompts(making.thinking, use, spec.asked),
                    spec.max_new_tokens,
                )
            ]
            for use in ("rollouts", "held_out")
        }
        write_whole(path, json.dumps(found).encode())
    data = json.loads(path.read_text())
    read = [
        [Aligned(tuple(r["base_ids"]), tuple(r["thinking_ids"]), tuple(map(tuple, r["pairs"]))) for r in data[use]]
        for use in ("rollouts", "held_out")
    ]
    return read[0], read[1]


def banks(
    making: Making, k: int, training: Disagreements, held_out: Disagreements
) -> tuple[dict[int, ShiftBank], dict[int, ShiftBank]]:
    """Per seed, the bank of the taxonomy and the one of a single category."""
    spec, found = making.spec, ({}, {})  # type: ignore[var-annotated]
    for seed in spec.seeds:
        for n, (name, size) in enumerate((("bank", k), ("one", 1))):
            path = making.place(f"{name}-{seed}", *BANKS).with_suffix(".safetensors")
            if not path.exists():
                inner, outer = (data if size == k else data.as_one() for data in (training, held_out))
                with progress(
                    f"training {'one vector' if size == 1 else f'{k} vectors'}, seed {seed}", making.console
                ) as report:
                    fit = fit_bank(making.base, making.site, inner, outer, size, spec.recipe(seed), report)
                fit.bank.save(path)
            found[n][seed] = ShiftBank.load(path)
    return found


def readouts(making: Making, positions: Callable[[], Positions], k: int) -> tuple[Readout, Readout, dict[str, Any]]:
    """Trigger and categories of the base, and how well they do on held-out rollouts."""
    place = making.place("when", *BANKS)
    paths = [place.with_name(place.name + end) for end in ("-trigger.safetensors", "-guess.safetensors", ".json")]
    if not paths[2].exists():
        making.console.print("Fitting readouts of the base that predict disagreement and category ...")
        found = positions()
        trigger = fit_trigger(making.base, found, making.site)
        guess, categories = fit_categories(making.base, found, making.site, k)
        probe_readout(trigger.probe).save(paths[0])
        guess.save(paths[1])
        card = {
            "trigger": trigger.probe.provenance.notes["held out"],
            "categories": categories.probe.provenance.notes["held out"] if categories else None,
            "rate": found.rate, "thresholds": thresholds(found, probe_readout(trigger.probe)),
        }  # fmt: skip
        write_whole(paths[2], json.dumps(card, indent=1).encode())
    return Readout.load(paths[0]), Readout.load(paths[1]), json.loads(paths[2].read_text())


@dataclass(frozen=True, eq=False)
class Made:
    """The parts of controllers, and what was found while they were made."""

    parts: Parts
    card: dict[str, Any]
    """Of the taxonomy."""
    training: Disagreements
    held_out: Disagreements
    rate: float
    """Share of development tokens that the hybrid gates."""
    seeds: dict[str, Any]
    when: dict[str, Any]


def make_parts(making: Making) -> Made:
    """Taxonomy, banks, readouts and the mean effect; what exists is reused."""
    spec = making.spec
    sae, card = taxonomy(making)
    read = category_readout(sae)
    training_texts, held_texts = texts(making)
    training, held_out = (
        disagreements(making.base, making.thinking, part, read) for part in (training_texts, held_texts)
    )
    found = banks(making, sae.n, training, held_out)
    many, one, rate, seeds = best_seeds(making, read, found)

    def positions() -> Positions:
        return read_positions(making.base, making.thinking, training_texts, making.site, read)

    trigger, guess, when = readouts(making, positions, sae.n)
    bias_path = making.place(f"bias-{many}", *BANKS).with_suffix(".safetensors")
    if not bias_path.exists():
        save_file({"bias": mean_effect(making.base, found[0][many], training).cpu()}, bias_path)
    kept_path = making.place(f"kept-{many}", *BANKS).with_suffix(".safetensors")
    if not kept_path.exists():
        with progress("adapting the bank to shifts that stay in the cache", making.console) as report:
            recipe = replace(spec.recipe(many), epochs=min(4, spec.epochs))
            adapt_to_cache(making.base, found[0][many], training, held_out, recipe, report).save(kept_path)
    kept = ShiftBank.load(kept_path)
    parts = Parts(found[0][many], found[1][one], kept, read, load_file(bias_path)["bias"], trigger, guess)
    return Made(parts, card, training, held_out, rate, {"bank": many, "one": one, "development": seeds}, when)


def run_hybrid(spec: HybridSpec, store: Store, console: Console | None = None) -> HybridResult:
    """Everything; parts and runs that exist are reused. Raises BadInput before the first pass where models do not fit."""
    making = Making(spec, store, console or talk())
    making.say()
    made = make_parts(making)
    parts, card, training, held_out, rate, when = (
        made.parts, made.card, made.training, made.held_out, made.rate, made.when,
    )  # fmt: skip
    chosen, accuracies = best_thresholds(making, parts, when["thresholds"])
    whole, controls, free = hybrid_rule(parts), control_rules(parts, rate), free_rules(parts, chosen)
    arms = [
        *reference_arms(spec),
        hybrid_arm(spec, HYBRID, "hybrid", whole, "steered"),
        *(hybrid_arm(spec, name, label, rule) for name, (label, rule) in controls.items()),
        *(hybrid_arm(spec, name, label, rule, "steered") for name, (label, rule) in free.items()),
    ]
    rules = [whole, *(rule for _, rule in (*controls.values(), *free.values()))]
    run = making.evaluate("hybrid", arms, rules, spec.reported(), "test problems, all arms")
    drawn = random_rules(parts)
    arms = [
        *reference_arms(spec),
        hybrid_arm(spec, HYBRID, "hybrid", whole, "steered"),
        *(hybrid_arm(spec, name, label, rule) for name, (label, rule) in drawn.items()),
    ]
    splits = spec.reported(spec.n_random)
    random = making.evaluate(
        "hybrid-random", arms, [whole, *(rule for _, rule in drawn.values())], splits, "banks of random vectors"
    )
    frame, legacy = pd.concat([hybrid_frame(run), random_lines(random)], ignore_index=True), None
    gated = None
    if spec.n_random_entropy:
        banks, (label, rule) = random_gate_rules(parts, chosen), free["entropy"]
        arms = [
            *reference_arms(spec),
            hybrid_arm(spec, "entropy", label, rule, "steered"),
            *(hybrid_arm(spec, name, own, bank) for name, (own, bank) in banks.items()),
        ]
        every, splits = [rule, *(bank for _, bank in banks.values())], spec.reported(spec.n_random_entropy)
        gated = making.evaluate("hybrid-random-entropy", arms, every, splits, "random vectors behind the entropy gate")
        lines = random_lines(gated, "entropy_random_vectors", "banks of random vectors behind the entropy gate")
        frame = pd.concat([frame, lines], ignore_index=True)
    if spec.n_legacy:
        rule = legacy_rule(parts)
        arms = [
            *reference_arms(spec),
            hybrid_arm(spec, HYBRID, "hybrid", whole, "steered"),
            hybrid_arm(spec, "legacy", "legacy v1 selection", rule),
        ]
        splits = spec.reported(spec.n_legacy)
        legacy = making.evaluate("hybrid-legacy", arms, [whole, rule], splits, "v1's selection rule")
        frame = pd.concat([frame, hybrid_frame(legacy).query("arm == 'legacy'")], ignore_index=True)
    decided = {
        "taxonomy": card,
        "disagreements": {"training": training.n, "held_out": held_out.n, "share": training.n / training.read},
        "site": str(making.site),
        "seeds": made.seeds,
        "bank": {
            k: v
            for k, v in parts.bank.provenance.items()
            if k in ("match_rate", "best_epoch", "positions_per_category")
        },
        "rate": rate,
        "when": when,
        "thresholds": chosen,
        "development": accuracies,
    }
    return HybridResult(run, random, gated, legacy, frame, parts, decided)
