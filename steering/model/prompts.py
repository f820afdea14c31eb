"""From text to the ids that are fed.

1. An empty prompt is refused.
2. There is exactly one BOS when the tokenizer uses one, however the text was made (a chat template may have written its own).
3. Token texts come from the ids fed; nothing is ever tokenised a second time from decoded text.
4. In text that is marked as data (`as_data`), what spells a control token is fed as ordinary tokens, or refused where the tokenizer has
   none for it; everything else is fed as without the marks.
5. What of a text a model's tokenizer does not know is told by `unknown_in`, and what spells its special tokens by `controls_in`; nothing is
   changed or refused because of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

from ..errors import BadInput
from .reader import Reads
from .vocabulary import Unknown, unknown_tokens

BEGIN, END = "\U000f0f00", "\U000f0f01"
"""Characters of a private plane that stand around what is data and spells a control token."""


def control_texts(model: Reads) -> tuple[str, ...]:
    """What the tokenizer reads as one token wherever it stands, the longest first; runs of white space are ordinary text."""
    known: tuple[str, ...] | None = model.extra.get("control_texts")
    if known is None:
        added = {str(token) for token in getattr(model.tokenizer, "added_tokens_decoder", {}).values()}
        every = {text for text in added | set(model.tokenizer.all_special_tokens) if text and not text.isspace()}
        known = model.extra["control_texts"] = tuple(sorted(every, key=lambda text: (-len(text), text)))
    return known


def as_data(model: Reads, text: str) -> str:
    """A text whose control tokens are marked as ordinary text. Raises BadInput for a text that holds the marks themselves."""
    if BEGIN in text or END in text:
        raise BadInput("The question holds U+F0F00 or U+F0F01, characters that stand for nothing; take them out.")
    texts = control_texts(model)
    if not any(control in text for control in texts):
        return text
    return re.sub("|".join(map(re.escape, texts)), lambda match: f"{BEGIN}{match.group()}{END}", text)


def unmarked(text: str) -> str:
    """A text without the marks of `as_data`."""
    return text.replace(BEGIN, "").replace(END, "")


def check_text(text: str) -> None:
    """Raises BadInput for what is no text: bytes of an argument that are not UTF-8, or half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(
            f"The prompt is no text: what stands at its character {error.start + 1} is not UTF-8. Give it in UTF-8."
        ) from error


def encode_prompt(model: Reads, text: str) -> tuple[int, ...]:
    """Ids of one prompt as fed to the model; `text` may be marked (`as_data`).

    Raises BadInput when the text is empty or only white space, or when the tokenizer has no ordinary tokens for data that spells a control
    token.
    """
    check_text(text)
    if not unmarked(text).strip():
        raise BadInput("The prompt is empty. Give at least one word.")
    first, *rest = re.split(f"{BEGIN}([^{END}]*){END}", text)
    ids = _first(model, first) if rest else _first(model, text)
    for place, piece in enumerate(rest):
        if piece:
            ids += _ordinary(model, piece) if place % 2 == 0 else _within(model.tokenizer, piece)
    return tuple(ids)


def _within(encode: Any, piece: str) -> list[int]:
    """Ids of a piece from inside a text: after a line break, so that no space is put before it as at a text's beginning."""
    newline, ids = (list(encode(t, add_special_tokens=False)["input_ids"]) for t in ("\n", "\n" + piece))
    found = (
        ids[len(newline) :]
        if newline and ids[: len(newline)] == newline
        else encode(piece, add_special_tokens=False)["input_ids"]
    )
    return list(found)


def _ordinary(model: Reads, piece: str) -> list[int]:
    """Ids of what spells a control token, as ordinary text. Raises BadInput where they do not spell it."""
    plain = _plain_tokenizer(model)
    ids = (
        []
        if plain is None
        else _within(lambda t, **_: {"input_ids": plain.encode(t, add_special_tokens=False).ids}, piece)
    )
    controls = {*getattr(model.tokenizer, "added_tokens_decoder", {}), *model.tokenizer.all_special_ids}
    if not ids or controls & {*ids} or model.tokenizer.decode(ids).strip() != piece.strip():
        raise BadInput(
            f"The question holds {piece!r}, a control token of {model.id}, and its tokenizer cannot write it as ordinary text. "
            f"Take it out of the question, or write it another way."
        )
    return ids


def _plain_tokenizer(model: Reads) -> Tokenizer | None:
    """The model's tokenizer without its added tokens; None for one that has no fast form."""
    if "plain_tokenizer" not in model.extra:
        core = getattr(model.tokenizer, "backend_tokenizer", None)
        if core is not None:
            facts = json.loads(core.to_str())
            core = Tokenizer.from_str(json.dumps({**facts, "added_tokens": [], "post_processor": None}))
        model.extra["plain_tokenizer"] = core
    found: Tokenizer | None = model.extra["plain_tokenizer"]
    return found


def _first(model: Reads, text: str) -> list[int]:
    """Ids of a text from its beginning, with one BOS where the tokenizer uses one, and without an EOS that the text does not write."""
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
    return ids


def unknown_in(model: Reads, text: str) -> Unknown | None:
    """The parts of a text that the model's tokenizer does not know; None when it knows all of it, or is one that cannot tell."""
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    return None if backend is None else unknown_tokens(backend, text)


def controls_in(model: Reads, text: str) -> tuple[str, ...]:
    """What of a text spells special tokens of the model (turn markers, ends of text), in order: fed as they are, they are those tokens."""
    added = getattr(model.tokenizer, "added_tokens_decoder", {})
    special = {str(t) for t in added.values() if t.special} | {str(t) for t in model.tokenizer.all_special_tokens}
    names = [name for name in control_texts(model) if name in special]
    return tuple(re.findall("|".join(map(re.escape, names)), text)) if names else ()


def token_texts(model: Reads, ids: Sequence[int]) -> list[str]:
    """Display text per id: what the id decodes to, special tokens spelled out."""
    known: dict[int, str] = model.extra.setdefault("token_texts", {})
    for token in set(ids) - known.keys():
        known[token] = model.tokenizer.decode([token])
    return [known[token] for token in ids]
