"""Published `.pt` files: the papers' numbers are reproduced from their own files, and odd files are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from steering.errors import BadInput
from steering.model.sites import Site
from steering.vector.arithmetic import subtract
from steering.vector.interchange import BehaviourMeans, import_behaviour_means, import_directions, load_plain
from steering.vector.vectors import UNKNOWN, SteeringVector

QWEN = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"


@pytest.fixture(scope="module")
def behaviours(shared_data: Path) -> BehaviourMeans:
    path = shared_data / "published/behaviour_mean_activations_r1-distill-qwen-1.5b.pt"
    return import_behaviour_means(path, model_id=QWEN)


def test_published_behaviour_means_give_the_known_angles_and_lengths(behaviours: BehaviourMeans) -> None:
    raw = {label: behaviours.vector(label, 15, rescaled=False) for label in behaviours.labels}
    pair = raw["uncertainty-estimation"].direction, raw["backtracking"].direction
    assert float(torch.cosine_similarity(*pair, dim=0)) == pytest.approx(0.663, abs=5e-4)
    assert raw["backtracking"].norm == pytest.approx(27.52, abs=5e-3)
    assert set(behaviours.warnings) == {"summarizing"}
    flagged = behaviours.at("summarizing", 15)
    assert flagged.count == 1 and "mean of 1 span;" in flagged.warnings[0]
    assert raw["summarizing"].provenance.notes["warnings"] == list(flagged.warnings)
    assert behaviours.at("backtracking", 15).warnings == () and "warnings" not in raw["backtracking"].provenance.notes


def test_published_behaviour_vectors_are_rescaled_to_the_overall_mean(behaviours: BehaviourMeans) -> None:
    overall = float(behaviours.at("overall", 17).mean.norm())
    made = behaviours.vector("backtracking", 17)
    raw = behaviours.vector("backtracking", 17, rescaled=False)
    assert made.norm == pytest.approx(overall, rel=1e-6) and made.norm != pytest.approx(raw.norm, rel=0.1)
    assert torch.allclose(made.direction / made.norm, raw.direction / raw.norm, atol=1e-7)
    assert (made.site, made.provenance.counts) == (Site(17), (790, 431))
    assert (made.provenance.model, made.provenance.model_id) == (UNKNOWN, QWEN)


def test_published_behaviour_vectors_can_be_subtracted_and_stored(behaviours: BehaviourMeans, tmp_path: Path) -> None:
    difference = subtract(behaviours.vector("backtracking", 15), behaviours.vector("deduction", 15))
    loaded = SteeringVector.load(difference.save(tmp_path / "v.safetensors"))
    assert loaded.provenance == difference.provenance and loaded.provenance.model_id == QWEN


@pytest.mark.parametrize(
    ("name", "norm"), [("bias", 6.575003), ("idx0", 12.406837), ("idx1", 12.316198), ("idx2", 27.181633), ("idx3", 11.992919)]
)  # fmt: skip
def test_published_optimised_vectors_are_read_at_the_site_that_is_named(
    shared_data: Path, name: str, norm: float
) -> None:
    path = shared_data / f"published/optimised_vector_llama-3.1-8b_{name}.pt"
    found = import_directions(path, site="blocks.12.hook_resid_pre", model_id="meta-llama/Llama-3.1-8B")
    assert list(found) == [name]
    made = found[name]
    assert (made.site, made.direction.shape) == (Site(12, "resid_pre"), (4096,))
    assert made.norm == pytest.approx(norm, abs=1e-5)
    assert made.provenance.notes["import"]["file"] == path.name and len(made.provenance.notes["import"]["sha256"]) == 64


def test_the_published_sentence_sae_is_read_although_it_holds_numpy_arrays(shared_data: Path) -> None:
    found = load_plain(shared_data / "published/sentence_sae_r1-distill-qwen-1.5b_layer12_15.pt")
    assert found["encoder_weight"].shape == (15, 1536) and found["b_dec"].shape == (1536,)
    assert (found["num_latents"], found["topk"]) == (15, 3)
    centres = found["cluster_centers"]
    assert centres.shape == (15, 1536) and np.isfinite(centres).all()
    assert sorted(np.unique(found["cluster_labels"])) == list(range(15))


def entry(mean: Any = None, count: Any = 40) -> dict[str, Any]:
    return {"mean": torch.ones(3, 4) if mean is None else mean, "count": count}


def written(tmp_path: Path, content: Any) -> Path:
    torch.save(content, tmp_path / "means.pt")
    return tmp_path / "means.pt"


def test_behaviour_means_of_numpy_arrays_follow_the_same_formula(tmp_path: Path) -> None:
    overall = np.array([[0.0, 3.0, 4.0], [1.0, 0.0, 0.0]])
    label = overall + np.array([[0.5, 0.0, 0.0], [0.0, 2.0, 0.0]])
    means = import_behaviour_means(written(tmp_path, {"overall": entry(overall), "doubt": entry(label, 29)}))
    assert (means.labels, means.n_layers, means.d_model) == (("doubt",), 2, 3)
    assert means.vector("doubt", 0).direction.tolist() == [5.0, 0.0, 0.0]
    assert means.vector("doubt", 1, rescaled=False).direction.tolist() == [0.0, 2.0, 0.0]
    assert "mean of 29 spans; fewer than 30" in means.warnings["doubt"][0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": entry()}, "no label 'overall'"),
        ({"overall": torch.ones(4)}, "use import_directions"),
        (torch.ones(4), "use import_directions"),
        ({"overall": {"mean": torch.ones(3, 4)}}, r"label 'overall' holds \['mean'\]"),
        ({"overall": entry(torch.ones(4))}, r"not \[4\]"),
        ({"overall": entry(torch.full((3, 4), torch.nan))}, "finite"),
        ({"overall": entry(), "a": entry(torch.ones(2, 4))}, r"label 'a' has shape \[2, 4\]"),
        ({"overall": entry(), "a": entry(count=0)}, "label 'a': count is 0"),
        ({"overall": entry(), "a": entry(count=2.5)}, "count is 2.5"),
        ({"overall": entry(), "a": entry("text")}, "label 'a', mean is a str"),
    ],
)
def test_files_that_are_no_behaviour_means_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        import_behaviour_means(written(tmp_path, content))


def test_labels_and_layers_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    means = import_behaviour_means(written(tmp_path, {"overall": entry(), "doubt": entry()}))
    with pytest.raises(BadInput, match="Did you mean 'doubt'"):
        means.vector("doubts", 0)
    with pytest.raises(BadInput, match="layers 0 to 2"):
        means.vector("doubt", 3)
    with pytest.raises(BadInput, match="is the baseline"):
        means.vector("overall", 0)
    with pytest.raises(BadInput, match="is zero"):
        means.vector("doubt", 0)


def test_a_bare_row_is_named_after_its_file(tmp_path: Path) -> None:
    torch.save(np.array([1.0, 2.0]), tmp_path / "refusal.pt")
    found = import_directions(tmp_path / "refusal.pt", site=Site(3))
    assert list(found) == ["refusal"] and found["refusal"].direction.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "empty mapping"),
        ({"overall": entry()}, "use import_behaviour_means"),
        ({"a": torch.ones(2, 3)}, r"shape \[2, 3\]"),
        ({"a": 3}, "'a' is a int"),
        ("text", "'means' is a str"),
    ],
)
def test_files_that_are_no_directions_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        import_directions(written(tmp_path, content), site=Site(0))
