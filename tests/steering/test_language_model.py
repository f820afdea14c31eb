"""On a real language model: its attention sink, steered rows beside a bare loop with hooks, and the same bits in any batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.extraction import Reading, mean_difference
from steering.extraction.quality import assess
from steering.model.models import LoadedModel
from steering.model.prompts import encode_prompt
from steering.model.sinks import sinks_of
from steering.model.sites import Site
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import Provenance, SteeringVector

pytestmark = pytest.mark.language
SITE, NEW = Site(14), 6
FRENCH = (
    "Le chat dort sur le canapé.", "Il fait beau aujourd'hui à Paris.", "Nous avons mangé du pain et du fromage.", "Elle lit un livre.",
    "La voiture rouge est devant la maison.", "Les enfants jouent dans la rue.", "Je voudrais un café, s'il vous plaît.",
    "Mon frère travaille dans une banque.", "Le train part à huit heures.", "Cette ville est très ancienne.",
    "Ils ont acheté une nouvelle maison.", "La musique était trop forte hier soir.", "Demain nous irons à la plage.",
    "Le professeur explique la leçon.", "Ma grand-mère fait un gâteau.", "Il neige souvent en hiver.",
)  # fmt: skip
ENGLISH = (
    "The cat sleeps on the sofa.", "The weather is nice today in Paris.", "We ate bread and cheese.", "She reads a book.",
    "The red car is in front of the house.", "The children play in the street.", "I would like a coffee, please.",
    "My brother works in a bank.", "The train leaves at eight o'clock.", "This town is very old.", "They bought a new house.",
    "The music was too loud last night.", "Tomorrow we will go to the beach.", "The teacher explains the lesson.",
    "My grandmother makes a cake.", "It often snows in winter.",
)  # fmt: skip
PROMPTS = (
    "The capital of France is", "Once upon a time there was", "The recipe needs two", "She opened the door and", "12 + 7 =",
    "I think that", "In 1912 the ship", "Dear Sir or Madam,",
)  # fmt: skip


def sides(model: LoadedModel, part: slice, sinks: bool) -> tuple[Reading, Reading]:
    high, low = ([encode_prompt(model, text) for text in texts[part]] for texts in (FRENCH, ENGLISH))
    return Reading.all_tokens(high, sinks=sinks), Reading.all_tokens(low, sinks=sinks)


def test_the_first_position_is_a_sink_whatever_stands_there(smollm2: LoadedModel) -> None:
    found = sinks_of(smollm2)
    assert found.positions == (0,) and found.ratio > 100
    assert smollm2.tokenizer("The cat")["input_ids"][0] != smollm2.tokenizer.bos_token_id


def test_a_direction_read_at_the_sink_is_flagged_and_the_one_without_it_is_clean(smollm2: LoadedModel) -> None:
    reports = []
    for sinks in (True, False):
        training, held_out = sides(smollm2, slice(10), sinks), sides(smollm2, slice(10, None), sinks)
        vector = mean_difference(smollm2, *training, [SITE], name="French", contrast="French minus English")[SITE]
        reports.append(assess(smollm2, vector, training, held_out))
    flagged, clean = reports
    assert any("dominated by few positions" in remark for remark in flagged.remarks)
    assert any("dominated by few coordinates" in remark for remark in flagged.remarks)
    assert not flagged.concentration.massive_axis, "which the definition of massive coordinates passes"
    assert flagged.norm > 500 and clean.norm < 100
    assert clean.remarks == () and clean.sinks_left_out == 20
    assert clean.split_half.mean > 0.7 and clean.separability.auc.low > 0.9


def bare(model: LoadedModel, prompt: tuple[int, ...], span: str, delta: Tensor) -> list[int]:
    """A loop of one's own: one row, no cache, a hook that adds at positions."""
    ids, hook = list(prompt), model.model.model.layers[SITE.layer]

    def add(module: Any, args: Any, output: Any) -> Any:
        hidden = (output if isinstance(output, Tensor) else output[0]).clone()
        first = {"all": 1, "generated": len(prompt), "last_prompt": len(prompt) - 1}[span]
        last = len(prompt) if span == "last_prompt" else hidden.shape[1]
        hidden[:, first:last] += delta
        return hidden if isinstance(output, Tensor) else (hidden, *output[1:])

    handle = hook.register_forward_hook(add)
    try:
        with torch.inference_mode():
            for _ in range(NEW):
                ids.append(int(model.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    finally:
        handle.remove()
    return ids[len(prompt) :]


@pytest.mark.parametrize("span", ["all", "generated", "last_prompt"])
def test_steered_rows_equal_a_bare_loop_at_any_batch_size(smollm2: LoadedModel, span: str) -> None:
    direction = torch.randn(smollm2.d_model, generator=torch.Generator().manual_seed(0))
    vector = SteeringVector(
        "random", SITE, direction / direction.norm() * 120, Provenance(smollm2.fingerprint, "random")
    )
    plan = Plan((Intervention("add", vector, Span(span), Dose(1.0, "vector")),))
    prompts = [encode_prompt(smollm2, text) for text in PROMPTS]
    others = [encode_prompt(smollm2, f"{text} {word}") for text in PROMPTS for word in ("the", "a big", "not")]
    expected = [bare(smollm2, prompt, span, vector.direction) for prompt in prompts[:5]]
    unsteered = generate(smollm2, [Row(prompt) for prompt in prompts[:5]], GenerationSettings(NEW))
    assert sum(list(row.token_ids) != own for row, own in zip(unsteered, expected, strict=True)) >= 2, (
        "the edit matters"
    )
    rows = [Row(prompt, plan) for prompt in (*prompts, *others)]
    for batch in (1, 8, 32):
        found = generate(smollm2, rows[: batch if batch > 1 else 5], GenerationSettings(NEW), batch_size=batch)
        for row, own in zip(found, expected, strict=False):
            length = len(row.token_ids)  # ends at the end token, where the loop goes on
            assert list(row.token_ids) == own[:length] and (length == NEW or row.finish == "eos")


@pytest.mark.parametrize("temperature", [0.0, 1.0], ids=["greedy", "sampled"])
def test_bits_are_the_same_alone_and_in_a_batch(smollm2: LoadedModel, temperature: float) -> None:
    rows = [Row(encode_prompt(smollm2, text), seed=n) for n, text in enumerate(PROMPTS)]
    settings = GenerationSettings(6, temperature=temperature)
    together = generate(smollm2, rows, settings, invariant=True)
    alone = [generate(smollm2, [row], settings, invariant=True)[0] for row in rows[:3]]
    assert [(g.token_ids, g.logprob) for g in together[:3]] == [(g.token_ids, g.logprob) for g in alone]
