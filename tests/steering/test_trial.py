"""Models are tried when they are loaded: what the engine would get wrong is refused there, with a sentence; the rest still loads."""

from __future__ import annotations

import time

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BartForCausalLM,
    BloomConfig,
    FalconConfig,
    MptConfig,
    OpenAIGPTConfig,
    PreTrainedConfig,
)

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.model.capture import capture
from steering.model.models import load_model, wrap
from steering.model.sites import Site
from steering.plan.plan import Plan
from tests.naive import naive_generate
from tests.tiny import CONFIGS, VOCABULARY, tiny, tokenizer

PARTS = dict(vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2, pad_token_id=0)
UNSERVED: dict[str, PreTrainedConfig] = {
    "bart": BartConfig(
        **PARTS, d_model=16, decoder_layers=3, encoder_layers=3, decoder_attention_heads=2, decoder_ffn_dim=24, max_position_embeddings=64,
    ),
    "bloom": BloomConfig(**PARTS, hidden_size=16, n_layer=3, n_head=2),
    "falcon-alibi": FalconConfig(**PARTS, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, alibi=True),
    "openai-gpt": OpenAIGPTConfig(**PARTS, n_embd=16, n_layer=3, n_head=2, n_positions=64),
    "mpt": MptConfig(**PARTS, d_model=16, n_layers=3, n_heads=2, max_seq_len=64),
}  # fmt: skip


def of(config: PreTrainedConfig) -> torch.nn.Module:
    torch.manual_seed(0)
    model = BartForCausalLM(config) if isinstance(config, BartConfig) else AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8.0)
    return model.float().eval()


@pytest.mark.parametrize("family", sorted(UNSERVED))
def test_an_architecture_that_cannot_be_served_is_refused_with_a_sentence_or_gives_the_oracles_text(
    family: str,
) -> None:
    model = of(UNSERVED[family])
    loaded = wrap(model, tokenizer(), id=f"tiny-{family}", trial=False)
    if loaded.trial.failure is not None:
        with pytest.raises(BadInput, match=rf"^tiny-{family} is refused: .*trial=False"):
            wrap(model, tokenizer(), id=f"tiny-{family}")
        return
    rows = [Row((1, 4, 5)), Row((1, *range(7, 19))), Row((1, 9))]
    found = generate(loaded, rows, GenerationSettings(6))
    assert [list(g.token_ids) for g in found] == [naive_generate(loaded, row.prompt_ids, Plan(), 6) for row in rows]


def test_a_decoder_that_takes_no_positions_is_refused_for_its_neighbours() -> None:
    with pytest.raises(
        BadInput,
        match=r"a row written beside a longer one, with a cache, is not the row alone \(logits of BartForCausalLM",
    ):
        wrap(of(UNSERVED["bart"]), tokenizer(), id="tiny-bart")


def test_chunks_that_hold_the_whole_context_are_none_and_shorter_ones_are_refused() -> None:
    config = CONFIGS["llama4"]()
    assert "chunked_attention" in config.layer_types and config.attention_chunk_size == config.max_position_embeddings
    rows = [Row((1, *range(7, 7 + n))) for n in (20, 3, 11)]
    loaded = tiny("llama4")
    found = generate(loaded, rows, GenerationSettings(6))
    assert [list(g.token_ids) for g in found] == [naive_generate(loaded, row.prompt_ids, Plan(), 6) for row in rows]
    config.attention_chunk_size = 64
    with pytest.raises(BadInput, match="chunked_attention layers, whose state cannot be shared"):
        wrap(AutoModelForCausalLM.from_config(config), tokenizer(), id="tiny-chunked")


def test_a_refused_model_can_be_read_when_asked_for() -> None:
    loaded = wrap(of(UNSERVED["bart"]), tokenizer(), id="tiny-bart", trial=False)
    assert loaded.trial.failure is not None
    (read,) = capture(loaded, [(1, 4, 5)], [Site(1)])
    assert read.values[Site(1)].shape == (1, 3, 16)


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_served_families_pass(family: str) -> None:
    begun = time.perf_counter()
    found = wrap(tiny(family).model, tokenizer()).trial
    assert found.failure is None and len(found.differences) == 3
    assert max(size for _, size in found.differences) < 1e-4
    assert time.perf_counter() - begun < 1.0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_built_in_models_pass_in_every_precision(dtype: str) -> None:
    assert load_model("builtin:base", dtype=dtype).trial.failure is None


def test_a_text_beyond_the_rotary_limit_is_tried() -> None:
    from tests.steering.test_rope import made

    assert [name for name, _ in made("longrope", "phi3").trial.differences][-1] == "beyond the rotary limit"
