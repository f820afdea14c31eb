"""The autoencoders that come with the package: listed and read without their models, small, and with what belongs to them beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from saes.dashboard import Dashboard
from saes.loading import load_dictionary
from saes.shipped import SHIPPED
from saes.statistics import STATISTICS, LatentStatistics
from steering.errors import BadInput

TEXT = SHIPPED["smollm2-text"]


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache without a model, and no way to load one."""
    monkeypatch.setenv("STEERING_CACHE", str(tmp_path))
    monkeypatch.setattr("steering.model.models.load_model", lambda *a, **k: pytest.fail("a model was loaded"))


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_one_is_read_by_its_name_without_its_model(name: str, no_models: None) -> None:
    dictionary = load_dictionary(name)
    LatentStatistics.load(SHIPPED[name].folder / STATISTICS).check(dictionary)
    assert dictionary.name == name and dictionary.card["model_id"] == SHIPPED[name].model
    assert dictionary.provenance.model == dictionary.card["model"]
    assert dictionary.provenance.model_id == SHIPPED[name].model


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(BadInput, match="builtin:base"):
        load_dictionary("builtin:smollm2")
    with pytest.raises(BadInput, match="smollm2-text"):
        load_dictionary("smollm2-txt")


def test_the_autoencoder_of_texts_is_small_and_says_what_it_is() -> None:
    weights = TEXT.folder / "sae_weights.safetensors"
    assert weights.stat().st_size <= 6_000_000
    with safe_open(weights, "pt") as handle:
        shapes = {name: (handle.get_tensor(name).dtype, handle.get_tensor(name).shape) for name in handle.keys()}
    assert shapes["W_enc"] == (torch.bfloat16, (576, 2048)) and shapes["W_dec"] == (torch.bfloat16, (2048, 576))
    card = load_dictionary("smollm2-text").card
    texts, quality = card["texts"], card["quality"]
    assert texts["tokens"] > 1_000_000 and texts["held_back_tokens"] > 50_000 and len(texts["sha256"]) == 64
    assert "public domain" in texts["about"]
    assert card["sinks"] == {"positions": [0], "left_out": True, "ratio": card["sinks"]["ratio"]}
    assert quality["explained_variance_low"] < quality["explained_variance"] < quality["explained_variance_high"]
    assert 24 < quality["l0"] < 40 and quality["dead"] < 0.1 and 0.5 < quality["recovered_of_mean"] < 1


def test_its_dashboard_shows_live_latents_on_held_back_texts() -> None:
    assert TEXT.dashboard is not None
    dictionary = load_dictionary("smollm2-text")
    dashboard = Dashboard.open(TEXT.dashboard, dictionary)
    assert sum(path.stat().st_size for path in TEXT.dashboard.iterdir()) <= 1_500_000
    assert dashboard.facts["tokens"] == dictionary.card["quality"]["tokens"] and "remarks" not in dashboard.facts
    table = dashboard.table()
    alive = table[table["active"] > 0]["latent"]
    assert len(alive) == 2048 - dashboard.facts["dead"] > 1800
    for latent in alive.iloc[:: len(alive) // 12]:
        examples = dashboard.examples(int(latent))
        assert examples and examples[0].activation == pytest.approx(float(table["peak"][latent]), rel=1e-5)
        assert examples[0].activations[examples[0].active] == examples[0].activation
