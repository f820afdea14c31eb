"""A real language model from a GGUF file: its special tokens, its chat template, its way of splitting text, and that it writes English."""

from __future__ import annotations

import pytest

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel
from steering.model.prompts import encode_prompt
from steering.model.reader import load_reader

pytestmark = pytest.mark.language
ASKED = [{"role": "user", "content": "What is the capital of France?"}]


def test_special_tokens_and_template_are_those_of_the_file(smollm2: LoadedModel) -> None:
    words = smollm2.tokenizer
    assert (words.bos_token, words.eos_token, words.pad_token, words.unk_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
        "<|endoftext|>",
    )
    assert (words.bos_token_id, words.eos_token_id, len(words)) == (1, 2, 49152)
    assert smollm2.eos_ids == {2} and smollm2.context == 8192 and smollm2.n_layers == 30 and smollm2.d_model == 576
    text = words.apply_chat_template(ASKED, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = encode_prompt(smollm2, text)
    assert [ids.count(n) for n in (1, 2)] == [3, 2] and ids[0] == 1 and ids[1] != 1
    assert words.decode(ids) == text


def test_text_is_split_as_the_model_was_trained_on(smollm2: LoadedModel) -> None:
    # Each digit stands alone, also where the space before it belongs to a run of spaces.
    for text, pieces in (
        ("12345 + 67", ["1", "2", "3", "4", "5", "Ġ+", "Ġ", "6", "7"]),
        ("a  12", ["a", "ĠĠ", "1", "2"]),
        ("it's x1", ["it", "'s", "Ġx", "1"]),
    ):
        assert smollm2.tokenizer.tokenize(text) == pieces
    assert encode_prompt(load_reader("smollm2"), "a  12") == encode_prompt(smollm2, "a  12")


def test_it_writes_english(smollm2: LoadedModel) -> None:
    text = smollm2.tokenizer.apply_chat_template(ASKED, tokenize=False, add_generation_prompt=True)
    (found,) = generate(smollm2, [Row(encode_prompt(smollm2, text))], GenerationSettings(24, 0.0))
    assert smollm2.tokenizer.decode(found.token_ids) == "The capital of France is Paris.<|im_end|>"
    assert found.finish == "eos"
