"""Tables of how much sentences matter: by kind, against the sentences that are known to decide, and how many can be told from nothing."""

from __future__ import annotations

import numpy as np

from probes.measures import auroc, group_weights, interval

from ...statistics import rank_p
from .asked import Setting
from .findings import Table
from .importance import FEW, MEASURES, Importance
from .steps import CHOICES


def ranks(setting: Setting, label: str, every: list[Importance], draws: int) -> tuple[Table, str]:
    """How well the measures rank the sentences that decide first, beside scores that cannot know."""
    truth = np.array([float(one.choice) for one in every])
    groups = np.array([one.item for one in every])
    rng = np.random.default_rng(0)
    drawn = rng.random((draws, len(truth)))
    earlier = np.array([-one.share for one in every])
    asked = {name: np.array([getattr(one, name) for one in every]) for name in MEASURES}
    asked = {name: own for name, own in asked.items() if np.isfinite(own).any()}
    subjects = [*asked.items(), ("earlier in the text", earlier)]
    if "receiver" in asked and not np.isfinite(asked["receiver"]).all():
        subjects.append(("earlier, of those that receive", np.where(np.isfinite(asked["receiver"]), earlier, np.nan)))
    lines, values = [], {}
    for name, scores in subjects:
        known = np.isfinite(scores)
        smaller = len(set(groups[known & (truth == 1)]))
        null = [auroc(truth[known], random[known])(np.ones(int(known.sum()))) for random in drawn]
        found = interval(auroc(truth[known], scores[known]), group_weights(groups[known]), smaller=smaller)
        values[name] = _auroc(found.value, found.low, found.high)
        p = round(rank_p(found.value, null), 3) if np.isfinite(found.value) else None
        lines.append((name, int(known.sum()), values[name], p))
    low, high = np.quantile([auroc(truth, random)(np.ones(len(truth))) for random in drawn], [0.025, 0.975])
    table = Table(
        title=f"{setting.name}: {label}: sentences that decide, ranked by their importance",
        heads=("measure", "sentences", "AUROC (95 % over problems)", "p against random scores"),
        lines=tuple(lines),
        notes=(
            f"{int(truth.sum())} of {len(truth)} sentences decide ({', '.join(CHOICES)}), in {len(set(groups))} problems. {draws} random "
            f"scores reach {low:.3f} to {high:.3f} (95 %) on all of them. Below 0.5 a measure ranks other sentences first. "
            f"A sentence that no other follows far enough on has no receiver score, and one that is alone before all that follow it has "
            f"no suppression.",
            "The interval is one over resampled problems, p the rank of the AUROC among random scores: different methods, which can differ "
            "near the edge. A measure is told from chance where both say so.",
        ),
    )
    sentence = (
        f"{setting.name}: {label}: sentences that decide are told from others with AUROC "
        f"{'; '.join(f'{name} {values[name]}' for name in asked)}; random scores reach {low:.2f} to {high:.2f}."
    )
    return table, sentence


def _auroc(value: float, low: float, high: float) -> str:
    if not np.isfinite(value):
        return "not defined (one class)"
    around = f"{low:.3f} to {high:.3f}" if np.isfinite(low) else "too few problems for an interval"
    return f"{value:.3f} ({around})"


def by_kind(setting: Setting, label: str, every: list[Importance], builtin: bool) -> Table:
    def part(one: Importance) -> str:
        return one.kind if builtin else ("first third", "middle third", "last third")[min(2, int(3 * one.share))]

    lines = []
    for name in sorted({part(one) for one in every}, key=lambda name: (name not in CHOICES, name)):
        own = [one for one in every if part(one) == name]
        errors = [one.counterfactual_se for one in own if one.counterfactual_se is not None]
        lines.append(
            (
                name, len(own), round(float(np.mean([one.forced for one in own])), 3),
                f"{np.mean([one.resampling for one in own]):.3f} ({np.mean([one.resampling_se for one in own]):.3f})",
                f"{np.mean([one.counterfactual for one in own]):.3f} ({np.mean(errors):.3f})" if errors else "0",
                sum(one.p <= 0.05 for one in own), len(own) - len(errors), _mean([one.suppression for one in own]),
                _mean([one.receiver for one in own]),
            )
        )  # fmt: skip
    return Table(
        title=f"{setting.name}: {label}: importance by {'kind' if builtin else 'place'} of sentence, nats",
        heads=(
            *("kind" if builtin else "place", "sentences", "forced", "resampling (SE of one)", "counterfactual (SE of one)"),
            *("resampling p <= 0.05", "always written so", "suppression", "receiver"),
        ),
        lines=tuple(lines),
        notes=(
            f"Means over sentences. Always written so: fewer than {FEW} resamples say something else, so that the counterfactual "
            f"importance is 0. By chance 5 % of the sentences have p <= 0.05. Suppression: ln KL of later sentences less what these are "
            f"moved by any; receiver: attention over the mean of the trace's sentences.",
        ),
    )  # fmt: skip


def _mean(values: list[float]) -> str | None:
    known = [value for value in values if np.isfinite(value)]
    return f"{np.mean(known):.2f}" if known else None


def detectable(setting: Setting, label: str, every: list[Importance], samples: int) -> str:
    clear = sum(one.p <= 0.05 for one in every)
    top = sorted((one.resampling for one in every), reverse=True)
    count = max(1, len(top) // 10)
    total = sum(value for value in top if value > 0)
    share = f"; the tenth that matters most holds {100 * sum(top[:count]) / total:.0f} % of it" if total > 0 else ""
    return (
        f"{setting.name}: {label}: of {len(every)} sentences {clear} change the answers of {samples} continuations detectably (p "
        f"<= 0.05 each; {0.05 * len(every):.0f} would by chance), mean resampling importance {np.mean(top):.3f} nats{share}."
    )
