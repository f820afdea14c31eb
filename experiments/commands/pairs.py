"""`steer pair`: what two checkpoints have in common; training the built-in pair, and what its base can do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ..progress import progress
from .hybrid import pair_named
from .options import JsonOption

pair_app = typer.Typer(
    help="Base and thinking models: check a pair; train and report on the built-in one.", no_args_is_help=True
)


@pair_app.command("check")
def check(
    base: Annotated[str, typer.Argument(help="Base model: hub id, folder, or built-in.")],
    thinking: Annotated[str, typer.Argument(help="Thinking model.")],
    dtype: Annotated[str, typer.Option(help="Precision that memory is counted in.")] = "bfloat16",
    rows: Annotated[int, typer.Option(help="Rows that run at a time.")] = 32,
    tokens: Annotated[int, typer.Option(help="Tokens of a row, prompt included.")] = 4096,
    as_json: JsonOption = False,
) -> None:
    """Same vocabulary? Which special tokens differ? What fits into memory? Reads configurations and tokenizers, no weights."""
    from ..doctor.compatibility import compare, memory, read_checkpoint

    both = [read_checkpoint(name) for name in (base, thinking)]
    facts = compare(*both)
    facts["memory"] = [memory(c, dtype, rows, tokens) for c in both]
    facts["parameters"] = [c.parameters for c in both]
    if as_json:
        print(
            json.dumps(
                {"base": base, "thinking": thinking, "dtype": dtype, "rows": rows, "tokens": tokens} | facts, indent=1
            )
        )
        return
    console = Console()
    console.print(_table(base, thinking, facts, f"{rows} rows of {tokens:,} tokens, {dtype}"))
    for what, verdict in facts["possible"].items():
        console.print(f"{what}: {verdict}", highlight=False)


def _table(base: str, thinking: str, facts: dict[str, Any], load: str) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for head in ("", base, thinking):
        table.add_column(head)
    words = facts["vocabulary"]
    table.add_row("parameters", *(f"{n:,}" for n in facts["parameters"]))
    for name, values in facts["shape"].items():
        table.add_row(name.replace("_", " "), *map(str, values))
    table.add_row("tokens", *map(str, words["sizes"]))
    table.add_row("ids that differ", str(words["ids_that_differ"]), "")
    for odd in words["first"]:
        table.add_row(f"  id {odd['id']}", repr(odd["base"]), repr(odd["thinking"]))
    table.add_row("texts split alike", words["texts_split_alike"], "")
    table.add_row("special tokens that differ", ", ".join(facts["special_tokens_that_differ"]) or "none", "")
    for role, values in facts["roles"].items():
        table.add_row(role, *map(repr, values))
    table.add_row("chat template", *facts["chat_template"])
    table.add_row("weights, GiB", *(f"{m['weights_gib']:.2f}" for m in facts["memory"]))
    table.add_row(f"cache, GiB ({load})", *(f"{m['cache_gib']:.2f}" for m in facts["memory"]))
    return table


@pair_app.command("train")
def train(
    preset: Annotated[
        str, typer.Option(help="full (hours on a CPU), careful (the second pair, from the first's base) or quick.")
    ] = "quick",
    folder: Annotated[Path, typer.Option(help="Checkpoints, curves and the finished models.")] = Path("checkpoints"),
    install: Annotated[bool, typer.Option(help="Replace the built-in weights by the result.")] = False,
) -> None:
    """Train a pair: pretraining, then GRPO. Resumes from its checkpoints."""
    from ..pair.train import train_pair

    base, thinking = train_pair(preset, folder / preset, install=install)
    print(json.dumps({"base": str(base), "thinking": str(thinking)}))


@pair_app.command("untraced")
def untraced(
    folder: Annotated[Path, typer.Option(help="Checkpoint, curve and the finished model.")] = Path("checkpoints"),
    install: Annotated[bool, typer.Option(help="Replace the built-in weights by the result.")] = False,
) -> None:
    """Train builtin:untraced, the start of `steer train corrupted` and `left-out`, which has read no trace. Resumes from its checkpoint."""
    from ..pair.train import train_untraced

    print(json.dumps({"untraced": str(train_untraced(folder / "untraced", install=install))}))


@pair_app.command("report")
def report(
    pair: Annotated[str, typer.Option(help="builtin, careful, or two models as BASE,THINKING.")] = "builtin",
    split: Annotated[str, typer.Option(help="Split of the built-in task.")] = "standard-test",
    n: Annotated[int, typer.Option(help="Problems for pass@k and first-token probabilities.")] = 200,
    samples: Annotated[int, typer.Option(help="Samples per problem at temperature 1.")] = 32,
    k: Annotated[int, typer.Option(help="The k of pass@k.")] = 16,
) -> None:
    """What the base can do when sampled: trace-verified pass@k, first-token probability of reasoning, behaviours of both models; where
    their greedy texts part, and what the beginning of a text gains the base. JSON."""
    from ..pair.report import pair_facts

    names = pair_named(pair)
    with progress("sampling the base") as told:
        facts = pair_facts(n=n, samples=samples, k=k, split=split, on_rows=told, pair=names)
    print(json.dumps(facts, indent=1, sort_keys=True))
