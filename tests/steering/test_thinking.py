# ruff: noqa: E501
"""The thinking segment of a text: every pair of markers that is known, own ones, and those that a chat template writes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from steering.compile.coverage import Coverage
from steering.errors import BadInput
from steering.model.models import LoadedModel
from steering.model.thinking import (
    MARKERS,
    Markers,
    as_markers,
    begun_before,
    leaves_open,
    model_markers,
    read_thinking,
    template_markers,
    without_markers,
)
from steering.plan.span import Span
from tests.tiny import tiny, tokenizer

HARMONY = "<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant<|channel|>final<|message|>{answer}"
ASKED = "{%- for m in messages %}{%- if m.role == 'user' %}{{- 'U: ' + m.content + '\\n' }}"
TEMPLATES: dict[str, tuple[str, Markers]] = {
    "reasoning_content": (
        ASKED + "{%- else %}{{- 'A: ' }}{%- if m.reasoning_content is defined %}{{- '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}{%- endif %}"
        "{{- m.content }}{%- endif %}{%- endfor %}",
        Markers("<think>", "</think>"),
    ),
    "own words": (
        ASKED + "{%- else %}{{- 'A: ' }}{%- if m.thinking is defined %}{{- '<mull>' + m.thinking + '</mull>' }}{%- endif %}{{- m.content }}{%- endif %}{%- endfor %}",
        Markers("<mull>", "</mull>"),
    ),
    "harmony": (
        ASKED + "{%- else %}{%- if m.thinking is defined %}{{- '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{%- endif %}"
        "{{- '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|return|>' }}{%- endif %}{%- endfor %}",
        Markers("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    ),
    "brackets in the text alone": (
        "{%- for m in messages %}{{- m.content }}{%- endfor %}{%- if add_generation_prompt %}{{- '[THINK]' }}{%- endif %}{#- [/THINK] #}",
        Markers("[THINK]", "[/THINK]"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("one", MARKERS, ids=lambda m: m.opening)
def test_every_known_pair_parts_what_is_thought_from_what_is_said(one: Markers) -> None:
    text = f"{one.opening} so 7? {one.closing} It is 12."
    found = read_thinking(text)
    assert found.said == " It is 12." and not found.open and found.last is not None
    assert text[slice(*found.last)] == " so 7? "
    cut = read_thinking(f"{one.opening} so 7? ")
    assert cut.open and cut.said == "" and cut.last is not None
    begun = read_thinking(f"so 7? {one.closing} It is 12.")
    assert begun.said == " It is 12." and begun.last == (0, 6), "the prompt opened the segment"
    assert read_thinking("so 7?", opened=True).open and not read_thinking("so 7?").open


@pytest.mark.parametrize(
    ("text", "said", "is_open"),
    [
        ("no marker", "no marker", False),
        ("<think>a</think>b<think>c</think>d", "d", False),
        ("a</think>b</think>c", "c", False),
        ("<think>a [THINK] b</think>c", "c", False),
        ("<think>a [/THINK] b</think>c", "c", False),
        ("<think>a</think>b<think>c", "", True),
        ("<think>a</thinking>b", "", True),
        ("<think></think>b", "b", False),
        ("<think>a</think>", "", False),
        ("", "", False),
        (HARMONY.format(thought="7", answer="12"), "12", False),
        ("<|channel|>analysis<|message|>7<|end|><|start|>assistant<|channel|>commentary<|message|>8", "", True),
        ("<|channel|>final<|message|>12", "12", False),
    ],
)
def test_segments_are_closed_by_their_own_markers(text: str, said: str, is_open: bool) -> None:
    found = read_thinking(text)
    assert (found.said, found.open) == (said, is_open)


def test_markers_of_ones_own_replace_the_known_ones() -> None:
    own = as_markers(["<a>", "</a>"])
    assert own == as_markers([["<a>", "</a>"]]) == (Markers("<a>", "</a>"),)
    assert read_thinking("<a>7</a>12 <think>", own).said == "12 <think>"
    assert without_markers("<a>7</a>12", own) == "\n7\n12"
    for bad in ([], "<a>", [["<a>"]], ["<a>", "<a>"], ["", "</a>"], [1, 2], {"a": 1}):
        with pytest.raises(BadInput, match="Thinking markers|markers of a thinking segment"):
            as_markers(bad)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_template_says_its_markers(name: str) -> None:
    template, expected = TEMPLATES[name]
    made = tokenizer()
    made.chat_template = template
    assert template_markers(made)[0] == expected
    made.chat_template = "{{ messages[0].content }}"
    assert template_markers(made) == ()
    made.chat_template = "{{ raise_exception('no') }}"
    assert template_markers(made) == ()


def test_a_model_is_read_by_its_declared_markers_else_by_its_templates_and_the_known_ones() -> None:
    made = tokenizer()
    made.chat_template = TEMPLATES["own words"][0]
    model = replace(tiny("llama"), tokenizer=made, extra={})
    assert model_markers(model) == (Markers("<mull>", "</mull>"), *MARKERS)
    declared = replace(model, extra={"thinking_markers": as_markers(["w8", "w9"])})
    assert model_markers(declared) == (Markers("w8", "w9"),)
    for read, opening, closing in ((declared, 8, 9), (tiny("llama"), 3, 4)):
        covered = covered_positions(read, Span("inside_thinking"), (1, 10, opening, 11, 12, closing, 13))
        assert covered == [3, 4]


def covered_positions(model: LoadedModel, span: Span, ids: tuple[int, ...]) -> list[int]:
    return [i for i, covered in enumerate(Coverage(model, span, ids, 1).known[: len(ids)]) if covered]


def test_a_prompt_leaves_a_segment_open_only_by_what_follows_the_question() -> None:
    assert leaves_open("U: 2+2?\nA: <think>\n", "2+2?")
    assert not leaves_open("U: what is <think>?\nA: ", "what is <think>?")
    assert not leaves_open("U: 2+2?\nA: <think>\n\n</think>\n\n", "2+2?")
    assert leaves_open("U: 2+2?\nA:[THINK]", "2+2?") and not leaves_open("U: x", "y") and not leaves_open("<think>", "")


def test_texts_that_close_what_they_do_not_open_were_begun_before() -> None:
    assert begun_before(["a", "b</think>c"]) and not begun_before(["<think>a</think>b", "c"]) and not begun_before([])


@pytest.mark.parametrize("text", ["<think>" * 20_000, "</think>" * 20_000, "<think>a</think>" * 10_000, "<" * 200_000])
def test_reading_is_linear(text: str) -> None:
    import time

    began = time.monotonic()
    _: Any = read_thinking(text)
    assert time.monotonic() - began < 2
