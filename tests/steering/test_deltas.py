"""Deltas of weights: exact bits, refused on other weights, named by content."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from steering.errors import BadInput
from steering.model.deltas import DELTA, apply_delta, keep_delta, write_delta
from steering.model.models import load_model
from steering.model.reader import load_reader


def weights(name: str = "builtin:base") -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in load_model(name, trial=False).model.state_dict().items()}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEERING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_base_with_its_delta_has_the_bits_of_the_other_model(tmp_path: Path) -> None:
    base, other = weights(), weights("builtin:thinking")
    write_delta(tmp_path / "whole", "builtin:base", base, other)
    made = load_model(str(tmp_path / "whole"))
    assert (
        made.id == str(tmp_path / "whole")
        and made.fingerprint == load_model("builtin:thinking", trial=False).fingerprint
    )
    assert load_model("builtin:base", trial=False).fingerprint != made.fingerprint, "the base stays as it is"
    assert load_reader(str(tmp_path / "whole")).n_layers == made.n_layers


def test_few_changed_numbers_are_a_small_file(tmp_path: Path) -> None:
    base = weights()
    name = "model.layers.1.mlp.up_proj.weight"
    changed = base[name].clone()
    changed[3, 7], changed[0, 0] = 0.5, -0.25
    path = write_delta(tmp_path, "builtin:base", base, {name: changed})
    assert path.stat().st_size < 1000 and set(load_file(path)) == {f"{name}@places", f"{name}@values"}
    made = load_model(str(tmp_path)).model.state_dict()
    assert torch.equal(made[name], changed)
    assert all(torch.equal(made[key], value) for key, value in base.items() if key != name)
    write_delta(tmp_path / "none", "builtin:base", base, base)
    assert (
        load_model(str(tmp_path / "none"), trial=False).fingerprint
        == load_model("builtin:base", trial=False).fingerprint
    )


def test_a_delta_is_refused_on_other_weights_and_what_is_damaged_too(tmp_path: Path) -> None:
    base = weights()
    name = "model.layers.1.mlp.up_proj.weight"
    path = write_delta(tmp_path, "builtin:base", base, {name: base[name] + 1})
    with pytest.raises(BadInput, match="made on other weights than those of builtin:thinking"):
        load_model(str(tmp_path), base="builtin:thinking")
    assert load_model(str(tmp_path), dtype="bfloat16", trial=False).dtype == torch.bfloat16
    with pytest.raises(BadInput, match="quantization"):
        load_model(str(tmp_path), quantization="8bit")
    with pytest.raises(BadInput, match="no tensor nothing"):
        write_delta(tmp_path / "b", "builtin:base", base, {"nothing": torch.ones(2)})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadInput, match="corrupt or cut short"):
        load_model(str(tmp_path))
    write_delta(tmp_path / "lost", "no/where", base, {name: base[name] + 1})
    with pytest.raises(BadInput, match="changes weights of 'no/where', which cannot be loaded"):
        load_model(str(tmp_path / "lost"))


def test_a_delta_of_a_shape_that_the_base_lacks_is_refused(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    write_delta(tmp_path, "own", {"w": torch.zeros(3)}, {"w": torch.ones(3)})
    with pytest.raises(BadInput, match="changes w, which own does not have"):
        apply_delta(model, tmp_path, "own")


def test_kept_deltas_are_named_by_what_they_hold(cache: Path) -> None:
    base = weights()
    name = "model.layers.1.mlp.up_proj.weight"
    one = keep_delta("builtin:base", base, {name: base[name] + 1})
    assert (
        one
        == keep_delta("builtin:base", base, {name: base[name] + 1})
        != keep_delta("builtin:base", base, {name: base[name] + 2})
    )
    assert one.startswith("delta:") and torch.equal(load_model(one).model.state_dict()[name], base[name] + 1)
    assert json.dumps(sorted(p.name for p in (cache / "deltas").iterdir())).count(one.removeprefix("delta:")) == 1
    assert (cache / "deltas" / one.removeprefix("delta:") / DELTA).is_file()
    with pytest.raises(BadInput, match="not in this machine's cache"):
        load_model("delta:0123456789abcdef")


def test_a_base_in_a_folder_is_found_from_anywhere_and_one_that_moved_is_named_anew(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model("builtin:base", trial=False)
    for name in ("one", "two"):
        model.model.save_pretrained(tmp_path / name)
        model.tokenizer.save_pretrained(tmp_path / name)
    base, key = weights(), "model.layers.1.mlp.up_proj.weight"
    monkeypatch.chdir(tmp_path)
    kept = keep_delta("one", base, {key: base[key] + 1})
    monkeypatch.chdir(cache)
    assert torch.equal(load_model(kept, trial=False).model.state_dict()[key], base[key] + 1)
    shutil.rmtree(tmp_path / "one")
    assert keep_delta(str(tmp_path / "two"), base, {key: base[key] + 1}) == kept
    assert load_model(kept, trial=False).fingerprint


def test_a_sign_of_zero_is_a_bit_too(tmp_path: Path) -> None:
    write_delta(tmp_path, "own", {"w": torch.zeros(4)}, {"w": torch.tensor([0.0, -0.0, 0.0, 0.0])})
    assert load_file(tmp_path / DELTA)
    assert "w" in json.loads(safe_open(tmp_path / DELTA, "pt").metadata()["delta"])["tensors"]
