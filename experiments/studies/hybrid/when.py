"""When without a thinking model: readouts of the base's own activation that predict where the thinking model would part from it.

1. Samples are positions of the thinking model's rollouts, read by the base: every one at which the two greedy tokens differ, and some at
   which they agree. Rollouts are the groups: none lies on both sides of a split.
2. The *trigger* tells disagreement from agreement; the *categories* tell which category the thinking model's activation is in, given that
   they disagree. Both are logistic regressions (`probes`), turned into readouts.
3. Thresholds are candidates by the rate at which they would open on rollouts; which one is used is decided on development problems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from probes.fitting import Fitted, Origin, fit_logistic
from probes.probe import Probe
from steering.errors import BadInput
from steering.hybrid import Readout
from steering.hybrid.alignment import Aligned
from steering.hybrid.disagreement import texts_together
from steering.model.capture import capture
from steering.model.models import LoadedModel
from steering.model.sites import Site

AGREEING = 24
"""Positions per rollout at which the models agree, drawn at random."""
FEWEST = 8
"""Rollouts that a category must occur in to be told apart."""
RATES = (0.5, 1.0, 2.0, 4.0)
"""Candidate thresholds open at these multiples of the rate at which the models disagree."""


@dataclass(frozen=True, eq=False)
class Positions:
    """Positions of rollouts as the base reads them."""

    hidden: torch.Tensor
    """`[n, d]` at the steering site."""
    disagree: np.ndarray
    """`[n]` bool: the greedy tokens differ."""
    category: np.ndarray
    """`[n]`: of the thinking model's activation."""
    rollout: np.ndarray
    """`[n]`."""
    entropy: np.ndarray
    """`[n]`: of the base's next token, nats."""
    weight: np.ndarray
    """`[n]`: how many positions of the rollout each stands for."""

    @property
    def rate(self) -> float:
        """Share of positions at which the models disagree."""
        return float((self.weight * self.disagree).sum() / self.weight.sum())

    def quantile(self, values: np.ndarray, share: float) -> float:
        """The value above which `share` of all positions lie."""
        order = np.argsort(-values)
        reached = np.cumsum(self.weight[order]) / self.weight.sum()
        return float(values[order[min(int(np.searchsorted(reached, share)), len(order) - 1)]])


@torch.inference_mode()
def read_positions(
    base: LoadedModel, thinking: LoadedModel, rollouts: Sequence[Aligned], site: Site, categories: Readout,
    seed: int = 0, batch_size: int = 32,
) -> Positions:  # fmt: skip
    """Read rollouts with both models."""
    rng = np.random.default_rng(seed)
    parts: dict[str, list[np.ndarray]] = {
        name: [] for name in ("hidden", "disagree", "category", "rollout", "entropy", "weight")
    }
    together = texts_together(base, rollouts, batch_size)
    for start in range(0, len(rollouts), together):
        chunk = rollouts[start : start + together]
        logits = [
            _logits(model, [getattr(r, side) for r in chunk])
            for model, side in ((base, "base_ids"), (thinking, "thinking_ids"))
        ]
        greedy = [found.argmax(-1).cpu().numpy() for found in logits]
        logp = logits[0].float().log_softmax(-1)
        entropy = (-(logp.exp() * logp).sum(-1)).cpu().numpy()
        (mine,) = capture(base, [r.base_ids for r in chunk], [site], batch_size=batch_size)
        (theirs,) = capture(thinking, [r.thinking_ids for r in chunk], [categories.site], batch_size=batch_size)
        for row, rollout in enumerate(chunk):
            q = np.array([a - 1 for a, _ in rollout.pairs])
            t = np.array([b - 1 for _, b in rollout.pairs])
            differs = greedy[0][row, q] != greedy[1][row, t]
            same = np.flatnonzero(~differs)
            some = rng.permutation(same)[:AGREEING]
            keep = np.sort(np.concatenate([np.flatnonzero(differs), some]))
            weight = np.where(differs[keep], 1.0, len(same) / max(1, len(some)))
            parts["hidden"].append(mine.values[site][row, q[keep]].float().cpu().numpy())
            parts["disagree"].append(differs[keep])
            parts["category"].append(categories.categories(theirs.values[categories.site][row, t[keep]]).cpu().numpy())
            parts["rollout"].append(np.full(len(keep), start + row))
            parts["entropy"].append(entropy[row, q[keep]])
            parts["weight"].append(weight)
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    return Positions(torch.from_numpy(joined.pop("hidden")), **joined)


def _logits(model: LoadedModel, texts: Sequence[tuple[int, ...]]) -> torch.Tensor:
    model.rope.check_together([len(text) for text in texts])
    ids = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1
    return model.model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False).logits


def fit_trigger(base: LoadedModel, found: Positions, site: Site) -> Fitted:
    """Disagreement from the base's activation."""
    return fit_logistic(
        found.hidden, found.disagree.astype(int), groups=found.rollout.tolist(), site=site, classes=("agree", "disagree"),
        origin=Origin("base-thinking disagreement of greedy tokens", base.fingerprint, base.id), penalties=(0.1, 0.01, 0.001, 0.0001),
    )  # fmt: skip


def fit_categories(base: LoadedModel, found: Positions, site: Site, k: int) -> tuple[Readout, Fitted | None]:
    """The thinking model's category from the base's activation, where they disagree. Categories that occur in too few rollouts are never
    named; where fewer than two are left there is nothing to tell apart: the readout always names the commonest, and nothing is fitted.
    Raises BadInput when the models never disagree."""
    where = np.flatnonzero(found.disagree)
    often = [c for c in range(k) if len(np.unique(found.rollout[where[found.category[where] == c]])) >= FEWEST]
    weight, bias = torch.zeros(k, found.hidden.shape[1]), torch.full((k,), -1e4)
    if not len(where):
        raise BadInput("The models never disagree on these rollouts; give more.")
    if len(often) < 2:
        bias[int(np.bincount(found.category[where], minlength=k).argmax())] = 0
        facts = {"target": "the commonest category of a disagreement", "model": base.fingerprint}
        return Readout(site, weight, bias, torch.zeros(weight.shape[1]), False, (), facts), None
    where = where[np.isin(found.category[where], often)]
    names = [str(c) for c in often]
    fitted = fit_logistic(
        found.hidden[torch.from_numpy(where)], np.searchsorted(often, found.category[where]), groups=found.rollout[where].tolist(),
        site=site, classes=names, origin=Origin("category of a disagreement", base.fingerprint, base.id), balanced=False,
        penalties=(0.1, 0.01, 0.001, 0.0001),
    )  # fmt: skip
    weight[often], bias[often] = fitted.probe.weights[0], fitted.probe.biases[0]
    return _readout(fitted.probe, weight, bias), fitted


def probe_readout(probe: Probe) -> Readout:
    """A linear probe as a readout: its last class is what opens a gate. Raises BadInput for a probe that is not linear."""
    if not probe.linear:
        raise BadInput(f"A {probe.kind} probe is no linear readout; fit a logistic one.")
    return _readout(probe, probe.weights[0], probe.biases[0], probe.classes)


def _readout(probe: Probe, weight: torch.Tensor, bias: torch.Tensor, titles: tuple[str, ...] = ()) -> Readout:
    facts = {"probe": probe.digest, "target": probe.provenance.target, "model": probe.provenance.model}
    return Readout(probe.site, weight, bias, torch.zeros(weight.shape[1]), False, titles, facts)


def thresholds(found: Positions, trigger: Readout) -> dict[str, list[float]]:
    """Candidate thresholds of the trigger's probability and of the entropy, by the rate at which they open."""
    probability = trigger.probability(found.hidden).numpy()
    rates = [min(0.9, found.rate * multiple) for multiple in RATES]
    return {
        "trigger": [found.quantile(probability, rate) for rate in rates],
        "entropy": [found.quantile(found.entropy, rate) for rate in rates],
    }
