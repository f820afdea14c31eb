"""Models from GGUF files: the numbers, ids and texts of their source, a cache that is whole, and files that are refused in a sentence."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

from steering.errors import BadInput
from steering.model import cached, gguf_differences, gguf_models
from steering.model.cached import cache_root, is_whole, made
from steering.model.gguf_files import open_gguf
from steering.model.models import load_model, wrap
from tests.written_gguf import byte_tokenizer, source_model, write_gguf

IDS = torch.arange(2, 42).reshape(2, 20)
TEXTS = ("hello world", "hello  12 + 1212", "a  12\n\n  7", "<|im_start|>user\nhello<|im_end|>", "it's naïve 日本")
KINDS = gguf.GGMLQuantizationType


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERING_CACHE", str(tmp_path / "cache"))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def kept() -> list[Path]:
    """Folders in the cache, half-made ones too."""
    return sorted(path for path in (cache_root() / "models").glob("*") if path.suffix != ".lock")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_logits_ids_and_template_are_those_of_the_source(family: str, tied: bool, tmp_path: Path) -> None:
    source = source_model(family, tie_word_embeddings=tied)
    path = write_gguf(tmp_path / "m" / "tiny.gguf", source, family=family)
    found = load_model(str(path))
    assert torch.equal(logits(found.model), logits(source))
    own = byte_tokenizer()
    for text in TEXTS:
        assert found.tokenizer(text)["input_ids"] == own(text)["input_ids"], text
    said = [{"role": "user", "content": "hello"}]
    assert found.tokenizer.apply_chat_template(said, tokenize=False) == own.apply_chat_template(said, tokenize=False)
    assert found.tokenizer.special_tokens_map == own.special_tokens_map
    assert found.eos_ids == {1} and found.context == 128 and found.dtype == torch.float32
    assert load_model(str(path.parent)).fingerprint == found.fingerprint == wrap(source, own).fingerprint


@pytest.mark.parametrize("kind", [KINDS.F32, KINDS.F16, KINDS.BF16, KINDS.Q8_0, KINDS.Q4_1])
def test_the_cache_holds_every_bit_of_what_transformers_reads(kind: Any, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", source_model("llama"), kind=kind)
    fresh = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    found = load_model(str(path))
    assert found.fingerprint == wrap(fresh, byte_tokenizer()).fingerprint
    half = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.bfloat16)
    assert load_model(str(path), dtype="bfloat16").fingerprint == wrap(half, byte_tokenizer()).fingerprint
    with safe_open(kept()[0] / "model.safetensors", "pt") as handle:
        stored = handle.get_slice("model.layers.0.mlp.up_proj.weight").get_dtype()
    assert stored == {KINDS.F16: "F16", KINDS.BF16: "BF16"}.get(kind, "F32")


def test_only_the_file_counts_and_not_what_lies_beside_it(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", source_model("llama"))
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["x.Y", null]}, "bos_token": "a"}')
    (tmp_path / "vector.safetensors").write_bytes(b"")
    found = load_model(str(tmp_path))
    assert found.tokenizer.bos_token == "<|im_start|>" and torch.equal(
        logits(found.model), logits(source_model("llama"))
    )
    assert load_model(str(path)).fingerprint == found.fingerprint


def test_a_model_is_converted_once_and_its_size_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", source_model("llama"))
    first = load_model(str(path)).fingerprint
    (folder,) = kept()
    assert f"tiny.gguf is kept dequantised in {folder}" in capsys.readouterr().err

    def never(*_: Any) -> None:
        raise AssertionError("converted a second time")

    with monkeypatch.context() as patch:
        patch.setattr(gguf_models, "_convert", never)
        other = tmp_path / "copy.gguf"
        other.write_bytes(path.read_bytes())
        assert load_model(str(other)).fingerprint == first
        assert "is kept" not in capsys.readouterr().err
    monkeypatch.setattr(gguf_models.transformers, "__version__", "5.99.0")
    assert load_model(str(path)).fingerprint == first and len(kept()) == 2  # another version reads the file anew


def damage_bytes(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-100])),
        ("model.safetensors", damage_bytes),
        ("tokenizer.json", lambda path: path.unlink()),
        ("config.json", lambda path: path.write_text("{}")),
        ("cache.json", lambda path: path.write_text("{")),
    ],
)
def test_a_damaged_cache_is_made_again(file: str, damage: Callable[[Path], None], tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", source_model("llama"))
    first = load_model(str(path)).fingerprint
    (folder,) = kept()
    assert is_whole(folder)
    damage(folder / file)
    assert not is_whole(folder)
    assert load_model(str(path)).fingerprint == first
    assert kept() == [folder] and is_whole(folder)


@pytest.mark.parametrize("there", ["nothing", "damaged"])
def test_of_two_at_once_one_makes_the_folder_and_the_other_waits(there: str, tmp_path: Path) -> None:
    place, together = tmp_path / "cache" / "models" / "x", Barrier(2)
    if there == "damaged":
        place.mkdir(parents=True)
        (place / "weights").write_text("half")
    found: list[tuple[Path, bool]] = []

    def make(folder: Path) -> None:
        (folder / "weights").write_text("all")
        time.sleep(0.2)
        (folder / "more").write_text("of it")

    def ask() -> None:
        together.wait(timeout=30)
        found.append(made(place, make))
        assert (place / "more").read_text() == "of it"

    threads = [Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [(place, False), (place, True)]
    assert is_whole(place) and (place / "weights").read_text() == "all"
    assert [path for path in place.parent.iterdir() if path.suffix != ".lock"] == [place]


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path: Path) -> None:
    place = tmp_path / "models" / "x"
    old, young = (place.with_name(f".partial-x-{name}") for name in ("old", "young"))
    for left in (old, young):
        left.mkdir(parents=True)
    os.utime(old, (1e9, 1e9))
    made(place, lambda folder: (folder / "a").write_text("a") and None)
    assert not old.exists() and young.exists()


def test_the_cache_lies_where_it_is_told_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_root() == tmp_path / "cache"
    monkeypatch.delenv("STEERING_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "steering-workbench"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard says to ignore it
    assert cache_root() == Path.home() / ".cache" / "steering-workbench"


def test_a_cache_that_cannot_be_written_says_which_variable_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STEERING_CACHE", str(tmp_path / "file"))
    with pytest.raises(BadInput, match="STEERING_CACHE"):
        load_model(str(write_gguf(tmp_path / "tiny.gguf", source_model("llama"))))


def cut(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


def test_files_that_are_cut_short_or_corrupt_are_refused_before_the_cache_is_written(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "tiny.gguf", source_model("llama")).read_bytes()
    for share in (0.001, 0.05, 0.5, 0.999):
        (tmp_path / "tiny.gguf").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(BadInput, match="corrupt or cut short"):
            load_model(str(tmp_path / "tiny.gguf"))
    for place in (8, 16):  # the counts of tensors and of fields
        (tmp_path / "tiny.gguf").write_bytes(whole[:place] + b"\xff" * 6 + whole[place + 6 :])
        with pytest.raises(BadInput, match="corrupt or cut short"):
            load_model(str(tmp_path / "tiny.gguf"))
    (tmp_path / "tiny.gguf").write_bytes(b"not one" * 99)
    with pytest.raises(BadInput, match="is not a GGUF file"):
        load_model(str(tmp_path / "tiny.gguf"))
    assert kept() == []


def test_a_weight_that_is_no_number_is_refused(tmp_path: Path) -> None:
    bad = np.full((32,), np.nan, np.float32)
    path = write_gguf(tmp_path / "tiny.gguf", source_model("llama"), tensors={"blk.1.attn_norm.weight": bad})
    with pytest.raises(BadInput, match=r"layers\.1\.input_layernorm\.weight holds NaN"):
        load_model(str(path))
    assert kept() == []


def test_an_architecture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for name in ("clip", "rwkv7", "controlvector"):
        path = write_gguf(tmp_path / f"{name}.gguf", source_model("llama"), name=name)
        with pytest.raises(BadInput, match=f"architecture '{name}', which transformers .* does not read") as refused:
            load_model(str(path))
        assert "\n" not in str(refused.value)
    assert kept() == []


def test_one_file_of_several_is_named(tmp_path: Path) -> None:
    for name in ("b.gguf", "a.gguf"):
        write_gguf(tmp_path / name, source_model("llama"))
    with pytest.raises(BadInput, match=r"holds 2 GGUF files: a\.gguf, b\.gguf\. Name one"):
        load_model(str(tmp_path))
    assert load_model(str(tmp_path / "b.gguf")).n_layers == 2
    with pytest.raises(BadInput, match=r"no GGUF file at .*c\.gguf\. Beside it: a\.gguf, b\.gguf"):
        load_model(str(tmp_path / "c.gguf"))
    part = tmp_path / "parts" / "m-00001-of-00003.gguf"
    write_gguf(part, source_model("llama"))
    for name in (part, part.parent):
        with pytest.raises(BadInput, match="part 1 of 3"):
            load_model(str(name))


def llama3(theta: float, factor: float, low: float = 1.0) -> np.ndarray:
    """What llama.cpp's converter writes for Llama 3's rotary scaling, over 16 pairs."""
    found = []
    for pair in range(16):
        wavelength = 2 * math.pi * theta ** (pair / 16)
        smooth = (8192 / wavelength - low) / (4 - low)
        found.append(
            1.0
            if wavelength < 8192 / 4
            else factor
            if wavelength > 8192 / low
            else 1 / ((1 - smooth) / factor + smooth)
        )
    return np.array(found, np.float32)


def test_llama_3_rotary_factors_are_kept_and_others_refused(tmp_path: Path) -> None:
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    }
    source = source_model("llama", hidden_size=128, rope_parameters={**rope, "original_max_position_embeddings": 8192})
    path = write_gguf(tmp_path / "a.gguf", source, tensors={"rope_freqs.weight": llama3(500000.0, 8.0)})
    assert torch.equal(logits(load_model(str(path)).model), logits(source))
    assert not torch.equal(logits(source), logits(source_model("llama", hidden_size=128)))
    path = write_gguf(tmp_path / "b.gguf", source, tensors={"rope_freqs.weight": llama3(500000.0, 8.0, low=2.0)})
    with pytest.raises(BadInput, match="scales its rotary factors"):
        load_model(str(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extra": {"rope.scaling.type": "yarn"}}, r"scales its rotary factors \(yarn\)"),
        ({"extra": {"attention.key_length": 16.0}}, "says attention.key_length 16"),
        ({"extra": {"logit_scale": 0.5}}, "says logit_scale 0.5"),
        ({"tensors": {"blk.0.attn_q.bias": np.ones(32, np.float32)}}, "parts of it would be left out"),
        ({"left_out": "blk.1.ffn_up.weight"}, r"lacks weights of its model: model\.layers\.1\.mlp\.up_proj\.weight"),
    ],
)
def test_what_transformers_would_leave_out_of_the_model_is_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "a.gguf", source_model("llama"), **options)
    with pytest.raises(BadInput, match=message):
        load_model(str(path))
    assert kept() == []


REAL = {
    "llama": {  # Llama 3.2 1B
        "block_count": 16, "context_length": 131072, "embedding_length": 2048, "feed_forward_length": 8192, "attention.head_count": 32,
        "attention.head_count_kv": 8, "rope.freq_base": 500000.0, "attention.layer_norm_rms_epsilon": 1e-5, "attention.key_length": 64,
        "attention.value_length": 64, "rope.dimension_count": 64, "vocab_size": 128256,
    },
    "qwen2": {  # Qwen2.5 1.5B
        "block_count": 28, "context_length": 32768, "embedding_length": 1536, "feed_forward_length": 8960, "attention.head_count": 12,
        "attention.head_count_kv": 2, "rope.freq_base": 1000000.0, "attention.layer_norm_rms_epsilon": 1e-6, "attention.key_length": 128,
    },
    "qwen3": {  # Qwen3 0.6B: heads wider than the stream
        "block_count": 28, "context_length": 40960, "embedding_length": 1024, "feed_forward_length": 3072, "attention.head_count": 16,
        "attention.head_count_kv": 8, "rope.freq_base": 1000000.0, "attention.layer_norm_rms_epsilon": 1e-6, "attention.key_length": 128,
        "attention.value_length": 128,
    },
    "gemma2": {  # Gemma 2 2B
        "block_count": 26, "context_length": 8192, "embedding_length": 2304, "feed_forward_length": 9216, "attention.head_count": 8,
        "attention.head_count_kv": 4, "attention.layer_norm_rms_epsilon": 1e-6, "attention.key_length": 256, "attention.value_length": 256,
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "attention.sliding_window": 4096,
    },
    "gemma3": {  # Gemma 3 1B: two rotary bases
        "block_count": 26, "context_length": 32768, "embedding_length": 1152, "feed_forward_length": 6912, "attention.head_count": 4,
        "attention.head_count_kv": 1, "rope.freq_base": 1000000.0, "attention.layer_norm_rms_epsilon": 1e-6, "attention.key_length": 256,
        "attention.value_length": 256, "attention.sliding_window": 512,
    },
    "phi3": {  # Phi 3 mini 4k, whose window is as long as its context
        "block_count": 32, "context_length": 4096, "embedding_length": 3072, "feed_forward_length": 8192, "attention.head_count": 32,
        "attention.head_count_kv": 32, "rope.freq_base": 10000.0, "attention.layer_norm_rms_epsilon": 1e-5, "rope.dimension_count": 96,
        "rope.scaling.original_context_length": 4096, "attention.sliding_window": 262144,
    },
    "gpt2": {
        "block_count": 12, "context_length": 1024, "embedding_length": 768, "feed_forward_length": 3072, "attention.head_count": 12,
        "attention.layer_norm_epsilon": 1e-5,
    },
}  # fmt: skip
"""What llama.cpp's converter writes of published models."""


def metadata(path: Path, architecture: str, facts: dict[str, Any]) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in facts.items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"{architecture}.{key}", value)
    writer.add_token_list(["a", "b"])
    writer.add_tensor("token_embd.weight", np.zeros((2, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("architecture", REAL)
def test_published_models_are_not_refused_and_their_neighbours_are(architecture: str, tmp_path: Path) -> None:
    def checked(facts: dict[str, Any], name: str) -> list[str]:
        path = metadata(tmp_path / f"{name}.gguf", architecture, facts)
        config = AutoConfig.from_pretrained(tmp_path, gguf_file=path.name)
        reader = open_gguf(path)
        gguf_differences.refuse_differences(path, reader, architecture, config)
        return gguf_differences.unread(reader, architecture, config)

    facts = REAL[architecture]
    assert checked(facts, "real") == []
    if architecture == "gpt2":
        return
    with pytest.raises(BadInput, match="another model"):
        checked({**facts, "rope.dimension_count": 20, "attention.key_length": 40}, "partly_turned")
    with pytest.raises(BadInput, match="another model"):
        checked({**facts, "attn_logit_softcapping": 7.0}, "capped")
    assert checked({**facts, "a.new.number": 3.0}, "new") == [
        "transformers does not read a.new.number; whether the model needs it is not known here."
    ]


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("rule", ["gpt-2", "smollm", "llama-bpe"])
def test_text_is_split_by_the_rule_that_the_file_names(
    rule: str, family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, own = write_gguf(tmp_path / "a.gguf", source_model(family), family=family, rule=rule), byte_tokenizer(rule)
    found = load_model(str(path)).tokenizer
    for text in (*TEXTS, "1.  12 eggs", "x  1"):
        assert found(text)["input_ids"] == own(text)["input_ids"], text
    assert "Warning" not in capsys.readouterr().err
    if rule != "gpt-2":
        assert any(own(t)["input_ids"] != byte_tokenizer()(t)["input_ids"] for t in TEXTS)


def test_an_unknown_rule_is_told_of_at_every_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_gguf(tmp_path / "a.gguf", source_model("llama"))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"gpt-2", b"foo-x"))
    for _ in range(2):
        load_model(str(path))
        assert "splits text by a rule 'foo-x' that is not known here" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "a.gguf", source_model("llama"))

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cached, "_seal", full)
    with pytest.raises(OSError, match="There is no room"):
        load_model(str(path))
    assert kept() == []
