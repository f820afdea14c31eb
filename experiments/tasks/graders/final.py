r"""The final answer of a free-form response.

1. What stands in a thinking segment is no answer (`steering.model.thinking` has the markers). A response that ends inside one, or with
   it, has none; the lenient reading takes such a text as if it had no markers.
2. A text that ended by itself is finished, whatever its last letter; one that was cut breaks off. Where that is not known, its end tells.
3. A base model often goes on with a next question of its own: once an answer was given, reading stops where one begins, with a label
   ("Question:") or without, and always at a chat marker.
4. The first of these that is there gives the answer: the last `\boxed{...}` (neighbouring boxes are one list); what follows `####` (the
   first that is followed by another question, else the last); the last complete sentence that announces an answer ("the answer is",
   "Answer:"); the last complete sentence that draws a conclusion ("so", "therefore", ...) or, near the end of a finished text, states a
   value. Sentences that check what was found are passed over.
5. Of a sentence, the value is what its last "is", "are" or `=` leads to (`statement.py`).
6. A text that breaks off with none of these has no final answer: its last number is not one.
7. Reading takes time linear in the text, whatever the text is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from steering.model.thinking import read_thinking, without_markers

from .grade import NOTHING, Grade, Known, unscorable
from .statement import says, sentences, stated

LONGEST = 2_000
"""Characters of the longest answer that is compared."""
REPEATED = 40
"""Characters of the longest value that a text which goes on repeating itself may state."""
SHORT = 3
"""Words of a line that is an answer as it stands."""
TAIL = 12_000
"""Characters at the end in which sentences are looked for."""
_BOX = re.compile(r"\\f?boxed(?![a-zA-Z])\s{0,3}|(?<![a-zA-Z\\])boxed(?=\{)")
_MARK = re.compile(r"####[ \t]*([^\n]*)")
ANNOUNCED = re.compile(r"(?i)\banswers?\b(?:[^.\n:=?]{0,100}?)(?:\b(?:is|are)\b[ \t]*:?|:|=)")
CONCLUDED = re.compile(r"(?i)\b(?:so|therefore|thus|hence|in conclusion|conclusion|finally|we conclude)\b|\u2234")
_NO_ANSWER = re.compile(
    r"(?i)^[ \t]*(?:not\b|in)?(?:correct|right|wrong|consistent|reasonable|valid|confirmed|verified|therefore)\b"
    r"|^[ \t]*(?:an? )?(?:integer|not)\b"
)
_CHECKS = re.compile(
    r"(?i)\b(?:to verify|verif(?:y|ies|ied)|checks? (?:out|that|if|whether|our|the|this|it)|check[.:,]|confirms?|"
    r"consistent|satisf(?:y|ies)|plugging)\b"
)
_NEXT = re.compile(
    r"(?im)^[ \t#*\[]{0,8}(?:next )?(?:question|problem|exercise|task|user|human|instruction|q)\b[ \t]{0,3}\d{0,4}[ \t*]{0,4}[:.\]]"
    r"|^[ \t]{0,4}(?:answer the (?:following )?question|you are an ai\b|solve the following\b)"
)
_CHAT = re.compile(
    r"<\|(?:im_start|im_end|endoftext|eot_id|end_of_text|start_header_id|end|return|start|user|END_RESPONSE|END_OF_TURN_TOKEN)\|>"
    r"|<(?:end_of_turn|start_of_turn)>|</s>|\[/?INST\]|<\uff5c(?:User|end\u2581of\u2581sentence)\uff5c>|You are an AI assistant that"
)
_WRAPS = re.compile(
    r"</?(?:answer|response|solution)>|<\|(?:START_RESPONSE|begin_of_solution|end_of_solution|begin_of_box|end_of_box)\|>"
)
"""What some models write around an answer."""
_WORKED = re.compile(r"<<[^<>\n]{1,200}=[^<>\n]{1,60}>>")
"""The calculator's notes of GSM8K."""
_OWN = re.compile(
    r"(?i)\b(?:i|i'm|we|us|me|my|our|let|let's)\b|^\W*(?:is|are|can|could|does|did|do|wait|hmm|but|so|now|then|what if|"
    r"what about|why|right|really|okay|ok|and|or|also|check|verify|therefore|thus|hence|if this)\b"
)
"""How a writer speaks of the work at hand rather than asks something new."""
_REVISED = re.compile(
    r"(?i)^\W*(?:wait|hmm|actually|but|no\b|oops|sorry|however|let me|let's|let us|i\b|we\b|correct|double|to (?:check|verify)|check|verif|"
    r"on second|hold on|mistake|that|this|it|the (?:correct|right|final|answer)|so\b|therefore|thus|hence|final|answer|"
    r"alternatively|re-?check)"
)
_VALUE = re.compile(r"(?=.*[\d\\]|[A-Za-z]$)(?!\d+[.)]\s+[A-Za-z]).{1,80}")
_HEADING = re.compile(
    r"(?i)^\W*(?:step|part|case|section|example|problem|question|method|approach|solution|answer|final answer|explanation|"
    r"conclusion|summary|understand|given|calculation|verification|note|introduction|analysis|reasoning)\b[^=]{0,60}$"
    r"|^\d+[.)]\s+[A-Za-z]{3,}"
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
    body: str = ""
    """What was read."""
    unclosed: bool = False
    """Whether the response ends inside its thinking segment, or with it."""


def final_answer(response: str, known: Known = NOTHING, lenient: bool = False) -> Final:
    """The final answer of a response. `lenient`: of one that ends inside its thinking segment, what it says there."""
    thought = read_thinking(response, known.markers, known.opened)
    said = _plain(thought.said)
    unclosed = thought.open or (thought.last is not None and not said.strip())
    if unclosed and not lenient:
        what = "the thinking segment is not closed" if thought.open else "nothing follows the thinking segment"
        return Final(None, f"there is no final answer: {what}", unclosed=True)
    if unclosed:
        said = _plain(without_markers(response, known.markers))
    body = own_part(said)
    return replace(_found(body, len(body) < len(said), known), unclosed=unclosed, body=body)


def graded(grader: str, text: str, known: Known, lenient: bool, judged: Callable[[Final], Grade]) -> Grade:
    """The grade of a response by its final answer. Where it ends inside its thinking segment, both readings are made, and `lenient` says
    which one decides."""
    final = final_answer(text, known)
    if not final.unclosed:
        return judged(final)
    other = judged(final_answer(text, known, lenient=True))
    if not lenient:
        return replace(unscorable(grader, None, final.how), unclosed=True, lenient=other.correct)
    why = f"{other.explanation}; read inside a thinking segment that ends the response"
    return replace(other, explanation=why, unclosed=True, lenient=other.correct)


def short_line(final: Final, known: Known) -> str | None:
    """The whole response where it is one short line that ended by itself: an answer as it stands. None otherwise."""
    line = final.body.strip().rstrip(".!")
    return line if "\n" not in line and 0 < len(line.split()) <= SHORT and known.complete is not False else None


def _plain(text: str) -> str:
    """A text without what some models write around an answer, and without the calculator's notes."""
    return _WORKED.sub("", _WRAPS.sub("\n", text))


def _found(body: str, goes_on: bool, known: Known) -> Final:
    """The final answer of what a response says. `goes_on`: more follows, such as a next question."""
    box = last_boxes(body)
    if box:
        return _checked(box, "boxed")
    mark = _marked(body)
    if mark:
        return _checked(mark, "after ####")
    if not body.strip():
        return Final(None, "the response is empty")
    whole = goes_on or (finished(body) if known.complete is None else known.complete)
    said = sentences(body[-TAIL:], whole)
    found = _announced(said, whole) or _concluded(said, whole) or _nothing(whole)
    worded = [s for s in said if len(re.findall(r"[A-Za-z]{2,}", s)) > 2]
    return replace(found, closing=worded[-1] if worded else "")


def _marked(body: str) -> str | None:
    """What stands after `####`: the first mark that another question follows, else the last. Headings of Markdown are no answers."""
    marks = [(m.start(), m.end(), m.group(1).strip()) for m in _MARK.finditer(body)]
    marks = [m for m in marks if m[2] and not m[2].endswith(":") and not _HEADING.match(m[2])]
    values = [m for m in marks if _VALUE.fullmatch(m[2]) and len(re.findall(r"(?<!\\)\b[A-Za-z]{2,}", m[2])) < 4]
    for one, other in zip(values, values[1:], strict=False):
        between = body[one[1] : other[0]].strip()
        if between and not _REVISED.match(between):
            return one[2]
    return (values or marks)[-1][2] if marks else None


def _announced(said: list[str], whole: bool) -> Final | None:
    """The last sentence that calls something the answer. Words are one only at the end of a finished text."""
    for place, sentence in enumerate(reversed(said)):
        for match in reversed(list(ANNOUNCED.finditer(sentence))):
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
        drawn = CONCLUDED.search(sentence)
        value = None
        if drawn or (whole and place == 0):
            value = says(sentence[drawn.end() :]) if drawn else says(sentence)
        elif whole and place < 6:
            value = stated(sentence)
        if value:
            return _checked(value, "concluded" if drawn else "last statement", sentence)
    again = said[-1] if said and said.count(said[-1]) > 2 else None
    value = says(again) if again else None
    if value and len(value) > REPEATED:
        return None
    return _checked(value, "repeated", again or "") if value else None


def _nothing(whole: bool) -> Final:
    return Final(None, "there is no final answer" if whole else "the text breaks off without a final answer")


def _checked(answer: str, how: str, sentence: str = "") -> Final:
    if len(answer) > LONGEST:
        return Final(None, f"the answer ({how}) has {len(answer)} characters; at most {LONGEST} are compared")
    return Final(answer, how, sentence)


def own_part(text: str) -> str:
    """The text up to a chat marker, and up to the next question that it goes on with once an answer was given."""
    chat = _CHAT.search(text)
    if chat and text[: chat.start()].strip():
        text = text[: chat.start()]
    given = [m.end() for pattern in (_BOX, _MARK, ANNOUNCED) if (m := pattern.search(text))]
    if not given:
        return text
    after = _NEXT.search(text, min(given))
    text = text[: after.start()] if after else text
    asked = _asked(text, min(given))
    return text if asked is None else text[:asked]


def _asked(text: str, at: int) -> int | None:
    """Where a paragraph begins that asks a question of its own; None where none does. The last paragraph is not one: it has no answer."""
    starts = [m.end() for m in re.finditer(r"\n\s*\n", text[at:])]
    for place, start in enumerate(starts[:-1]):
        paragraph = text[at + start : at + starts[place + 1]].strip()
        if (
            paragraph.endswith("?")
            and len(paragraph.split()) > 5
            and paragraph[0].isupper()
            and not _OWN.search(paragraph)
        ):
            return at + start
    return None


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


_BETWEEN = re.compile(
    r"[\s,;$\\()\[\].]*(?:\\?text\{)?\s*(?:and|or|,)?\s*\}?[\s,;$\\()\[\]]*(?:[A-Za-z](?:_\{?\w\}?)?\s*=[\s$\\(]*)?"
)


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
    brief = bool(re.search(r"(?:\d|\b(?:is|are|:|=) \S{1,40})$", last)) or bool(ANNOUNCED.search(last))
    return len(end.lstrip()) < 4_000 and brief
