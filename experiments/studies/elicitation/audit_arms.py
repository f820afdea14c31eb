"""The arms of an audit: a vector, and what stands in its place at the same positions.

1. `words_of` reads the vector's first tokens by the logit lens and, where layers lie behind its site, by a Jacobian lens: each with the
   rows at the site that the lens reads them by. A vector that is subtracted is read with its sign turned.
2. A word in the vector's place is a direction (the mean of these rows at the vector's length) or a bias on the tokens' logits; without its
   words, the vector has the span of these rows projected out and its length restored.
3. The bias is as strong as the vector, in divergence from the unsteered model at the positions covered: KL(biased || plain) of a bias of
   b nats on tokens of probability p is b p e^b/Z - log Z, Z = 1 + p (e^b - 1), so that b is found without running the model again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from steering.errors import BadInput
from steering.extraction.jacobian import JacobianLens
from steering.extraction.lens import LensToken, lens_logits, lens_rows, logit_ends
from steering.model.models import LoadedModel
from steering.model.sites import Site
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import Provenance, SteeringVector

from ...statistics import Floats

COUNTS = (1, 5)
"""How many tokens of a lens are taken for the vector's words."""
STRONGEST = 50.0
"""Nats from which on a bias writes its tokens always."""
NOTHING_LEFT = 1e-4
"""Share of a vector's length below which what is left without its words is rounding."""


@dataclass(frozen=True)
class Subject:
    """A vector that is audited, with how it is applied."""

    key: str
    label: str
    vector: SteeringVector
    dose: Dose
    span: Span
    expected: str = ""
    """`word` or `no word`, of a vector that was planted to be just that."""
    digest: str = ""
    """Of the vector's file."""
    edit: Plan | None = None
    """What is audited, where it is no addition of the vector: of a latent its edit, whose measured size `dose` is then."""

    @property
    def own(self) -> Plan:
        """The plan that is audited."""
        return self.edit or Plan((Intervention("add", self.vector, self.span, self.dose),))

    def plan(self, direction: Tensor, name: str) -> Plan:
        """Another direction in the vector's place."""
        origin = self.vector.provenance
        made = Provenance("audit", origin.model, origin.model_id, contrast=name, parents=(self.vector.digest,))
        vector = SteeringVector(name, self.vector.site, direction, made)
        return Plan((Intervention("add", vector, self.span, self.dose),))

    @property
    def pushed(self) -> Tensor:
        """The direction that activations are moved along `[d_model]`."""
        return self.vector.direction * (-1.0 if self.dose.amount < 0 else 1.0)


@dataclass(frozen=True)
class Words:
    """First tokens of a vector by one lens, and the rows at its site that they are read by."""

    lens: str
    tokens: tuple[LensToken, ...]
    rows: Tensor
    """`[tokens, d_model]` float64: the token's lens logit of an activation x is proportional to row · x."""

    def named(self, count: int) -> str:
        """The first tokens in quotes."""
        return " ".join(repr(token.text or f"id {token.id}") for token in self.tokens[:count])

    def ids(self, count: int) -> tuple[int, ...]:
        return tuple(token.id for token in self.tokens[:count])


def words_of(model: LoadedModel, subject: Subject, lens: JacobianLens | None, count: int = max(COUNTS)) -> list[Words]:
    """The subject's words by the logit lens, and by the Jacobian lens where one is given. Raises BadInput for a site outside the stream."""
    site = subject.vector.site
    if site.kind == "z":
        raise BadInput(
            f"{site} is one head's output before the output projection, whose directions speak for no tokens; audit a vector of the "
            f"residual stream, such as one at {Site(site.layer)}."
        )
    subject.vector.check(model)
    pushed, found = subject.pushed, []
    for name, carried in (("logit", pushed), ("jacobian", None if lens is None else lens.carried(pushed).float())):
        if carried is None or not float(carried.norm()):
            continue
        logits = lens_logits(model, carried)[: len(model.tokenizer)]  # rows beyond the tokenizer are no tokens
        tokens = logit_ends(model, logits, count)[0]
        rows = lens_rows(model, [token.id for token in tokens])
        if name == "jacobian" and lens is not None:
            rows = rows @ lens.matrix.double()
        found.append(Words(name, tokens, rows))
    return found


def in_place(subject: Subject, words: Words, count: int) -> Tensor:
    """The direction whose lens is the first `count` tokens, as long as the vector and signed as it `[d_model]`."""
    mean = words.rows[:count].mean(0)
    sign = -1.0 if subject.dose.amount < 0 else 1.0
    return (sign * mean / mean.norm() * subject.vector.norm).float()


def without(subject: Subject, words: Words, count: int) -> Tensor | None:
    """The vector with the span of the first `count` rows projected out and its length restored `[d_model]`; None where nothing is left."""
    direction = subject.vector.direction.double()
    basis = torch.linalg.qr(words.rows[:count].T).Q
    left = direction - basis @ (basis.T @ direction)
    left = left - basis @ (basis.T @ left)  # once more, for the last bits
    if float(left.norm()) < NOTHING_LEFT * float(direction.norm()):
        return None
    return (left / left.norm() * direction.norm()).float()


def opening_of(model: LoadedModel, words: Words) -> str | None:
    """The first token as a text that a prompt can end with; None where it is no word, or the tokenizer reads it otherwise."""
    token = words.tokens[0]
    text = model.tokenizer.decode([token.id])
    if not re.search(r"\w", text) or token.id in model.eos_ids or token.id in model.tokenizer.all_special_ids:
        return None
    for form in (text, f" {text.strip()}"):
        ids = model.tokenizer(f"?{form}", add_special_tokens=False)["input_ids"]
        if len(ids) > 1 and ids[-1] == token.id:
            return form
    return None


def bias_divergence(logprobs: Floats, nats: float) -> Floats:
    """KL(biased || plain) in nats of a bias on tokens whose log-probability together is `logprobs`, elementwise."""
    mass = np.minimum(np.asarray(logprobs, dtype=float), -1e-12)
    rest = np.log(-np.expm1(mass))
    total = np.logaddexp(rest, mass + nats)
    return np.asarray(np.maximum(0.0, nats * np.exp(mass + nats - total) - total), dtype=float)


def matched_nats(logprobs: Floats, divergence: float) -> tuple[float, bool]:
    """The bias, in nats, whose mean divergence is `divergence`, and whether there is one: a vector that pushes another token than these
    lies further from the plain model than any bias on them."""
    if divergence <= 0:
        return 0.0, True

    def over(nats: float) -> float:
        return float(bias_divergence(logprobs, nats).mean()) - divergence

    if over(STRONGEST) <= 0:
        return STRONGEST, False
    return float(brentq(over, 0.0, STRONGEST, xtol=1e-10)), True


def planted(model: LoadedModel, word: int, span: Span) -> list[Subject]:
    """Two vectors at the last layer whose answers are known: the row that a token is read by, and the direction that is read least of all
    (centred over the vocabulary, which no probability depends on)."""
    site, dose = Site(model.n_layers - 1), Dose(1.0, "residual")
    rows = lens_rows(model)
    rows = rows - rows.mean(0)
    lowest = torch.linalg.eigh(rows.T @ rows).eigenvectors[:, 0]
    text, origin = model.tokenizer.decode([word]).strip(), Provenance("audit", model.fingerprint, model.id)
    found = (
        ("planted-word", f"planted: the row of {text!r}", lens_rows(model, [word])[0], "word"),
        ("planted-unread", "planted: the direction that is read least", lowest, "no word"),
    )
    return [
        Subject(key, label, SteeringVector(label, site, direction.float(), origin), dose, span, expected)
        for key, label, direction, expected in found
    ]


def resited(vector: SteeringVector, site: str | None) -> SteeringVector:
    """The vector at another site."""
    return vector if site is None else replace(vector, site=Site.parse(site))


def pooled(values: Sequence[Sequence[float]], covered: Sequence[Sequence[int]]) -> tuple[Floats, Floats]:
    """Values at the covered predictions of all texts, and at those after the first covered one that are not covered."""
    inside = [value for own, at in zip(values, covered, strict=True) for value in (own[i] for i in at)]
    behind = [
        own[i] for own, at in zip(values, covered, strict=True) if at for i in range(min(at), len(own)) if i not in set(at)
    ]  # fmt: skip
    return np.asarray(inside, dtype=float), np.asarray(behind, dtype=float)
