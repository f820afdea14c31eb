"""Short questions in English, generated: families that a small language model may answer at once or by thinking first.

1. `short:NAME` needs no file and no package. A question is a pure function of (family, split, place): the first n items of a split are the
   first n of any longer list, and no question occurs twice.
2. Splits are held apart by the question itself: a hash of its text says whether it is `train`, `dev` or `test`, whatever its place.
3. Four prompt forms: `direct` and `think` for base models, `chat-direct` and `chat-think` through a chat template. Direct forms ask for the
   answer alone, think forms for steps and a last line with the answer.
4. Grades compare the final answer, as a number or letter by letter.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from steering.errors import BadInput, unknown

from .formed import Formed
from .graders.grade import NOTHING, Grade, Grader, Known
from .graders.plain import ExactGrader, NumericGrader
from .items import Item
from .labellers import Labeller
from .prompting import SLOT, Form

VERSION = 1
"""Part of the digest; raised when a family asks other questions."""
SHARES = {"train": (0, 4), "dev": (4, 10), "test": (10, 16)}
"""Sixteenths of all questions that belong to a split."""
TRIES = 400
"""Draws per item before a family counts as exhausted."""
DIRECT = "Give only the answer, nothing else."
THINK = "Think step by step, then write the answer in a last line that begins with 'Answer:'."
FORMS = {
    "direct": Form(template=f"Question: {SLOT}\nAnswer:"),
    "think": Form(template=f"Question: {SLOT}\n{THINK}\nLet's think step by step."),
    "chat-direct": Form(template=f"{SLOT} {DIRECT}", chat=True),
    "chat-think": Form(template=f"{SLOT} {THINK}", chat=True),
}
WORDS = (
    "apple bread chair dance eagle flame grape house island jungle kettle lemon mountain needle orange pencil quiet river "
    "stone table uncle valley window yellow zebra basket candle dragon engine forest garden hammer insect jacket kitchen ladder "
    "mirror number office parrot rabbit silver ticket umbrella village winter animal bottle camera desert"
).split()
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry")
THINGS = ("apples", "books", "coins", "marbles", "pencils", "stamps")

Draw = Callable[[random.Random], tuple[str, str]]


def _addition(rng: random.Random) -> tuple[str, str]:
    a, b = rng.randint(10, 99), rng.randint(10, 99)
    return f"What is {a} + {b}?", str(a + b)


def _subtraction(rng: random.Random) -> tuple[str, str]:
    a, b = sorted((rng.randint(5, 99), rng.randint(5, 99)))
    return f"What is {b} - {a}?", str(b - a)


def _multiplication(rng: random.Random) -> tuple[str, str]:
    a, b = rng.randint(2, 12), rng.randint(2, 99)
    return f"What is {a} times {b}?", str(a * b)


def _chain(rng: random.Random) -> tuple[str, str]:
    a, b, c = (rng.randint(2, 20) for _ in range(3))
    return f"What is {a} + {b} - {c}?", str(a + b - c)


def _story(rng: random.Random) -> tuple[str, str]:
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    start, more = rng.randint(3, 15), rng.randint(2, 10)
    away = rng.randint(1, start - 1)
    question = (
        f"{name} has {start} {thing}, buys {more} more, and gives {away} away. How many {thing} does {name} have now?"
    )
    return question, str(start + more - away)


def _sequence(rng: random.Random) -> tuple[str, str]:
    start, step = rng.randint(1, 60), rng.choice([-1, 1]) * rng.randint(1, 10)
    shown = [start + step * i for i in range(4)]
    return f"What is the next number: {', '.join(map(str, shown))}?", str(start + 4 * step)


def _largest(rng: random.Random) -> tuple[str, str]:
    numbers = rng.sample(range(10, 1000), 4)
    return f"Which is the largest of these numbers: {', '.join(map(str, numbers))}?", str(max(numbers))


def _decimals(rng: random.Random) -> tuple[str, str]:
    whole = rng.randint(1, 30)
    short, long = f"{whole}.{rng.randint(1, 9)}", f"{whole}.{rng.randint(1, 9)}{rng.randint(1, 9)}"
    if float(short) == float(long):
        long += "1"
    pair = [short, long]
    rng.shuffle(pair)
    return f"Which number is larger, {pair[0]} or {pair[1]}?", max(pair, key=float)


def _last_letters(rng: random.Random) -> tuple[str, str]:
    words = rng.sample(WORDS, 2)
    return f"Take the last letters of the words {words[0]} and {words[1]} and join them.", "".join(w[-1] for w in words)


def _counting(rng: random.Random) -> tuple[str, str]:
    word = rng.choice(WORDS)
    letter = rng.choice(sorted(set(word))) if rng.random() < 0.7 else rng.choice("abcdefghijklmnopqrstuvwxyz")
    return f"How many times does the letter {letter} occur in the word {word}?", str(word.count(letter))


def _alphabet(rng: random.Random) -> tuple[str, str]:
    words = rng.sample(WORDS, 4)
    return f"Which of these words comes first in the alphabet: {', '.join(words)}?", min(words)


def _weekday(rng: random.Random) -> tuple[str, str]:
    today, days, ahead = rng.randrange(7), rng.randint(2, 60), rng.random() < 0.5
    question = (
        f"Today is {DAYS[today]}. What day of the week {'will it be in' if ahead else 'was it'} {days} days"
        f"{'' if ahead else ' ago'}?"
    )
    return question, DAYS[(today + (days if ahead else -days)) % 7]


def _clock(rng: random.Random) -> tuple[str, str]:
    start, minutes = datetime(2000, 1, 1, rng.randint(6, 20), 5 * rng.randrange(12)), 5 * rng.randint(2, 24)
    return f"How many minutes pass from {start:%H:%M} to {start + timedelta(minutes=minutes):%H:%M}?", str(minutes)


def _logic(rng: random.Random) -> tuple[str, str]:
    def word() -> str:
        return ("not " if rng.random() < 0.5 else "") + rng.choice(("True", "False"))

    inner, outer = rng.choice(("and", "or")), rng.choice(("and", "or"))
    text = f"({word()} {inner} {word()}) {outer} ({word()} {rng.choice(('and', 'or'))} {word()})"
    return f"What is the value of {text}?", str(_value(text))


def _value(text: str) -> bool:
    """The truth value of a text that this module wrote."""
    import ast

    def read(node: ast.AST) -> bool:
        if isinstance(node, ast.BoolOp):
            parts = [read(one) for one in node.values]
            return all(parts) if isinstance(node.op, ast.And) else any(parts)
        if isinstance(node, ast.UnaryOp):
            return not read(node.operand)
        assert isinstance(node, ast.Constant)
        return bool(node.value)

    return read(ast.parse(text, mode="eval").body)


NUMBER, LETTERS = NumericGrader(), ExactGrader()
FAMILIES: Mapping[str, tuple[Draw, Grader]] = {
    "addition": (_addition, NUMBER),
    "subtraction": (_subtraction, NUMBER),
    "multiplication": (_multiplication, NUMBER),
    "chain": (_chain, NUMBER),
    "story": (_story, NUMBER),
    "sequence": (_sequence, NUMBER),
    "largest": (_largest, NUMBER),
    "decimals": (_decimals, NUMBER),
    "last-letters": (_last_letters, LETTERS),
    "counting": (_counting, NUMBER),
    "alphabet": (_alphabet, LETTERS),
    "weekday": (_weekday, LETTERS),
    "clock": (_clock, NUMBER),
    "logic": (_logic, LETTERS),
}


@dataclass(frozen=True)
class Short(Formed):
    """One family of short questions."""

    family: str
    labeller: Labeller | None = None
    """Who labels the sentences of responses; nobody by default."""

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise unknown("family", self.family, FAMILIES, where="short")

    @property
    def name(self) -> str:
        return f"short:{self.family}"

    @property
    def digest(self) -> str:
        labels = f", labels by {self.labeller.detector}" if self.labeller else ""
        grader = FAMILIES[self.family][1].facts
        return f"{self.name}@{VERSION}, {grader['grader']} {grader['version']}{labels}"

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(SHARES)

    @property
    def asked(self) -> Mapping[str, Form]:
        return FORMS

    def question(self, item: Item) -> str:
        return str(item.data["question"])

    def items(self, split: str, n: int) -> list[Item]:
        """The first n questions of a split. Raises BadInput for an unknown split, and where the family has fewer."""
        if split not in SHARES:
            raise unknown("split", split, SHARES, where=f"task {self.name}")
        if n < 1:
            raise BadInput(f"Split {split}: n is {n}; ask for at least one item.")
        low, high = SHARES[split]
        rng, draw, found = random.Random(f"{self.name}@{VERSION}/{split}"), FAMILIES[self.family][0], dict[str, str]()
        for _ in range(n * TRIES):
            if len(found) == n:
                break
            question, answer = draw(rng)
            if low <= hashlib.sha256(question.encode()).digest()[0] % 16 < high:
                found.setdefault(question, answer)
        if len(found) < n:
            raise BadInput(f"{self.name} has about {len(found)} questions in its split {split}; ask for no more.")
        return [
            Item(f"{split}/{i:05d}", answer, {"question": question})
            for i, (question, answer) in enumerate(found.items())
        ]

    @property
    def grader(self) -> Grader:
        return FAMILIES[self.family][1]

    def grade(self, item: Item, text: str, known: Known = NOTHING) -> Grade:
        return self.grader.grade(self.question(item), item.gold, text, known)
