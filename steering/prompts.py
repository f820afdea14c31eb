"""From text to the ids that are fed.

1. An empty prompt is refused.
2. There is exactly one BOS when the tokenizer uses one, however the text was made (a chat template may have written its own).
3. What of a text a model's tokenizer does not know is told by `unknown_in`; nothing is changed or refused because of it.
4. Token texts come from the ids fed; nothing is ever tokenised a second time from decoded text.
"""

from __future__ import annotations

from collections.abc import Sequence

from .errors import BadInput
from .models import LoadedModel
from .vocabulary import Unknown, unknown_tokens


def encode_prompt(model: LoadedModel, text: str) -> tuple[int, ...]:
    """Ids of one prompt as fed to the model. Raises BadInput when the text is empty or only white space."""
    if not text.strip():
        raise BadInput("The prompt is empty. Give at least one word.")
    ids = list(model.tokenizer(text)["input_ids"])
    bos, eos = model.tokenizer.bos_token_id, model.tokenizer.eos_token_id
    while bos is not None and ids[:2] == [bos, bos]:
        ids = ids[1:]
    if (
        eos is not None
        and eos != bos
        and ids
        and ids[-1] == eos
        and not text.rstrip().endswith(str(model.tokenizer.eos_token))
    ):
        ids = ids[:-1]
    return tuple(ids)


def unknown_in(model: LoadedModel, text: str) -> Unknown | None:
    """The parts of a text that the model's tokenizer does not know; None when it knows all of it, or is one that cannot tell."""
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    return None if backend is None else unknown_tokens(backend, text)


def token_texts(model: LoadedModel, ids: Sequence[int]) -> list[str]:
    """Display text per id: what the id decodes to, special tokens spelled out."""
    known: dict[int, str] = model.extra.setdefault("token_texts", {})
    for token in set(ids) - known.keys():
        known[token] = model.tokenizer.decode([token])
    return [known[token] for token in ids]
