"""Is a stated confidence read off a direction that tells right texts from wrong ones?

1. Where the cue's last token is read, behind which the confidence is stated, a logistic probe is fitted at every layer on verdicts on the
   base's sampled texts, held-out questions apart; the layer whose held-out AUROC is highest is kept.
2. On test texts the probe's score is compared by rank with what is stated, and by AUROC with the verdicts.
3. The direction, as long as the two verdicts' means lie apart along it, is added there with both signs, and random directions of its norm
   beside it: what do they do to the statement?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from probes.fitting import Fitted, fit_logistic
from steering.engine.forced import ForcedText, forced_activations
from steering.engine.predicted import next_logprobs
from steering.engine.record import Row
from steering.errors import BadInput
from steering.model.models import LoadedModel
from steering.model.sites import Site
from steering.plan.plan import Plan
from steering.vector.vectors import Provenance, SteeringVector, random_like

from ...statistics import Floats, paired_difference, rank_p
from ..elicitation.asked import Setting
from ..elicitation.confidence import FEW, auroc
from ..elicitation.findings import Table
from ..elicitation.workroom import Workroom
from .bench import adding
from .calibrated_tables import Stated
from .rewarded import Grown
from .scales import SURE, Scale


@dataclass(frozen=True)
class Taught:
    """A sampled text of a training question with its verdict."""

    number: int
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    right: bool


def read_out(
    room: Workroom,
    one: Grown,
    setting: Setting,
    taught: Sequence[Taught],
    stated: Stated,
    scale: Scale,
    directions: int,
) -> tuple[list[Table], list[str]]:
    """A table of what directions do to the statement, and sentences; no table where there is nothing to fit, or to read."""
    model, known = room.model(one.model), stated.read
    about = f"{setting.name}: {one.label}, seed {one.seed}"
    if known.sum() < FEW:
        return [], [f"{about}: fewer than {FEW} texts ended, too few to look for a direction."]
    try:
        site, found, vector = _probe(model, taught, scale)
    except BadInput as error:
        return [], [f"{about}: no probe of right texts could be fitted: {error}"]
    contexts = [context for context in stated.contexts if context is not None]
    score = _read(model, contexts, scale, [site])[site] @ found.probe.direction("right")[0].double().numpy()
    right, expected = stated.right[known], stated.expected[known]
    area = auroc(score, right)
    held = found.evaluation.auroc
    alike = len(set(score)) < 2 or len(set(expected)) < 2
    rank = "that is not defined, all being alike" if alike else f"of {stats.spearmanr(score, expected).statistic:+.2f}"
    said = [
        f"{about}: a probe of right texts at {site}, behind the cue: AUROC {held.value:.3f} on held-out training questions, "
        f"{'not defined' if area is None else f'{area:.3f}'} on test texts; its score and the mean stated level have a rank correlation "
        f"{rank} (n {int(known.sum())})."
    ]
    moved = {
        "added": _moved(model, contexts, scale, vector, 1.0),
        "subtracted": _moved(model, contexts, scale, vector, -1.0),
    }
    chance = [_moved(model, contexts, scale, random_like(vector, draw), 1.0) for draw in range(directions)]
    lines: list[tuple[str, str, str | None]] = []
    for name, values in moved.items():
        change = paired_difference(expected, values)
        drawn = [float((own - expected).mean()) for own in chance]
        own = change.difference if name == "added" else -change.difference
        beside = drawn if name == "added" else [-value for value in drawn]
        p = rank_p(own, beside)
        lines.append(
            (
                f"the probe's direction, {name}",
                f"{100 * change.difference:+.1f} ({100 * change.interval.low:+.1f} to {100 * change.interval.high:+.1f})",
                f"{p:.3f}",
            )
        )
        said.append(
            f"{about}: the direction {name}: the mean stated level moves by {100 * change.difference:+.1f} points; "
            f"{len(drawn)} random directions of its norm {100 * np.mean(drawn):+.1f} ({100 * min(drawn):+.1f} to {100 * max(drawn):+.1f}), "
            f"one-sided rank p {p:.3f} for {'more' if name == 'added' else 'less'}, never below {1 / (1 + len(drawn)):.3f}."
        )
    lines.append(
        (
            f"{len(drawn)} random directions: mean (range)",
            f"{100 * np.mean(drawn):+.1f} ({100 * min(drawn):+.1f} to {100 * max(drawn):+.1f})",
            None,
        )
    )
    return [
        Table(
            title=f"{setting.name}: {one.label}, seed {one.seed}: the stated level under a direction at {site}",
            heads=("what", "change of the mean stated level, points", "one-sided rank p"),
            lines=tuple(lines),
            notes=(
                "The texts are given; the direction is added where the cue's last token is read, as long as the means of right and wrong "
                "texts lie apart along it.",
            ),
        )
    ], said  # fmt: skip


def _probe(model: LoadedModel, taught: Sequence[Taught], scale: Scale) -> tuple[Site, Fitted, SteeringVector]:
    """The layer, the probe and its direction. Raises BadInput where texts do not allow one."""
    sites = [Site(layer) for layer in range(model.n_layers)]
    read = _read(model, [(*one.prompt_ids, *one.token_ids) for one in taught], scale, sites)
    y, groups = np.array([int(one.right) for one in taught]), [one.number for one in taught]
    fits = {
        site: fit_logistic(values, y, groups=groups, site=site, classes=("wrong", "right"))
        for site, values in read.items()
    }
    site = max(fits, key=lambda one: (fits[one].evaluation.auroc.value, -one.layer))
    direction = fits[site].probe.direction("right")[0].double()
    direction = direction / direction.norm()
    along = read[site] @ direction.numpy()
    size = float(along[y == 1].mean() - along[y == 0].mean())
    if not size > 0:
        raise BadInput("the means of right and wrong texts do not lie apart along it.")
    origin = Provenance(
        "probe of right texts", model.fingerprint, model.id, contrast="right minus wrong texts, behind the cue"
    )
    return site, fits[site], SteeringVector("right texts", site, (size * direction).float(), origin)


def _read(
    model: LoadedModel, contexts: Sequence[tuple[int, ...]], scale: Scale, sites: Sequence[Site]
) -> dict[Site, Floats]:
    """Activations where the cue's last token is read, `[texts, width]` by site."""
    forced = [ForcedText((*ids, *scale.cue_ids), scale.level_ids[:1], Plan()) for ids in contexts]
    read = forced_activations(model, forced, list(sites))
    return {site: np.stack([own[site][0].double().numpy() for own in read]) for site in sites}


def _moved(
    model: LoadedModel, contexts: Sequence[tuple[int, ...]], scale: Scale, vector: SteeringVector, dose: float
) -> Floats:
    """The mean stated level per text under a vector."""
    plan = adding([vector], "last_prompt", dose=dose)
    rows = [Row((*ids, *scale.cue_ids), plan) for ids in contexts]
    own = next_logprobs(model, rows).double().exp().numpy()[:, list(scale.level_ids)]
    return np.asarray(own @ np.array(SURE) / own.sum(1))
