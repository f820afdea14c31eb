r"""The final answer of a free-form response.

1. Where a thinking segment was closed, only what follows it is read, if anything does.
2. A base model often goes on with a next question of its own: once an answer was given, reading stops at the line that begins one, and
   always at a chat marker.
3. The first of these that is there gives the answer: the last `\boxed{...}` (neighbouring boxes are one list); what follows the last
   `####`; the last complete sentence that announces an answer ("the answer is", "Answer:"); the last complete sentence that draws a
   conclusion ("so", "therefore", ...) or, near the end of a finished text, states a value. Sentences that check what was found are
   passed over.
4. Of a sentence, the value is what its last "is", "are" or `=` leads to (`statement.py`).
5. A text that breaks off with none of these has no final answer: its last number is not one.
6. Reading takes time linear in the text, whatever the text is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from .statement import says, sentences, stated

LONGEST = 2_000
"""Characters of the longest answer that is compared."""
TAIL = 12_000
"""Characters at the end in which sentences are looked for."""
_BOX = re.compile(r"\\f?boxed(?![a-zA-Z])\s{0,3}|(?<![a-zA-Z\\])boxed(?=\{)")
_MARK = re.compile(r"####[ \t]*([^\n]*)")
_ANNOUNCED = re.compile(r"(?i)\banswers?\b(?:[^.\n:=?]{0,100}?)(?:\b(?:is|are)\b[ \t]*:?|:|=)")
_CONCLUDED = re.compile(r"(?i)\b(?:so|therefore|thus|hence|in conclusion|conclusion|finally|we conclude)\b|\u2234")
_NO_ANSWER = re.compile(
    r"(?i)^[ \t]*(?:not\b|in)?(?:correct|right|wrong|consistent|reasonable|valid|confirmed|verified|therefore)\b"
    r"|^[ \t]*(?:an? )?(?:integer|not)\b"
)
_CHECKS = re.compile(
    r"(?i)\b(?:to verify|verif(?:y|ies|ied)|check(?:s|ed)?|confirms?|consistent|satisf(?:y|ies)|plugging)\b"
)
_NEXT = re.compile(
    r"(?im)^[ \t#*\[]{0,8}(?:next )?(?:question|problem|exercise|task|user|human|instruction|q)\b[ \t]{0,3}\d{0,4}[ \t*]{0,4}[:.\]]"
    r"|^[ \t]{0,4}(?:answer the (?:following )?question|you are an ai\b|solve the following\b)"
)
_CHAT = re.compile(
    r"<\|(?:im_start|im_end|endoftext|eot_id|end_of_text|start_header_id)\|>|You are an AI assistant that"
)
_ENDS = (".", "!", "$", "]", ")", "}", "*", "`", "%", "\u3002", '"')


@dataclass(frozen=True)
class Final:
    """What a response answers. `text` is None where it answers nothing; `how` says where the answer was found, or why not."""

    text: str | None
    how: str
    sentence: str = ""
    """The sentence that states the answer, where one does."""
    closing: str = ""
    """The last sentence, where no box holds the answer."""


def final_answer(response: str) -> Final:
    """The final answer of a response."""
    body = own_part(visible(response))
    box = last_boxes(body)
    if box:
        return _checked(box, "boxed")
    marks = [
        m.group(1).strip() for m in _MARK.finditer(body) if m.group(1).strip() and not m.group(1).strip().endswith(":")
    ]
    if marks:
        return _checked(marks[-1], "after ####")
    if not body.strip():
        return Final(None, "the response is empty")
    whole = finished(body)
    said = sentences(body[-TAIL:], whole)
    found = _announced(said, whole) or _concluded(said, whole) or _nothing(whole)
    worded = [s for s in said if len(re.findall(r"[A-Za-z]{2,}", s)) > 2]
    return replace(found, closing=worded[-1] if worded else "")


def _announced(said: list[str], whole: bool) -> Final | None:
    """The last sentence that calls something the answer. Words are one only at the end of a finished text."""
    for place, sentence in enumerate(reversed(said)):
        for match in reversed(list(_ANNOUNCED.finditer(sentence))):
            rest = sentence[match.end() :].strip(" \t*_`")
            value = None if _NO_ANSWER.match(rest) else says(rest, leading=True, words=whole and place < 2)
            if value:
                return _checked(value, "announced", sentence)
    return None


def _concluded(said: list[str], whole: bool) -> Final | None:
    """The last sentence that draws a conclusion; of a finished text, the last that states a value; of one that goes on
    repeating one sentence, that sentence."""
    for place, sentence in enumerate(reversed(said)):
        if _CHECKS.search(sentence):
            continue
        drawn = _CONCLUDED.search(sentence)
        value = None
        if drawn or (whole and place == 0):
            value = says(sentence[drawn.end() :]) if drawn else says(sentence)
        elif whole and place < 6:
            value = stated(sentence)
        if value:
            return _checked(value, "concluded" if drawn else "last statement", sentence)
    again = said[-1] if said and said.count(said[-1]) > 2 else None
    value = says(again) if again else None
    return _checked(value, "repeated", again or "") if value else None


def _nothing(whole: bool) -> Final:
    return Final(None, "there is no final answer" if whole else "the text breaks off without a final answer")


def _checked(answer: str, how: str, sentence: str = "") -> Final:
    if len(answer) > LONGEST:
        return Final(None, f"the answer ({how}) has {len(answer)} characters; at most {LONGEST} are compared")
    return Final(answer, how, sentence)


def visible(response: str) -> str:
    """What follows the thinking segment; the whole text where none was closed or nothing follows."""
    before, closed, after = response.rpartition("</think>")
    return after if closed and after.strip() else before if closed else response


def own_part(text: str) -> str:
    """The text up to a chat marker, and up to the next question that it goes on with once an answer was given."""
    chat = _CHAT.search(text)
    if chat and text[: chat.start()].strip():
        text = text[: chat.start()]
    given = [m.end() for pattern in (_BOX, _MARK, _ANNOUNCED) if (m := pattern.search(text))]
    after = _NEXT.search(text, min(given)) if given else None
    return text[: after.start()] if after else text


def boxes(text: str) -> list[tuple[int, int, str]]:
    r"""`(start, end, content)` of every `\boxed{...}` that is closed and not empty, and of `\boxed 5`; inner boxes belong to outer ones."""
    found: list[tuple[int, int, str]] = []
    until = 0
    closes: dict[int, int] | None = None
    for match in _BOX.finditer(text):
        start = match.end()
        if match.start() < until or start >= len(text):
            continue
        if text[start] == "{":
            closes = _closings(text) if closes is None else closes
            if start not in closes:
                continue
            until, content = closes[start] + 1, text[start + 1 : closes[start]].strip()
        else:
            single = _SINGLE.match(text, start)
            if not single:
                continue
            until, content = single.end(), single.group().rstrip(".")
        if content:
            found.append((match.start(), until, content))
    return found


_SINGLE = re.compile(r"[-+]?[\w.]{1,40}")


def _closings(text: str) -> dict[int, int]:
    """Place of the closing brace of every brace that is closed; escaped braces are letters."""
    opened: list[int] = []
    closed: dict[int, int] = {}
    for match in re.finditer(r"\\.|[{}]", text, re.S):
        if match.group() == "{":
            opened.append(match.start())
        elif match.group() == "}" and opened:
            closed[opened.pop()] = match.start()
    return closed


_BETWEEN = re.compile(r"[\s,;$\\()\[\].]*(?:\\?text\{)?\s*(?:and|or|,)?\s*\}?[\s,;$\\()\[\]]*")


def last_boxes(text: str) -> str | None:
    """The content of the last box; where only a comma, `and` or `or` stands before it, with that of the box before, as one list."""
    found = boxes(text)
    if not found:
        return None
    kept = [found[-1]]
    for box in reversed(found[:-1]):
        between = text[box[1] : kept[0][0]]
        if len(between) > 24 or not re.search(r"and|or|,", between) or not _BETWEEN.fullmatch(between):
            break
        kept.insert(0, box)
    return ", ".join(dict.fromkeys(content for _, _, content in kept))


def finished(text: str) -> bool:
    """Whether a text ends with a sentence or a formula rather than in the middle of one."""
    end = text.rstrip()
    if end.endswith(_ENDS):
        return True
    last = end[-80:].rpartition("\n")[2]
    brief = bool(re.search(r"(?:\d|\b(?:is|are|:|=) \S{1,40})$", last)) or bool(_ANNOUNCED.search(last))
    return len(end.lstrip()) < 4_000 and brief
