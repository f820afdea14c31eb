"""Controllers: when a hybrid steers the base, with which category's vector, and how.

| when | a position is gated where |
|---|---|
| `disagreement` | the greedy tokens of base and thinking model differ (Venhoff et al., 2510.07364, section 3.4) |
| `divergence` | the Jensen-Shannon divergence of the two next-token distributions is above `threshold`, in nats |
| `anywhere` | always, before `share` is drawn: positions at a matched rate |
| `early` | fewer than `threshold` tokens are written: positions matched in place too, once `share` is drawn |
| `trigger` | a readout of the base's activation is above `threshold`: no thinking model |
| `entropy` | the base's next-token entropy is above `threshold`, in nats: no thinking model |
| `sentence_starts` | the token fed last ends a sentence, or is the prompt's last: no thinking model |

| which | the category is |
|---|---|
| `thinking`, `base` | `categories` read off the thinking model's, or the base's, activation |
| `random` | uniform, drawn per row and token |
| `only` | the first: a bank of one vector |

| how | what happens at a gated position |
|---|---|
| `shift` | the base reads its last token again with alpha(h, c) V_c added, and the shifted prediction is emitted |
| `bias` | the category's row of `bias [K, vocabulary]` is added to the base's logits: what the vectors do on average, without steering |
| `substitute` | the thinking model's token is emitted: what leaking the answer does |
| `legacy` | v1's rule: of shifts over coefficients and windows, the candidate that the *thinking model* finds likeliest (`legacy.py`) |

1. A gate sees whether the two tokens agree, or how far the two predictions lie apart, never what the thinking model's token is; a
   category sees activations only. `substitute` and `legacy` see the token or its probability: they are controls, and are named so.
2. With `revert`, every later token sees the unshifted past, as published. Without it the shifted reading stays in the cache.
3. A controller has a digest of all its numbers, and is data: it holds no state of a row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from torch import Tensor

from ..errors import BadInput, unknown
from ..model.models import LoadedModel
from .readout import Readout
from .shift import ShiftBank

When = Literal["disagreement", "divergence", "anywhere", "early", "trigger", "entropy", "sentence_starts"]
Which = Literal["thinking", "base", "random", "only"]
How = Literal["shift", "bias", "substitute", "legacy"]


@dataclass(frozen=True, eq=False)
class Controller:
    """One rule. Raises BadInput on construction when it lacks what its words need, or holds what they do not use."""

    when: When
    which: Which = "thinking"
    how: How = "shift"
    bank: ShiftBank | None = None
    categories: Readout | None = None
    """One output per category, of the model that `which` names."""
    trigger: Readout | None = None
    """Its last output's probability opens the gate."""
    threshold: float = 0.5
    share: float = 1.0
    """Of the positions that `when` gates, how many are steered: drawn per row and token."""
    bias: Tensor | None = None
    """`[K, vocabulary]` float32, in nats."""
    revert: bool = True

    def __post_init__(self) -> None:
        for name, value, valid in (("when", self.when, When), ("which", self.which, Which), ("how", self.how, How)):
            if value not in get_args(valid):
                raise unknown(name, value, get_args(valid), "a controller")
        if not 0 < self.share <= 1:
            raise BadInput(f"share is {self.share}; give a share of the gated positions above 0 and at most 1.")
        needs = {
            "bank": self.how != "substitute",
            "categories": self.how != "substitute" and self.which in ("thinking", "base"),
            "trigger": self.when == "trigger",
            "bias": self.how == "bias",
        }
        for name, needed in needs.items():
            if needed != (getattr(self, name) is not None):
                verb = "needs" if needed else "takes no"
                raise BadInput(f"A controller with when {self.when}, which {self.which}, how {self.how} {verb} {name}.")
        if self.bank is not None and self.categories is not None and self.categories.n != self.bank.k:
            raise BadInput(f"{self.categories.n} categories do not fit a bank of {self.bank.k} vectors.")
        if self.bank is not None and self.which == "only" and self.bank.k != 1:
            raise BadInput(f"which 'only' needs a bank of one vector, not {self.bank.k}.")
        if self.bank is not None and self.bias is not None and len(self.bias) != self.bank.k:
            raise BadInput(f"A bias of {len(self.bias)} rows does not fit a bank of {self.bank.k} vectors.")
        if not self.revert and self.how != "shift":
            raise BadInput("Only a shift can stay in the cache; leave revert as it is.")

    @cached_property
    def needs_thinking(self) -> bool:
        """Whether the thinking model runs beside the base."""
        reads = self.which == "thinking" and self.categories is not None
        return self.when in ("disagreement", "divergence") or reads or self.how in ("substitute", "legacy")

    @cached_property
    def in_pass(self) -> bool:
        """Whether gate, category and shift are known within the base's own pass, so that no token is read twice."""
        if self.revert or self.how != "shift" or self.when not in ("trigger", "sentence_starts") or self.needs_thinking:
            return False
        assert self.bank is not None
        return all(r is None or r.site == self.bank.site for r in (self.trigger, self.categories)) and self.share == 1

    def check(self, base: LoadedModel, thinking: LoadedModel | None) -> None:
        """Raises BadInput when the models do not fit it."""
        if self.bank is not None:
            self.bank.check(base)
        if self.trigger is not None:
            self.trigger.check(base)
        if self.needs_thinking and thinking is None:
            raise BadInput(f"A controller with when {self.when} and which {self.which} needs the thinking model.")
        if self.categories is not None:
            self.categories.check(thinking if self.which == "thinking" and thinking is not None else base)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Plain data; banks and readouts by digest."""
        facts: dict[str, Any] = {"when": self.when, "which": self.which, "how": self.how}
        facts |= {n: r.digest for n in ("bank", "categories", "trigger") if (r := getattr(self, n)) is not None}
        if self.when in ("trigger", "entropy", "divergence", "early"):
            facts["threshold"] = self.threshold
        if self.share != 1:
            facts["share"] = self.share
        if self.bias is not None:
            facts["bias"] = hashlib.sha256(self.bias.float().cpu().numpy().tobytes()).hexdigest()[:16]
        if not self.revert:
            facts["revert"] = False
        return facts

    @cached_property
    def digest(self) -> str:
        """Hash of `facts`: 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[:16]

    @staticmethod
    def from_facts(
        facts: Mapping[str, Any],
        banks: Mapping[str, ShiftBank],
        readouts: Mapping[str, Readout],
        biases: Mapping[str, Tensor],
    ) -> Controller:
        """Inverse of `facts`, given what it names. Raises BadInput for an unknown key or digest."""
        extra = set(facts) - set(KEYS)
        if extra:
            raise unknown("key", sorted(extra)[0], KEYS, "a controller")
        parts: dict[str, Any] = {k: v for k, v in facts.items() if k not in ("bank", "categories", "trigger", "bias")}
        named: tuple[tuple[str, Mapping[str, Any]], ...] = (
            ("bank", banks), ("categories", readouts), ("trigger", readouts), ("bias", biases),
        )  # fmt: skip
        for name, found in named:
            if name in facts:
                if facts[name] not in found:
                    raise unknown(name, facts[name], found, "a controller")
                parts[name] = found[facts[name]]
        return Controller(**parts)


KEYS = ("when", "which", "how", "bank", "categories", "trigger", "threshold", "share", "bias", "revert")
