r"""The shape of an answer: one value, or several, and how they stand together.

1. Brackets mean what they say: a pair, an interval, a set, a vector and a matrix are different things, and none of them is a number with
   thousands. An answer without brackets that holds commas, semicolons, "and", "or" is a list; the order of lists and sets says nothing.
2. A leaf is one value, with the name that it is given (`x = 5`). A list that is given with dots keeps its dots.
3. Shapes are plain JSON data, as they go to the process that compares.
"""

from __future__ import annotations

import re
from typing import Any

from .spelling import number_spelled

Shape = dict[str, Any]
DEEPEST = 12
"""Brackets within brackets; what lies deeper is one value."""
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|.", re.S)
_OPEN = {"(": "(", "[": "[", "{": "{", "\\lbrace": "{}", "\\langle": "<"}
_CLOSE = (")", "]", "}", "\\rbrace", "\\rangle")
_KINDS = {"(": "tuple", "[": "tuple", "\\lbrace": "set", "\\langle": "vector"}
_JOINED = re.compile(
    r"\\(?:text|mbox|textrm|mathrm)\s*\{\s*,?\s*(?:and|or)\s*\}|(?<![A-Za-z\\{])(?:and|or)(?![A-Za-z}])"
)
_NAMED = re.compile(r"^((?:[A-Za-z]|\\[a-z]+)(?:_\{\w{1,3}\}|_\w)?(?:\([a-z]\))?)\s*(=|\\in(?![a-z]))\s*(?=\S)")
_MATRIX = re.compile(r"^\\begin\{([pbB]?matrix|array)\}(?:\{[^{}]*\})?(.*)\\end\{\1\}$", re.S)
_DOTS = re.compile(r"\\(?:ldots|dots|cdots)(?![a-z])|\.\.\.+")
_BUILT = re.compile(r"^\s*[a-z]\s*(?:\\in\s*\\mathbb\{R\}\s*)?(?:\\mid(?![a-z])|\||:)\s*([a-z].*|.*[<>=].*)$", re.S)
_FRENCH = re.compile(r"^\]([^()\[\]]*,[^()\[\]]*)\[$")


def shape(text: str, depth: int = 0) -> Shape:
    """The shape of a cleaned answer."""
    text = number_spelled(text.strip().rstrip(",;").strip())
    if depth > DEEPEST:
        return _leaf(text)
    named = _NAMED.match(text)
    if named and "=" not in text[named.end() :] and not re.search(r"\\(?:le|ge|neq)(?![a-z])|[<>]", text):
        rest = text[named.end() :]
        if len(_split(rest, (",", ";"))) == 1 or (named[2] == "\\in" or _bracketed(rest)):
            found = shape(rest, depth + 1)
            return found if named[2] == "\\in" else {**found, "name": _name(named[1])}
    if matrix := _MATRIX.match(text):
        rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?|\\cr(?![a-z])", matrix[2]) if row.strip()]
        return {"kind": "matrix", "rows": [[shape(cell, depth + 1) for cell in row.split("&")] for row in rows]}
    if french := _FRENCH.match(text):
        return {"kind": "tuple", "open": "(", "close": ")", "items": _items(french[1], depth)}
    parts = _split(text, ("\\cup",))
    if len(parts) > 1:
        return {"kind": "union", "items": [shape(part, depth + 1) for part in parts]}
    listed = _pieces(text)
    if len(listed) > 1:
        names = {m[1] for piece in listed if (m := _NAMED.match(piece.strip())) and m[2] == "="}
        # of "x = 1, 2" the name stands for both
        items = [shape(piece, depth + 1) for piece in listed]
        return _list(items if len(names) != 1 else [{**item, "name": _name(next(iter(names)))} for item in items])
    inner = _bracketed(text)
    if inner is not None:
        opening, body, closing = inner
        items = _items(body, depth)
        if opening == "\\lbrace":
            built = _BUILT.match(body)
            return shape(built[1], depth + 1) if built else {"kind": "set", "items": items}
        if len(items) > 1:
            return {"kind": _KINDS[opening], "open": opening, "close": closing, "items": items}
        if opening == "(" and closing == ")" or (opening == "[" and closing == "]" and items):
            return items[0] if items else _leaf(text)
    signs = re.findall(r"\\pm(?![a-z])", text)
    if len(signs) == 1 and "\\mp" not in text:
        return _list([shape(re.sub(r"\\pm(?![a-z])\s*", s, text), depth + 1) for s in ("+", "-")])
    return _leaf(text)


def _leaf(text: str) -> Shape:
    return {"kind": "leaf", "text": text.strip()}


def _list(items: list[Shape]) -> Shape:
    flat = [one for item in items for one in (item["items"] if item["kind"] == "list" else [item])]
    return {"kind": "list", "items": flat}


def _name(text: str) -> str:
    return re.sub(r"[\s{}]", "", text)


def _items(body: str, depth: int) -> list[Shape]:
    return [shape(piece, depth + 1) for piece in _pieces(body, inside=True)] if body.strip() else []


def _pieces(text: str, inside: bool = False) -> list[str]:
    """What commas and the like part. Where a space follows some commas, those part, and others may stand between thousands."""
    if not inside:
        text = _JOINED.sub(",", text) if _JOINED.search(text) else text
    found = [p for p in _split(text, (",", ";")) if p.strip()]
    if ", " in text:
        apart = [p for p in re.split(r"(?:,\s|;)\s*", text) if p.strip()]
        if len(apart) > 1 and all(re.fullmatch(r"[-+$\\\s]*\d{1,3}(?:,\d{3})*(?:\.\d+)?", p) for p in apart):
            return apart
    return found or [text]


def _split(text: str, at: tuple[str, ...]) -> list[str]:
    """The pieces of a text between separators that stand in no bracket."""
    pieces, start, depth = [], 0, 0
    for token in _TOKEN.finditer(text):
        word = token.group()
        if word in _OPEN or word.startswith("\\begin"):
            depth += 1
        elif word in _CLOSE or word.startswith("\\end"):
            depth = max(0, depth - 1)
        elif word in at and depth == 0:
            pieces.append(text[start : token.start()])
            start = token.end()
    return [*pieces, text[start:]]


def _bracketed(text: str) -> tuple[str, str, str] | None:
    """Opening, inside and closing of a text that stands in one pair of brackets."""
    tokens = list(_TOKEN.finditer(text))
    if len(tokens) < 2 or tokens[0].group() not in _KINDS or tokens[-1].group() not in _CLOSE:
        return None
    depth = 0
    for token in tokens[:-1]:
        depth += (token.group() in _OPEN) - (token.group() in _CLOSE)
        if depth == 0:
            return None
    if depth != 1 or tokens[-1].group() == "}":
        return None
    return tokens[0].group(), text[tokens[0].end() : tokens[-1].start()], tokens[-1].group()


def has_dots(text: str) -> bool:
    """Whether a list is given with dots."""
    return bool(_DOTS.search(text)) and (
        "," in text or "+" in text or bool(re.search(r"\d\s*(?:\\[lc]?dots|\.\.+)\s*\d", text))
    )


def leaves(found: Shape) -> list[Shape]:
    """The values of a shape."""
    if found["kind"] == "leaf":
        return [found]
    inside = [cell for row in found["rows"] for cell in row] if found["kind"] == "matrix" else found["items"]
    return [leaf for item in inside for leaf in leaves(item)]
