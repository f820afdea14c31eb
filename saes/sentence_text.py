"""Sentences of reasoning traces, and their mean activations (Venhoff et al., 2510.07364, App. A and code).

1. A text is split after ., ?, !, ; and at line breaks. Points inside numbers (3.14), after single letters (E. coli, e.g.) and after a
   few titles do not end a sentence, nor does the ! of k!. Sentences of fewer than three words are left out.
2. Only the thinking segment is split: the last one with something in it, to the end of the text where it is not closed, and the whole
   text where there is none (`steering.model.thinking` has the markers); of a text that begins with its prompt, only what follows it
   (`begins`).
3. A sentence's vector is the mean of the layer output over its tokens and the one token before its first, which decides to begin it
   (the authors' slice begins there too). A token that holds the last character of a sentence belongs to it.
4. The centring mean is the mean over texts of each text's mean over the tokens from its first sentence to its last one, so that
   a long trace weighs no more than a short one (the authors' running mean).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steering.compile.text import character_places
from steering.errors import BadInput
from steering.extraction.annotations import token_span
from steering.extraction.reading import Reading
from steering.extraction.samples import samples
from steering.extraction.sinks import without_sinks
from steering.model.models import LoadedModel
from steering.model.sites import Site
from steering.model.thinking import MARKERS, Markers, model_markers, read_thinking

MIN_WORDS = 3
_END = re.compile(r"[.!?;]+[\"”]?|\n")
_TITLES = re.compile(r"\b(?:Mrs|Mr|Ms|Dr|Prof|vs|cf|Fig|Eq)\.$")
_LETTER = re.compile(r"\b[A-Za-z][.!]$")


@dataclass(frozen=True)
class Sentence:
    """One sentence of a text: characters `start` to `end` of it, and its tokens `first` to `last` (both ends exclusive on the right)."""

    text: int
    """Number of the text."""
    start: int
    end: int
    first: int
    last: int
    words: str
    """As written."""


@dataclass(frozen=True, eq=False)
class SentenceVectors:
    """Sentences with their mean activations, not centred."""

    vectors: Tensor
    """`[sentences, width]` float32, in residual-stream units."""
    mean: Tensor
    """`[width]` float32: what they are centred by."""
    sentences: tuple[Sentence, ...]
    site: Site
    data: str
    """Hash of the tokens and spans read."""


def thinking_span(text: str, markers: Sequence[Markers] = MARKERS) -> tuple[int, int]:
    """Characters of the last thinking segment, end exclusive; the whole text where there is none."""
    return read_thinking(text, markers).last or (0, len(text))


def split_sentences(text: str, *, min_words: int = MIN_WORDS) -> tuple[tuple[int, int], ...]:
    """Characters `(start, end)` of each sentence, end exclusive, without white space around it."""
    pieces, start = [], 0
    for match in _END.finditer(text):
        if not _inside_sentence(text, match):
            pieces.append((start, match.end()))
            start = match.end()
    pieces.append((start, len(text)))
    found = []
    for start, end in pieces:
        words = text[start:end]
        if len(words.split()) >= min_words:
            found.append((start + len(words) - len(words.lstrip()), start + len(words.rstrip())))
    return tuple(found)


def _inside_sentence(text: str, match: re.Match[str]) -> bool:
    if match[0] not in (".", "!"):
        return False
    before, after = text[: match.end()][-8:], text[match.end() :][:8]
    if match[0] == "!":
        return _LETTER.search(before) is not None
    if after[:1].isdigit() and before[-2:-1].isdigit():
        return True
    follows = re.match(r"\s+[A-Za-z]|[A-Za-z]\b", after) is not None
    return follows and (_LETTER.search(before) is not None or _TITLES.search(before) is not None)


def sentence_vectors(
    model: LoadedModel,
    texts: Sequence[str],
    site: Site | str,
    *,
    min_words: int = MIN_WORDS,
    batch_size: int = 8,
    begins: Sequence[int] | None = None,
) -> SentenceVectors:
    """Mean activations of every sentence at `site` (the paper reads layer outputs, `resid_post`), one streamed pass over the texts.

    The texts are tokenised whole, as they were given to or written by the model; `begins` are the characters at which what it wrote begins,
    where a text holds its prompt. Raises BadInput when no text has a sentence, one is
    longer than the context, or the tokenizer cannot say which characters a token covers.
    """
    if not model.tokenizer.is_fast:
        raise BadInput(f"The tokenizer of {model.id} does not report character offsets; load its fast version.")
    markers = model_markers(model)
    found = []
    for number, text in enumerate(texts):
        begin, stop = thinking_span(text, markers)
        begin = begin if begins is None else max(begin, begins[number])
        encoded = model.tokenizer(text, return_offsets_mapping=True)
        cut = _cut(number, text, begin, stop, encoded["offset_mapping"], 0, min_words)
        found.append((tuple(encoded["input_ids"]), cut))
    return _read(model, found, Site.parse(site), min_words, batch_size)


def response_sentence_vectors(
    model: LoadedModel,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    site: Site | str,
    *,
    min_words: int = MIN_WORDS,
    batch_size: int = 8,
) -> SentenceVectors:
    """The same of responses as they were fed and written, in ids: nothing is tokenised again, and chat templates are what they were.

    Characters of a sentence are those of the decoded response; its tokens those of prompt and response together. Raises BadInput as
    `sentence_vectors` does.
    """
    markers = model_markers(model)
    found = []
    for number, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        text, places = character_places(model, response)
        begin, stop = thinking_span(text, markers)
        found.append(((*prompt, *response), _cut(number, text, begin, stop, places, len(prompt), min_words)))
    return _read(model, found, Site.parse(site), min_words, batch_size)


def _cut(
    number: int, text: str, begin: int, stop: int, places: Sequence[tuple[int, int]], offset: int, min_words: int
) -> list[Sentence]:
    """Sentences of a text's characters `begin:stop`; `places` are those of its tokens, of which `offset` others come first."""
    found = []
    for start, end in split_sentences(text[begin:stop], min_words=min_words):
        tokens = token_span(places, begin + start, begin + end)
        if tokens is not None:
            words = text[begin + start : begin + end]
            found.append(Sentence(number, begin + start, begin + end, offset + tokens[0], offset + tokens[1], words))
    return found


def _read(
    model: LoadedModel, texts: Sequence[tuple[tuple[int, ...], list[Sentence]]], site: Site, min_words: int, batch: int
) -> SentenceVectors:
    """One streamed pass over the ids of texts that hold a sentence."""
    site = model.layout.check(site)
    sequences, spans, sentences = [], [], []
    for ids, found in texts:
        if found:
            whole = (found[0].first, found[-1].last)
            sequences.append(ids)
            spans.append([whole, *((max(0, one.first - 1), one.last) for one in found)])
            sentences += found
    if not sentences:
        raise BadInput(
            f"None of the {len(texts)} texts has a sentence of at least {min_words} words in its thinking segment."
        )
    reading = without_sinks(model, Reading.over(sequences, spans))
    whole_text = torch.tensor([place == 0 for row in spans for place in range(len(row))])
    parts = []
    total, count = torch.zeros(model.layout.width(site), dtype=torch.float64), 0
    done = 0
    for values in (part[site] for part in samples(model, reading, [site], batch_size=batch)):
        chosen = whole_text[done : done + len(values)]
        done += len(values)
        total += values[chosen].double().sum(0)
        count += int(chosen.sum())
        parts.append(values[~chosen])
    return SentenceVectors(torch.cat(parts), (total / count).float(), tuple(sentences), site, reading.digest)
