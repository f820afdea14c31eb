"""Loaded autoencoders against SAELens' own load, encode and decode."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from sae_lens import (
    SAE,
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    GatedSAE,
    GatedSAEConfig,
    JumpReLUSAE,
    JumpReLUSAEConfig,
    StandardSAE,
    StandardSAEConfig,
    TopKSAE,
    TopKSAEConfig,
)
from sae_lens.loading.pretrained_sae_loaders import sparsify_disk_loader
from safetensors.torch import load_file, save_file

from saes import loading
from saes.latents import features_of
from saes.loading import load_dictionary
from saes.shipped import Shipped
from steering.errors import BadInput
from steering.model.sites import Site
from steering.vector.features import load_stored
from steering.vector.vectors import Provenance
from tests.tiny import WIDTH, tiny

LATENTS, SCALE = 40, 0.37
HOOK = "blocks.1.hook_resid_post"
MAKERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "standard": (StandardSAE, StandardSAEConfig, {}),
    "standard, input not centred": (StandardSAE, StandardSAEConfig, {"apply_b_dec_to_input": False}),
    "jumprelu": (JumpReLUSAE, JumpReLUSAEConfig, {}),
    "gated": (GatedSAE, GatedSAEConfig, {}),
    "topk": (TopKSAE, TopKSAEConfig, {"k": 6}),
    "topk, decoder norms": (TopKSAE, TopKSAEConfig, {"k": 6, "rescale_acts_by_decoder_norm": True}),
    "batchtopk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, {"k": 6.0, "rescale_acts_by_decoder_norm": False}),
    "batchtopk, decoder norms": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, {"k": 6.0}),
}
NORMALISATIONS = ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm")


def stored(folder: Path, kind: str = "standard", normalisation: str = "none", hook: str | None = HOOK) -> Path:
    make, config, options = MAKERS[kind]
    torch.manual_seed(3)
    sae = make(config(d_in=WIDTH, d_sae=LATENTS, device="cpu", normalize_activations=normalisation, **options))
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.5)
        if kind == "jumprelu":
            sae.threshold.copy_(torch.rand(LATENTS))
        if "batchtopk" in kind:
            sae.topk_threshold.fill_(0.8)
    if hook is not None:
        sae.cfg.metadata.hook_name = hook
    if "batchtopk" in kind:
        sae.save_inference_model(folder)
    else:
        sae.save_model(folder)
    return folder


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("kind", MAKERS)
def test_activations_are_saelens_own_in_units_of_the_residual_stream(
    kind: str, normalisation: str, tmp_path: Path
) -> None:
    folder = stored(tmp_path / kind, kind, normalisation)
    scaled = normalisation == "expected_average_only_in"
    scale = SCALE if scaled else 1.0
    found = load_dictionary(folder, norm_scale=SCALE if scaled else None)
    own = SAE.load_from_disk(folder)
    x = 3 * torch.randn(50, WIDTH)
    with torch.no_grad():
        acts = own.encode(scale * x)
        reconstruction = own.decode(acts) / scale
        norms = own.W_dec.norm(dim=-1)
    expected = {True: acts * norms / scale, False: acts}[kind != "topk"]
    if kind == "topk, decoder norms":  # SAELens' activations are in units of the scaled residual stream already
        expected = acts / scale
    assert float((acts > 0).float().mean()) > 0.05
    assert torch.allclose(found.encode(x), expected, atol=1e-4, rtol=1e-4)
    assert torch.allclose(found.reconstruct(x), reconstruction, atol=1e-4, rtol=1e-4)
    if kind != "topk":
        assert torch.allclose(found.norms, torch.ones(LATENTS), atol=1e-5)
    assert found.site == Site.parse(HOOK)
    assert found.card["unit_decoder"] is (kind != "topk")
    assert found.card["norm_scale"] == (SCALE if scaled else None)
    assert found.card["architecture"] == ("jumprelu" if "batchtopk" in kind else own.cfg.architecture())


def test_folding_is_what_saelens_folds(tmp_path: Path) -> None:
    folder = stored(tmp_path / "a", "jumprelu")
    own, x = SAE.load_from_disk(folder, fold_W_dec_norm=True), torch.randn(20, WIDTH)
    with torch.no_grad():
        assert torch.allclose(load_dictionary(folder).encode(x), own.encode(x), atol=1e-5)


def test_a_training_scale_is_found_in_a_checkpoint_or_asked_for(tmp_path: Path) -> None:
    folder = stored(tmp_path / "a", normalisation="expected_average_only_in")
    with pytest.raises(BadInput, match="pass norm_scale"):
        load_dictionary(folder)
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": SCALE}))
    found = load_dictionary(folder)
    assert found.card["norm_scale"] == SCALE
    x = torch.randn(9, WIDTH)
    assert torch.equal(found.encode(x), load_dictionary(folder, norm_scale=SCALE).encode(x))
    with pytest.raises(BadInput, match="input scale of 0.37, not 2"):
        load_dictionary(folder, norm_scale=2.0)
    with pytest.raises(BadInput, match="leave norm_scale out"):
        load_dictionary(stored(tmp_path / "b"), norm_scale=2.0)
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": None}))
    for wrong in (0.0, -1.0, math.inf):
        with pytest.raises(BadInput, match="not a positive number"):
            load_dictionary(folder, norm_scale=wrong)
    with pytest.raises(BadInput, match="whiten"):
        load_dictionary(stored(tmp_path / "c", normalisation="covariance_whitening"))


@pytest.mark.parametrize(
    ("hook", "site"),
    [
        ("blocks.2.hook_resid_pre", "blocks.2.hook_resid_pre"),
        ("blocks.0.hook_mlp_out", "blocks.0.hook_mlp_out"),
        ("blocks.2.hook_out", "blocks.2.hook_resid_post"),
        ("blocks.2.hook_in", "blocks.2.hook_resid_pre"),
        ("model.layers.1", "blocks.1.hook_resid_post"),
    ],
)
def test_the_site_is_the_one_that_the_autoencoder_names(hook: str, site: str, tmp_path: Path) -> None:
    folder = stored(tmp_path / "a", hook=hook)
    assert load_dictionary(folder).site.name == load_dictionary(folder, site=site).site.name == site
    with pytest.raises(BadInput, match=f"trained at {site}, not at blocks.7.hook_resid_post"):
        load_dictionary(folder, site="blocks.7.hook_resid_post")


@pytest.mark.parametrize("hook", [None, "blocks.1.ln2.hook_normalized", "hook_embed", "blocks.1.attn.hook_z"])
def test_a_name_that_is_no_site_is_asked_for(hook: str | None, tmp_path: Path) -> None:
    folder = stored(tmp_path / "a", hook=hook)
    with pytest.raises(BadInput, match="pass site"):
        load_dictionary(folder)
    found = load_dictionary(folder, site=Site(1))
    assert found.site == Site(1) and found.card["hook_name"] == hook


def test_width_and_site_are_checked_against_a_model(tmp_path: Path) -> None:
    folder = stored(tmp_path / "a")
    assert load_dictionary(folder, model=tiny("llama")).width == WIDTH
    with pytest.raises(BadInput, match="blocks.9.hook_resid_post does not exist"):
        load_dictionary(stored(tmp_path / "b", hook="blocks.9.hook_resid_post"), model=tiny("llama"))
    with pytest.raises(BadInput, match="width 16"):
        load_dictionary(stored(tmp_path / "c", hook=None), site=Site(1, "z", 0), model=tiny("llama"))


def test_the_built_in_autoencoder_carries_the_card_of_its_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(loading.SHIPPED, "builtin:base", Shipped("builtin:base", tmp_path / "sae"))
    with pytest.raises(BadInput, match="has no autoencoder yet"):
        load_dictionary("builtin:base")
    with pytest.raises(BadInput, match=r"Did you mean 'builtin:base'"):
        load_dictionary("builtin:bace")
    folder = stored(tmp_path / "sae", "topk, decoder norms")
    (tmp_path / "training.json").write_text(json.dumps({"tokens": 7}))
    found = load_dictionary("builtin:base")
    assert found.name == "builtin:base" and found.card["tokens"] == 7
    (folder / "training.json").write_text(json.dumps({"tokens": 8}))
    assert load_dictionary("builtin:base").card["tokens"] == 8
    assert load_dictionary(folder).name == tmp_path.name


def test_the_example_of_the_page_makes_features_of_a_dictionary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "features.md").read_text()
    made: dict[str, Any] = {}
    exec(page[page.index("```python") + 9 :].split("```")[0], made)
    dictionary, start = made["dictionary"], made["start"]
    assert features_of(dictionary, [464], name="start").digest == start.digest
    assert load_stored("start.safetensors").digest == start.digest and start.site == dictionary.site
    assert made["plan"].interventions[0].vector.digest == start.digest


def test_latents_are_taken_of_dictionaries_and_of_autoencoders(tmp_path: Path) -> None:
    dictionary = load_dictionary(stored(tmp_path))
    one, other = features_of(dictionary, (1, 3)), features_of(dictionary.sae, (1, 3), dictionary.site)
    assert torch.equal(one.decoder, other.decoder) and one.site == other.site == dictionary.site
    assert features_of(dictionary, (1, 3), dictionary.site).digest == one.digest
    own = Provenance("mine", "none")
    assert features_of(dictionary, (1,), provenance=own).provenance == own
    with pytest.raises(BadInput, match=r"reads blocks\.1\.hook_resid_post, not blocks\.2\.hook_resid_post"):
        features_of(dictionary, (1,), Site(2))
    with pytest.raises(BadInput, match="give the site"):
        features_of(dictionary.sae, (1,))
    with pytest.raises(BadInput, match="not of a str"):
        features_of("builtin:base", (1,), Site(2))


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    folder = stored(tmp_path / "a")
    weights = {name: value.bfloat16() for name, value in load_file(folder / "sae_weights.safetensors").items()}
    save_file(weights, folder / "sae_weights.safetensors")
    config = json.loads((folder / "cfg.json").read_text()) | {"dtype": "bfloat16"}
    (folder / "cfg.json").write_text(json.dumps(config))
    found = load_dictionary(folder)
    assert {value.dtype for value in found.sae.state_dict().values()} == {torch.float32}
    assert found.encode(torch.randn(3, WIDTH).bfloat16()).dtype == torch.float32


def test_what_cannot_be_read_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No folder at"):
        load_dictionary(tmp_path / "absent")
    with pytest.raises(BadInput, match="No folder at"):
        load_dictionary("./absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"no cfg\.json"):
        load_dictionary(tmp_path / "empty")
    stored(tmp_path / "many" / "layers.1")
    with pytest.raises(BadInput, match=r"name one of layers\.1"):
        load_dictionary(tmp_path / "many")
    pickled = stored(tmp_path / "pickled")
    (pickled / "sae_weights.safetensors").rename(pickled / "sae.pt")
    with pytest.raises(BadInput, match=r"sae\.pt is pickled"):
        load_dictionary(pickled)
    cut = stored(tmp_path / "cut")
    (cut / "sae_weights.safetensors").write_bytes((cut / "sae_weights.safetensors").read_bytes()[:500])
    with pytest.raises(BadInput, match="corrupt or cut short"):
        load_dictionary(cut)
    lacking = stored(tmp_path / "lacking")
    weights = load_file(lacking / "sae_weights.safetensors")
    save_file({k: v for k, v in weights.items() if k != "b_enc"}, lacking / "sae_weights.safetensors")
    with pytest.raises(BadInput, match="b_enc"):
        load_dictionary(lacking)
    diverged = stored(tmp_path / "diverged")
    weights["W_dec"][3, 2] = math.nan
    save_file(weights, diverged / "sae_weights.safetensors")
    with pytest.raises(BadInput, match="W_dec holds NaN"):
        load_dictionary(diverged)
    for text, message in (("[1]", "holds a list"), ("{", "corrupt or cut short")):
        broken = stored(tmp_path / "broken")
        (broken / "cfg.json").write_text(text)
        with pytest.raises(BadInput, match=message):
            load_dictionary(broken)
    for architecture, message in (("batchtopk", "save_inference_model"), ("jumprelo", "Did you mean 'jumprelu'")):
        other = stored(tmp_path / "other")
        config = json.loads((other / "cfg.json").read_text()) | {"architecture": architecture}
        (other / "cfg.json").write_text(json.dumps(config))
        with pytest.raises(BadInput, match=message):
            load_dictionary(other)


def sparsify_stored(folder: Path, modern: bool = True, **options: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    decoder = torch.nn.functional.normalize(torch.randn(LATENTS, WIDTH), dim=-1) * (1.0 if modern else 1.7)
    weights = {
        "encoder.weight": torch.randn(LATENTS, WIDTH),
        "encoder.bias": torch.randn(LATENTS),
        "b_dec": torch.randn(WIDTH),
        **({"W_dec": decoder} if modern else {"decoder.weight": decoder.T.contiguous()}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "sae.safetensors")
    config = {"d_in": WIDTH, "num_latents": LATENTS, "k": 6, "normalize_decoder": modern, **options}
    (folder / "cfg.json").write_text(json.dumps(config))
    return {**weights, "W_dec": decoder}


@pytest.mark.parametrize("modern", [True, False])
def test_sparsify_folders_are_read_as_sparsify_encodes(modern: bool, tmp_path: Path) -> None:
    """SAELens does not centre the input of an autoencoder whose decoder is normalised; sparsify always does."""
    weights = sparsify_stored(tmp_path / "layers.2", modern)
    found, x = load_dictionary(tmp_path / "layers.2"), 2 * torch.randn(30, WIDTH)
    u = ((x - weights["b_dec"]) @ weights["encoder.weight"].T + weights["encoder.bias"]).relu()
    values, places = u.topk(6)
    acts = torch.zeros_like(u).scatter(-1, places, values)
    assert torch.allclose(found.encode(x), acts, atol=1e-4)
    assert torch.allclose(found.reconstruct(x), acts @ weights["W_dec"] + weights["b_dec"], atol=1e-4)
    assert found.site == Site(2) and found.card["unit_decoder"] is False
    if not modern:  # where SAELens reads it right, the two agree
        own = SAE.load_from_disk(tmp_path / "layers.2", dtype="float32", converter=sparsify_disk_loader)
        with torch.no_grad():
            assert torch.allclose(found.encode(x), own.encode(x), atol=1e-4)


def test_sparsify_folders_of_other_forms_and_places(tmp_path: Path) -> None:
    sparsify_stored(tmp_path / "layers.2.mlp")
    with pytest.raises(BadInput, match="pass site"):
        load_dictionary(tmp_path / "layers.2.mlp")
    assert load_dictionary(tmp_path / "layers.2.mlp", site="blocks.2.hook_mlp_out").site == Site(2, "mlp_out")
    for option in ({"transcode": True}, {"skip_connection": True}, {"signed": True}, {"activation": "groupmax"}):
        sparsify_stored(tmp_path / "layers.3", **option)
        with pytest.raises(BadInput, match=next(iter(option))):
            load_dictionary(tmp_path / "layers.3")


def hub(folder: Path) -> Any:
    def download(repo_id: str, filename: str, **_: Any) -> str:
        path = folder / Path(filename).name
        if not path.exists():
            raise EntryNotFoundError(filename)
        return str(path)

    return download


RELEASE = "gpt2-small-res-jb/blocks.8.hook_resid_pre"
HUB = "sae_lens.loading.pretrained_sae_loaders.hf_hub_download"


def test_a_release_comes_through_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stored(tmp_path / "a", hook="blocks.8.hook_resid_pre")
    monkeypatch.setattr(HUB, hub(folder))
    found, x = load_dictionary(RELEASE), torch.randn(8, WIDTH)
    assert found.name == RELEASE and found.site == Site(8, "resid_pre")
    assert torch.equal(found.encode(x), load_dictionary(folder).encode(x))


def test_a_release_is_scaled_by_the_registry_or_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stored(tmp_path / "a", normalisation="expected_average_only_in")
    monkeypatch.setattr(HUB, hub(folder))
    x = torch.randn(8, WIDTH)
    expected = load_dictionary(folder, norm_scale=SCALE).encode(x)
    with pytest.raises(BadInput, match="pass norm_scale"):
        load_dictionary(RELEASE)
    assert torch.allclose(load_dictionary(RELEASE, norm_scale=SCALE).encode(x), expected)
    for module in ("sae_lens.saes.sae", "saes.loading"):
        monkeypatch.setattr(f"{module}.get_norm_scaling_factor", lambda release, identifier: SCALE)
    found = load_dictionary(RELEASE)
    assert torch.allclose(found.encode(x), expected) and found.card["norm_scale"] == SCALE
    with pytest.raises(BadInput, match="input scale of 0.37, not 2"):
        load_dictionary(RELEASE, norm_scale=2.0)


def test_unknown_and_unreachable_releases_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="gpt2-small-res-jb"):
        load_dictionary("gpt2-small-res-jv/blocks.8.hook_resid_pre")
    with pytest.raises(BadInput, match=r"Did you mean 'blocks\.8\.hook_resid_pre'"):
        load_dictionary("gpt2-small-res-jb/blocks.8.hook_resid_pro")
    repository = loading.get_pretrained_saes_directory()["gpt2-small-res-jb"].repo_id
    with pytest.raises(BadInput, match="gpt2-small-res-jb"):
        load_dictionary(f"{repository}/blocks.8.hook_resid_pre")

    def unreachable(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("cannot find the file in the cache, and the network is down")

    monkeypatch.setattr(HUB, unreachable)
    with pytest.raises(BadInput, match="the hub cannot be reached"):
        load_dictionary(RELEASE)
