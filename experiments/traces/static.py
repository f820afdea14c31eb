"""A trace view without JavaScript: spans with titles, styled inline, readable where scripts and style sheets are stripped.

Whatever was stored is escaped. The tint, the bar of a steered position and the letter of a behaviour are there; the rest is in the titles.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

MARKS = ("#9a5fd0", "#0e8f6e", "#c2477f", "#66788a", "#8a7400", "#1f83c4", "#a0522d", "#5a6fd6")
"""Colours of behaviours, as in trace.css."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def visible(token: str) -> str:
    """A token as it is drawn: line breaks as ↵, what has no shape spelled out."""
    if token in ("", " "):
        return "∅" if token == "" else "␣"
    shown = token.replace("\r\n", "↵").replace("\r", "↵").replace("\n", "↵").replace("\t", "⇥")
    return _CONTROL.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", shown)


def lanes_html(data: Mapping[str, Any]) -> str:
    """The lanes of `trace_data`, one below the other."""
    return "".join(_lane(data, lane, index) for index, lane in enumerate(data["lanes"]))


def _lane(data: Mapping[str, Any], lane: Mapping[str, Any], index: int) -> str:
    verdict, receipt = lane["verdict"], lane["receipt"]
    words = not any(token != token.strip() and token.strip() for token in lane["tokens"])
    head = (
        f'<p style="margin:0.8em 0 0.2em"><b>{html.escape(lane["label"])}</b> ({html.escape(lane["role"])}) · answer '
        f"<b>{html.escape(verdict['answer'])}</b> {verdict['mark']} {html.escape(verdict['meaning'])} · "
        f"{html.escape(' · '.join(lane['notes']))} · {html.escape(lane['steered'])} · {'' if receipt['ok'] else '✗ '}"
        f"{html.escape(receipt['text'])}</p>"
    )
    at = data["divergence"][index] if index < len(data["divergence"]) else None
    parts = []
    for position in range(len(lane["tokens"])):
        generated = position - lane["prompt"]
        if position == lane["prompt"] and position:
            parts.append("<hr>")
        if at is not None and generated == at:
            parts.append(f'<b style="color:#c8362e">◆ #{at}</b> ')
        parts.append(_token(data, lane, position))
        if words:
            parts.append(" ")
        if re.search(r"\n\s*$", lane["tokens"][position]):
            parts.append("<br>")
    body = "".join(parts) or html.escape(lane["text"])
    style = "font-family:monospace;line-height:1.9;white-space:pre-wrap;overflow-wrap:anywhere"
    return f'{head}<div style="{style}">{body}</div>'


def _value(lane: Mapping[str, Any], metric: str, position: int) -> float | None:
    numbers = lane["numbers"].get(metric)
    index = position if metric == "edit" else position - lane["prompt"]
    return numbers[index] if numbers is not None and 0 <= index < len(numbers) else None


def _token(data: Mapping[str, Any], lane: Mapping[str, Any], position: int) -> str:
    generated = position - lane["prompt"]
    title = [f"#{generated}" if generated >= 0 else f"prompt {position}"]
    for name in data["scales"]:
        value = _value(lane, name, position)
        if value:
            title.append(f"{name} {value:.3g}")
    style = ""
    scale, value = data["scales"].get(data["view"]["metric"]), _value(lane, data["view"]["metric"], position)
    if scale and value is not None and scale["top"] > 0:
        tint = min(max(scale["sign"] * value / scale["top"], 0), 1)
        style += f"background:rgba(28,131,225,{0.55 * tint:.2f});" if tint >= 0.01 else ""
    if (_value(lane, "edit", position) or 0) > 0:
        style += "border-bottom:4px solid #d9730d;"
    tag = ""
    for span in lane["behaviours"]:
        if span["start"] <= generated < span["end"]:
            source = f"{span['label']}, detector {span['detector']}, confidence {span['confidence']}"
            title.append(source)
            style += f"text-decoration:underline {'dashed' if span['hollow'] else 'solid'} {MARKS[span['style']]};"
            if span["start"] == generated:
                tag = f'<sub style="color:{MARKS[span["style"]]}">{html.escape(span["letter"])}</sub>'
            break
    text = html.escape(visible(lane["tokens"][position]))
    return f'<span title="{html.escape(" · ".join(title))}"{f" style={chr(34)}{style}{chr(34)}" if style else ""}>{tag}{text}</span>'
