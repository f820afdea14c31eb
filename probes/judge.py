"""Behaviour labels by a language model behind an OpenAI-compatible endpoint.

1. One POST to `{base_url}/chat/completions` per piece of at most `piece` characters, cut between sentences; temperature 0.
2. An answer counts only when its annotated parts are the trace: each part must be found word for word after the one before it, every label
   must be one of the six, and at most `missing` of the characters may be left out. Anything else is sent back once more with what was
   wrong with it, up to `retries` times; then `JudgeError` says what the last answer lacked.
3. Time-outs, connection failures and the codes 429 and 5xx are tried again after a pause; other codes end the call with the server's words.
4. Labels carry the detector `judge <model>` and the confidence given: agreement of a judge is not measured here, and it is never 1.
5. The key is sent in a header only; it appears in no message, label or repr.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from steering.errors import BadInput
from steering.extraction.annotations import LABELS, Part, parse_annotated

from .labels import BehaviourLabel
from .sentences import sentences

SYSTEM = """You mark what each part of a reasoning trace does. Copy the whole trace, character by character, and put every part between two
markers: ["label"] before it and ["end-section"] after it. Change, shorten, translate and correct nothing, and add nothing of your own.

Labels:
- initializing: restates the task or says how the work will begin.
- deduction: draws a conclusion from what is already on the page; calculations belong here.
- adding-knowledge: brings in a fact, formula or definition from outside the task.
- example-testing: tries the idea out on an instance, a number or a special case.
- uncertainty-estimation: says how sure or unsure the writer is.
- backtracking: gives up the present line and turns to another one.

A part is as long as its label holds. Where one sentence does two things, cut it in two. Use no other label. Example:
["deduction"] So the sum is 12. ["end-section"] ["backtracking"] Wait, let me try another way. ["end-section"]"""


class JudgeError(RuntimeError):
    """The judge gave no usable answer. The message says what was wrong with the last one."""


class _Unusable(Exception):
    """An answer that cannot be taken; the text goes back to the judge."""


@dataclass(frozen=True)
class Judge:
    """A judging model. Raises BadInput for an address that is none, or numbers out of range."""

    base_url: str
    """Up to and including the version, as in `http://127.0.0.1:8000/v1`."""
    model: str
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 120.0
    """Seconds for one answer."""
    retries: int = 2
    """Further attempts after the first."""
    pause: float = 1.0
    """Seconds before the second attempt after a failure of the server; twice as long before each further one."""
    piece: int = 6000
    """Characters sent at once."""
    missing: float = 0.02
    """Share of a piece's characters (white space not counted) that may carry no label."""
    confidence: float = 0.8
    max_tokens: int = 8192

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise BadInput(f"{self.base_url!r} is not an address; write http://host:port/v1 or https://...")
        if not self.model:
            raise BadInput("Name the model that judges, as the endpoint calls it.")
        if self.timeout <= 0 or self.retries < 0 or self.piece < 200 or not 0 <= self.missing < 1:
            raise BadInput(
                "timeout must be above 0, retries at least 0, piece at least 200 and missing from 0 to below 1."
            )
        if not 0 < self.confidence < 1:
            raise BadInput(f"A judge's confidence {self.confidence} lies between 0 and 1; it is never a fact.")

    @property
    def detector(self) -> str:
        return f"judge {self.model}"

    def label(self, text: str) -> tuple[BehaviourLabel, ...]:
        """Labels of a trace, in characters. Raises JudgeError."""
        found: list[BehaviourLabel] = []
        for start, end in pieces(text, self.piece):
            for a, b, label in self._annotated(text[start:end]):
                found.append(BehaviourLabel(start + a, start + b, label, self.detector, self.confidence))
        return tuple(found)

    def _annotated(self, text: str) -> list[tuple[int, int, str]]:
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
        trouble, wait = "", self.pause
        for attempt in range(self.retries + 1):
            try:
                answer = self._answer(messages)
            except _Unusable as error:
                trouble = str(error)
                if attempt < self.retries:
                    time.sleep(wait)
                    wait *= 2
                continue
            try:
                return located(answer, text, self.missing)
            except _Unusable as error:
                trouble = str(error)
                complaint = f"That cannot be used: {trouble} Copy the trace exactly and mark all of it."
                messages = [
                    *messages[:2],
                    {"role": "assistant", "content": answer},
                    {"role": "user", "content": complaint},
                ]
        raise JudgeError(
            f"{self.model} at {self.base_url} gave no usable annotation in {self.retries + 1} attempts. The last: {trouble}"
        )

    def _answer(self, messages: list[dict[str, str]]) -> str:
        """The text of one answer. Raises _Unusable for what another attempt may mend, JudgeError for what none will."""
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": self.max_tokens}
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                raw = response.read()
        except urllib.error.HTTPError as error:
            said = error.read()[:300].decode(errors="replace")
            if error.code == 429 or error.code >= 500:
                raise _Unusable(f"the server answered {error.code}: {said}") from error
            raise JudgeError(
                f"{url} answered {error.code}: {said}. Check the address, the model's name and the key."
            ) from error
        except TimeoutError as error:
            raise _Unusable(f"no answer within {self.timeout:g} s.") from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            told = (
                f"no answer within {self.timeout:g} s."
                if isinstance(reason, TimeoutError)
                else f"no connection ({reason})."
            )
            raise _Unusable(told) from error
        return _content(raw)


def _content(raw: bytes) -> str:
    try:
        document: Any = json.loads(raw)
        choice = document["choices"][0]
        content, refusal = choice["message"].get("content"), choice["message"].get("refusal")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _Unusable(f"the server did not answer in the form of chat completions: {raw[:120]!r}.") from error
    if refusal:
        raise _Unusable(f"the model refused: {str(refusal)[:200]}")
    if not isinstance(content, str) or not content.strip():
        raise _Unusable("the answer is empty.")
    if choice.get("finish_reason") == "length":
        raise _Unusable("the answer was cut at its token limit; raise max_tokens or send smaller pieces.")
    return content


def located(answer: str, text: str, missing: float = 0.0) -> list[tuple[int, int, str]]:
    """`(start, end, label)` of every annotated part in `text`, white space aside. Raises an error that a judge can read.

    Parts are matched without white space: an answer may wrap lines, not change a letter.
    """
    parts = parse_annotated(answer)
    if not parts:
        raise _Unusable(f"it holds no marked part, but begins {answer.strip()[:120]!r}.")
    solid = [i for i, c in enumerate(text) if not c.isspace()]
    bare = "".join(text[i] for i in solid)
    found, cursor, left = [], 0, 0
    for part in parts:
        start = _place(part, bare, cursor)
        left += start - cursor
        cursor = start + len("".join(part.text.split()))
        found.append((solid[start], solid[cursor - 1] + 1, part.label))
    left += len(bare) - cursor
    if left > missing * len(bare):
        raise _Unusable(f"{left} of {len(bare)} characters are not marked.")
    return found


def _place(part: Part, bare: str, cursor: int) -> int:
    if part.label not in LABELS:
        raise _Unusable(f"the label {part.label!r} is none of {', '.join(LABELS)}.")
    start = bare.find("".join(part.text.split()), cursor)
    if start < 0:
        raise _Unusable(f"the part {part.text[:80]!r} is not in the trace word for word, or not in this order.")
    return start


def pieces(text: str, size: int) -> list[tuple[int, int]]:
    """Characters of consecutive pieces of at most `size`, cut between sentences; a longer sentence is a piece of its own."""
    found: list[tuple[int, int]] = []
    for sentence in sentences(text):
        if found and sentence.end - found[-1][0] <= size:
            found[-1] = found[-1][0], sentence.end
        else:
            found.append((sentence.start, sentence.end))
    return found
