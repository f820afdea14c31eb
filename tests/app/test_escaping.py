"""Text of models stays text in Markdown and in Plotly labels."""

from __future__ import annotations

import pytest

from app.escaping import for_markdown, for_plotly, one_line

HOSTILE = [
    "<script>alert(1)</script>",
    "**bold** [x](http://y)",
    "$e^x$ :red[hot] `code`",
    "| a | b |",
    "<b>x</b><br>&amp;",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_every_punctuation_mark_of_markdown_is_escaped(text: str) -> None:
    escaped = for_markdown(text)
    bare = escaped.replace("\\\\", "")
    for index, character in enumerate(bare):
        if not character.isalnum() and not character.isspace() and character != "\\":
            assert bare[index - 1] == "\\"


@pytest.mark.parametrize("text", HOSTILE)
def test_no_tag_is_left_for_plotly(text: str) -> None:
    assert "<" not in for_plotly(text)
    assert ">" not in for_plotly(text)


def test_labels_are_one_line_of_bounded_length() -> None:
    assert one_line("a\r\nb\nc") == "a↵b↵c"
    assert len(one_line("x" * 500, 40)) == 40
    assert one_line("x" * 500, 40).endswith("…")
