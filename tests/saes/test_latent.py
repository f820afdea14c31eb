"""One latent in delta form against the whole autoencoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sae_lens import (
    JumpReLUSAE,
    JumpReLUSAEConfig,
    StandardSAE,
    StandardSAEConfig,
    TopKSAE,
    TopKSAEConfig,
)

from saes.latent import latent_of
from steering.engine import Row, generate
from steering.errors import BadInput
from steering.hooks import hooked
from steering.plan import Dose, Intervention, Plan, Span
from steering.sampling import GenerationSettings
from steering.sites import Site
from tests.tiny import WIDTH, tiny

LATENTS = 40
CONFIGS = {"standard": (StandardSAE, StandardSAEConfig), "jumprelu": (JumpReLUSAE, JumpReLUSAEConfig)}


def random_sae(kind: str, bias_in: bool = True) -> Any:
    torch.manual_seed(1)
    make, config = CONFIGS[kind]
    sae = make(
        config(d_in=WIDTH, d_sae=LATENTS, apply_b_dec_to_input=bias_in, normalize_activations="none", device="cpu")
    )
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape))
        if kind == "jumprelu":
            sae.threshold.copy_(torch.rand(LATENTS))
    return sae.eval()


def busiest(sae: Any, x: torch.Tensor) -> int:
    return int((sae.encode(x) > 0).float().mean(0).argmax())


@pytest.mark.parametrize("bias_in", [True, False])
@pytest.mark.parametrize("kind", list(CONFIGS))
def test_a_changed_latent_is_decode_plus_error(kind: str, bias_in: bool) -> None:
    sae, x = random_sae(kind, bias_in), torch.randn(64, WIDTH)
    with torch.no_grad():
        features = sae.encode(x)
        error = x - sae.decode(features)
        for index in range(LATENTS):
            latent = latent_of(sae, index)
            assert torch.allclose(latent.activation(x), features[:, index], atol=1e-4)
            for edited, value in (
                (latent.ablated(x), torch.zeros(64)),
                (latent.clamped(x, 2.5), torch.full((64,), 2.5)),
                (latent.scaled(x, 3.0), 3.0 * features[:, index]),
            ):
                changed = features.clone()
                changed[:, index] = value
                assert torch.allclose(edited, sae.decode(changed) + error, atol=2e-4)


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_ablation_with_the_error_term_changes_the_output(kind: str) -> None:
    """SAELens: an error term computed after the edit took the edit back, so that ablations did nothing."""
    model, sae = tiny("llama"), random_sae(kind)
    ids = torch.arange(8, 30)[None]
    seen: list[torch.Tensor] = []

    def logits(edit: Any) -> torch.Tensor:
        with torch.inference_mode(), hooked(model.layout, {Site(1): edit}):
            return model.model(input_ids=ids).logits

    plain = logits(lambda x: seen.append(x[0].clone()))
    latent = latent_of(sae, busiest(sae, seen[0]))
    active = latent.activation(seen[0]) > 0
    assert active.any()
    moved = (logits(latent.ablated) - plain).abs().amax((0, 2))
    first = int(active.float().argmax())
    assert moved[first] > 1e-2 and bool((moved[:first] == 0).all())
    kept = logits(lambda x: latent.scaled(x, 1.0))
    assert torch.allclose(kept, plain, atol=1e-4), "a latent left at its value changes nothing"


def test_a_latent_is_added_where_the_autoencoder_has_a_decoder_bias() -> None:
    """lm-eval's steered models: adding a feature of an autoencoder with a bias raised an error."""
    model, sae = tiny("llama"), random_sae("standard")
    latent, prompt = latent_of(sae, 7), (1, 20, 21, 22)
    assert float(sae.b_dec.detach().norm()) > 1
    plan = Plan(
        (Intervention("add", latent.vector(Site(1)), Span("all"), Dose(2.0 * float(latent.decoder.norm()), "raw")),)
    )
    (found,) = generate(model, [Row(prompt, plan)], GenerationSettings(max_new_tokens=8))

    def raised(x: torch.Tensor) -> torch.Tensor:
        features = sae.encode(x)
        error = x - sae.decode(features)
        features[..., 7] += 2.0
        return sae.decode(features) + error

    ids = list(prompt)
    for _ in range(len(found.token_ids)):
        with torch.inference_mode(), hooked(model.layout, {Site(1): raised}):
            ids.append(int(model.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    assert ids[len(prompt) :] == list(found.token_ids)


def test_autoencoders_of_another_form_are_refused_by_name() -> None:
    sae = TopKSAE(TopKSAEConfig(d_in=WIDTH, d_sae=LATENTS, k=4, device="cpu"))
    with pytest.raises(BadInput, match="topk autoencoder's latents depend on each other"):
        latent_of(sae, 0)
    with pytest.raises(BadInput, match="Latent 40 does not exist"):
        latent_of(random_sae("standard"), 40)
