"""`steer prompt`: what a task's question looks like to a model, token by token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console


def task_of(name: str) -> tuple[str | dict[str, Any], Path]:
    """A task's name, or the mapping in a YAML file (a spec's `task`, or a task alone), and the folder that its files are relative to.
    Raises BadInput for a file that is not there or holds no mapping."""
    from steering.documents import read_yaml_file
    from steering.errors import BadInput

    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        return name, Path()
    if not path.is_file():
        raise BadInput(f"There is no file {path}.")
    given = read_yaml_file(path)
    if not isinstance(given, dict):
        raise BadInput(f"{path} holds no mapping; a task has `dataset`, fields and forms.")
    return given.get("task", given), path.parent


def prompt(
    model: Annotated[
        str, typer.Option(help="Model: hub id, folder, .gguf file, smollm2, or builtin:...")
    ] = "builtin:base",
    task: Annotated[str, typer.Option(help="A task's name, or a YAML file with its mapping.")] = "find-start",
    form: Annotated[str, typer.Option(help="Prompt form of the task.")] = "bare",
    split: Annotated[str, typer.Option(help="Split; the task's first by default.")] = "",
    place: Annotated[int, typer.Option(help="Which item of the split, from 0.")] = 0,
    opening: Annotated[str, typer.Option(help="First words of the response, as an arm may fix them.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """The tokens that are fed for one question, special tokens marked."""
    from steering.errors import BadInput
    from steering.model.prompts import encode_prompt
    from steering.model.reader import load_reader

    from ..tasks.prompting import fed, fed_table
    from ..tasks.task import Encodes, resolve_task

    found = resolve_task(*task_of(task))
    if place < 0:
        raise BadInput(f"--place {place}: items are counted from 0.")
    item = found.items(split or found.splits[0], place + 1)[place]
    loaded = load_reader(model)  # no weights are read
    if isinstance(found, Encodes):
        ids = found.encode(loaded, item, form, opening)
    else:
        ids = encode_prompt(loaded, found.prompt(item, form) + opening)
    if as_json:
        tokens = [vars(token) for token in fed(loaded, ids)]
        print(json.dumps({"item": item.id, "gold": item.gold, "tokens": tokens}, indent=1))
        return
    Console().print(fed_table(loaded, ids, f"{item.id}, gold {item.gold}, tokens fed"))
