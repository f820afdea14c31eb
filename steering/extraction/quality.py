"""Can a vector be trusted? One report per vector.

1. Stability and explained variance are measured on the training readings; separability on held-out readings that share no sequence with
   them, and with the threshold of the training readings. Beside it stands what the
   tokens read give away by themselves.
2. Nothing here says that the vector *steers*: that is what runs with paired statistics and random controls are for.
3. Everything in a report is plain data (`to_dict`), with remarks in words for what a reader should not miss.
4. Memory: all samples of the four readings at the vector's site, 4 bytes x samples x d_model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from rich.table import Table
from rich.text import Text
from torch import Tensor

from ..errors import BadInput
from ..model.models import LoadedModel
from ..model.sinks import RATIO
from ..vector.vectors import SteeringVector
from .lens import LensToken, lens_tokens
from .massive import Concentration, concentration, massive_coordinates
from .reading import Reading
from .samples import check_paired, gathered
from .separability import Separability, separability
from .sinks import without_sinks
from .stability import Extract, SplitHalf, difference_of_means, split_half
from .surface import token_accuracy

CLEAR = 0.75
"""AUC from which on an interval that holds 0.5 is one of too few samples rather than of a vector that separates nothing."""
UNSTABLE = 0.5
"""Split-half cosine below which a remark is made."""
HELD = 0.5
"""Share of a direction's energy in large coordinates of the stream from which on a remark is made."""
OUTLYING = 0.2
"""Share of the samples' variance that lies in outlying samples from which on a remark is made."""


@dataclass(frozen=True)
class Outliers:
    """Training samples that are far longer than the median one, as activations of attention sinks are."""

    count: int
    """Samples at least `sinks.RATIO` times as long as the median sample."""
    samples: int
    ratio: float
    """The longest one's norm over the median norm."""
    share: float
    """Of the samples' variance about their common mean, the part that lies in the outlying ones."""


@dataclass(frozen=True)
class Quality:
    """What was measured of one vector."""

    name: str
    digest: str
    site: str
    method: str
    norm: float
    residual_norm: float
    """Median norm of the residual stream over the training samples."""
    norm_ratio: float
    """norm / residual_norm."""
    split_half: SplitHalf
    explained_variance: float
    """Share of the training samples' variance (both sides about their common mean) along the direction; 1/d_model for a random one in
    isotropic data."""
    separability: Separability
    token_accuracy: float
    """Accuracy on the same held-out samples when only the ids of the tokens read are known. Where it is as high, the contrast may be
    one of words: read both sides at the same token, or say so."""
    promoted: tuple[LensToken, ...]
    demoted: tuple[LensToken, ...]
    concentration: Concentration
    outliers: Outliers
    sinks_left_out: int
    """Positions of the training readings that were not read, being attention sinks."""
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def assess(
    model: LoadedModel,
    vector: SteeringVector,
    training: tuple[Reading, Reading],
    held_out: tuple[Reading, Reading],
    *,
    positive_model: LoadedModel | None = None,
    extract: Extract = difference_of_means,
    paired: bool = False,
    splits: int = 8,
    tokens: int = 10,
    seed: int = 0,
) -> Quality:
    """Report on a vector. `training` and `held_out` are (positive, negative) readings.

    `extract` is the method whose stability is asked for, with `paired` if it needs pairs. For a base-vs-thinking vector, `model` is the
    base and `positive_model` the thinking model, in which the positives are read; both sides then read the same tokens.

    Raises BadInput when the vector was extracted from another model, or when held-out and training readings share a sequence.
    """
    vector.check(model)
    if vector.provenance.model != model.fingerprint:
        raise BadInput(
            f"Vector {vector.name!r} was extracted from weights {vector.provenance.model}, not those of {model.id} ({model.fingerprint}). "
            f"Load the model it came from."
        )
    seen = {s for side in training for s in side.sequences}
    shared = sum(s in seen for side in held_out for s in side.sequences)
    if shared:
        raise BadInput(
            f"{shared} held-out sequences are also among the training sequences, so separability would be measured on what was fitted. "
            f"Divide the sequences first, for example with Reading.split."
        )
    digests = held_out[0].digest, held_out[1].digest
    if vector.provenance.data and vector.provenance.data in ("-".join(digests), *digests):
        raise BadInput(f"Vector {vector.name!r} was extracted from the held-out readings; give others.")
    asked = sum(len(row) for side in training for row in side.positions)
    training = _read_by(model, positive_model, training)
    held_out = _read_by(model, positive_model, held_out)
    left = asked - sum(len(row) for side in training for row in side.positions)
    if paired:
        check_paired(*training)
    site = vector.site
    unit = vector.direction.double() / vector.direction.double().norm()
    sources = (positive_model or model, model)
    high, low = (gathered(m, side, [site])[site] for m, side in zip(sources, training, strict=True))
    pooled = torch.cat([high, low]).double()
    residual = float(pooled.norm(dim=1).median())
    stable = split_half(high, low, extract=extract, paired=paired, splits=splits, seed=seed)
    threshold = float((high.double().mean(0) + low.double().mean(0)) @ unit) / 2
    above, below = (
        (gathered(m, side, [site])[site].double() @ unit).numpy() for m, side in zip(sources, held_out, strict=True)
    )
    separated = separability(above, below, threshold, groups=_groups(*held_out), seed=seed)
    by_token = token_accuracy(training, held_out)
    promoted, demoted = lens_tokens(model, vector, tokens)
    everything = list(dict.fromkeys(s for side in training for s in side.sequences))
    axis = concentration(vector.direction, massive_coordinates(model, everything, [site])[site])
    return Quality(
        vector.name,
        vector.digest,
        str(site),
        vector.provenance.method,
        vector.norm,
        residual,
        vector.norm / residual,
        stable,
        explained_variance(pooled, unit),
        separated,
        by_token,
        promoted,
        demoted,
        axis,
        found := outliers(pooled),
        left,
        _remarks(stable, separated, by_token, axis, found),
    )


def _read_by(
    model: LoadedModel, positive_model: LoadedModel | None, sides: tuple[Reading, Reading]
) -> tuple[Reading, Reading]:
    """(positive, negative) without attention sinks: of both models, where two read the same tokens."""
    high, low = (without_sinks(model, side) for side in sides)
    return (
        (high, low)
        if positive_model is None
        else (
            without_sinks(positive_model, high),
            without_sinks(positive_model, low),
        )
    )


def outliers(values: Tensor) -> Outliers:
    """Samples `[n, d]` that are far longer than the median one."""
    norms = values.double().norm(dim=1)
    median = float(norms.median().clamp_min(1e-300))
    far = norms >= RATIO * median
    centred = (values.double() - values.double().mean(0)).square().sum(1)
    total = float(centred.sum())
    share = float(centred[far].sum()) / total if total > 0 else 0.0
    return Outliers(int(far.sum()), len(values), float(norms.max()) / median, share)


def explained_variance(values: Tensor, unit: Tensor) -> float:
    """Share of the variance of `values [n, d]` about their mean that lies along `unit [d]`."""
    centred = values - values.mean(0)
    total = float(centred.square().sum())
    return float((centred @ unit).square().sum()) / total if total > 0 else 0.0


CAPTION = (
    "Split-half: cosine of the directions of two halves of the texts. Variance: the share of it along the vector. Held-out AUC and "
    "accuracy: of projections, on texts that the vector was not made from. Tokens alone: accuracy of the ids of those tokens, without "
    "a model. Intervals are 95 %."
)


def quality_table(reports: Sequence[Quality]) -> Table:
    """One row per vector, for a terminal."""
    table = Table(title="Vector quality", caption=CAPTION, caption_justify="left")
    for heading in (
        "vector",
        "site",
        "norm / residual",
        "split-half",
        "variance",
        "held-out AUC",
        "accuracy",
        "tokens alone",
    ):
        table.add_column(heading)
    for heading in ("promotes", "demotes", "remarks"):
        table.add_column(heading, overflow="fold")
    for report in reports:
        auc, accuracy = report.separability.auc, report.separability.accuracy
        cells = (
            report.name,
            report.site,
            f"{report.norm:.3g} / {report.residual_norm:.3g}",
            f"{report.split_half.mean:.2f} ({report.split_half.low:.2f} to {report.split_half.high:.2f})",
            f"{report.explained_variance:.1%}",
            f"{auc.value:.2f} [{auc.low:.2f}, {auc.high:.2f}]",
            f"{accuracy.value:.2f} [{accuracy.low:.2f}, {accuracy.high:.2f}]",
            f"{report.token_accuracy:.2f}",
            " ".join(repr(t.text) for t in report.promoted[:5]),
            " ".join(repr(t.text) for t in report.demoted[:5]),
            "; ".join(report.remarks) or "none",
        )
        # Text, not markup: token texts may hold square brackets.
        table.add_row(*map(Text, cells))
    return table


def _groups(positive: Reading, negative: Reading) -> tuple[np.ndarray, np.ndarray]:
    numbers: dict[tuple[int, ...], int] = {}
    sides = []
    for side in (positive, negative):
        rows = [numbers.setdefault(s, len(numbers)) for s in side.sequences]
        sides.append(np.repeat(rows, side.samples))
    return sides[0], sides[1]


def _remarks(
    stable: SplitHalf, separated: Separability, by_token: float, axis: Concentration, far: Outliers
) -> tuple[str, ...]:
    remarks = []
    if far.share >= OUTLYING:
        remarks.append(
            f"dominated by few positions: {far.count} of {far.samples} samples are up to {far.ratio:.0f} times as long as the median one "
            f"and hold {far.share:.0%} of the variance, as attention sinks do"
        )
    if stable.mean < UNSTABLE:
        remarks.append(f"unstable: split-half cosine {stable.mean:.2f}")
    if separated.auc.high < 0.5:
        remarks.append("points the wrong way on held-out data")
    elif separated.auc.low <= 0.5 and separated.auc.value >= CLEAR:
        remarks.append("too little held out to tell whether it separates: the interval of the AUC holds 0.5")
    elif separated.auc.low <= 0.5:
        remarks.append("does not separate held-out data")
    if by_token >= separated.accuracy.low and by_token > 0.5:
        remarks.append(f"the tokens read tell the sides apart as well: accuracy {by_token:.2f}")
    if axis.large_share >= HELD and not axis.massive_axis:
        remarks.append(
            f"dominated by few coordinates: {axis.large_share:.0%} of its energy in {list(axis.large)}, which reach {axis.large_ratio:.0f} "
            f"times the median coordinate"
        )
    if axis.massive_axis:
        remarks.append(
            f"massive-activation axis: {axis.massive_share:.0%} of its energy in coordinates {list(axis.massive)}"
        )
    return tuple(remarks)
