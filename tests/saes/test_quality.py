"""Quality and statistics of an autoencoder against the same numbers computed all at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sae_lens import StandardSAE, StandardSAEConfig
from scipy import stats

from saes.corpus import LabelledSpan, Text, spread
from saes.dictionary import Dictionary
from saes.quality import assess_dictionary
from saes.statistics import LatentStatistics, latent_statistics, matched
from steering.errors import BadInput
from steering.model.capture import capture
from steering.model.sites import Site
from tests.tiny import VOCABULARY, WIDTH, tiny

SITE = Site(1)
TEXTS = [
    Text(tuple([1, *torch.randint(8, VOCABULARY, (n,), generator=torch.Generator().manual_seed(n)).tolist()]), 2)
    for n in range(3, 20)
]


def dictionary(latents: int = 40, identity: bool = False) -> Dictionary:
    torch.manual_seed(2)
    sae = StandardSAE(StandardSAEConfig(d_in=WIDTH, d_sae=2 * WIDTH if identity else latents, device="cpu"))
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
        if identity:  # h = relu(h) - relu(-h)
            eye = torch.eye(WIDTH)
            sae.W_enc.copy_(torch.cat([eye, -eye], dim=1))
            sae.W_dec.copy_(torch.cat([eye, -eye]))
            sae.b_enc.zero_()
            sae.b_dec.zero_()
    return Dictionary("test", sae, SITE)


def everything(of: Dictionary) -> tuple[torch.Tensor, torch.Tensor]:
    """All activations that count, and their latents."""
    rows = []
    for text in TEXTS:
        (captured,) = capture(tiny("llama"), [text.ids], [SITE])
        rows.append(captured.values[SITE][0, 1:])  # without BOS
    h = torch.cat(rows)
    return h, of.sae.encode(h)


def test_statistics_are_those_of_all_tokens_at_once(tmp_path: Path) -> None:
    own = dictionary()
    _, z = everything(own)
    found = latent_statistics(tiny("llama"), own, TEXTS, batch_size=5)
    assert found.tokens == len(z)
    assert torch.allclose(found.density, (z > 0).float().mean(0))
    assert torch.allclose(found.mean, z.mean(0), atol=1e-5) and torch.allclose(found.peak, z.amax(0), atol=1e-5)
    active = torch.where(z > 0, z, torch.nan).nanmean(0).nan_to_num() * own.sae.W_dec.norm(dim=1)
    assert torch.allclose(found.sizes, active, atol=1e-4)
    stored = LatentStatistics.load(found.save(tmp_path / "s.safetensors"))
    assert torch.equal(stored.density, found.density) and stored.dictionary == own.digest
    (tmp_path / "s.safetensors").write_bytes((tmp_path / "s.safetensors").read_bytes()[:100])
    with pytest.raises(BadInput, match="corrupt"):
        LatentStatistics.load(tmp_path / "s.safetensors")


def test_statistics_of_another_autoencoder_are_refused() -> None:
    found = latent_statistics(tiny("llama"), dictionary(), TEXTS)
    with pytest.raises(BadInput, match="not test"):
        found.features(dictionary(41), (0,))
    with pytest.raises(BadInput, match="not all among"):
        found.features(dictionary(), (40,))


def test_matched_controls_are_near_alive_and_never_excluded() -> None:
    density = torch.tensor([0.1, 0.11, 0.09, 0.1, 0.5, 0.0, 0.1])
    sizes = torch.tensor([1.0, 1.1, 0.9, 1.0, 1.0, 0.0, 30.0])
    found = LatentStatistics(density, density, sizes, sizes, 1000, "x")
    assert set(matched(found, 0, 3, pool=1)) == {1, 2, 3}
    assert set(matched(found, 0, 2, exclude=[3], pool=1)) == {1, 2}
    drawn = {matched(found, 0, 2, seed=s, pool=2) for s in range(20)}
    assert len(drawn) > 1 and all(5 not in d and 0 not in d for d in drawn)
    with pytest.raises(BadInput, match="only 5"):
        matched(found, 0, 6)


def test_quality_equals_the_naive_numbers() -> None:
    own, model = dictionary(), tiny("llama")
    h, z = everything(own)
    near = own.sae.decode(z)
    found = assess_dictionary(model, own, TEXTS, batch_size=4)
    assert found.l0 == pytest.approx(float((z > 0).float().sum(1).mean()), rel=1e-5)
    spread = ((h - h.mean(0)) ** 2).sum()
    assert found.explained_variance == pytest.approx(float(1 - ((h - near) ** 2).sum() / spread), abs=1e-4)
    assert found.dead == pytest.approx(float(((z > 0).sum(0) == 0).float().mean()))
    total, count = 0.0, 0
    for text in TEXTS:
        ids = torch.tensor([text.ids])
        logits = model.model(input_ids=ids).logits[0, :-1]
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        count += len(text.ids) - 1
    assert found.loss == pytest.approx(total / count, rel=1e-5)
    assert found.spliced_loss != pytest.approx(found.loss, rel=1e-3)


def test_losses_against_zeros_and_the_mean_are_those_of_a_hook() -> None:
    own, model = dictionary(), tiny("llama")
    h, _ = everything(own)
    found = assess_dictionary(model, own, TEXTS, batch_size=4)
    block = model.model.model.layers[1]
    for value, loss in ((torch.zeros(WIDTH), found.ablated_loss), (h.mean(0), found.mean_ablated_loss)):

        def put(_: object, __: object, output: torch.Tensor, value: torch.Tensor = value) -> torch.Tensor:
            return torch.cat([output[:, :1], value.expand_as(output[:, 1:])], dim=1)

        handle, total, count = block.register_forward_hook(put), 0.0, 0
        for text in TEXTS:
            ids = torch.tensor([text.ids])
            logits = model.model(input_ids=ids).logits[0, :-1]
            total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").detach())
            count += len(text.ids) - 1
        handle.remove()
        assert loss == pytest.approx(total / count, rel=1e-5)
    gap = found.mean_ablated_loss - found.loss
    assert found.recovered_of_mean == pytest.approx((found.mean_ablated_loss - found.spliced_loss) / gap)
    few = assess_dictionary(model, own, TEXTS, loss_tokens=40)
    assert few.loss_tokens < found.loss_tokens == sum(len(t.ids) - 1 for t in TEXTS) and few.tokens == found.tokens
    assert few.explained_variance == pytest.approx(found.explained_variance) and few.loss != found.loss


def test_the_interval_of_the_explained_variance_is_over_texts() -> None:
    own, model = dictionary(), tiny("llama")
    found = assess_dictionary(model, own, TEXTS)

    def explained(texts: list[Text]) -> float:
        return assess_dictionary(model, own, texts).explained_variance

    without = [explained(TEXTS[:i] + TEXTS[i + 1 :]) for i in range(len(TEXTS))]
    error = float(np.sqrt((len(TEXTS) - 1) * np.var(without)))
    reach = float(stats.t.ppf(0.975, len(TEXTS) - 1)) * error
    assert found.explained_variance_low == pytest.approx(found.explained_variance - reach, rel=1e-4)
    assert found.explained_variance_high == pytest.approx(found.explained_variance + reach, rel=1e-4)
    single = np.quantile([explained([text]) for text in TEXTS], [0.025, 0.975])
    assert (found.text_low, found.text_high) == pytest.approx(tuple(single), rel=1e-4)


def test_some_of_the_texts_are_spread_evenly_over_them() -> None:
    assert spread(TEXTS, None) == spread(TEXTS, 10_000) == TEXTS
    numbered = [Text((number, *range(9))) for number in range(100)]
    chosen = [text.ids[0] for text in spread(numbered, 200)]
    assert chosen == [2 + 5 * i for i in range(20)] and len(spread(numbered, 1)) == 1


def test_an_exact_autoencoder_recovers_all_of_the_loss() -> None:
    found = assess_dictionary(tiny("llama"), dictionary(identity=True), TEXTS)
    assert found.explained_variance == pytest.approx(1.0, abs=1e-5) and found.cosine == pytest.approx(1.0, abs=1e-5)
    assert found.spliced_loss == pytest.approx(found.loss, rel=1e-5) and found.recovered == pytest.approx(1.0, abs=1e-4)
    assert found.ablated_loss > found.loss


def test_texts_and_spans_outside_them_are_refused() -> None:
    with pytest.raises(BadInput, match="prompt of 4"):
        Text((1, 2, 3), 4)
    with pytest.raises(BadInput, match="not inside"):
        Text((1, 2, 3), 1, (LabelledSpan("x", 2, 4),))
    with pytest.raises(BadInput, match="special tokens only"):
        latent_statistics(tiny("llama"), dictionary(), [Text((1,))])
    wide = StandardSAE(StandardSAEConfig(d_in=WIDTH + 1, d_sae=4, device="cpu"))
    with pytest.raises(BadInput, match="width"):
        latent_statistics(tiny("llama"), Dictionary("wide", wide, SITE), TEXTS)
