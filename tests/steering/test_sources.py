"""Models from folders, pickled files and names: what loads, what is refused, and that nothing is run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from experiments.commands.cli import app
from steering.compile.explanation import explain, needs_weights
from steering.errors import BadInput
from steering.model import memory, models, reader
from steering.model.models import auto_device, auto_dtype, load_model, wrap
from steering.model.prompts import encode_prompt
from steering.model.reader import load_reader
from steering.model.sites import Site
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import Provenance, SteeringVector
from tests.tiny import tiny, tokenizer
from tests.written_gguf import source_model, write_gguf


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERING_CACHE", str(tmp_path / "cache"))


def stored(folder: Path, family: str = "llama", **options: Any) -> Path:
    tiny(family).model.save_pretrained(folder, **options)
    tokenizer().save_pretrained(folder)
    return folder


def pickled(folder: Path, shards: int = 0) -> Path:
    """The same model as `pytorch_model.bin`, whole or in shards with an index."""
    stored(folder)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if not shards:
        torch.save(state, folder / "pytorch_model.bin")
        return folder
    names = sorted(state)
    places = {
        name: f"pytorch_model-{1 + i * shards // len(names):05}-of-{shards:05}.bin" for i, name in enumerate(names)
    }
    for file in set(places.values()):
        torch.save({name: state[name] for name in names if places[name] == file}, folder / file)
    size = sum(value.numel() * 4 for value in state.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("shards", [0, 3])
def test_pickled_weights_load_through_the_weights_only_reader(shards: int, tmp_path: Path) -> None:
    found = load_model(str(pickled(tmp_path / "m", shards)))
    assert found.fingerprint == wrap(tiny("llama").model, tokenizer()).fingerprint


class Runs:
    """What asks to run a command when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("form", ["torch", "plain pickle"])
def test_a_pickle_that_wants_to_run_code_is_refused_and_runs_nothing(form: str, tmp_path: Path) -> None:
    folder, mark = pickled(tmp_path / "m"), tmp_path / "ran"
    content = {"model.embed_tokens.weight": Runs(mark)}
    if form == "torch":
        torch.save(content, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(content))
    with pytest.raises(BadInput, match="refused, and nothing of it was run") as refused:
        load_model(str(folder))
    assert not mark.exists() and "\n" not in str(refused.value)
    assert ("asks for" in str(refused.value) and "system" in str(refused.value)) == (form == "torch")


def test_pickled_weights_that_are_cut_short_are_refused(tmp_path: Path) -> None:
    file = pickled(tmp_path / "m") / "pytorch_model.bin"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(BadInput, match="Cannot load model"):
        load_model(str(tmp_path / "m"))


def test_a_checkpoint_without_all_its_weights_is_refused(tmp_path: Path) -> None:
    folder = stored(tmp_path / "m")
    state = load_file(folder / "model.safetensors")
    state.pop("model.layers.1.mlp.up_proj.weight")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"lacks weights of its model: model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(str(folder))
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(BadInput, match="corrupt or cut short"):
        load_model(str(folder))


def test_safetensors_are_taken_before_pickled_weights(tmp_path: Path) -> None:
    folder = stored(tmp_path / "m")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    assert load_model(str(folder)).n_layers == 3 and not (tmp_path / "ran").exists()


def test_other_files_with_the_same_endings_are_no_weights(tmp_path: Path) -> None:
    folder = pickled(tmp_path / "m")
    save_file({"v": torch.ones(3)}, folder / "vector.safetensors")
    assert load_model(str(folder)).n_layers == 3
    folder = stored(tmp_path / "n")
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    assert memory.parameters_of(folder, None) == sum(p.numel() for p in tiny("llama").model.parameters())


def test_missing_shards_are_named(tmp_path: Path) -> None:
    folder = stored(tmp_path / "m", max_shard_size="8KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    shards[1].unlink()
    with pytest.raises(BadInput, match=f"lacks 1 of the {len(shards)} files of its weights: {shards[1].name}"):
        load_model(str(folder))
    pickled(tmp_path / "p", 3)
    (tmp_path / "p" / "pytorch_model-00002-of-00003.bin").unlink()
    with pytest.raises(BadInput, match=r"lacks 1 of the 3 files of its weights: pytorch_model-00002"):
        load_model(str(tmp_path / "p"))


def test_what_is_no_model_is_refused_with_what_is(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"x")
    with pytest.raises(BadInput, match="is a file. Give the folder"):
        load_model(str(tmp_path / "weights.pt"))
    with pytest.raises(BadInput, match="No model folder at"):
        load_model(str(tmp_path / "missing"))
    with pytest.raises(
        BadInput,
        match="Valid: builtin:base, builtin:thinking, builtin:careful-base, builtin:careful-thinking, builtin:untraced, smollm2",
    ):
        load_model("builtin:bas")
    with pytest.raises(BadInput, match="no adapter, so it has no base"):
        load_model("builtin:base", base="builtin:thinking")


# The hub


def unreachable(*_: Any, **__: Any) -> Any:
    try:
        raise LocalEntryNotFoundError("outgoing traffic has been disabled")
    except LocalEntryNotFoundError as error:
        raise OSError("We couldn't connect to 'https://huggingface.co' to load the files\nand more lines") from error


@pytest.mark.parametrize(("offline", "why"), [("1", "HF_HUB_OFFLINE is set"), ("", "the hub cannot be reached")])
def test_a_hub_out_of_reach_says_what_to_do(offline: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    for module, load in ((models, load_model), (reader, load_reader)):
        monkeypatch.setattr(module.AutoConfig, "from_pretrained", unreachable)
        with pytest.raises(BadInput, match=f"not on this machine, and {why}") as refused:
            load("Qwen/Qwen2.5-1.5B")
        assert "or give a folder" in str(refused.value) and "\n" not in str(refused.value)
        with pytest.raises(BadInput, match="Did you mean 'smollm2'"):
            load("smolm2")


# Memory and defaults


def test_a_model_that_does_not_fit_is_refused_before_its_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stored(tmp_path / "m")
    count = sum(p.numel() for p in tiny("llama").model.parameters())
    monkeypatch.setattr(memory, "free_bytes", lambda device: 3 * count)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were read")

    with monkeypatch.context() as patch:
        patch.setattr(models.AutoModelForCausalLM, "from_pretrained", never)
        with pytest.raises(
            BadInput, match=f"has {count:,} parameters, which need .* in float32, and .* are free"
        ) as refused:
            load_model(str(folder))
        assert "bfloat16" in str(refused.value) and "device_map='auto'" in str(refused.value)
    assert load_model(str(folder), dtype="bfloat16").dtype == torch.bfloat16
    monkeypatch.setattr(memory, "free_bytes", lambda device: count)
    with pytest.raises(BadInput, match="parameters, which need"):
        load_model(str(folder), dtype="bfloat16")


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_parameters_are_counted_from_headers_or_the_configuration(family: str, tmp_path: Path) -> None:
    folder = stored(tmp_path / "m", family, max_shard_size="8KB")
    model = tiny(family).model
    assert memory.parameters_of(folder, model.config) == sum(p.numel() for p in model.parameters())
    assert memory.parameters_of("some/hub-id", model.config) == sum(p.numel() for p in model.parameters())


def test_the_gpu_counts_where_the_model_goes_there(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"cpu": 10 * 2**30, "cuda": 2 * 2**30, "cuda:0": 2 * 2**30}
    monkeypatch.setattr(memory, "free_bytes", lambda device: free[device])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    memory.refuse_too_large("m", 2**30, "bfloat16", "cuda")
    with pytest.raises(BadInput, match=r"need 4\.0 GiB in float32, and 2\.0 GiB of cuda memory"):
        memory.refuse_too_large("m", 2**30, "float32", "cuda")
    memory.refuse_too_large("m", 2**30, "float32", "cpu")
    memory.refuse_too_large("m", 11 * 2**28, "float32", None, device_map="auto")
    memory.refuse_too_large("m", 2 * 2**30, "float32", "cuda", quantization="8bit")
    with pytest.raises(BadInput, match="12.0 GiB of the devices"):
        memory.refuse_too_large("m", 13 * 2**28, "float32", None, device_map="auto")


@pytest.mark.parametrize(("there", "bfloat16"), [(True, True), (True, False), (False, False)])
def test_auto_is_a_gpu_in_bfloat16_or_the_cpu_in_float32(
    there: bool, bfloat16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bfloat16)
    good = there and bfloat16
    assert auto_device() == ("cuda" if good else "cpu")
    assert auto_dtype(auto_device()) == ("bfloat16" if good else "float32")
    assert auto_dtype("cpu") == auto_dtype(None) == "float32"
    assert auto_dtype(None, spread=True) == auto_dtype("cuda:0") == ("bfloat16" if good else "float32")


def test_auto_loads_here() -> None:
    found = load_model("builtin:base", dtype="auto", device="auto")
    assert found.device.type == auto_device() and found.dtype == (
        torch.bfloat16 if auto_device() == "cuda" else torch.float32
    )
    with pytest.raises(BadInput, match="only one of device"):
        load_model("builtin:base", device="auto", device_map="auto")


# Readers


@pytest.mark.parametrize("kind", ["builtin", "folder", "gguf"])
def test_a_reader_feeds_the_ids_that_the_model_is_fed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = {
        "builtin": lambda: "builtin:base",
        "folder": lambda: str(stored(tmp_path / "m")),
        "gguf": lambda: str(write_gguf(tmp_path / "a.gguf", source_model("llama"))),
    }[kind]()
    whole = load_model(name)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(models.AutoModelForCausalLM, "from_pretrained", never)
    found = load_reader(name)
    assert (found.id, found.n_layers, found.d_model, found.context) == (
        name,
        whole.n_layers,
        whole.d_model,
        whole.context,
    )
    assert found.parameters == sum(p.numel() for p in whole.model.parameters())
    for text in ("w9 w10 wait", "rules + 15 ; goal 31", "hello"):
        assert encode_prompt(found, text) == encode_prompt(whole, text)
    assert found.layout.kinds(0) == ("resid_pre", "resid_post") and len(found.layout.blocks) == whole.n_layers


def plan_at(site: str, width: int = 128, made: Provenance | None = None, span: str = "last_prompt") -> Plan:
    direction = torch.nn.functional.normalize(torch.arange(1.0, width + 1), dim=0)
    vector = SteeringVector("v", Site.parse(site), direction, made or Provenance("random", "none"))
    return Plan((Intervention("add", vector, Span.parse(span), Dose(1.0, "vector")),))


def test_a_plan_is_explained_alike_with_and_without_weights() -> None:
    light, whole = load_reader("builtin:base"), load_model("builtin:base")
    own, foreign = Provenance("m", whole.fingerprint, "builtin:base"), Provenance("m", "0" * 16, "other")
    plan = plan_at("blocks.1.hook_resid_post")
    assert not needs_weights(plan, light)
    assert explain(light, plan, "rules + 15").tokens == explain(whole, plan, "rules + 15").tokens
    assert needs_weights(plan_at("blocks.1.hook_mlp_out"), light)
    for span in ("prompt", "generated | sinks", "outside_thinking"):
        assert needs_weights(plan_at("blocks.1.hook_resid_post", span=span), light)
    with pytest.raises(BadInput, match="attention sinks is measured on its weights"):
        explain(light, plan_at("blocks.1.hook_resid_post", span="prompt"), "rules + 15")
    assert needs_weights(plan_at("blocks.1.hook_resid_post", made=own), light)
    assert needs_weights(plan_at("blocks.1.hook_resid_post", made=foreign), light, strict=True)
    with pytest.raises(BadInput, match="0 to"):
        explain(light, plan_at("blocks.99.hook_resid_post"), "rules + 15")
    with pytest.raises(BadInput, match="has width 64"):
        explain(light, plan_at("blocks.1.hook_resid_post", 64), "rules + 15")


def test_showing_a_prompt_or_a_plan_reads_no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("")
    vector = plan_at("blocks.1.hook_resid_post").interventions[0].vector
    vector.save(tmp_path / "v.safetensors")

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(models.AutoModelForCausalLM, "from_pretrained", never)
    asked = ["plan", "explain", f"add {tmp_path / 'v.safetensors'} 1v on last_prompt", "--prompt", "rules + 15"]
    for arguments in (["prompt"], asked):
        done = CliRunner().invoke(app, [*arguments, "--json"])
        assert done.exit_code == 0, done.output


# Known names
