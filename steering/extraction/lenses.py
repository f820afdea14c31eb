"""The logit lens and the Jacobian lens of one vector side by side, and how far they agree.

1. The logit lens passes over the layers behind the site, the Jacobian lens takes them in on average. Where they agree, what the vector
   speaks for does not hang on those layers; where they differ, neither is the truth by itself.
2. `remarks` say what a reader should know before believing the second: halves of the texts that disagree, one axis that holds the lens, a
   last layer at which both are the same by definition.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..model.models import LoadedModel
from ..model.sites import Site
from ..vector.vectors import SteeringVector
from .jacobian import JacobianLens, jacobian_logits
from .lens import LensToken, lens_logits, logit_ends

ENOUGH = 0.9
"""Cosine of the halves from which on texts are called enough."""
ONE_AXIS = 0.25
"""Share of a lens along one axis from which on it is said."""


@dataclass(frozen=True)
class Lenses:
    """What the logit lens and the Jacobian lens say of one vector."""

    promoted: tuple[LensToken, ...]
    """By the logit lens, as `demoted`."""
    demoted: tuple[LensToken, ...]
    carried_promoted: tuple[LensToken, ...]
    """By the Jacobian lens, as `carried_demoted`."""
    carried_demoted: tuple[LensToken, ...]
    shared_promoted: int
    """Tokens that both lenses list."""
    shared_demoted: int
    cosine: float
    """Of the two lenses' logits, each about its mean over the vocabulary, which no probability depends on."""
    gain: float
    """|J v| / |v|."""
    halves_cosine: float
    """Of what lenses from one half of the texts and from the other make of the vector."""
    halves_difference: float
    """As `JacobianLens.halves_difference`, and its `axis_share`."""
    axis_share: float
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def both_lenses(model: LoadedModel, lens: JacobianLens, vector: SteeringVector, count: int = 10) -> Lenses:
    """The two lenses side by side, `count` tokens of each end. Raises BadInput as `jacobian_logits`."""
    carried, plain = jacobian_logits(model, lens, vector), lens_logits(model, vector.direction)
    (promoted, demoted), (carried_promoted, carried_demoted) = (
        logit_ends(model, one, count) for one in (plain, carried)
    )
    cosine = torch.nn.functional.cosine_similarity(plain - plain.mean(), carried - carried.mean(), dim=0)
    half = lens.halves_cosine(vector.direction)
    return Lenses(
        promoted,
        demoted,
        carried_promoted,
        carried_demoted,
        _shared(promoted, carried_promoted),
        _shared(demoted, carried_demoted),
        float(cosine),
        float(lens.carried(vector.direction).norm()) / vector.norm,
        half,
        lens.halves_difference,
        lens.axis_share,
        _remarks(model, lens, half),
    )


def _shared(some: tuple[LensToken, ...], others: tuple[LensToken, ...]) -> int:
    return len({token.id for token in some} & {token.id for token in others})


def _remarks(model: LoadedModel, lens: JacobianLens, half: float) -> tuple[str, ...]:
    if lens.site in (Site(model.n_layers - 1), Site(model.n_layers - 1, "mlp_out")):
        return ("No layer lies behind this site, so both lenses are one.",)
    found = []
    if half < ENOUGH:
        found.append(
            f"Two halves of the texts make different things of this vector (cosine {half:.2f}): the Jacobian lens rests on which texts "
            "were read. Give more of them."
        )
    if lens.axis_share >= ONE_AXIS:
        found.append(
            f"One axis holds {100 * lens.axis_share:.0f} % of the Jacobian lens: a few positions with a massive activation, such as tokens "
            "of a prompt, stand for all others, and the readout is about that axis."
        )
    return tuple(found)
