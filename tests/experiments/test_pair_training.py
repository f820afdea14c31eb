"""The pair trains end to end from nothing, and the shipped pair shows the phenomenon."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from experiments.pair.presets import PRESETS
from experiments.pair.pretrain import pretrain
from experiments.pair.train import train_pair
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.model.models import load_model
from steering.model.prompts import encode_prompt


@pytest.mark.slow
def test_quick_preset_trains_both_models_which_load_and_generate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorter = dataclasses.replace(PRESETS["quick"], curriculum=(("main", 500_000),), grpo_steps=4)
    monkeypatch.setitem(PRESETS, "quick", shorter)
    base, thinking = train_pair("quick", tmp_path)
    curve = [json.loads(line)["loss"] for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert curve[-1] < curve[0] - 0.5, "the loss must fall"
    rewards = [json.loads(line)["reward"] for line in (tmp_path / "grpo.jsonl").read_text().splitlines()]
    assert len(rewards) == PRESETS["quick"].grpo_steps
    assert max(rewards) > 0, "GRPO must see a reward"
    for folder in (base, thinking):
        model = load_model(str(folder))
        ids = encode_prompt(model, "rules + 15 ; * 9 ; goal 3 start 4 5 6 7 ?")
        assert len(generate(model, [Row(ids)], GenerationSettings(8))[0].token_ids) > 0
    assert load_model(str(base)).fingerprint != load_model(str(thinking)).fingerprint, "GRPO must move the weights"
    before = (base / "model.safetensors").stat().st_mtime_ns
    train_pair("quick", tmp_path)
    assert (base / "model.safetensors").stat().st_mtime_ns == before, "a finished stage is not run again"


@pytest.mark.slow
def test_an_interrupted_pretraining_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    import experiments.pair.pretrain as module

    preset = dataclasses.replace(PRESETS["quick"], curriculum=(("main", 30_000),))
    whole = pretrain(preset, tmp_path / "whole")
    original, calls = module.packed_batch, []

    def stop_at_five(*arguments: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return original(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "packed_batch", stop_at_five)
    with pytest.raises(KeyboardInterrupt):
        pretrain(preset, tmp_path / "parts")
    monkeypatch.setattr(module, "packed_batch", original)
    parts = pretrain(preset, tmp_path / "parts")
    a, b = load_model(str(whole)).model.state_dict(), load_model(str(parts)).model.state_dict()
    assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)


@pytest.mark.slow
def test_the_second_pair_begins_at_the_base_of_the_first_and_is_put_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import experiments.pair.train as module

    tiny = dataclasses.replace(
        PRESETS["careful"], curriculum=(("hasty", 12_000),), grpo_steps=2, grpo_prompts=2, grpo_samples=4, completion=40
    )
    monkeypatch.setitem(PRESETS, "careful", tiny)
    monkeypatch.setattr(module, "BUILTIN_FOLDER", tmp_path / "builtin")
    train_pair("careful", tmp_path / "made", install=True)
    first = load_model("builtin:base").model.state_dict()
    for name in ("careful-base", "careful-thinking"):
        weights = load_model(str(tmp_path / "builtin" / name)).model.state_dict()
        assert all(weights[k].shape == first[k].shape for k in first)
        key = "model.layers.0.self_attn.q_proj.weight"
        assert 0 < (weights[key] - first[key]).norm() < 0.5 * first[key].norm(), "it goes on from there"
