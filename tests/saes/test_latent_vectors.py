"""A latent as a steering vector: what it writes, at its usual activation, and whose it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from experiments.studies.autoencoders import stored_statistics
from saes.directions import latent_vector
from saes.loading import load_dictionary
from steering.compile.origin import origin
from steering.errors import BadInput
from steering.model.models import load_model
from steering.vector.vectors import SteeringVector
from tests.experiments.command_line import command


def test_it_is_what_the_latent_writes_and_belongs_to_its_model() -> None:
    dictionary = load_dictionary("builtin:base")
    made = latent_vector(dictionary, 5, 2.5)
    active = torch.zeros(dictionary.latents)
    silent = dictionary.sae.decode(active)
    active[5] = 2.5
    torch.testing.assert_close(made.direction, (dictionary.sae.decode(active) - silent).detach(), rtol=1e-5, atol=1e-5)
    assert made.site == dictionary.site
    assert origin("vector", made.provenance, load_model("builtin:base")) is None
    assert origin("vector", made.provenance, load_model("builtin:thinking")) is not None
    assert made.provenance.notes == {"autoencoder": dictionary.digest, "latent": 5}


@pytest.mark.parametrize(
    ("latent", "activation"), [(-1, 1.0), (10**6, 1.0), (0, 0.0), (0, -1.0), (0, float("nan")), (0, float("inf"))]
)
def test_what_is_no_latent_or_no_activation_is_refused(latent: int, activation: float) -> None:
    with pytest.raises(BadInput, match=r"does not exist|number above 0"):
        latent_vector(load_dictionary("builtin:base"), latent, activation)


def test_the_command_takes_the_mean_activation_where_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steer = command(monkeypatch, capsys)
    statistics = stored_statistics("builtin:base")
    number = int(statistics.density.argmax())
    code, out, err = steer("sae", "vector", "builtin:base", str(number), "--out", str(tmp_path / "v.safetensors"))
    assert code == 0, err
    found = SteeringVector.load(out.strip())
    mean = float(statistics.mean[number] / statistics.density[number])
    row = load_dictionary("builtin:base").sae.W_dec[number].detach()
    torch.testing.assert_close(found.direction, row * mean, rtol=1e-5, atol=1e-6)
    silent = int((~statistics.alive).nonzero()[0]) if (~statistics.alive).any() else None
    if silent is not None:
        code, _, err = steer("sae", "vector", "builtin:base", str(silent), "--out", str(tmp_path / "w.safetensors"))
        assert code != 0 and "never active" in err
