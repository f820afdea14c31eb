"""Probe targets on any task: what can be labelled without the exact labels of the built-in one.

1. `mode`: whether the prompt is in the direct or the reasoning form, at its last token. The tokens give it away, and the baseline beside
   it says so.
2. `correct`: whether the response's answer will be right by the task's grader, at the end of each of its sentences. Responses whose answer
   could not be compared are left out, and counted.
3. `behaviour`: the lexicon's label of the next sentence, at the token before it. The target is named after its detector.
4. `disagreement`: whether the greedy token of the model differs from the token that another model wrote.
5. Groups are items: no question is on both sides of a split. `reasons` and `difficulty` need the exact labels of the built-in task and are
   refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from probes.targets import Examples, at_positions, correctness, disagreement, next_behaviour
from steering.errors import BadInput, unknown
from steering.model.models import LoadedModel

from .asking import Asking
from .task_texts import labels_of, responses

EXACT = ("reasons", "difficulty")
"""Targets of the built-in task that no other task can have."""


@dataclass(frozen=True)
class Asked:
    """What a target is read on."""

    model: LoadedModel
    asking: Asking
    questions: int
    writer: LoadedModel | None
    """The other model of `disagreement`."""


def _mode(asked: Asked) -> Examples:
    items, forms = asked.asking.questions(asked.questions), (asked.asking.direct, asked.asking.reasoning)
    prompts = [ids for form in forms for ids in asked.asking.prompts(asked.model, items, form)]
    return at_positions(
        f"the prompt is in the form {forms[1]}", prompts, [-1] * len(prompts), [k for k in (0, 1) for _ in items],
        [item.id for _ in forms for item in items], forms,
    )  # fmt: skip


def _correct(asked: Asked) -> Examples:
    items = asked.asking.questions(asked.questions)
    made = responses(asked.model, asked.asking, items, (asked.asking.reasoning,))
    kept = [answer for answer in made if answer.correct is not None and answer.ends]
    if not kept:
        raise BadInput(
            f"None of {len(made)} responses of {asked.model.id} has an answer that the grader of {asked.asking.found.name} could compare; "
            f"there is nothing to predict."
        )
    found = correctness(
        [a.prompt_ids for a in kept], [a.token_ids for a in kept], [a.ends for a in kept], [bool(a.correct) for a in kept],
        [a.item.id for a in kept],
    )  # fmt: skip
    return replace(found, target=f"{found.target} ({len(made) - len(kept)} of {len(made)} responses had no answer)")


def _behaviour(asked: Asked) -> Examples:
    items = asked.asking.questions(asked.questions)
    made = responses(asked.model, asked.asking, items, (asked.asking.reasoning,))
    return next_behaviour(
        [a.prompt_ids for a in made], [a.token_ids for a in made], [a.labels for a in made], [a.item.id for a in made],
        target=f"behaviour of the next sentence by the {labels_of(asked.asking)}",
    )  # fmt: skip


def _disagreement(asked: Asked) -> Examples:
    if asked.writer is None:
        raise BadInput("The target disagreement needs another model, whose responses are read: --thinking MODEL.")
    items = asked.asking.questions(asked.questions)
    made = responses(asked.writer, asked.asking, items, (asked.asking.direct,), temperature=0.0)
    return disagreement(
        asked.model, [a.prompt_ids for a in made], [a.token_ids for a in made], [a.item.id for a in made]
    )


TARGETS: dict[str, Callable[[Asked], Examples]] = {
    "mode": _mode,
    "correct": _correct,
    "behaviour": _behaviour,
    "disagreement": _disagreement,
}


def task_examples(
    target: str, model: LoadedModel, asking: Asking, questions: int, writer: LoadedModel | None = None
) -> Examples:
    """Examples of a target on the questions that `asking` reads. Raises BadInput for a target that needs exact labels, an unknown one, or
    where fewer than two classes remain."""
    if target in EXACT:
        raise BadInput(
            f"Target {target} needs the exact labels of the built-in task, which {asking.found.name} does not have; it has "
            f"{', '.join(TARGETS)}, or give your own labels with --examples."
        )
    if target not in TARGETS:
        raise unknown("target", target, TARGETS)
    return TARGETS[target](Asked(model, asking, questions, writer)).usable()
