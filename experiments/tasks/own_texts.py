"""Texts that a person brings along, from files: lines, pairs, prompts, conversations, labelled spans.

1. A text file holds one text per line; blank lines are passed over. Other files (.jsonl, .json, .csv, .parquet) hold one record per row,
   read as data sets are, and fields that have no meaning here are left alone.
2. Text is UTF-8. What cannot be read, and a record that lacks a field or holds an empty text, is refused with its file and row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from steering.errors import BadInput
from steering.extraction import LabelledSpan, TextSpan, locate, parse_annotated

from .datasets import FILES, numbered_lines, read_file


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


R = TypeVar("R", bound=_Record)


class TextPair(_Record):
    """Two texts that differ in what is to be found, and what both answer to, if anything."""

    positive: str = Field(min_length=1)
    negative: str = Field(min_length=1)
    prompt: str | None = None


class Message(_Record):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class OwnPrompt(_Record):
    """A prompt as text, or a conversation; and what it is called, if anything."""

    prompt: str | None = None
    messages: tuple[Message, ...] | None = Field(default=None, strict=False)
    id: str | int | None = None


class _Span(_Record):
    start: int = Field(ge=0)
    end: int = Field(ge=1)
    label: str = Field(min_length=1)


class _Trace(_Record):
    text: str | None = None
    token_ids: tuple[int, ...] | None = Field(default=None, strict=False)
    spans: tuple[_Span, ...] | None = Field(default=None, strict=False)
    annotated: str | None = None


@dataclass(frozen=True)
class OwnTrace:
    """A text with labelled spans in characters, or the ids that were generated with spans in tokens."""

    text: str
    token_ids: tuple[int, ...]
    text_spans: tuple[TextSpan, ...]
    token_spans: tuple[LabelledSpan, ...]
    lost: int
    """Annotated parts that do not stand in the text as they are."""

    @property
    def labels(self) -> tuple[str, ...]:
        return (*(s.label for s in self.text_spans), *(s.label for s in self.token_spans))


def text_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank. Raises BadInput."""
    if not path.is_file():
        raise BadInput(f"There is no file {path}.")
    lines = [line.rstrip("\r\n") for _, line in numbered_lines(path) if line.strip()]
    if not lines:
        raise BadInput(f"{path} holds no text; write one per line.")
    return lines


def text_pairs(path: Path) -> list[TextPair]:
    """The pairs of a file of records with `positive`, `negative` and perhaps `prompt`. Raises BadInput."""
    pairs = [_parsed(TextPair, row, where) for where, row in _records(path)]
    for number, pair in enumerate(pairs):
        for name in ("positive", "negative"):
            if not getattr(pair, name).strip():
                raise BadInput(f"{path}, row {number}: {name} is empty.")
    with_prompt = sum(pair.prompt is not None for pair in pairs)
    if with_prompt not in (0, len(pairs)):
        raise BadInput(f"{path}: {with_prompt} of {len(pairs)} pairs have a prompt; give it to all of them or to none.")
    return pairs


def own_prompts(path: Path) -> list[OwnPrompt]:
    """The prompts of a text file, one per line, or of a file of records with `prompt` or `messages`, perhaps `id`. Raises BadInput."""
    if path.suffix.lower() not in FILES:
        return [OwnPrompt(prompt=line) for line in text_lines(path)]
    prompts, seen = [], dict[str, str]()
    for where, row in _records(path):
        one = _parsed(OwnPrompt, row, where)
        if (one.prompt is None) == (one.messages is None):
            raise BadInput(f"{where}: give a prompt or messages{', not both' if one.prompt is not None else ''}.")
        if one.messages is not None and not one.messages:
            raise BadInput(f"{where}: messages is empty; a conversation has at least one turn.")
        if one.prompt is not None and not one.prompt.strip():
            raise BadInput(f"{where}: the prompt is empty.")
        if one.id is not None and (first := seen.setdefault(str(one.id), where)) != where:
            raise BadInput(f"{where}: the id {one.id!r} is that of {first} too; give every prompt its own.")
        prompts.append(one)
    return prompts


def own_traces(path: Path) -> list[OwnTrace]:
    """The traces of a file of records with labelled spans, those without a span left out. Raises BadInput.

    A record has `text` with `spans` (`start`, `end`, `label`: characters, end exclusive) or with `annotated` (the text with its labels in
    it, `steering.extraction.annotations`), or `token_ids` with `spans` in tokens. `thinking_process` and `annotated_response` are read as
    `text` and `annotated`.
    """
    traces = []
    for where, row in _records(path):
        names = {"thinking_process": "text", "annotated_response": "annotated"}
        one = _parsed(_Trace, {names.get(key, key): value for key, value in row.items()}, where)
        if (one.text is None) == (one.token_ids is None) or (one.spans is None) == (one.annotated is None):
            raise BadInput(f"{where}: give text or token_ids, with spans, or text with annotated.")
        spans = tuple((s.start, s.end, s.label) for s in one.spans or ())
        length = len(one.text if one.text is not None else one.token_ids or ())
        for start, end, label in spans:
            if not start < end <= length:
                unit = "characters" if one.text is not None else "tokens"
                raise BadInput(f"{where}: span {label!r} ({start}, {end}) is empty or not inside its {length} {unit}.")
        lost = 0
        if one.token_ids is not None:
            if one.annotated is not None:
                raise BadInput(f"{where}: annotated goes with text; give the spans of token_ids in tokens.")
            traces.append(OwnTrace("", one.token_ids, (), tuple(LabelledSpan(*s) for s in spans), 0))
            continue
        text, found = str(one.text), tuple(TextSpan(*s) for s in spans)
        if one.annotated is not None:
            found, missed = locate(parse_annotated(one.annotated), text)
            lost = len(missed)
        traces.append(OwnTrace(text, (), found, (), lost))
    kept = [trace for trace in traces if trace.labels]
    if not kept:
        raise BadInput(f"{path}: no record holds a labelled span that stands in its text.")
    return kept


def _records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not path.is_file():
        raise BadInput(f"There is no file {path}.")
    if path.suffix.lower() not in FILES:
        raise BadInput(f"{path}: records are read from {', '.join(FILES)}.")
    number = -1
    for number, row in enumerate(read_file(path)):
        if not isinstance(row, Mapping):
            raise BadInput(f"{path}, row {number} is no record but {type(row).__name__}.")
        yield f"{path}, row {number}", row
    if number < 0:
        raise BadInput(f"{path} holds no record.")


def _parsed(kind: type[R], row: Mapping[str, Any], where: str) -> R:
    try:
        return kind.model_validate(dict(row))
    except ValidationError as error:
        raise BadInput(f"{where}: {'; '.join(_said(error.errors()))}.") from error


def _said(problems: Iterable[Any]) -> Iterator[str]:
    for problem in problems:
        place = ".".join(map(str, problem["loc"]))
        yield f"{place} is needed" if problem["type"] == "missing" else f"{place}: {problem['msg']}"
