"""`steer extract`: steering vectors by difference of means, at one site or many, on a task or on prompts of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steering.errors import BadInput, unknown

if TYPE_CHECKING:
    from steering.extraction import Reading
    from steering.model.models import LoadedModel

CONTRASTS = ("checkpoint", "mode")
PER_LAYER = "{layer}"


def extract(
    output: Annotated[
        Path, typer.Argument(help="Where to write the vector (.safetensors); {layer} in it with --layers.")
    ],
    base: Annotated[str, typer.Option(help="Base model: hub id, folder, or builtin:base.")] = "builtin:base",
    thinking: Annotated[str, typer.Option(help="Thinking model for the checkpoint contrast.")] = "builtin:thinking",
    contrast: Annotated[
        str,
        typer.Option(help="checkpoint: thinking minus base on the same tokens; mode: one prompt form minus another."),
    ] = "checkpoint",
    site: Annotated[str, typer.Option(help="Where: blocks.<layer>.hook_resid_post")] = "blocks.1.hook_resid_post",
    layers: Annotated[
        str | None, typer.Option(help="Several layers in one pass, such as 8,12,16; a file each, --site's kind.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Text file, one prompt per line, for the checkpoint contrast.")
    ] = None,
    task: Annotated[
        str, typer.Option(help="find-start (training problems), a data set, or a YAML file with a task.")
    ] = "find-start",
    split: Annotated[str, typer.Option(help="Split of the data set. Choose one that no evaluation uses.")] = "train",
    n: Annotated[int, typer.Option(help="Questions.")] = 256,
    skip: Annotated[
        int, typer.Option(help="Questions of the data set's split passed over first, which a sweep may choose on.")
    ] = 0,
    forms: Annotated[
        str, typer.Option(help="Prompt form that is read (checkpoint), or the two of mode: think,quick.")
    ] = "",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16 or auto.")] = "float32",
    device: Annotated[str | None, typer.Option(help="Device, such as cuda.")] = None,
) -> None:
    """Extract steering vectors by difference of means, read at the last token of each prompt."""
    from dataclasses import replace

    from steering.extraction import checkpoint_difference, mean_difference
    from steering.model.models import load_model
    from steering.model.sites import Site

    if contrast not in CONTRASTS:
        raise unknown("contrast", contrast, CONTRASTS)
    if output.suffix != ".safetensors":
        raise BadInput(f"{output}: vectors are written as .safetensors; give a name that ends so.")
    if (layers is not None) != (PER_LAYER in output.name):
        raise BadInput(f"{output}: --layers writes a file per layer and needs {PER_LAYER} in the name, and only then.")
    if contrast == "mode" and prompts is not None:
        raise BadInput("The mode contrast asks questions in two forms; --prompts goes with --contrast checkpoint.")
    named = [name for name in forms.split(",") if name] or (["think", "quick"] if contrast == "mode" else ["bare"])
    if len(named) != (2 if contrast == "mode" else 1):
        raise BadInput(
            f"--forms {forms}: {'mode takes two forms, the wanted one first' if contrast == 'mode' else 'checkpoint takes one form'}."
        )
    wanted = _layers(layers)
    model = load_model(base, dtype=dtype, device=device)
    first = Site.parse(site)
    places = (
        [model.layout.check(replace(first, layer=layer)) for layer in wanted] if wanted else [model.layout.check(first)]
    )
    if contrast == "mode":
        high, low = (_reading(model, task, split, n, skip, form) for form in named)
        vectors = mean_difference(
            model, high, low, places, name=f"{named[0]} minus {named[1]}" if forms else "think-first minus be-quick",
            contrast="last tokens of the two prompt forms",
        )  # fmt: skip
    else:
        reading = _lines(model, prompts) if prompts is not None else _reading(model, task, split, n, skip, named[0])
        vectors = checkpoint_difference(model, load_model(thinking, dtype=dtype, device=device), reading, places)
    written = []
    for place in places:
        path = output.with_name(output.name.replace(PER_LAYER, str(place.layer)))
        vectors[place].save(path)
        written.append(
            {"file": str(path), "digest": vectors[place].digest, "site": str(place), "norm": vectors[place].norm}
        )
    print(json.dumps(written if layers else written[0]))


def _layers(text: str | None) -> list[int]:
    parts = [] if text is None else text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise BadInput(f"--layers {text}: give layer numbers, such as 8,12,16.")
    return [int(part) for part in parts]


def _lines(model: LoadedModel, path: Path) -> Reading:
    from steering.extraction import Reading
    from steering.model.prompts import encode_prompt

    if not path.is_file():
        raise BadInput(f"No prompt file at {path}.")
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    if not lines:
        raise BadInput(f"{path} holds no prompt; write one per line.")
    return Reading.last_token([encode_prompt(model, line) for line in lines])


def _reading(model: LoadedModel, task: str, split: str, n: int, skip: int, form: str) -> Reading:
    """The last prompt tokens of a task's questions in a form."""
    from steering.extraction import Reading
    from steering.model.prompts import encode_prompt

    from ..studies.readings import prompt_reading, training_problems
    from ..tasks.findstart import FindStart
    from ..tasks.task import Encodes, resolve_task
    from .prompts import task_of

    if task == "find-start":
        if form not in FindStart().forms:
            raise unknown("prompt form", form, FindStart().forms)
        return prompt_reading(model, training_problems(n), form)
    found = resolve_task(*task_of(task))
    if form not in found.forms:
        raise unknown("prompt form", form, found.forms)
    items = found.items(split, skip + n)[skip:]
    if isinstance(found, Encodes):
        return Reading.last_token([found.encode(model, item, form) for item in items])
    return Reading.last_token([encode_prompt(model, found.prompt(item, form)) for item in items])
