"""Questions cut after a share of their words, what stands behind the cut, and texts that nobody can have seen.

1. A question is cut between words; one of a single word is cut between characters. Something stands on either side of every cut.
2. The rest is written exactly where a completion begins with its words. ROUGE-L is the F score of the longest common subsequence of words,
   of the rest and of as many words of the completion. Words are what stands between white space, as written.
3. Twins are the same questions with other numbers of as many digits. Fresh questions are the next ones of a generator where the task has
   one, and random calculations (2507.10532) elsewhere.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from steering.errors import BadInput

from ...tasks.datasets import Question
from ...tasks.findstart import FindStart
from ...tasks.formed import Formed
from ...tasks.gym import Gym
from ...tasks.items import Item
from ...tasks.short import Short
from ...tasks.task import Task

NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Cut:
    """A question's text before a cut, and its rest."""

    prefix: str
    rest: str


def question_of(task: Task, item: Item) -> str:
    """The text of a question, without the words of a form. Raises BadInput for a task whose prompts are no questions in a form."""
    if isinstance(task, FindStart):
        return str(item.data.prompt("bare")).removesuffix(" ?")
    if isinstance(task, Formed):
        return task.question(item)
    raise BadInput(
        f"Task {task.name} has no questions apart from its prompts, so nothing can be cut; name another task."
    )


def cut(question: str, share: float) -> Cut | None:
    """A question cut after a share of its words; None where it is a single character."""
    places = [match.end() for match in re.finditer(r"\S+", question)]
    if len(places) < 2:
        text = question.strip()
        if len(text) < 2:
            return None
        place = min(len(text) - 1, max(1, round(share * len(text))))
        return Cut(text[:place], text[place:])
    place = places[min(len(places) - 1, max(1, round(share * len(places)))) - 1]
    return Cut(question[:place], question[place:])


def exact(rest: str, completion: str) -> bool:
    """Whether a completion begins with the words of the rest."""
    words = rest.split()
    return completion.split()[: len(words)] == words


def rouge_l(rest: str, completion: str) -> float:
    """F score of the longest common subsequence of the rest's words and as many of the completion's, in [0, 1]."""
    one = rest.split()
    two = completion.split()[: len(one)]
    row = [0] * (len(two) + 1)
    for word in one:
        last = 0
        for place, other in enumerate(two, 1):
            last, row[place] = row[place], last + 1 if word == other else max(row[place], row[place - 1])
    return 2 * row[-1] / (len(one) + len(two)) if one else 0.0


def with_other_numbers(question: str, salt: str) -> str | None:
    """The question with every number changed into another of as many digits; None where it has none. Equal numbers stay equal."""
    rng, known = random.Random(f"{salt}/{question}"), dict[str, str]()
    if not NUMBER.search(question):
        return None

    def other(match: re.Match[str]) -> str:
        old = match.group()
        while known.setdefault(old, old) == old:
            known[old] = str(rng.randrange(10 ** (len(old) - 1) if len(old) > 1 else 0, 10 ** len(old)))
        return known[old]

    return NUMBER.sub(other, question)


def calculation(rng: random.Random, steps: int) -> tuple[str, Fraction]:
    """A random calculation of `steps` operations on integers, squares, cubes and fractions: its text and its value."""
    if steps == 0:
        a, b = rng.randint(2, 99), rng.randint(2, 12)
        text, value = rng.choice(
            [(f"{a}", Fraction(a)), (f"{a} ^ 2", Fraction(a) ** 2), (f"{b} ^ 3", Fraction(b) ** 3), (f"{a} / {b}", Fraction(a, b))]
        )  # fmt: skip
        return text, value
    left = rng.randrange(steps)
    (one, a_value), (two, b_value) = calculation(rng, left), calculation(rng, steps - 1 - left)
    sign = rng.choice("+-*")
    return (
        f"( {one} {sign} {two} )",
        a_value + b_value if sign == "+" else a_value - b_value if sign == "-" else a_value * b_value,
    )


def calculations(n: int, words: int) -> list[Item]:
    """`n` random calculations of about as many words each, as questions of a data set."""
    rng, found = random.Random(f"calculations/{words}"), dict[str, str]()
    while len(found) < n:
        text, value = calculation(rng, max(1, round(words / 5)))
        found.setdefault(f"What is the value of {text} ?", str(value))
    names = [f"calculation/{place:05d}" for place in range(n)]
    return [
        Item(name, gold, Question(name, text, gold)) for name, (text, gold) in zip(names, found.items(), strict=True)
    ]


def fresh(task: Task, split: str, n: int) -> tuple[str, list[tuple[Item, str]]]:
    """What the fresh questions are, and `n` of them. Raises BadInput where a generator has not so many."""
    if isinstance(task, FindStart | Short | Gym):
        return "newly drawn problems", [(item, question_of(task, item)) for item in task.items(split, 2 * n)[n:]]
    lengths = sorted(len(question_of(task, item).split()) for item in task.items(split, n))
    made = calculations(n, lengths[len(lengths) // 2])
    return "random calculations", [(item, item.data.question) for item in made]


def cuts(questions: Sequence[str], share: float) -> list[Cut | None]:
    return [cut(question, share) for question in questions]
