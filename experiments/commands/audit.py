"""`steer vectors audit`: is a vector just a word? The card `audit` of `steer elicit`, asked of files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..progress import paper
from .asking import FIND_START, TaskOption
from .options import RUNS, JsonOption, MarkdownOption, RunsOption


def audit(
    files: Annotated[list[Path], typer.Argument(help="Vector files (.safetensors).")],
    pair: Annotated[
        str, typer.Option("--pair", "--model", help="One model, two as BASE,THINKING, or builtin.")
    ] = "builtin",
    runs: RunsOption = RUNS,
    dose: Annotated[str, typer.Option(help="How much of the vector is added: 1v, 0.5r, 4.")] = "1v",
    span: Annotated[str, typer.Option(help="At which positions.")] = "last_prompt",
    site: Annotated[str | None, typer.Option(help="Another site than the vector's own.")] = None,
    task: TaskOption = FIND_START,
    forms: Annotated[
        str, typer.Option(help="Of another task: the direct prompt form and the one that asks to think first.")
    ] = "",
    split: Annotated[
        str, typer.Option(help="Of another task: the split that is graded; `test`, or its last, by default.")
    ] = "",
    dev: Annotated[str | None, typer.Option(help="The split on which biases are matched.")] = None,
    n: Annotated[int, typer.Option(help="Questions that are graded.")] = 60,
    n_dev: Annotated[int, typer.Option(help="Questions on which biases are matched.")] = 60,
    directions: Annotated[int, typer.Option(help="Random directions beside the vector.")] = 20,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens per text.")] = 360,
    as_json: JsonOption = False,
    as_markdown: MarkdownOption = False,
) -> None:
    """Is a vector just a word? Beside it at the same positions: a bias on its words that is as strong, directions of its words, the vector
    without them, its first word as text, and random directions."""
    from steering.errors import BadInput

    from ..store.runs import Store
    from ..studies.elicitation.named import card_named
    from ..studies.elicitation.run import run_card
    from ..studies.elicitation.written import markdown
    from .elicit import asked_of, one_form, show

    one_form(as_json, as_markdown)
    if twice := [path for place, path in enumerate(files) if path in files[:place]]:
        raise BadInput(f"{twice[0]} is named twice; name each vector once.")
    asked = asked_of(pair, task, forms, split, max_new_tokens)
    given: dict[str, Any] = {
        "files": [str(path) for path in files], "dose": dose, "span": span, "site": site, "dev": dev, "n": n, "n_dev": n_dev,
        "directions": directions, "planted": False, "sae": None, "latents": [],
    }  # fmt: skip
    found = run_card(card_named("audit"), asked, Store(runs), "quick", given)
    if as_json:
        print(json.dumps(found.model_dump(mode="json"), indent=1, sort_keys=True))
    elif as_markdown:
        print(markdown(found))
    else:
        show(found, paper())
