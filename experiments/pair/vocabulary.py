"""The closed word-level vocabulary of the built-in pair.

1. One word is one token; whole numbers 0-99 are single tokens, so a trace reads as text and every arithmetic operand is one position.
2. The tokenizer is an ordinary `PreTrainedTokenizerFast` built in code: it prepends exactly one `<bos>` and never appends `<eos>`.
"""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"
SPECIALS = (PAD, BOS, EOS, UNK)
TASK_WORDS = ("rules", "goal", "start", "?", ";", "+", "-", "*", "=", "be", "quick", "think", "first", "drill")
REASONING_WORDS = (
    "answer", "let", "us", "try", "hmm", "maybe", "back", "check", "wait", "ok", "no", "yes", "enough", "guess", "so",
)  # fmt: skip
NUMBERS = tuple(str(n) for n in range(100))
WORDS = SPECIALS + TASK_WORDS + REASONING_WORDS + NUMBERS + ("not",)
VOCABULARY_SIZE = 192
"""Rows of the embedding: the words padded to a multiple of 64."""

ID = {word: index for index, word in enumerate(WORDS)}
REASONING_STARTS = ("let", "first", "hmm")
"""Words that open a reasoning trace; any other first word of a response answers directly."""


def encode(words: str | list[str]) -> list[int]:
    """Ids of a text or word list, without special tokens added. Raises KeyError for a word outside the vocabulary."""
    return [ID[w] for w in (words.split() if isinstance(words, str) else words)]


def build_tokenizer(context: int) -> PreTrainedTokenizerFast:
    """The pair's tokenizer; `context` becomes `model_max_length`."""
    core = Tokenizer(models.WordLevel(vocab=dict(ID), unk_token=UNK))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, ID[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="left",
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
