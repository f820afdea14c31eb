"""Directions by paired difference, principal component and logistic regression: equal to naive oracles, planted ones found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from steering.errors import BadInput
from steering.extraction import Reading, logistic_direction, mean_difference, paired_difference, pca_direction
from steering.extraction.logistic import fit_classifier
from steering.extraction.moments import Moments
from steering.extraction.principal import first_component
from steering.model.sites import Site
from steering.vector.vectors import SteeringVector
from tests.planted import EMBEDDING, cosine, planted
from tests.tiny import tiny

D = 16
HIGH = [(1, 5, 6, 7), (1, 9), (1, 12, 13), (1, 20, 21), (1, 40, 3), (1, 50)]
LOW = [(1, 5, 6, 8), (1, 10), (1, 13, 13), (1, 22, 21), (1, 41, 3), (1, 51)]


def states(family: str, sequences: list[tuple[int, ...]], layer: int = 1) -> np.ndarray:
    rows = []
    for sequence in sequences:
        with torch.no_grad():
            output = tiny(family).model(input_ids=torch.tensor([sequence]), output_hidden_states=True, use_cache=False)
        rows.append(output.hidden_states[layer + 1][0, -1].double().numpy())
    return np.array(rows)


def from_rows(high: torch.Tensor, low: torch.Tensor, method: object, **options: object) -> SteeringVector:
    """A vector extracted by the real method, through a model whose activations are these rows."""
    model = planted(torch.cat([high, low]))
    n = len(high)
    readings = [Reading.last_token([(t,) for t in ids]) for ids in (range(n), range(n, n + len(low)))]
    found = method(model, *readings, [EMBEDDING], name="n", contrast="c", **options)  # type: ignore[operator]
    return found[EMBEDDING]


def noise(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def axis(i: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(i), D).float()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_paired_difference_equals_the_mean_difference_and_the_oracle(family: str) -> None:
    sites = [Site(1), Site(2, "resid_pre")]
    arguments = (tiny(family), Reading.last_token(HIGH), Reading.last_token(LOW), sites)
    found = paired_difference(*arguments, name="n", contrast="c")
    unpaired = mean_difference(*arguments, name="n", contrast="c")
    differences = states(family, HIGH) - states(family, LOW)
    mean = differences.mean(0)
    for site in sites:
        assert np.allclose(found[site].direction.numpy(), mean, atol=1e-4)
        assert torch.allclose(found[site].direction, unpaired[site].direction, atol=1e-4)
    cosines = differences @ mean / np.linalg.norm(differences, axis=1) / np.linalg.norm(mean)
    assert found[Site(1)].provenance.notes["agreement"] == pytest.approx(cosines.mean(), abs=1e-5)
    assert found[Site(1)].provenance.counts == (6, 6)


def test_moments_do_not_depend_on_the_batches_and_survive_large_offsets() -> None:
    values = noise(501, 7, seed=0).double() + 1e5 * axis(3)[:7].double()
    oracle = np.cov(values.numpy().T, bias=True) * 501
    one, other = Moments(7), Moments(7)
    for part in values[:200].split(37):
        one.add(part)
    other.add(values[200:]).add(values[:0])
    one.merge(other).merge(Moments(7))
    assert one.count == 501
    assert np.allclose(one.scatter.numpy(), oracle, atol=1e-6)
    assert np.allclose(one.second_moment().numpy(), (values.T @ values).numpy(), rtol=1e-9)


@pytest.mark.parametrize("centring", ["pair", "difference", "global"])
def test_pca_equals_scikit_learn_on_the_models_own_states(centring: str) -> None:
    high, low = states("llama", HIGH), states("llama", LOW)
    train = {
        "pair": np.concatenate([(high - low) / 2, (low - high) / 2]),
        "difference": high - low,
        "global": np.concatenate([high, low]),
    }[centring]
    oracle = PCA(2).fit(train)
    expected = oracle.components_[0]
    expected = expected * np.sign((high.mean(0) - low.mean(0)) @ expected)
    options = dict(centring=centring, length="unit", name="n", contrast="c")
    arguments = (tiny("llama"), Reading.last_token(HIGH), Reading.last_token(LOW), [Site(1)])
    found = pca_direction(*arguments, **options)[Site(1)]  # type: ignore[arg-type]
    assert np.allclose(found.direction.numpy(), expected, atol=1e-3)
    notes = found.provenance.notes
    assert notes["explained"] == pytest.approx(oracle.explained_variance_ratio_[0], abs=1e-4)
    assert notes["runner_up"] == pytest.approx(oracle.explained_variance_ratio_[1], abs=1e-4)
    assert found.provenance.method == f"pca, {centring} centring" and found.norm == pytest.approx(1)


def test_centring_decides_what_pca_finds() -> None:
    """Pairs share a large topic along axis 0, differ by 2 along axis 1 always, and by a varying amount along axis 2."""
    n = 200
    topic = 10 * noise(n, 1, seed=1) * axis(0)
    varying = (1 + noise(n, 1, seed=2)) * axis(2)
    high = topic + axis(1) + varying / 2 + 0.05 * noise(n, D, seed=3)
    low = topic - axis(1) - varying / 2 + 0.05 * noise(n, D, seed=4)
    found = {c: from_rows(high, low, pca_direction, centring=c).direction for c in ("pair", "difference", "global")}
    assert abs(cosine(found["global"], axis(0))) > 0.99, "the common variance is the largest"
    assert abs(cosine(found["pair"], axis(0))) < 0.1 and cosine(found["pair"], axis(1)) > 0.8
    assert cosine(found["difference"], axis(2)) > 0.99, "a constant difference is invisible to it"


def test_pca_without_pairs_takes_sides_of_different_size() -> None:
    high, low = 3 * axis(4) + 0.3 * noise(90, D, seed=5), -3 * axis(4) + 0.3 * noise(30, D, seed=6)
    assert cosine(from_rows(high, low, pca_direction, centring="global").direction, axis(4)) > 0.99
    with pytest.raises(BadInput, match="90 and 30"):
        from_rows(high, low, pca_direction, centring="pair")


METHODS = [
    (mean_difference, {}),
    (paired_difference, {}),
    (pca_direction, {"centring": "pair"}),
    (pca_direction, {"centring": "global"}),
    (logistic_direction, {}),
]


@pytest.mark.parametrize(("method", "options"), METHODS)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_planted_direction_is_found_with_its_sign(
    method: object, options: dict[str, object], sign: int, tmp_path: Path
) -> None:
    u = torch.nn.functional.normalize(noise(D, seed=7), dim=0)
    high, low = noise(300, D, seed=8) + 3 * sign * u, noise(300, D, seed=9) - 3 * sign * u
    found = from_rows(high, low, method, **options)
    assert sign * cosine(found.direction, u) > (0.9 if method is logistic_direction else 0.98)
    assert found.norm == pytest.approx(6, rel=0.1), "the length is the gap between the two sides"
    assert float((high @ found.direction).mean()) > float((low @ found.direction).mean())
    loaded = SteeringVector.load(found.save(tmp_path / "v.safetensors"))
    assert loaded.provenance == found.provenance and loaded.digest == found.digest


def test_the_logistic_vector_makes_the_classifiers_decisions() -> None:
    scales = torch.logspace(-1, 2, D)
    high, low = (noise(60, D, seed=10) + 0.5) * scales, (noise(140, D, seed=11)) * scales
    x, y = torch.cat([high, low]).double().numpy(), np.repeat([1, 0], [60, 140])
    scaler = StandardScaler().fit(x)
    oracle = LogisticRegression(C=0.5, max_iter=5000, class_weight="balanced").fit(scaler.transform(x), y)
    vector = from_rows(high, low, logistic_direction, penalty=2.0, length="unit")
    notes = vector.provenance.notes
    decision = notes["weight_norm"] * (x @ vector.direction.double().numpy()) + notes["bias"]
    assert np.allclose(decision, oracle.decision_function(scaler.transform(x)), atol=1e-3)
    assert notes["converged"] and notes["balanced"] and vector.norm == pytest.approx(1)
    unbalanced = fit_classifier(high, low, balanced=False)
    assert unbalanced.bias < fit_classifier(high, low).bias, "the larger class pulls the threshold"


def test_a_constant_coordinate_does_not_break_the_classifier() -> None:
    high, low = noise(40, D, seed=12) + axis(2), noise(40, D, seed=13)
    high[:, 5] = low[:, 5] = 7.0
    weight = fit_classifier(high, low).weight
    assert torch.isfinite(weight).all() and float(weight[5]) == pytest.approx(0, abs=1e-9)


def test_what_has_no_direction_is_refused() -> None:
    rows = noise(6, D, seed=14)
    with pytest.raises(BadInput, match="identical after centring"):
        from_rows(rows, rows, pca_direction)
    symmetric = torch.stack([axis(0), -axis(0)])
    with pytest.raises(BadInput, match="sign is undefined"):
        first_component((symmetric.T @ symmetric).double(), axis(1).double())
    with pytest.raises(BadInput, match="nothing tells"):
        from_rows(torch.ones(4, D), torch.ones(4, D), logistic_direction)
    with pytest.raises(BadInput, match="Did you mean 'global'"):
        from_rows(rows, rows + 1, pca_direction, centring="globl")
    with pytest.raises(BadInput, match="Unknown length"):
        from_rows(rows, rows + 1, pca_direction, length="long")
    with pytest.raises(BadInput, match="above 0"):
        fit_classifier(rows, rows + 1, penalty=0)
