"""Templates that a prompt search chooses from, and random words in a template's place.

1. A template is made of parts: what stands before everything, solved problems (demonstrations), the question once or twice, and a hint
   behind it. Of the built-in task parts are words of its closed vocabulary, and problems of the training distribution; of other tasks
   parts are English, the solved problems are development questions that the search does not ask, with their answers alone.
2. Three templates are always there: the question as it is asked, the words that ask to think first, and one solved problem before the
   question (one-shot). The others are drawn from all combinations by a fixed seed.
3. A random template has the words of a template replaced by random other ones (numbers apart) of as many tokens, at most; the question
   stays where it is.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from steering.model.reader import Reads

from ...pair.trace import STYLES, direct_response, think_response
from ...pair.vocabulary import SPECIALS, WORDS
from ...tasks import short
from ...tasks.findstart import FindStart
from ...tasks.formed import Formed
from ...tasks.items import Item
from ...tasks.prompting import SLOT
from ...tasks.task import Task
from ...tasks.templated import Template, as_template
from ..readings import training_problems

PLAIN, THINK, ONE_SHOT = "as asked", "think", "one-shot"
SHORTEST = 44
"""Words of a demonstration of the built-in task at most: several have to fit into a prompt."""
BUILTIN_BEFORE = {"": "", "unrelated words before": "ok so yes maybe ; "}
BUILTIN_HINTS = ("", "be quick", "think first", "think", "wait check", "let us try")
BEFORE = {
    "": "",
    "careful": "Solve the following problem carefully.\n\n",
    "expert": "You are an expert at such problems.\n\n",
}
HINTS = (
    "Answer:",
    "Let's think step by step.",
    "First think, then write the answer in a last line that begins with 'Answer:'.\n",
    "Work it out and check the result.\nSolution:",
    "Give only the answer.\nAnswer:",
)


@dataclass(frozen=True)
class Named:
    """A template, what is in it in words, and how many solved problems it holds."""

    words: str
    form: Template
    shots: int = 0

    @property
    def text(self) -> str:
        return self.form.template

    def like(self, task: Task, form: str) -> Named:
        """The template, put through the chat template where a form of the task is."""
        if not isinstance(task, Formed):
            return self
        asked = task.asked[form]
        return replace(self, form=as_template(asked.model_dump() | {"template": self.text}))


def candidates(task: Task, direct: str, think: str, solved: Sequence[Item], count: int, seed: int = 0) -> list[Named]:
    """`count` templates at most, the three of every list first. `solved` are the items whose solutions may be shown."""
    first, others = (_builtin if isinstance(task, FindStart) else _english)(task, direct, think, solved)
    first = list({one.text: one for one in reversed(first)}.values())[::-1]  # the setting may ask to think first itself
    seen = {one.text for one in first}
    rest = [one for one in others if one.text not in seen]
    drawn = random.Random(f"templates/{seed}").sample(rest, max(0, min(count - len(first), len(rest))))
    return [*first, *drawn]


def _builtin(task: Task, direct: str, think: str, solved: Sequence[Item]) -> tuple[list[Named], list[Named]]:
    direct_shots, reasoned = demonstrations(2)
    demos = {"": (0, "")} | {
        f"{n} solved {how}": (n, " ".join(shots[:n]) + " ")
        for how, shots in (("directly", direct_shots), ("by reasoning", reasoned))
        for n in (1, 2)
    }
    made = []
    for before, (shown, (shots, demo)), twice, hint in product(
        BUILTIN_BEFORE, demos.items(), (False, True), BUILTIN_HINTS
    ):
        words = [before, shown, "question twice" if twice else "", hint and f"'{hint}' behind"]
        text = f"{BUILTIN_BEFORE[before]}{demo}{SLOT}{' ' + SLOT if twice else ''}{' ' + hint if hint else ''}"
        made.append(Named(_said(words), as_template(text), shots))
    one = demos["1 solved by reasoning"][1]
    fixed = [
        Named(PLAIN, as_template(SLOT)),
        Named(THINK, as_template(f"{SLOT} think first")),
        Named(ONE_SHOT, as_template(f"{one}{SLOT}"), 1),
    ]
    return fixed, made


def demonstrations(count: int) -> tuple[list[str], list[str]]:
    """Solved training problems as words: answered directly, and by a careful trace, short ones."""
    rng = random.Random("demonstrations")
    direct: list[str] = []
    reasoned: list[str] = []
    for problem in training_problems(400, seed=3):
        trace = " ".join([problem.prompt("bare"), *think_response(problem, rng, STYLES["careful"])])
        ends_right = trace.endswith(f"yes ; so answer {problem.answer}")
        if ends_right and len(trace.split()) <= SHORTEST and len(reasoned) < count:
            direct.append(" ".join([problem.prompt("bare"), *direct_response(problem)]))
            reasoned.append(trace)
    return direct, reasoned


def _english(task: Task, direct: str, think: str, solved: Sequence[Item]) -> tuple[list[Named], list[Named]]:
    assert isinstance(task, Formed)
    own, asks = task.asked[direct], task.asked[think]
    like = {"chat": own.chat, "system": own.system, "thinking": own.thinking, "options": own.options}
    shown = [f"Question: {task.question(item)}\nAnswer: {item.gold}\n\n" for item in solved]
    made = []
    for before, shots, hint, first in product(BEFORE, range(len(shown) + 1), HINTS, (False, True)):
        hinted = f"{hint.strip()}\n\nQuestion: {SLOT}" if first else f"Question: {SLOT}\n{hint}"
        words = [before, f"{shots} solved" if shots else "", f"{hint.strip()!r} {'before' if first else 'behind'}"]
        text = f"{BEFORE[before]}{''.join(shown[:shots])}{hinted}"
        made.append(Named(_said(words), as_template({"template": text} | like), shots))
    fixed = [Named(PLAIN, as_template(own.model_dump())), Named(THINK, as_template(asks.model_dump()))]
    if shown:
        text = shown[0] + (own.template if "Question:" in own.template else f"Question: {own.template}")
        fixed.append(Named(ONE_SHOT, as_template(own.model_dump() | {"template": text}), 1))
    return fixed, made


def _said(words: Sequence[str]) -> str:
    return ", ".join(word for word in words if word) or PLAIN


def added(model: Reads, text: str) -> list[int]:
    """Tokens of each part of a template that is not the question."""
    return [len(model.tokenizer(part, add_special_tokens=False)["input_ids"]) for part in text.split(SLOT)]


def random_template(model: Reads, task: Task, one: Named, seed: int) -> Template:
    """Random words in the place of a template's words: of as many tokens, or one or two fewer where words are longer than what is left."""
    rng = random.Random(f"random template/{one.text}/{seed}")
    known = [word for word in WORDS if word not in SPECIALS] if isinstance(task, FindStart) else list(short.WORDS)
    own = set(one.text.lower().split())
    pool = [word for word in known if word not in own or word.isdecimal()]
    parts = []
    for text, tokens in zip(one.text.split(SLOT), added(model, one.text), strict=True):
        words: list[str] = []
        for _ in range(4 * tokens):
            trial = [*words, rng.choice(pool)]
            length = added(model, " ".join(trial))[0]
            if length <= tokens:
                words = trial
            if length == tokens:
                break
        parts.append(f"{' '.join(words)}{text[len(text.rstrip()) :]}" if words else text if not tokens else "")
    return one.form.model_copy(update={"template": _joined(parts)})


def _joined(parts: Sequence[str]) -> str:
    """Parts with the question between them, a blank where words would touch it."""
    text = parts[0]
    for part in parts[1:]:
        before = "" if not text or text[-1].isspace() else " "
        behind = "" if not part or part[0].isspace() else " "
        text += f"{before}{SLOT}{behind}{part}"
    return text
