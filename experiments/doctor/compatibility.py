"""What two checkpoints have in common, from their configurations and tokenizers alone: no weights are read.

1. Ids that mean different tokens, special tokens that differ, chat templates and their thinking switch, and whether ordinary text is split
   alike.
2. Shapes, and from them what can be done: a contrast of the two on the same tokens, one's vectors in the other, a hybrid of both.
3. Memory: parameters counted on the meta device, times the precision; the cache per token, times rows and tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from steering.errors import unknown
from steering.model.layout import text_config
from steering.model.models import DTYPES
from steering.model.reader import load_reader
from steering.model.sources import find_source, refusal
from steering.model.thinking import MARKERS, Markers, leaves_open, template_markers

from ..tasks.prompting import SWITCH

TEXTS = (
    "What is 12 + 30? Let us think step by step.\n\nFirst, 12 + 30 = 42. Wait, let me check: 42 - 30 = 12.",
    "Let $x \\in \\mathbb{R}$ with $x^2 = 2$. Then the answer is \\boxed{\\sqrt{2}}.",
    "Therefore the value is 1,234.5.\n\nHmm, but that cannot be right.",
)  # fmt: skip
SHAPES = ("layers", "width", "heads", "key_value_heads", "head_width", "embeddings", "context")
SHOWN = 8


@dataclass(frozen=True)
class Checkpoint:
    """A model without its weights."""

    id: str
    config: Any
    tokenizer: PreTrainedTokenizerBase
    parameters: int

    @property
    def shape(self) -> dict[str, int]:
        config = text_config(self.config)
        heads = config.num_attention_heads
        return {
            "layers": config.num_hidden_layers,
            "width": config.hidden_size,
            "heads": heads,
            "key_value_heads": getattr(config, "num_key_value_heads", None) or heads,
            "head_width": getattr(config, "head_dim", None) or config.hidden_size // heads,
            "embeddings": config.vocab_size,
            "context": getattr(config, "max_position_embeddings", 0),
        }

    @property
    def template(self) -> str | None:
        """The chat template as written, several as one text."""
        written = self.tokenizer.chat_template
        return " ".join(map(str, written.values())) if isinstance(written, dict) else written

    @property
    def has_switch(self) -> bool:
        """Whether the template can turn thinking on and off."""
        return SWITCH in (self.template or "")

    @property
    def opens_thinking(self) -> bool:
        """Whether the template itself begins the thinking segment."""
        if not self.template:
            return False
        said = [{"role": "user", "content": "?"}]
        text = str(self.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True))
        return leaves_open(text, "?", self.markers or MARKERS)

    @property
    def markers(self) -> tuple[Markers, ...]:
        """The markers of the thinking segment that the template writes."""
        return template_markers(self.tokenizer)


def read_checkpoint(name: str, revision: str | None = None) -> Checkpoint:
    """Configuration and tokenizer of a hub id, a folder, or a built-in. Raises BadInput."""
    reader = load_reader(name, revision=revision)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(reader.config)
    except (OSError, ValueError) as error:
        raise refusal(find_source(name), error, revision) from error
    model.tie_weights()
    return Checkpoint(name, reader.config, reader.tokenizer, sum(p.numel() for p in model.parameters()))


def memory(checkpoint: Checkpoint, dtype: str, rows: int, tokens: int) -> dict[str, float]:
    """GiB of the weights and of the cache of `rows` rows of `tokens` tokens; activations of a pass come on top."""
    if dtype not in DTYPES or dtype == "auto":
        raise unknown("dtype", dtype, [name for name in DTYPES if name != "auto"])
    size = DTYPES[dtype].itemsize  # type: ignore[union-attr]
    shape = checkpoint.shape
    per_token = 2 * shape["layers"] * shape["key_value_heads"] * shape["head_width"] * size
    return {
        "weights_gib": checkpoint.parameters * size / 2**30,
        "cache_gib": per_token * rows * tokens / 2**30,
        "cache_bytes_per_token": per_token,
    }


def compare(base: Checkpoint, thinking: Checkpoint) -> dict[str, Any]:
    """Vocabularies, special tokens, templates, shapes, and what they allow: plain data."""
    mine, theirs = ({i: t for t, i in c.tokenizer.get_vocab().items()} for c in (base, thinking))
    odd = sorted(i for i in mine.keys() | theirs.keys() if mine.get(i) != theirs.get(i))
    specials = _special(base.tokenizer), _special(thinking.tokenizer)
    renamed = [i for i in odd if i in mine and i in theirs]
    split = [_ids(base, text) == _ids(thinking, text) for text in TEXTS]
    shapes = {name: [base.shape[name], thinking.shape[name]] for name in SHAPES}
    same = shapes["layers"][0] == shapes["layers"][1] and shapes["width"][0] == shapes["width"][1]
    unlike = sorted({*specials[0]} ^ {*specials[1]}) + [
        t for t in specials[0] if specials[1].get(t, specials[0][t]) != specials[0][t]
    ]
    verdicts = {
        "contrast on the same tokens": _reason(
            [
                ("layers or width differ", not same),
                (f"{len(renamed)} ids mean different tokens", bool(renamed)),
                ("text is split differently", not all(split)),
            ]
        ),
        "vectors of one in the other": _reason([("layers or width differ", not same)]),
        "hybrid": _reason([(f"{len(odd)} ids differ, and it compares tokens by id", bool(odd))]),
        "accuracy on the same questions": "yes",
    }  # fmt: skip
    return {
        "vocabulary": {
            "sizes": [len(mine), len(theirs)],
            "ids_that_differ": len(odd),
            "first": [{"id": i, "base": mine.get(i), "thinking": theirs.get(i)} for i in odd[:SHOWN]],
            "texts_split_alike": f"{sum(split)} of {len(split)}",
        },
        "special_tokens_that_differ": unlike[: 2 * SHOWN],
        "roles": {
            role: [getattr(c.tokenizer, f"{role}_token") for c in (base, thinking)] for role in ("bos", "eos", "pad")
        },
        "chat_template": [_template(c) for c in (base, thinking)],
        "shape": shapes,
        "possible": verdicts,
    }


def _special(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    added = getattr(tokenizer, "added_tokens_decoder", {})
    named = {str(token): i for i, token in added.items()}
    return named | {t: i for t, i in zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=False)}


def _ids(checkpoint: Checkpoint, text: str) -> list[int]:
    return list(checkpoint.tokenizer(text, add_special_tokens=False)["input_ids"])


def _template(checkpoint: Checkpoint) -> str:
    if not checkpoint.template:
        return "none"
    switch = ", thinking can be switched" if checkpoint.has_switch else ""
    segment = f", thinking between {m[0].opening} and {m[0].closing}" if (m := checkpoint.markers) else ""
    return f"yes{switch}{segment}{', begins the thinking segment itself' if checkpoint.opens_thinking else ''}"


def _reason(obstacles: Sequence[tuple[str, bool]]) -> str:
    found = [text for text, there in obstacles if there]
    return f"no: {'; '.join(found)}" if found else "yes"


def allowed(facts: Mapping[str, Any]) -> bool:
    """Whether everything a base and its thinking model are used for is possible."""
    return all(verdict == "yes" for verdict in facts["possible"].values())
