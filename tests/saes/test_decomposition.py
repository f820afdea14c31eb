"""A vector as a sum of decoder rows: planted rows are found again, and a random direction is no more than random."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from saes.decomposition import decompose
from saes.directions import latent_vector
from saes.loading import load_dictionary
from steering.errors import BadInput
from steering.model.sites import Site
from steering.vector.vectors import Provenance, SteeringVector
from tests.experiments.command_line import command


def vector(direction: torch.Tensor, site: Site) -> SteeringVector:
    return SteeringVector("v", site, direction, Provenance("test", "none"))


def test_planted_rows_are_found_with_their_signs_and_sizes() -> None:
    dictionary = load_dictionary("builtin:base")
    with torch.no_grad():  # coefficients are of rows as they are, whatever their lengths
        dictionary.sae.W_dec *= torch.linspace(0.5, 2.0, dictionary.latents)[:, None]
    rows = dictionary.sae.W_dec.detach()
    mixed = 3.0 * rows[7] - 2.0 * rows[501]
    found = decompose(vector(mixed, dictionary.site), dictionary, count=2, draws=19)
    assert set(found.latents) == {7, 501}
    assert dict(zip(found.latents, found.coefficients, strict=True)) == pytest.approx({7: 3.0, 501: -2.0}, rel=1e-4)
    assert found.explained[-1] == pytest.approx(1.0, abs=1e-5) and found.explained[0] < found.explained[1]
    assert found.rank_p[-1] == pytest.approx(1 / 20) and found.random[-1][1] < 0.9 and found.remark == ""


def test_a_random_direction_is_explained_as_far_as_random_directions_are() -> None:
    dictionary = load_dictionary("builtin:base")
    ranks = []
    for seed in range(12):
        direction = torch.randn(dictionary.width, generator=torch.Generator().manual_seed(1000 + seed))
        ranks.append(decompose(vector(direction, dictionary.site), dictionary, count=4, draws=9).rank_p[-1])
    assert min(ranks) < 0.5 < max(ranks) and 0.25 < sum(ranks) / 12 < 0.85


def test_shares_grow_and_fit_as_least_squares_does() -> None:
    dictionary = load_dictionary("builtin:base")
    direction = torch.randn(dictionary.width, generator=torch.Generator().manual_seed(3))
    found = decompose(vector(direction, dictionary.site), dictionary, count=6, draws=1)
    assert list(found.explained) == sorted(found.explained) and len(set(found.latents)) == 6
    basis = dictionary.sae.W_dec.detach()[list(found.latents)].T.double()
    want = torch.linalg.lstsq(basis, direction.double()[:, None]).solution[:, 0]
    torch.testing.assert_close(torch.tensor(found.coefficients, dtype=torch.float64), want, rtol=1e-3, atol=1e-4)


def test_what_does_not_fit_is_refused_and_another_site_is_said() -> None:
    dictionary = load_dictionary("builtin:base")
    own = latent_vector(dictionary, 3, 1.0)
    with pytest.raises(BadInput, match="has width 4"):
        decompose(vector(torch.ones(4), dictionary.site), dictionary)
    for count, draws in ((0, 1), (10**6, 1), (1, 0)):
        with pytest.raises(BadInput, match="give"):
            decompose(own, dictionary, count, draws)
    elsewhere = vector(own.direction, Site(dictionary.site.layer + 1))
    assert "rows of another place" in decompose(elsewhere, dictionary, 1, 1).remark


def test_the_command_prints_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dictionary = load_dictionary("builtin:base")
    path = latent_vector(dictionary, 3, 2.0).save(tmp_path / "v.safetensors")
    steer = command(monkeypatch, capsys)
    code, out, err = steer("vectors", "decompose", str(path), "--count", "2", "--draws", "5", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["latents"][0] == 3 and found["coefficients"][0] == pytest.approx(2.0, rel=1e-3)
    code, out, err = steer("vectors", "decompose", str(path), "--count", "2", "--draws", "5")
    assert code == 0 and "rank p" in out
