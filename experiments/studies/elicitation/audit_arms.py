"""What stands in a vector's place at the same positions.

1. `words_of` reads the vector's first tokens by the logit lens and, where layers lie behind its site, by a Jacobian lens: each with the
   rows at the site that the lens reads them by. A vector that is subtracted is read with its sign turned.
2. A word in the vector's place is a direction (the mean of these rows at the vector's length) or a bias on the tokens' logits; without its
   words, the vector has the span of these rows projected out and its length restored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from steering.errors import BadInput
from steering.extraction.jacobian import JacobianLens
from steering.extraction.lens import LensToken, lens_logits, lens_rows, logit_ends
from steering.model.models import LoadedModel
from steering.model.sites import Site

from .audit_subjects import Subject

COUNTS = (1, 5)
"""How many tokens of a lens are taken for the vector's words."""
NOTHING_LEFT = 1e-4
"""Share of a vector's length below which what is left without its words is rounding."""


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
        """Ids of the first tokens, in order: of two lenses that name the same tokens one bias is enough."""
        return tuple(sorted(token.id for token in self.tokens[:count]))


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
