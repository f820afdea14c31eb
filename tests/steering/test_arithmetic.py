"""Vector arithmetic: the numbers, what is recorded, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from steering.errors import BadInput
from steering.model.sites import Site
from steering.vector.arithmetic import add, mean, normalise, orthogonalise, rescale, scale, subtract
from steering.vector.vectors import UNKNOWN, Provenance, SteeringVector
from tests.tiny import vector


def made(name: str, row: list[float], model: str = "f1", model_id: str = "m/one", layer: int = 1) -> SteeringVector:
    return SteeringVector(name, Site(layer), torch.tensor(row), Provenance("made", model, model_id))


A = made("a", [3.0, 4.0, 0.0])
B = made("b", [1.0, 0.0, 2.0])


@pytest.mark.parametrize(
    ("result", "row", "method", "expression"),
    [
        (lambda: add(A, B), [4.0, 4.0, 2.0], "sum", "'a' + 'b'"),
        (lambda: add(A, B, B), [5.0, 4.0, 4.0], "sum", "'a' + 'b' + 'b'"),
        (lambda: subtract(A, B), [2.0, 4.0, -2.0], "difference", "'a' - 'b'"),
        (lambda: scale(A, -0.5), [-1.5, -2.0, 0.0], "multiple", "-0.5 * 'a'"),
        (lambda: rescale(A, 10.0), [6.0, 8.0, 0.0], "rescaled", "rescale('a', 10)"),
        (lambda: normalise(A), [0.6, 0.8, 0.0], "rescaled", "rescale('a', 1)"),
        (lambda: mean([A, B]), [2.0, 2.0, 1.0], "mean", "mean('a', 'b')"),
        (lambda: orthogonalise(B, A), [0.64, -0.48, 2.0], "orthogonal part", "orthogonalise('b', 'a')"),
        (
            lambda: scale(subtract(mean([A, B]), B), 2.0),
            [2.0, 4.0, -2.0],
            "multiple",
            "2 * ((mean('a', 'b')) - 'b')",
        ),
    ],
)
def test_results_and_their_records(
    result: Callable[[], SteeringVector], row: list[float], method: str, expression: str
) -> None:
    before = (A.digest, B.digest)
    vector = result()
    assert torch.allclose(vector.direction, torch.tensor(row), atol=1e-6)
    assert (vector.provenance.method, vector.provenance.contrast) == (method, expression)
    assert (vector.site, vector.provenance.model, vector.provenance.model_id) == (A.site, "f1", "m/one")
    assert vector.name == expression and (A.digest, B.digest) == before


def test_parents_are_the_operands_in_order() -> None:
    assert subtract(A, B).provenance.parents == (A.digest, B.digest)
    assert mean([B, A, B]).provenance.parents == (B.digest, A.digest, B.digest)
    assert scale(A, 2.0).provenance.parents == (A.digest,)


def test_an_orthogonal_part_has_no_projection_left() -> None:
    long, short = vector(1, norm=50.0), vector(2, norm=0.1)
    assert abs(float(orthogonalise(long, short).direction.double() @ short.direction.double())) < 1e-5


def test_a_derived_vector_is_stored_and_loaded_whole(tmp_path: Path) -> None:
    derived = subtract(A, B, name="a without b")
    loaded = SteeringVector.load(derived.save(tmp_path / "v.safetensors"))
    assert (loaded.name, loaded.digest, loaded.provenance) == ("a without b", derived.digest, derived.provenance)


@pytest.mark.parametrize("combine", [add, subtract, orthogonalise, lambda a, b: mean([a, b])])
def test_vectors_that_do_not_belong_together_are_refused(combine: Callable[..., SteeringVector]) -> None:
    with pytest.raises(BadInput, match=r"different sites, blocks\.1\.hook_resid_post and blocks\.2\.hook_resid_post"):
        combine(A, made("c", [1.0, 0.0, 0.0], layer=2))
    with pytest.raises(BadInput, match="different widths, 3 and 2"):
        combine(A, made("c", [1.0, 0.0]))
    with pytest.raises(BadInput, match=r"different models, m/one \(f1\) and m/one \(f2\)"):
        combine(A, made("c", [1.0, 0.0, 0.0], model="f2"))
    with pytest.raises(BadInput, match="'c' does not say which model it belongs to"):
        combine(A, made("c", [1.0, 0.0, 0.0], model=UNKNOWN, model_id=""))
    with pytest.raises(BadInput, match="'c' does not say which model it belongs to"):
        combine(made("c", [1.0, 0.0, 0.0], model=UNKNOWN, model_id=""), A)


def test_an_unknown_fingerprint_is_matched_by_id_and_stays_unknown() -> None:
    published = made("p", [1.0, 1.0, 1.0], model=UNKNOWN)
    both = add(A, published)
    assert (both.provenance.model, both.provenance.model_id) == (UNKNOWN, "m/one")
    with pytest.raises(BadInput, match="different models"):
        add(A, replace(published, provenance=Provenance("made", UNKNOWN, "m/two")))


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: subtract(A, A), "cancels to nothing"),
        (lambda: add(A, scale(A, -1.0)), "cancels to nothing"),
        (lambda: orthogonalise(scale(A, 7.3), A), "cancels to nothing"),
        (lambda: add(A), "two or more"),
        (lambda: mean([]), "at least one"),
        (lambda: scale(A, 0.0), "other than 0"),
        (lambda: scale(A, float("nan")), "finite factor"),
        (lambda: scale(A, 1e300), "NaN or infinity"),
        (lambda: rescale(A, -1.0), "norm above 0"),
        (lambda: rescale(A, float("inf")), "finite norm"),
    ],
)
def test_results_that_mean_nothing_are_refused(attempt: Callable[[], SteeringVector], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        attempt()
