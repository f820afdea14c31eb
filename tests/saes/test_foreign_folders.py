"""Folders of dictionary_learning and Gemma Scope against their own formulas, written out here."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saes.loading import load_dictionary
from steering.errors import BadInput
from steering.model.sites import Site
from tests.tiny import WIDTH, tiny

LATENTS, K = 40, 6
X = 2 * torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(7))
Stored = dict[str, Any]


def random(*shape: int) -> Tensor:
    return torch.randn(*shape) * 0.5


def linears(bias: str, **more: Any) -> Stored:
    """The weights of a class made of two nn.Linear: `[out, in]`."""
    return {
        bias: random(WIDTH),
        "encoder.weight": random(LATENTS, WIDTH),
        "encoder.bias": random(LATENTS),
        "decoder.weight": random(WIDTH, LATENTS),
        **more,
    }


def matrices(**more: Any) -> Stored:
    """The weights of a class made of plain matrices."""
    return {
        "W_enc": random(WIDTH, LATENTS),
        "b_enc": random(LATENTS),
        "W_dec": random(LATENTS, WIDTH),
        "b_dec": random(WIDTH),
        **more,
    }


def top_k(z: Tensor) -> Tensor:
    found = torch.zeros_like(z)
    for row, values in enumerate(z.relu()):
        for latent in values.argsort(descending=True)[:K]:
            found[row, latent] = values[latent]
    return found


def gated(s: Stored, x: Tensor) -> Tensor:
    z = (x - s["decoder_bias"]) @ s["encoder.weight"].T
    return ((z + s["gate_bias"]) > 0) * (s["r_mag"].exp() * z + s["mag_bias"]).relu()


def linear(s: Stored, x: Tensor, bias: str) -> Tensor:
    return (x - s[bias]) @ s["encoder.weight"].T + s["encoder.bias"]


def above(z: Tensor, threshold: Tensor) -> Tensor:
    return z.relu() * (z.relu() > threshold)


def gated_weights() -> Stored:
    made = linears("decoder_bias", r_mag=random(LATENTS), gate_bias=random(LATENTS), mag_bias=random(LATENTS))
    made.pop("encoder.bias")
    return made


def new_weights() -> Stored:
    made = linears("decoder.bias")
    return made


CLASSES: dict[str, tuple[Callable[[], Stored], Callable[[Stored, Tensor], Tensor], str]] = {
    "AutoEncoder": (lambda: linears("bias"), lambda s, x: linear(s, x, "bias").relu(), "bias"),
    "AutoEncoderNew": (new_weights, lambda s, x: (x @ s["encoder.weight"].T + s["encoder.bias"]).relu(), ""),
    "GatedAutoEncoder": (gated_weights, gated, "decoder_bias"),
    "AutoEncoderTopK": (
        lambda: linears("b_dec", k=torch.tensor(K, dtype=torch.int), threshold=torch.tensor(-1.0)),
        lambda s, x: top_k(linear(s, x, "b_dec")),
        "b_dec",
    ),
    "BatchTopKSAE": (
        lambda: linears("b_dec", k=torch.tensor(K, dtype=torch.int), threshold=torch.tensor(0.9)),
        lambda s, x: above(linear(s, x, "b_dec"), s["threshold"]),
        "b_dec",
    ),
    "MatryoshkaBatchTopKSAE": (
        lambda: matrices(k=torch.tensor(K), threshold=torch.tensor(0.9), group_sizes=torch.tensor([10, 30])),
        lambda s, x: above((x - s["b_dec"]) @ s["W_enc"] + s["b_enc"], s["threshold"]),
        "b_dec",
    ),
    "JumpReluAutoEncoder": (
        lambda: matrices(threshold=torch.rand(LATENTS)),
        lambda s, x: above(x @ s["W_enc"] + s["b_enc"], s["threshold"]),
        "b_dec",
    ),
}
"""Per class: weights under its own names, its encoding, and what its decoding adds."""


def write(
    folder: Path, kind: str, stored: Stored | None = None, buffer: dict[str, Any] | None = None, **trainer: Any
) -> Stored:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(3)
    stored = CLASSES[kind][0]() if stored is None else stored
    torch.save(stored, folder / "ae.pt")
    facts = {"dict_class": kind, "layer": 1, "submodule_name": "resid_post_layer_1", "lm_name": "some/model", "k": K}
    config = {"trainer": {**facts, **trainer}, "buffer": {"io": "out", "ctx_len": 128, **(buffer or {})}}
    (folder / "config.json").write_text(json.dumps(config))
    return stored


@pytest.mark.parametrize("kind", CLASSES)
def test_dictionary_learning_activations_are_the_class_own(kind: str, tmp_path: Path) -> None:
    stored = write(tmp_path / "trainer_0", kind)
    _, encode, bias = CLASSES[kind]
    found = load_dictionary(tmp_path / "trainer_0")
    decoder = stored["W_dec"] if "W_dec" in stored else stored["decoder.weight"].T
    own = encode(stored, X)
    added = stored[bias] if bias else torch.zeros(WIDTH)
    assert 0.05 < float((own > 0).float().mean()) < 0.9
    # An activation is in units of the residual stream: times the norm of its decoder row, where latents do not compete.
    norms = torch.ones(LATENTS) if kind == "AutoEncoderTopK" else decoder.norm(dim=-1)
    assert torch.allclose(found.encode(X), own * norms, atol=1e-4)
    assert torch.allclose(found.reconstruct(X), own @ decoder + added, atol=1e-4)
    assert torch.equal(found.encode(X) > 0, own > 0)
    assert (found.latents, found.width, found.competes) == (LATENTS, WIDTH, kind == "AutoEncoderTopK")
    found.check(tiny("llama"))


def test_k_is_the_one_of_the_weights(tmp_path: Path) -> None:
    stored = write(tmp_path / "a", "AutoEncoderTopK", k=3)
    assert int((load_dictionary(tmp_path / "a").encode(X) > 0).sum(-1).max()) == K
    stored.pop("k")
    write(tmp_path / "a", "AutoEncoderTopK", stored, k=3)
    assert int((load_dictionary(tmp_path / "a").encode(X) > 0).sum(-1).max()) == 3
    write(tmp_path / "a", "AutoEncoderTopK", stored, k=None)
    with pytest.raises(BadInput, match="does not say how many latents"):
        load_dictionary(tmp_path / "a")


@pytest.mark.parametrize(
    ("trainer", "site"),
    [
        ({"submodule_name": "resid_post_layer_2", "layer": "2"}, Site(2, "resid_post")),
        ({"submodule_name": "resid_pre_layer_0", "layer": 0}, Site(0, "resid_pre")),
        ({"submodule_name": "mlp_out_layer_1"}, Site(1, "mlp_out")),
        ({"submodule_name": "attention_out_layer_1"}, Site(1, "attn_out")),
        ({"submodule_name": "attn_out_1"}, Site(1, "attn_out")),
        ({"submodule_name": "resid_post"}, Site(1, "resid_post")),
    ],
)
def test_the_site_is_the_one_that_the_configuration_names(trainer: dict[str, Any], site: Site, tmp_path: Path) -> None:
    write(tmp_path / "a", "AutoEncoder", **trainer)
    assert load_dictionary(tmp_path / "a").site == site


def test_a_site_that_is_not_named_is_asked_for(tmp_path: Path) -> None:
    for index, options in enumerate(
        (
            {"submodule_name": None},
            {"submodule_name": "gpt_neox.layers[1].mlp"},
            {"layer": None},
            {"buffer": {"io": "in"}},
        )
    ):
        write(tmp_path / f"{index}", "AutoEncoder", **options)
        with pytest.raises(BadInput, match="does not say where it was trained; pass site"):
            load_dictionary(tmp_path / f"{index}")
        assert load_dictionary(tmp_path / f"{index}", site="blocks.0.hook_mlp_out").site == Site(0, "mlp_out")
    write(tmp_path / "two", "AutoEncoder", layer=2)
    with pytest.raises(BadInput, match="layer 2 and submodule resid_post_layer_1"):
        load_dictionary(tmp_path / "two")


class Runs:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def test_pickles_and_arrays_that_want_to_run_code_are_refused_and_run_nothing(tmp_path: Path) -> None:
    stored = write(tmp_path / "a", "AutoEncoder")
    torch.save({**stored, "more": Runs(tmp_path / "ran")}, tmp_path / "a" / "ae.pt")
    with pytest.raises(BadInput, match="system .*refused, and not run"):
        load_dictionary(tmp_path / "a")
    arrays = scope(tmp_path / "b")
    np.savez(tmp_path / "b" / "params.npz", **{**arrays, "b_enc": np.array([Runs(tmp_path / "ran")] * LATENTS, object)})
    with pytest.raises(BadInput, match="nothing of it was run"):
        load_dictionary(tmp_path / "b")
    assert not (tmp_path / "ran").exists()


def test_what_is_not_the_class_it_says_is_refused(tmp_path: Path) -> None:
    for kind, wrong, message in (
        (
            "GatedAutoEncoder",
            linears("bias"),
            "has no gate_bias, which GatedAutoEncoder needs|has no b_dec or bias or decoder_bias",
        ),
        ("AutoEncoder", {**linears("bias"), "decoder.weight": random(WIDTH, LATENTS + 1)}, "do not fit each other"),
        ("BatchTopKSAE", linears("b_dec", threshold=torch.tensor(-1.0)), "before its threshold was measured"),
        ("AutoEncoder", {**linears("bias"), "bias": torch.full((WIDTH,), float("nan"))}, "holds NaN or infinity"),
    ):
        write(tmp_path / "a", kind, wrong)
        with pytest.raises(BadInput, match=message):
            load_dictionary(tmp_path / "a")
    torch.save([1, 2], tmp_path / "a" / "ae.pt")
    with pytest.raises(BadInput, match="the weights of AutoEncoder by name"):
        load_dictionary(tmp_path / "a")
    write(tmp_path / "a", "AutoEncoder", dict_class="IdentityDict")
    with pytest.raises(BadInput, match="Unknown class of autoencoder 'IdentityDict'"):
        load_dictionary(tmp_path / "a")
    write(tmp_path / "a", "AutoEncoder", buffer={"io": "in_and_out"})
    with pytest.raises(BadInput, match="transcoder"):
        load_dictionary(tmp_path / "a", site="blocks.1.hook_resid_post")
    file = tmp_path / "a" / "ae.pt"
    write(tmp_path / "a", "AutoEncoder")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(BadInput, match="corrupt or cut short"):
        load_dictionary(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="no configuration of dictionary_learning"):
        load_dictionary(tmp_path / "a")
    with pytest.raises(BadInput, match="holds several autoencoders; name one of a"):
        load_dictionary(tmp_path)


# Gemma Scope


def scope(folder: Path, **more: Any) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(5)
    arrays = {name: value.numpy() for name, value in matrices(threshold=torch.rand(LATENTS)).items()}
    np.savez(folder / "params.npz", **{**arrays, **more})
    return arrays


@pytest.mark.parametrize(("release", "kind"), [("res", "resid_post"), ("mlp", "mlp_out")])
def test_gemma_scope_activations_and_site_are_its_own(release: str, kind: str, tmp_path: Path) -> None:
    folder = tmp_path / f"models--google--gemma-scope-2b-pt-{release}" / "layer_1" / "width_16k" / "average_l0_71"
    arrays = {name: torch.from_numpy(array) for name, array in scope(folder).items()}
    found = load_dictionary(folder)
    z = X @ arrays["W_enc"] + arrays["b_enc"]
    own = torch.where(z > arrays["threshold"], z.relu(), torch.zeros(()))
    assert torch.allclose(found.encode(X), own * arrays["W_dec"].norm(dim=-1), atol=1e-4)
    assert torch.allclose(found.reconstruct(X), own @ arrays["W_dec"] + arrays["b_dec"], atol=1e-4)
    assert found.site == Site(1, kind) and found.card["architecture"] == "jumprelu"  # type: ignore[arg-type]


def test_gemma_scope_folders_that_name_no_site(tmp_path: Path) -> None:
    scope(tmp_path / "mine")
    with pytest.raises(BadInput, match="pass site"):
        load_dictionary(tmp_path / "mine")
    assert load_dictionary(tmp_path / "mine", site="blocks.2.hook_resid_post").site == Site(2)
    for release in ("gemma-scope-2b-pt-att", "gemma-scope-2b-pt-transcoders"):
        scope(tmp_path / release / "layer_1")
        with pytest.raises(BadInput, match="reads no site of this workbench"):
            load_dictionary(tmp_path / release / "layer_1", site="blocks.1.hook_resid_post")


def test_gemma_scope_arrays_that_are_wrong_are_refused(tmp_path: Path) -> None:
    arrays = scope(tmp_path / "a", b_enc=np.zeros(LATENTS + 1, np.float32))
    with pytest.raises(BadInput, match="b_enc has shape"):
        load_dictionary(tmp_path / "a", site="blocks.1.hook_resid_post")
    np.savez(tmp_path / "a" / "params.npz", **{name: array for name, array in arrays.items() if name != "threshold"})
    with pytest.raises(BadInput, match="has no threshold"):
        load_dictionary(tmp_path / "a", site="blocks.1.hook_resid_post")
    scope(tmp_path / "a")
    file = tmp_path / "a" / "params.npz"
    file.write_bytes(file.read_bytes()[:1500])
    with pytest.raises(BadInput, match="corrupt, cut short"):
        load_dictionary(tmp_path / "a", site="blocks.1.hook_resid_post")
