"""Adapters of the PEFT library: merged by the formula, beside a base that stays as it is, or refused in a sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.model import adapters
from steering.model.models import LoadedModel, load_adapter, load_model
from steering.model.reader import load_reader
from steering.plan.plan import Plan
from tests.tiny import CONFIGS, plan, tokenizer

IDS = torch.arange(3, 43).reshape(2, 20)
LORA: dict[str, Any] = {"r": 3, "lora_alpha": 12, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"}


def base_model(**options: Any) -> Any:
    torch.manual_seed(1)
    config = CONFIGS["llama"]()
    for key, value in options.items():
        setattr(config, key, value)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.4)
    return model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "base"
    base_model().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def adapter(folder: Path, base: Path | str, config: Any = None, model: Any = None, pickled: bool = False) -> Any:
    """An adapter with random weights, saved by PEFT; returns its unmerged model."""
    made = get_peft_model(model or base_model(), config or LoraConfig(**LORA))
    torch.manual_seed(2)
    with torch.no_grad():
        for name, value in made.named_parameters():
            if any(part in name for part in ("lora_", "ia3_", "lora_embedding", "modules_to_save", "prompt_")):
                value.copy_(torch.randn(value.shape) * 0.3)
    made.peft_config["default"].base_model_name_or_path = str(base)
    made.save_pretrained(folder)
    if pickled:
        file = folder / "adapter_model.safetensors"
        torch.save(load_file(file), folder / "adapter_model.bin")
        file.unlink()
    return made.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("pickled", [False, True])
def test_lora_is_merged_by_its_formula(pickled: bool, base: Path, tmp_path: Path) -> None:
    unmerged = adapter(tmp_path / "a", base, pickled=pickled)
    found = load_model(str(tmp_path / "a"))
    plain = base_model()
    layer, delta = plain.model.layers[1].mlp.down_proj, unmerged.base_model.model.model.layers[1].mlp.down_proj
    product = delta.lora_B["default"].weight @ delta.lora_A["default"].weight
    assert torch.allclose(found.model.model.layers[1].mlp.down_proj.weight, layer.weight + 12 / 3 * product, atol=1e-6)
    assert torch.equal(found.model.model.layers[1].mlp.up_proj.weight, plain.model.layers[1].mlp.up_proj.weight)
    assert torch.allclose(logits(found.model), logits(unmerged), atol=1e-4)
    assert not torch.allclose(logits(found.model), logits(plain), atol=1e-2)
    assert found.id == str(tmp_path / "a") and found.model.state_dict().keys() == plain.state_dict().keys()
    assert load_reader(str(tmp_path / "a")).n_layers == 3


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(**LORA, use_dora=True),
        LoraConfig(**LORA, use_rslora=True),
        LoraConfig(**{**LORA, "modules_to_save": ["lm_head"]}),
        LoraConfig(**{**LORA, "target_modules": ["lm_head", "embed_tokens"]}),
        LoraConfig(**{**LORA, "rank_pattern": {"q_proj": 2}, "layers_to_transform": [0, 2]}),
        IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"),
    ],
    ids=["dora", "rslora", "whole modules", "both ends", "some layers", "ia3"],
)
def test_relatives_of_lora_are_merged(config: Any, base: Path, tmp_path: Path) -> None:
    unmerged = adapter(tmp_path / "a", base, config)
    found = load_model(str(tmp_path / "a"))
    assert torch.allclose(logits(found.model), logits(unmerged), atol=1e-4)
    assert not torch.allclose(logits(found.model), logits(base_model()), atol=1e-2)


def test_a_base_and_its_adapter_share_what_is_the_same(base: Path, tmp_path: Path) -> None:
    adapter(tmp_path / "a", base)
    one = load_model(str(base))
    before = {name: value.clone() for name, value in one.model.state_dict().items()}
    two = load_adapter(one, tmp_path / "a")
    assert two.fingerprint == load_model(str(tmp_path / "a")).fingerprint != one.fingerprint
    assert all(torch.equal(value, before[name]) for name, value in one.model.state_dict().items())
    theirs = dict(two.model.named_parameters())
    for name, value in one.model.named_parameters():
        changed = "q_proj" in name or "down_proj" in name
        assert (theirs[name].data_ptr() != value.data_ptr()) == changed, name
    own = {parameter.data_ptr() for parameter in one.model.parameters()}
    assert {id(m) for m in one.model.modules()}.isdisjoint({id(m) for m in two.model.modules()})
    assert any(p.data_ptr() in own for p in two.model.parameters())


def test_both_are_steered_apart(base: Path, tmp_path: Path) -> None:
    adapter(tmp_path / "a", base)
    one, alone = load_model(str(base)), load_model(str(tmp_path / "a"))
    two, steered, settings = load_adapter(one, tmp_path / "a"), plan(amount=4.0), GenerationSettings(8, 0.0)

    def texts(model: LoadedModel, chosen: Plan) -> tuple[int, ...]:
        return tuple(generate(model, [Row((3, 9, 11), chosen)], settings)[0].token_ids)

    for chosen in (Plan(), steered):
        assert texts(two, chosen) == texts(alone, chosen)
    plain = load_model(str(base))
    for chosen in (Plan(), steered):
        assert texts(one, chosen) == texts(plain, chosen)


def test_the_caller_may_name_the_base(base: Path, tmp_path: Path) -> None:
    unmerged = adapter(tmp_path / "a", "somebody/who-moved")
    assert torch.allclose(logits(load_model(str(tmp_path / "a"), base=str(base)).model), logits(unmerged), atol=1e-4)
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": None}))
    with pytest.raises(BadInput, match="does not name its base model; pass base"):
        load_model(str(tmp_path / "a"))


def test_an_adapter_of_another_model_is_refused(base: Path, tmp_path: Path) -> None:
    wide = base_model(hidden_size=32, head_dim=16)
    adapter(tmp_path / "wide", base, model=wide)
    deep = base_model(num_hidden_layers=4)
    adapter(tmp_path / "deep", base, model=deep)
    for name in ("wide", "deep"):
        with pytest.raises(BadInput, match="Pass as base the model that it was trained on"):
            load_model(str(tmp_path / name))


def test_an_adapter_that_lacks_weights_or_is_damaged_is_refused(base: Path, tmp_path: Path) -> None:
    adapter(tmp_path / "a", base)
    file = tmp_path / "a" / "adapter_model.safetensors"
    state = load_file(file)
    save_file({name: value for name, value in state.items() if "layers.1." not in name}, file)
    with pytest.raises(BadInput, match="or is damaged: Found missing adapter keys"):
        load_model(str(tmp_path / "a"))
    save_file({name: value * float("nan") for name, value in state.items()}, file)
    with pytest.raises(BadInput, match="holds NaN or infinity"):
        load_model(str(tmp_path / "a"))
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(BadInput, match="or is damaged"):
        load_model(str(tmp_path / "a"))
    file.unlink()
    with pytest.raises(BadInput, match="no whole adapter"):
        load_model(str(tmp_path / "a"))
    (tmp_path / "a" / "adapter_config.json").write_text("[1]")
    with pytest.raises(BadInput, match="holds a list"):
        load_model(str(tmp_path / "a"))


class Runs:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def test_a_pickled_adapter_that_wants_to_run_code_is_refused_and_runs_nothing(base: Path, tmp_path: Path) -> None:
    adapter(tmp_path / "a", base, pickled=True)
    torch.save({"x": Runs(tmp_path / "ran")}, tmp_path / "a" / "adapter_model.bin")
    with pytest.raises(BadInput, match="refused, and nothing of it was run"):
        load_model(str(tmp_path / "a"))
    assert not (tmp_path / "ran").exists()


def test_a_kind_that_changes_no_weights_is_refused(base: Path, tmp_path: Path) -> None:
    adapter(tmp_path / "a", base, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(BadInput, match="of kind PROMPT_TUNING, which cannot be merged"):
        load_model(str(tmp_path / "a"))


def test_one_of_two_tied_weights_cannot_be_changed_alone(tmp_path: Path) -> None:
    tied = base_model(tie_word_embeddings=True)
    tied.save_pretrained(tmp_path / "tied")
    tokenizer().save_pretrained(tmp_path / "tied")
    config = LoraConfig(**{**LORA, "target_modules": ["lm_head"]})
    adapter(tmp_path / "a", tmp_path / "tied", config, base_model(tie_word_embeddings=True))
    with pytest.raises(BadInput, match="changes lm_head, which the base ties to model.embed_tokens"):
        load_model(str(tmp_path / "a"))


def test_an_adapter_brings_its_own_tokenizer(base: Path, tmp_path: Path) -> None:
    adapter(tmp_path / "a", base)
    own = tokenizer()
    own.chat_template = "{{ messages[0]['content'] }}"
    own.save_pretrained(tmp_path / "a")
    folder = str(tmp_path / "a")
    for found in (load_model(folder), load_reader(folder), load_adapter(load_model(str(base)), folder)):
        assert found.tokenizer.chat_template == own.chat_template
    assert load_model(str(base)).tokenizer.chat_template is None


def test_without_peft_an_adapter_says_what_to_install(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter(tmp_path / "a", base)
    there = adapters.importlib.util.find_spec
    monkeypatch.setattr(adapters.importlib.util, "find_spec", lambda name: None if name == "peft" else there(name))
    with pytest.raises(BadInput, match=r"needs peft: pip install 'steering-workbench\[peft\]'"):
        load_model(str(tmp_path / "a"))
    with pytest.raises(BadInput, match="leave quantization out"):
        load_model(str(tmp_path / "a"), quantization="4bit")
    with pytest.raises(BadInput, match="is not the folder of an adapter"):
        load_adapter(load_model(str(base)), base)
