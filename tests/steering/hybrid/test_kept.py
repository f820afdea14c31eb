"""Banks adapted to shifts that stay in the cache."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from steering.errors import BadInput
from steering.hybrid.disagreement import Disagreements
from steering.hybrid.kept import _Texts, adapt_to_cache, text_loss
from steering.hybrid.shift import PARTS
from steering.hybrid.training import Recipe
from steering.model.hooks import hooked
from steering.model.sites import Site
from tests.tiny import tiny

from .pairs import bank
from .test_decoding import prompts
from .test_training import planted


@pytest.mark.parametrize("family", ["qwen2", "gemma2", "gpt2"])
def test_the_loss_is_that_of_a_plain_pass_with_every_shift_in_place(family: str) -> None:
    model, made, data = tiny(family), bank(), planted(3, 4)
    texts = _Texts(model, made, data, 3, torch.Generator().manual_seed(0))
    found = float(text_loss(texts, 0, [getattr(made, name) for name in PARTS], 1.0).detach())
    per_category: dict[int, list[float]] = {}
    behind: list[float] = []
    for text, positions, categories in zip(data.texts, data.positions, data.categories, strict=True):

        def edit(hidden: torch.Tensor, positions=positions, categories=categories) -> torch.Tensor:  # type: ignore[no-untyped-def]
            hidden = hidden.clone()
            for p, c in zip(positions, categories, strict=True):
                hidden[0, p] += made.shift(hidden[0, p][None], torch.tensor([c]))[0][0]
            return hidden

        with torch.inference_mode(), hooked(model.layout, {Site(1): edit}):
            logits = model.model(input_ids=torch.tensor([text]), use_cache=False).logits[0]
        losses = F.cross_entropy(logits[:-1], torch.tensor(text[1:]), reduction="none").tolist()
        for p, c in zip(positions, categories, strict=True):
            per_category.setdefault(c, []).append(losses[p])
        behind += [loss for p, loss in enumerate(losses) if p >= min(positions) and p not in positions]
    wanted = sum(sum(v) / len(v) for v in per_category.values()) / len(per_category) + sum(behind) / len(behind)
    assert found == pytest.approx(wanted, rel=1e-4)


@pytest.mark.slow
def test_adapting_lowers_the_loss_on_texts_not_trained_on() -> None:
    """Texts go on with one token behind a shift: kept shifts can learn to bring it about."""
    model, made = tiny("qwen2"), bank(size=4.0)
    texts = [(*prompt[:6], 40, 41, 41, 41) for prompt in prompts(40, 9, 8, 10)]
    data = Disagreements(tuple(texts), ((5,),) * 40, ((40,),) * 40, ((0,),) * 40, 0)
    inner, outer = data.part(range(32)), data.part(range(32, 40))
    recipe = Recipe(epochs=6, vectors_rate=0.1)
    adapted = adapt_to_cache(model, made, inner, outer, recipe)
    losses = adapted.provenance["losses"]
    assert min(losses) == losses[adapted.provenance["adapted_at"]] < losses[0] - 0.5
    assert adapted.provenance["parent"] == made.digest != adapted.digest
    assert adapt_to_cache(model, made, inner, outer, recipe).digest == adapted.digest


def test_there_must_be_something_to_adapt_to() -> None:
    nothing = Disagreements(((1, 2),), ((),), ((),), ((),), 0)
    with pytest.raises(BadInput, match="never disagree on the held-out"):
        adapt_to_cache(tiny("qwen2"), bank(), planted(2, 0), nothing)
