"""Options of verbs that study two prompt forms of a task's questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..studies.asking import Asking

TaskOption = Annotated[
    str, typer.Option("--task", help="find-start, a data set, or a YAML file with a task (forms, splits, grader).")
]
FormsOption = Annotated[
    str,
    typer.Option(
        "--forms", help="Prompt forms: direct, reasoning, and any others to report; quick,think,bare by default."
    ),
]
TwoFormsOption = Annotated[str, typer.Option("--forms", help="The two prompt forms of another task: direct,reasoning.")]
ReadOption = Annotated[
    str, typer.Option("--read", help="Questions that are read, as split:count; training problems of the built-in task.")
]
DevelopmentOption = Annotated[
    str, typer.Option("--dev", help="Questions that choose, as split:count[,split:count]; share none with --read.")
]
TestOption = Annotated[str, typer.Option("--test", help="Questions that are reported, as split:count[,split:count].")]
TokensOption = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Tokens per text.")]
FIND_START = "find-start"
TRAIN, TOKENS = "train", 360
"""How verbs that read one form of the built-in task read it."""


def asking_of(
    task: str,
    forms: str,
    read: str,
    development: str,
    test: str,
    max_new_tokens: int,
    *,
    needs: tuple[str, ...],
    further: bool = False,
) -> Asking:
    """What the options ask. `needs` names those of --read, --dev and --test that the verb uses; `further`: it reports more than two forms.
    Raises BadInput for a task without what is needed, and for more forms than are used."""
    from steering.errors import BadInput

    from ..evaluation.spec_files import located_task
    from ..studies.asking import Asking, counted
    from .prompts import task_of

    found, folder = task_of(task)
    given = {"--read": read, "--dev": development, "--test": test}
    if not further and len(more := [name for name in forms.split(",") if name][2:]):
        raise BadInput(f"--forms {forms}: two forms are used here, direct and reasoning; leave {', '.join(more)} out.")
    if task != FIND_START:
        named = [name for name in forms.split(",") if name]
        if len(named) < 2:
            raise BadInput(
                f"--forms {forms}: name two prompt forms of task {task}, the direct one first, as --forms direct,cot."
            )
        for option in needs:
            if not given[option]:
                raise BadInput(f"{option}: task {task} needs it, as split:count, for example {option} train:48.")
        direct, reasoning, *others = named
        asking = Asking(
            located_task(found, folder), direct, reasoning, tuple(others), counted(read, "--read"), counted(development, "--dev"),
            counted(test, "--test"), max_new_tokens,
        )  # fmt: skip
    else:
        own = Asking(max_new_tokens=max_new_tokens)
        named = [name for name in forms.split(",") if name] or [own.direct, own.reasoning, *own.others]
        if len(named) < 2:
            raise BadInput(f"--forms {forms}: name two prompt forms, the direct one first, as --forms quick,think.")
        asking = Asking(
            FIND_START, named[0], named[1], tuple(named[2:]), counted(read, "--read"),
            counted(development, "--dev") or own.development, counted(test, "--test") or own.test, max_new_tokens,
        )  # fmt: skip
    asking.check()
    return asking


def check_counts(task: str, **given: int | None) -> None:
    """Raises BadInput for numbers of built-in problems (`n`, `n_dev`) beside another task, and for one below 1."""
    from steering.errors import BadInput

    named = {f"--{name.replace('_', '-')}": count for name, count in given.items() if count is not None}
    if task != FIND_START and named:
        raise BadInput(
            f"{' and '.join(named)}: problems of the built-in task are counted so; for task {task} give --dev and --test as split:count."
        )
    for option, count in named.items():
        if count < 1:
            raise BadInput(f"{option} {count}: give at least one problem.")


def one_form_of(task: str, form: str, split: str, n: int, max_new_tokens: int) -> Asking:
    """What is asked in one prompt form, of `n` questions of one split; of the built-in task, its training problems. Raises BadInput."""
    from steering.errors import BadInput

    from ..evaluation.spec_files import located_task
    from ..studies.asking import BUILTIN, Asking
    from .prompts import task_of

    if task == FIND_START:
        if split != TRAIN or max_new_tokens != TOKENS:
            raise BadInput(
                f"{FIND_START} is read from its training problems, {TOKENS} tokens each: --split and --max-new-tokens are of another task; "
                "leave them out, or give --task."
            )
        return BUILTIN
    found, folder = task_of(task)
    asking = Asking(located_task(found, folder), form, form, (), {split: n}, {}, {}, max_new_tokens)
    asking.check()
    return asking
