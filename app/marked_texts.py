"""Texts with parts that are marked by hand, as `[[label: words]]`, and as records of text and labelled spans."""

from __future__ import annotations

import json
import re

from steering.errors import BadInput

MARK = re.compile(r"\[\[([^\[\]:\n]{1,60}):\s?([^\[\]]*)\]\]")
HELP = "One text after another, a blank line between them. Mark what is wanted as [[checking: wait, that is wrong]]."


def marked(text: str) -> list[tuple[str, list[tuple[int, int, str]]]]:
    """Texts without their marks, with spans `(start, end, label)` in characters. Raises BadInput for a mark that is not closed or empty."""
    found = []
    for block in re.split(r"\n\s*\n", text.strip()):
        plain, spans, at = "", [], 0
        for match in MARK.finditer(block):
            plain += block[at : match.start()]
            label, words = match[1].strip(), match[2]
            if not label or not words.strip():
                raise BadInput(f"The mark {match[0]!r} has no label, or no words.")
            spans.append((len(plain), len(plain) + len(words), label))
            plain, at = plain + words, match.end()
        plain += block[at:]
        if "[[" in plain or "]]" in plain:
            raise BadInput(
                f"A mark is not whole near {plain[max(0, plain.find('[[')) :][:40]!r}; write [[label: words]]."
            )
        if plain.strip():
            found.append((plain, spans))
    return found


def labels_in(text: str) -> list[str]:
    """The labels in order of appearance; none where a mark cannot be read."""
    try:
        return list(dict.fromkeys(label for _, spans in marked(text) for _, _, label in spans))
    except BadInput:
        return []


def records(text: str) -> bytes:
    """As JSON lines, as `steer extract --spans` reads them."""
    lines = [
        json.dumps(
            {"text": plain, "spans": [{"start": a, "end": b, "label": label} for a, b, label in spans]},
            ensure_ascii=False,
        )
        for plain, spans in marked(text)
    ]
    return ("\n".join(lines) + "\n").encode()


def text_of(data: bytes) -> str:
    """The marked text that records stand for. Raises ValueError or KeyError for others."""
    blocks = []
    for line in data.decode().splitlines():
        record = json.loads(line)
        plain, at, block = record["text"], 0, ""
        for span in record["spans"]:
            block += f"{plain[at : span['start']]}[[{span['label']}: {plain[span['start'] : span['end']]}]]"
            at = span["end"]
        blocks.append(block + plain[at:])
    return "\n\n".join(blocks)
