"""How far does asking reach? A searched prompt beside every elicitor (S20).

1. A budget of templates is searched on development questions by successive halving; what the search reads and generates is counted. The
   chosen one is graded on held-out questions that did not choose it, beside the base, the form that asks to think first, a steered arm,
   one solved problem in the prompt, and the thinking model.
2. Control: the chosen template with random words in the place of its words, R draws on the same questions; the chosen one's rank.
3. The winner's accuracy where it was chosen is too high; how much higher than on held-out questions is said with its interval.

Source of the question: 2504.20571 (one example in the prompt against one example in training).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, ValidationError

from steering.errors import BadInput

from ...statistics import independent_difference
from ...store.runs import Run
from ...tasks.prompting import SLOT
from ...tasks.task import Task, asked_ids
from ...tasks.templated import Template, Templated, as_template
from .asked import Elicit, Setting
from .audit_options import GivenVectors, check_edit, development
from .audit_subjects import Subject, given
from .card import Card
from .ceiling_tables import Search, beside_table, control_table, search_table, sentences
from .findings import Point, Table
from .halving import halved
from .points import points_of
from .templates import ONE_SHOT, Named, added, candidates, random_template
from .workroom import Workroom

MOST = 64


class CeilingOptions(GivenVectors):
    n_dev: int = Field(default=48, ge=1)
    """Development questions of the last round."""
    dev: str | None = None
    """The split of development questions; by default `dev`, or the one whose name has `dev` for `test`."""
    count: int = Field(default=16, ge=2, le=MOST)
    """Templates that are searched."""
    shots: int = Field(default=2, ge=0, le=8)
    """Of another task: development questions behind those of the search whose answers may be shown."""
    seed: int = 0
    """Draws the templates."""
    templates: tuple[str, ...] = Field(default=(), max_length=MOST)
    """Templates of one's own, searched instead; `{question}` stands for the question."""
    draws: int = Field(default=20, ge=1)
    """Random templates."""


def refuse(asked: Elicit, options: CeilingOptions) -> None:
    check_edit("ceiling", options.span, options.dose)
    try:
        for text in options.templates:
            as_template(text)
    except ValidationError as error:
        raise BadInput(f"card ceiling: templates: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
    Templated(asked.found, {"a template": as_template(SLOT)})
    for setting in asked.settings:
        needed, split = _development(asked, options), development(asked, setting, options, "ceiling")
        try:
            asked.found.items(split, needed)
        except BadInput as error:
            raise BadInput(f"card ceiling: {error} The search reads {needed}; --set n_dev=N reads fewer.") from error


def _development(asked: Elicit, options: CeilingOptions) -> int:
    """Development questions that are needed: those of the search, and those that are shown solved."""
    return options.n_dev + (0 if asked.builtin else options.shots)


def run(room: Workroom, options: CeilingOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    tables: list[Table] = []
    said: list[str] = []
    subjects = given(room, options)
    for setting in room.asked.settings:
        listed, left_out = _listed(room, setting, options)
        search = _searched(room, setting, options, listed, left_out)
        noise = _noise(room, search.chosen, options.draws)
        found = _held_out(room, setting, options, search, noise, subjects)
        own = [point for point in points_of(found, setting) if not point.arm.startswith("random-")]
        points += own
        tables += [search_table(room, setting, search), beside_table(setting, found, own)]
        dev, n_dev = search.rounds[-1].right[search.chosen.words], search.rounds[-1].n
        chosen = next(point for point in own if point.arm == "chosen")
        optimism = independent_difference(dev, n_dev, round(chosen.accuracy * chosen.n), chosen.n)
        table, rank = control_table(setting, found, noise, search, room)
        tables.append(table)
        said += sentences(setting, search, chosen, optimism, rank, found, own)
        if not subjects:
            said.append(f"{setting.name}: nothing is steered: name a vector, --set files=[think.safetensors].")
    return points, tables, said


def _listed(room: Workroom, setting: Setting, options: CeilingOptions) -> tuple[list[Named], int]:
    """The templates that are searched, and how many leave no room for a text in the model's context."""
    task, split = room.asked.found, development(room.asked, setting, options, "ceiling")
    items = task.items(split, _development(room.asked, options))
    found = candidates(task, setting.form, room.asked.think, items[options.n_dev :], options.count, options.seed)
    if options.templates:
        own = [Named(text, as_template(text)).like(task, setting.form) for text in dict.fromkeys(options.templates)]
        found = [*own, *(one for one in found if one.words == ONE_SHOT and one.text not in options.templates)]
    asked = [*items[: options.n_dev], *task.items(setting.split, options.n)]
    fits = [one for one in found if _longest(room, task, one, asked) + room.asked.max_new_tokens <= room.base.context]
    if not fits:
        raise BadInput(
            f"card ceiling: no template leaves room for {room.asked.max_new_tokens} tokens in the context of {room.base.id} "
            f"({room.base.context}); give fewer with --max-new-tokens."
        )
    return fits, len(found) - len(fits)


def _longest(room: Workroom, task: Task, one: Named, items: Sequence[Any]) -> int:
    own = Templated(task, {"a template": one.form})
    return max(len(asked_ids(own, room.base, item, "a template")) for item in items)


def _asking(room: Workroom, templates: dict[str, Template]) -> Workroom:
    """A workroom whose task has further templates; runs and remarks are kept together."""
    spec = {
        "dataset": "templates",
        "task": room.asked.task,
        "templates": {name: form.model_dump(mode="json", exclude_defaults=True) for name, form in templates.items()},
    }
    asked = Elicit.model_validate(room.asked.model_dump(mode="json") | {"task": spec})
    other = Workroom(asked, room.store, room.console, room.models)
    other.runs, other.remarks = room.runs, room.remarks
    return other


def _searched(
    room: Workroom, setting: Setting, options: CeilingOptions, listed: Sequence[Named], left_out: int
) -> Search:
    names = {f"template-{place:02d}": one for place, one in enumerate(listed)}
    keys = {one.words: key for key, one in names.items()}
    asking = _asking(room, {key: one.form for key, one in names.items()})
    dev = setting.model_copy(update={"split": development(room.asked, setting, options, "ceiling")})
    read = written = 0

    def measure(left: Sequence[str], n: int) -> dict[str, int]:
        nonlocal read, written
        arms = [room.arm(dev, "base", "base, greedy", "baseline")]
        arms += [room.arm(dev, keys[words], words, "prompt", form=keys[words]) for words in left]
        found = asking.evaluate("ceiling-search", dev, arms, n, what=f"{len(left)} templates")
        right = dict.fromkeys(left, 0)
        for row in found.table(columns=["arm", "correct", "prompt_ids", "token_ids"]).to_pylist():
            if row["arm"] in names:
                right[names[row["arm"]].words] += bool(row["correct"])
                read += len(row["prompt_ids"])
                written += len(row["token_ids"])
        return right

    chosen, rounds = halved(list(keys), options.n_dev, measure)
    return Search(names[keys[chosen]], tuple(rounds), {one.words: one for one in listed}, read, written, left_out)


def _noise(room: Workroom, chosen: Named, draws: int) -> dict[str, Template]:
    """Random templates in the chosen one's place; none where it adds no words."""
    if not sum(added(room.base, chosen.text)):
        return {}
    return {f"random-{seed}": random_template(room.base, room.asked.found, chosen, seed) for seed in range(draws)}


def _held_out(
    room: Workroom, setting: Setting, options: CeilingOptions, search: Search, noise: dict[str, Template], subjects: Sequence[Subject]
) -> Run:  # fmt: skip
    """One run: every arm on the held-out questions."""
    templates = {"chosen": search.chosen.form} | noise
    one_shot = search.listed.get(ONE_SHOT) or next((o for o in search.listed.values() if o.shots == 1), None)
    if one_shot is not None:
        templates["one-shot"] = one_shot.form
    arms = room.references(setting)
    vectors = {digest: vector for one in subjects for digest, vector in one.own.vectors.items()}
    arms += [room.arm(setting, one.key, f"steered by {one.label}", plan=one.own.to_dict()) for one in subjects]
    if one_shot is not None:
        label = f"one solved problem in the prompt ({one_shot.words})"
        arms.append(room.arm(setting, "one-shot", label, "prompt", form="one-shot"))
    label = f"searched prompt ({search.chosen.words})"
    arms.append(room.arm(setting, "chosen", label, "prompt", form="chosen"))
    arms += [room.arm(setting, key, f"random words, draw {key[7:]}", "control", form=key) for key in noise]
    return _asking(room, templates).evaluate("ceiling", setting, arms, options.n, vectors, "held-out questions")


CARD = Card(
    name="ceiling",
    title="Prompt ceiling",
    systems=("S20",),
    papers=("2504.20571",),
    measures="held-out accuracy of a prompt that is searched on development questions, beside steering, thinking first, one-shot",
    control="random words of as many tokens in its place; accuracy where it was chosen minus accuracy on held-out questions",
    quick=CeilingOptions(n=60),
    full=CeilingOptions(n=200, n_dev=128, count=32, draws=39),
    run=run,
    refuse=refuse,
    version=2,
)
