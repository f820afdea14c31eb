"""The example specs of real pairs, run whole on tiny random models of the same architectures with templates like theirs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import (
    AutoModelForCausalLM,
    Llama4TextConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)
from typer.testing import CliRunner

from experiments.commands.cli import app
from experiments.doctor.compatibility import allowed, compare, memory, read_checkpoint
from experiments.evaluation.loading import Loading
from experiments.evaluation.spec import EvalSpec
from experiments.sweeps.spec import SweepSpec
from steering.errors import BadInput
from tests.experiments.test_prompting import LLAMA31, QWEN3, R1, SMOLLM3
from tests.experiments.test_prompting import model as templated

SPECS = Path(__file__).parents[2] / "experiments" / "specs"
LAYERS = 31
"""So that the layers that the files name are there."""
SHAPE = dict(
    hidden_size=16, num_hidden_layers=LAYERS, num_attention_heads=2, num_key_value_heads=1, intermediate_size=16
)
ARCHITECTURES = {
    "Qwen/Qwen2.5-Math-1.5B": (Qwen2Config, QWEN3, None),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": (Qwen2Config, R1, "<bos>"),
    "meta-llama/Llama-3.1-8B": (LlamaConfig, None, "<|begin_of_text|>"),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": (LlamaConfig, R1, "<|begin_of_text|>"),
    "Qwen/Qwen3-8B": (Qwen3Config, QWEN3, None),
    "Qwen/Qwen2.5-7B": (Qwen2Config, QWEN3, None),
    "Open-Reasoner-Zero/Open-Reasoner-Zero-7B": (Qwen2Config, QWEN3, None),
    "Qwen/Qwen2.5-0.5B": (Qwen2Config, QWEN3, None),
    "Open-Reasoner-Zero/Open-Reasoner-Zero-0.5B": (Qwen2Config, QWEN3, None),
    "Qwen/Qwen3-0.6B": (Qwen3Config, QWEN3, None),
    "HuggingFaceTB/SmolLM3-3B": (SmolLM3Config, SMOLLM3, None),
    "facebook/MobileLLM-R1-140M-base": (Llama4TextConfig, None, "<|begin_of_text|>"),
    "facebook/MobileLLM-R1-140M": (Llama4TextConfig, LLAMA31, "<|begin_of_text|>"),
}
OWN: dict[type, dict[str, Any]] = {
    Qwen3Config: {"head_dim": 8},
    Llama4TextConfig: {"head_dim": 8, "intermediate_size_mlp": 16, "moe_layers": [], "attention_chunk_size": 1024},
}
"""What an architecture needs beside `SHAPE`."""
NAMED = re.compile("|".join(map(re.escape, sorted(ARCHITECTURES, key=len, reverse=True))))


def save(name: str, folder: Path, seed: int = 0, layers: int = LAYERS) -> Path:
    kind, template, bos = ARCHITECTURES[name]
    tokenizer = templated(template, bos, bos is not None).tokenizer
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    torch.manual_seed(seed)
    config = kind(
        **(SHAPE | {"num_hidden_layers": layers}), **OWN.get(kind, {}), vocab_size=len(tokenizer), max_position_embeddings=1024,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    place = folder / name.replace("/", "--")
    AutoModelForCausalLM.from_config(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: save(name, folder, seed) for seed, name in enumerate(ARCHITECTURES)}


def small(text: str, models: dict[str, Path], questions: Path) -> dict[str, Any]:
    """A file as it stands, with models and questions of this machine and few of everything."""
    data = yaml.safe_load(NAMED.sub(lambda match: str(models[match[0]]), text))
    data["task"] |= {"dataset": "gsm8k", "file": str(questions)}
    if "splits" in data and "test" in data["splits"] and isinstance(data["splits"]["test"], int):
        data["splits"] = {"test": 2}
    elif "splits" in data:
        data["splits"] = {"development": {"train": 2}, "test": {"test": 2}}
        data["task"]["splits"] = {"train": str(questions), "test": str(questions)}
    if "generation" in data:
        data["generation"] = {"max_new_tokens": 4}
    data.pop("loading", None)
    return data


@pytest.mark.slow
@pytest.mark.parametrize("pair", sorted(path.name for path in SPECS.iterdir() if path.is_dir()))
def test_every_file_of_a_pair_runs(pair: str, models: dict[str, Path], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    questions = tmp_path / "gsm8k.jsonl"
    lines = [{"question": f"What is {i} plus {i}?", "answer": f"It is so.\n#### {2 * i}"} for i in range(8)]
    questions.write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / pair).mkdir()
    for path in (SPECS / pair).glob("*.yaml"):
        (tmp_path / pair / path.name).write_text(yaml.safe_dump(small(path.read_text(), models, questions)))

    def steer(*arguments: str) -> Any:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == 0, (arguments, done.output, done.exception)
        return json.loads(done.stdout)

    text = (SPECS / pair / "sweep.yaml").read_text()
    written = next(line for line in text.replace("\n#   ", " ").splitlines() if "steer extract" in line)
    command = NAMED.sub(lambda match: str(models[match[0]]), written.split("steer extract ")[1].replace("'", ""))
    command = (
        re.sub("--n [0-9]+", "--n 3", command)
        .replace("--skip 200", "--skip 2")
        .replace("--split train", "--split test")
    )
    arguments = command.replace("--dtype bfloat16", "--dtype float32").replace("--device cuda", "--device cpu").split()
    vectors = steer("extract", *arguments, "--split", "test")
    assert [v["site"] for v in vectors] == [
        f"blocks.{layer}.hook_resid_post" for layer in yaml.safe_load(text)["vary"]["layer"]
    ]
    run = steer("eval", f"{pair}/eval.yaml", "--json")
    arms = yaml.safe_load((SPECS / pair / "eval.yaml").read_text())["arms"]
    assert {arm["name"] for arm in run["summary"]["splits"][0]["arms"]} == {str(arm["name"]) for arm in arms}
    # the tokens fed are those of the model's own template
    for arm in arms:
        model = str(models[arm["model"]])
        fed = steer("prompt", "--model", model, "--task", f"{pair}/task.yaml", "--form", str(arm["form"]), "--json")
        assert "What is 0 plus 0?" in "".join(t["text"] for t in fed["tokens"])
    swept = steer(
        "sweep", "run", f"{pair}/sweep.yaml", "--json", "--set", "controls.random_on_test=1",
        "--set", "search={kind: random, n: 2}",
    )  # fmt: skip
    assert len(swept["cells"]) == 2 and swept["test"]


@pytest.mark.parametrize("path", sorted(SPECS.glob("*/*.yaml")), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_the_files_are_valid_as_they_stand(path: Path) -> None:
    data = yaml.safe_load(path.read_text())
    if path.stem == "eval":
        spec: Any = EvalSpec.model_validate(data)
        assert {a.role for a in spec.arms} >= {"baseline", "reference"} and {a.form for a in spec.arms} <= set(
            data["task"]["forms"]
        )
    elif path.stem == "sweep":
        spec = SweepSpec.model_validate(data)
        assert {spec.form, spec.prompted} <= set(data["task"]["forms"])
    else:
        assert data["task"]["dataset"] == "gsm8k"
        return
    assert spec.loading == Loading(dtype="bfloat16", device="cuda")


def test_a_pair_is_compared_without_its_weights(models: dict[str, Path]) -> None:
    base, thinking = (
        read_checkpoint(str(models[name]))
        for name in ("Qwen/Qwen2.5-Math-1.5B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B")
    )
    facts = compare(base, thinking)
    assert allowed(facts) and facts["vocabulary"]["ids_that_differ"] == 0
    assert facts["roles"]["bos"] == [None, "<bos>"]
    assert facts["chat_template"] == [
        "yes, thinking can be switched, thinking between <think> and </think>",
        "yes, begins the thinking segment itself",
    ]
    weights = AutoModelForCausalLM.from_pretrained(models["Qwen/Qwen2.5-Math-1.5B"])
    assert base.parameters == sum(p.numel() for p in weights.parameters())
    needed = memory(base, "bfloat16", 10, 100)
    assert needed["weights_gib"] == pytest.approx(2 * base.parameters / 2**30)
    assert needed["cache_gib"] == pytest.approx(10 * 100 * 2 * LAYERS * 8 * 2 / 2**30)
    with pytest.raises(BadInput, match="Did you mean 'bfloat16'"):
        memory(base, "bfloat", 1, 1)


def test_pairs_that_do_not_fit_say_why(models: dict[str, Path], tmp_path: Path) -> None:
    small = save("Qwen/Qwen2.5-Math-1.5B", tmp_path, layers=2)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(small)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|new|>"]})
    tokenizer.save_pretrained(small)
    facts = compare(read_checkpoint(str(models["Qwen/Qwen2.5-7B"])), read_checkpoint(str(small)))
    assert facts["possible"]["hybrid"] == "no: 1 ids differ, and it compares tokens by id"
    assert facts["possible"]["vectors of one in the other"] == "no: layers or width differ"
    assert facts["special_tokens_that_differ"] == ["<|new|>"] and not allowed(facts)
    done = CliRunner().invoke(app, ["pair", "check", str(models["Qwen/Qwen2.5-7B"]), str(small), "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["memory"][0]["cache_gib"] > 0
    done = CliRunner().invoke(app, ["pair", "check", str(models["Qwen/Qwen2.5-7B"]), str(small)])
    assert "hybrid: no: 1 ids differ" in done.stdout
    with pytest.raises(BadInput, match="Give a hub id, a local folder"):
        read_checkpoint(str(tmp_path))


def test_loading_says_how_models_are_loaded_and_half_precision_is_another_model(models: dict[str, Path]) -> None:
    name = str(models["Qwen/Qwen2.5-7B"])
    half, whole = Loading(dtype="bfloat16", device="cpu").load(name), Loading().load(name)
    assert half.dtype == torch.bfloat16 and half.fingerprint != whole.fingerprint
    with pytest.raises(ValueError, match="device or device_map"):
        Loading(device="cpu", device_map="auto")
    spec = EvalSpec(name="x", splits={"test": 1}, arms=())
    assert "loading" not in spec.model_dump(), "runs of specs without it keep their names"
