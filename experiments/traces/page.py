"""A trace view as HTML: a page of its own, or a piece for a notebook.

1. The page loads nothing: data, style and script are in it, and its content security policy refuses every request.
2. Stored text cannot end a script or become markup: JSON is written with `<`, `>` and `&` as escapes, the rest is escaped.
3. Without JavaScript the lanes are spans with titles; with it they become the interactive view, in a shadow root that shares no style
   and no id with what is around it. Ids are new for every output.
4. The view of a page (chosen token, tint, mode, search) is in its address after `#`, so a place in it can be sent.
"""

from __future__ import annotations

import html
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from .data import Row, trace_data
from .source import page_style, script, style
from .static import lanes_html

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
# The theme of the surroundings: notebooks say theirs on the body; a page follows the reader's setting.
_MOUNT = """
const host = document.getElementById(ID);
const around = document.body.classList, lab = document.body.dataset.jpThemeLight;
const dark = lab === "false" || around.contains("vscode-dark");
const scheme = dark ? "dark" : ALONE ? "light dark" : "light";
const shadow = host.attachShadow({ mode: "open" });
const sheet = document.createElement("style");
sheet.textContent = STYLE;
const place = document.createElement("div");
place.className = "trace";
place.style.colorScheme = scheme;
shadow.append(sheet, place);
const data = JSON.parse(document.getElementById(ID + "-data").textContent);
if (ALONE) {
  new URLSearchParams(location.hash.slice(1)).forEach((value, name) => {
    const lengths = data.lanes.map((lane) => lane.tokens.length);
    const token = /^([ab])(\\d{1,7})$/.exec(value);
    if (name === "tok" && token && Number(token[2]) < (lengths["ab".indexOf(token[1])] ?? 0)) data.view.tok = value;
    if (name === "metric" && (data.scales[value] || value === "none")) data.view.metric = value;
    if (name === "mode" && ["linked", "free", "fork"].includes(value) && (value !== "fork" || data.comparable)) data.view.mode = value;
    if (name === "q") data.view.q = value.slice(0, 200);
  });
}
const mounted = mountTrace(place, data, ALONE ? (view) => {
  const kept = Object.entries(view).filter(([, value]) => value);
  history.replaceState(null, "", "#" + new URLSearchParams(kept).toString());
} : null);
if (ALONE) matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => mounted.redraw());
"""


def json_in_html(value: Any) -> str:
    """JSON for a script element: no character in it can end the element or begin a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def piece(data: Mapping[str, Any], alone: bool = False) -> str:
    """What `trace_data` made, as HTML to be set into a page; `alone` where the page is this view's own."""
    name = f"trace-{secrets.token_hex(6)}"
    given = f"const ID = {json.dumps(name)}, STYLE = {json_in_html(style())}, ALONE = {json.dumps(alone)};"
    return (
        f'<div id="{name}">{lanes_html(data)}</div><script type="application/json" id="{name}-data">{json_in_html(data)}</script>'
        f"<script>(function () {{\n{script()}\n{given}{_MOUNT}}})();</script>"
    )


def trace_html(
    rows: Sequence[Row],
    arms: Sequence[Mapping[str, Any]],
    *,
    title: str = "",
    source: str = "",
    **more: Any,
) -> str:
    """A self-contained page of one or two rows of the run store beside their arms (mappings with `label` and `role`). `source` says where
    they come from; `more` goes to `trace_data`."""
    data = trace_data(rows, arms, **more)
    head = title or f"{rows[0].get('item', 'trace')}: {' and '.join(arm['label'] for arm in arms)}"
    gold = f"right answer {rows[0]['gold']} · " if rows[0].get("gold") else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>{html.escape(head)}</title>'
        f"<style>{page_style()}</style></head>"
        f'<body><main><h1>{html.escape(head)}</h1><p class="quiet">{html.escape(gold + data["part"])}</p>'
        f'<p class="quiet">{html.escape(source)}</p><div class="prompt">{html.escape(str(rows[0].get("prompt", "")))}</div>'
        f"{piece(data, alone=True)}</main></body></html>\n"
    )
