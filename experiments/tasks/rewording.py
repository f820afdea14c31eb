"""A task whose questions have some words changed into others, the right answers unchanged.

1. Whole words are changed, all at once, their case kept: `Apples` becomes `Blickets`. Words may be exchanged for each other.
2. Only questions with a changed word are items; their ids are those of the task.
3. What would change more than words is refused: a word of a right answer, and a new word that stands in a question already.
4. Another draw gives the new words to other old ones, each new word moved on by one place.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from steering.errors import BadInput

from .datasets import Question
from .formed import Formed
from .graders.grade import NOTHING, Grade, Known
from .items import Item
from .labellers import Labeller
from .prompting import Form


def as_words(given: Any, draw: Any = 0) -> Words:
    """Old words and new ones, in alphabetical order of the old. Raises BadInput for what is no map between as many different words."""
    if not isinstance(given, Mapping) or not given:
        raise BadInput("words: map old words to new ones, such as {apples: blickets, red: wug}.")
    words = {str(old).strip(): str(new).strip() for old, new in given.items()}
    for side in (list(words), list(words.values())):
        if not all(side) or len({word.lower() for word in side}) < len(given):
            raise BadInput(f"words: each old word has a new word of its own; {', '.join(side)} are not all different.")
    if same := [old for old, new in words.items() if old.lower() == new.lower()]:
        raise BadInput(f"words: {same[0]!r} stays as it is; leave it out.")
    if isinstance(draw, bool) or not isinstance(draw, int):
        raise BadInput(f"draw: {draw!r} is no number from 0.")
    return Words(tuple(sorted(words.items())), draw)


@dataclass(frozen=True)
class Words:
    """Old words and the new ones in their place."""

    given: tuple[tuple[str, str], ...]
    draw: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.draw < len(self.given):
            raise BadInput(
                f"words: {len(self.given)} words can be given to each other in {len(self.given)} ways; there is no draw {self.draw}."
            )

    @cached_property
    def table(self) -> dict[str, str]:
        """New words by old ones in small letters."""
        new = [word for _, word in self.given]
        return {old.lower(): new[(n + self.draw) % len(new)] for n, (old, _) in enumerate(self.given)}

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        longest = sorted(self.table, key=len, reverse=True)
        return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest))})(?!\w)", re.IGNORECASE)

    def found(self, text: str) -> list[str]:
        """Old words in a text, in small letters."""
        return [match.lower() for match in self.pattern.findall(text)]

    def changed(self, text: str) -> str:
        """The text in new words."""
        return self.pattern.sub(lambda match: _cased(self.table[match.group().lower()], match.group()), text)

    def standing(self, text: str) -> list[str]:
        """New words that stand in a text already and are no old words."""
        new = [word for word in self.table.values() if word.lower() not in self.table]
        return [word for word in new if re.search(rf"(?i)(?<!\w){re.escape(word)}(?!\w)", text)]


def _cased(word: str, like: str) -> str:
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word


@dataclass(frozen=True)
class Reworded(Formed):
    """A task of questions in other words."""

    of: Any
    """A `Formed` task."""
    words: Words

    def __post_init__(self) -> None:
        if not isinstance(self.of, Formed):
            raise BadInput(f"Task {self.of.name} has no questions in words, so no words of it can be changed.")

    @property
    def name(self) -> str:
        draw = f", draw {self.words.draw}" if self.words.draw else ""
        return f"{self.of.name}, {len(self.words.given)} words changed{draw}"

    @property
    def digest(self) -> str:
        facts = json.dumps([self.of.digest, self.words.given, self.words.draw])
        return f"reworded-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.of.splits)

    @property
    def asked(self) -> Mapping[str, Form]:
        return dict(self.of.asked)

    @property
    def labeller(self) -> Labeller | None:
        return getattr(self.of, "labeller", None)

    def has(self, item: Item) -> bool:
        """Whether a question of the task has a word that is changed."""
        return bool(self.words.found(self.of.question(item)))

    def items(self, split: str, n: int) -> list[Item]:
        """The first n questions with a changed word. Raises BadInput where there are fewer, and for words that cannot be changed."""
        asked, found = n, list[Item]()
        while len(found) < n:
            try:
                given = self.of.items(split, asked)
            except BadInput as error:
                if asked == n:
                    raise
                raise BadInput(
                    f"{self.name}: {len(found)} of the first {asked // 2} questions have a changed word; {n} were asked for. ({error})"
                ) from error
            found = [item for item in given if self.has(item)]
            asked *= 2
        for item in found[:n]:
            self._check(item)
        return [self._changed(item) for item in found[:n]]

    def _check(self, item: Item) -> None:
        if same := self.words.found(item.gold):
            raise BadInput(f"words: {same[0]!r} stands in the right answer of {item.id} ({item.gold!r}); leave it out.")
        if there := self.words.standing(self.of.question(item)):
            raise BadInput(f"words: the new word {there[0]!r} stands in the question {item.id} already; name another.")

    def _changed(self, item: Item) -> Item:
        text = self.words.changed(self.of.question(item))
        data = item.data
        return replace(
            item, data=replace(data, question=text) if isinstance(data, Question) else dict(data) | {"question": text}
        )

    def question(self, item: Item) -> str:
        return str(self.of.question(item))

    def grade(self, item: Item, text: str, known: Known = NOTHING) -> Grade:
        grade: Grade = self.of.grade(item, text, known)
        return grade
