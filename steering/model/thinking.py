"""The thinking segment of a text: which markers models write around it, and what of a text lies inside and outside.

1. One table of markers serves everybody who reads texts: spans, graders, sentences, comparisons of checkpoints. Markers of its own are a
   field of a model's or task's spec (`markers`); a chat template says which it writes (`template_markers`).
2. `read_thinking` splits a text. A closing marker without an opening one ends a segment that the prompt began; a marker of another kind
   inside a segment is part of what is thought; after the last closed segment stands what is said.
3. A segment that is never closed leaves nothing that is said: its end is where the text was cut. `open` says so, and `last` is the segment.
4. Reading takes time linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from ..errors import BadInput

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from .reader import Reads


@dataclass(frozen=True)
class Markers:
    """What stands before and after a thinking segment, as text."""

    opening: str
    closing: str

    def __post_init__(self) -> None:
        if not self.opening.strip() or not self.closing.strip() or self.opening == self.closing:
            raise BadInput(
                f"The markers of a thinking segment are two different texts, not {self.opening!r} and {self.closing!r}."
            )


DECLARED = "thinking_markers"
"""Where `LoadedModel.extra` holds the markers that a spec gives a model."""
THINK = Markers("<think>", "</think>")
MARKERS: tuple[Markers, ...] = (
    THINK,
    Markers("<thinking>", "</thinking>"),
    Markers("[THINK]", "[/THINK]"),
    Markers("<|START_THINKING|>", "<|END_THINKING|>"),
    Markers("<seed:think>", "</seed:think>"),
    Markers("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    Markers("<|channel|>commentary<|message|>", "<|channel|>final<|message|>"),
    Markers("<thought>", "</thought>"),
    Markers("<|begin_of_thought|>", "<|end_of_thought|>"),
    Markers("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    Markers("<reasoning>", "</reasoning>"),
    Markers("<|inner_prefix|>", "<|inner_suffix|>"),
    Markers("<scratchpad>", "</scratchpad>"),
)
"""Markers in use, the commonest first: DeepSeek-R1, Qwen3 and most others; prompted models; Magistral; Command A; Seed-OSS; gpt-oss
(harmony channels); EXAONE Deep; OpenThinker and Sky-T1; Kimi-VL; prompted models; Apertus; prompted models."""


@dataclass(frozen=True)
class Thought:
    """A text split at its thinking segments."""

    said: str
    """What follows the last closed segment; the whole text where there is no segment; empty where the last one is open."""
    last: tuple[int, int] | None
    """Characters of the last segment with something in it, markers excluded, end exclusive; None where there is none."""
    open: bool
    """Whether the text ends inside a segment."""


def as_markers(value: Any) -> tuple[Markers, ...]:
    """Markers from a spec: `[opening, closing]`, or a list of such pairs. Raises BadInput."""
    pairs = [value] if isinstance(value, Sequence) and value and isinstance(value[0], str) else value
    if not isinstance(pairs, Sequence) or isinstance(pairs, str) or not pairs:
        raise BadInput(
            f'Thinking markers are a pair such as ["<think>", "</think>"], or a list of pairs, not {value!r}.'
        )
    found = []
    for pair in pairs:
        if not isinstance(pair, Sequence) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise BadInput(f'Thinking markers are pairs such as ["<think>", "</think>"], not {pair!r}.')
        found.append(Markers(*pair))
    return tuple(found)


@cache
def _pattern(markers: tuple[Markers, ...]) -> re.Pattern[str]:
    texts = sorted({t for m in markers for t in (m.opening, m.closing)}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, texts)))


def read_thinking(text: str, markers: Sequence[Markers] = MARKERS, opened: bool = False) -> Thought:
    """A text split at its thinking segments. `opened`: the prompt ends inside one."""
    closings: dict[str, set[str]] = {}
    for one in markers:
        closings.setdefault(one.opening, set()).add(one.closing)
    every = {m.closing for m in markers}
    wanted = every if opened else None
    start, said, last = 0, 0, None
    for match in _pattern(tuple(markers)).finditer(text):
        marker = match.group()
        if wanted is None and marker in closings:
            wanted, start = closings[marker], match.end()
        elif wanted is not None and marker in closings and not text[start : match.start()].strip():
            wanted, start = closings[marker], match.end()  # a marker again, with nothing thought between
        elif marker in every and (wanted is None or marker in wanted):
            begin = start if wanted is not None else said
            if text[begin : match.start()].strip():
                last = (begin, match.start())
            wanted, said = None, match.end()
    if wanted is not None:
        return Thought("", (start, len(text)), True)
    return Thought(text[said:], last, False)


def without_markers(text: str, markers: Sequence[Markers] = MARKERS) -> str:
    """A text with a line break in the place of every marker."""
    return _pattern(tuple(markers)).sub("\n", text)


def declared_markers(model: Reads) -> tuple[Markers, ...]:
    """The markers that a spec gives a model; empty where it gives none."""
    found: tuple[Markers, ...] = model.extra.get(DECLARED, ())
    return found


def model_markers(model: Reads) -> tuple[Markers, ...]:
    """The markers to read a model's texts by: those that its spec gives it; else those that its template writes, and the table's."""
    if "template_markers" not in model.extra:
        model.extra["template_markers"] = template_markers(model.tokenizer)
    return declared_markers(model) or tuple(dict.fromkeys([*model.extra["template_markers"], *MARKERS]))


def template_markers(tokenizer: PreTrainedTokenizerBase) -> tuple[Markers, ...]:
    """The markers that a chat template writes, from its text and from what it writes around a thought; empty where it writes none."""
    written = getattr(tokenizer, "chat_template", None)
    if not written:
        return ()
    source = written if isinstance(written, str) else " ".join(map(str, dict(written).values()))
    spelled = source.replace("\\n", "\n")
    known = [m for m in MARKERS if all(_named(text, spelled) for text in (m.opening, m.closing))]
    found = _around(tokenizer)
    return tuple(dict.fromkeys([*([found] if found else []), *known]))


def _named(marker: str, source: str) -> bool:
    # Templates put harmony channels together from pieces.
    channel = re.fullmatch(r"(<\|channel\|>)(\w+)<\|message\|>", marker)
    return marker in source or (channel is not None and channel[1] + channel[2] in source)


_QUESTION, _THOUGHT, _ANSWER = "What is asked?", "THOUGHT-OF-THE-TEMPLATE", "ANSWER-OF-THE-TEMPLATE"
_FIELDS = ("reasoning_content", "thinking", "reasoning")
"""The names that templates give to what an assistant's message thought."""


def _around(tokenizer: PreTrainedTokenizerBase) -> Markers | None:
    """What a template writes before and after the thought of an assistant's message."""
    from jinja2.exceptions import TemplateError

    asked = [{"role": "user", "content": _QUESTION}]
    answer = {"role": "assistant", "content": _ANSWER}
    for name in _FIELDS:
        try:
            plain = str(tokenizer.apply_chat_template([*asked, answer], tokenize=False))
            text = str(tokenizer.apply_chat_template([*asked, {**answer, name: _THOUGHT}], tokenize=False))
        except (TemplateError, ValueError, TypeError, KeyError):
            continue
        before, thought, after = text.partition(_THOUGHT)
        if not thought or _ANSWER not in after:
            continue
        opening = before[len(_shared(before, plain)) :].strip() or before.rstrip().rpartition("\n")[2].strip()
        closing = after.partition(_ANSWER)[0].strip()
        known = next((m for m in MARKERS if before.rstrip().endswith(m.opening) and m.closing in closing), None)
        if known or (opening and closing and opening != closing):
            return known or Markers(opening, closing)
    return None


def _shared(one: str, two: str) -> str:
    """The beginning that two texts have in common."""
    n = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    # Two markers may begin alike: the shared part ends before a bracket that was not closed.
    return one[: n - 1] if n and one[n - 1] in "<[" else one[:n]


def leaves_open(prompt: str, question: str, markers: Sequence[Markers] = MARKERS) -> bool:
    """Whether a prompt ends inside a thinking segment that what stands after the question begins. What the question says is no marker."""
    if not question.strip():
        return False
    _, found, end = prompt.rpartition(question.strip())
    return bool(found) and read_thinking(end, markers).open


def begun_before(texts: Sequence[str], markers: Sequence[Markers] = MARKERS) -> bool:
    """Whether the prompts of these texts begin a thinking segment: some text closes one that it does not open."""
    openings, pattern = {m.opening for m in markers}, _pattern(tuple(markers))
    return any((first := pattern.search(text)) is not None and first.group() not in openings for text in texts)
