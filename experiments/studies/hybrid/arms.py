"""The arms of a hybrid experiment: the hybrid, every control, and gates without a thinking model.

| arm | what it asks |
|---|---|
| `no_effect` | zero shift: the second reading happens and changes nothing; its texts are the base's |
| `random_category` | the bank's vectors, the category drawn uniformly |
| `random_vectors` | Gaussian directions with each vector's norm, real coefficients, real categories: twenty banks, in a run of their own |
| `magnitude_only` | both: all that is left is the coefficient network |
| `random_positions` | real shifts at positions drawn at the hybrid's own rate |
| `one_vector` | K = 1: is the taxonomy needed? |
| `bias_only` | the shifts' mean effect on the logits, without touching the stream |
| `substitute_x` | the thinking model's own token at x % of the disagreements: what leaking the answer does |
| `legacy` | v1's selection rule, which looks at the thinking model's distribution |
| `probe`, `entropy`, `sentence_starts` | the same shifts, gated and sorted by the base alone |
| `entropy_random_vectors` | twenty banks of random vectors behind the entropy gate: the vectors, or the places? A run of their own |
| `probe_kept` | the same in a single reading: the shift stays in the cache, with the bank adapted to that |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from steering.hybrid import Controller, Readout, ShiftBank

from ...store.runs import Arm
from .spec import HybridSpec

SUBSTITUTED = (5, 10, 25, 50)
RANDOM_BANKS = 20
"""Banks of random vectors, each its own draw: the distribution that the hybrid is compared with."""


@dataclass(frozen=True, eq=False)
class Parts:
    """What controllers are made of."""

    bank: ShiftBank
    one: ShiftBank
    """Trained with all positions in one category."""
    kept: ShiftBank
    """The bank adapted to shifts that stay in the cache."""
    categories: Readout
    """Of the thinking model."""
    bias: Tensor
    """`[K, vocabulary]`."""
    trigger: Readout
    """Of the base."""
    guess: Readout
    """Categories read off the base."""


def reference_arms(spec: HybridSpec) -> list[Arm]:
    """Base, base asked to think, and the thinking model; where the thinking model is the base asked to think, it stands once."""
    base = Arm(name="base", label="base", role="baseline", model=spec.base, form=spec.form)
    asked = Arm(
        name="base_think", label="base, asked to think first", role="prompt", model=spec.base, form=spec.reasoning
    )
    thinking = Arm(name="thinking", label="thinking", role="reference", model=spec.thinking, form=spec.asked)
    if (spec.thinking, spec.asked) == (spec.base, spec.reasoning):
        return [base, thinking.model_copy(update={"label": "thinking: the base, asked to think first"})]
    return [base, asked, thinking]


def hybrid_arm(spec: HybridSpec, name: str, label: str, rule: Controller, role: str = "control") -> Arm:
    """An arm that a controller steers."""
    facts: dict[str, Any] = dict(rule.facts)
    if rule.needs_thinking:
        facts["thinking"] = spec.thinking
        if spec.asked != spec.form:
            facts["thinking_form"] = spec.asked
    return Arm(name=name, label=label, role=role, model=spec.base, form=spec.form, controller=facts)  # type: ignore[arg-type]


def hybrid_rule(parts: Parts, bank: ShiftBank | None = None) -> Controller:
    """The published rule with a bank."""
    return Controller("disagreement", "thinking", bank=bank or parts.bank, categories=parts.categories)


def control_rules(parts: Parts, rate: float) -> dict[str, tuple[str, Controller]]:
    """Label and rule of every control that is run on all test problems; `rate` is the hybrid's own share of gated tokens."""
    bank, read = parts.bank, parts.categories
    found = {
        "no_effect": ("zero shift", hybrid_rule(parts, bank.without_effect())),
        "random_category": ("random category", Controller("disagreement", "random", bank=bank)),
    }
    found |= {
        "magnitude_only": ("coefficients only", Controller("disagreement", "random", bank=bank.with_random_vectors(0))),
        "random_positions": (
            "random positions", Controller("anywhere", "thinking", bank=bank, categories=read, share=rate),
        ),
        "one_vector": ("one vector (K = 1)", Controller("disagreement", "only", bank=parts.one)),
        "bias_only": ("mean effect on logits", Controller("disagreement", "thinking", "bias", bank, read, bias=parts.bias)),
    }  # fmt: skip
    for per_cent in SUBSTITUTED:
        rule = Controller("disagreement", how="substitute", share=per_cent / 100)
        found[f"substitute_{per_cent}"] = (f"thinking token at {per_cent} %", rule)
    return found


def random_rules(parts: Parts) -> dict[str, tuple[str, Controller]]:
    """The hybrid with banks of random vectors, norms and coefficients as they are."""
    return {
        f"random_vectors_{seed}": (
            f"random vectors, draw {seed}",
            hybrid_rule(parts, parts.bank.with_random_vectors(seed)),
        )
        for seed in range(RANDOM_BANKS)
    }


def random_gate_rules(parts: Parts, thresholds: Mapping[str, float]) -> dict[str, tuple[str, Controller]]:
    """The entropy gate with banks of random vectors, norms and coefficients as they are."""
    found = {}
    for seed in range(RANDOM_BANKS):
        bank = parts.bank.with_random_vectors(seed)
        rule = Controller("entropy", "base", bank=bank, categories=parts.guess, threshold=thresholds["entropy"])
        found[f"entropy_random_vectors_{seed}"] = (f"random vectors behind the entropy gate, draw {seed}", rule)
    return found


def legacy_rule(parts: Parts) -> Controller:
    """v1's selection among coefficients and windows."""
    return Controller("disagreement", "thinking", "legacy", parts.bank, parts.categories)


def free_rules(parts: Parts, thresholds: Mapping[str, float]) -> dict[str, tuple[str, Controller]]:
    """Rules that need no thinking model; `thresholds` of the trigger's probability, also for the kept variant, and of the entropy."""
    bank, guess = parts.bank, parts.guess
    found: dict[str, tuple[str, Controller]] = {}
    for name, label, own, revert in (
        ("probe", "probe", bank, True),
        ("probe_kept", "probe, one reading", parts.kept, False),
    ):
        rule = Controller(
            "trigger",
            "base",
            bank=own,
            categories=guess,
            trigger=parts.trigger,
            threshold=thresholds[name],
            revert=revert,
        )
        found[name] = (label, rule)
    found["entropy"] = (
        "entropy", Controller("entropy", "base", bank=bank, categories=guess, threshold=thresholds["entropy"]),
    )  # fmt: skip
    found["sentence_starts"] = ("sentence starts", Controller("sentence_starts", "base", bank=bank, categories=guess))
    return found
