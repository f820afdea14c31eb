"""`python -m benchmarks.sweep_beside`: a sweep of many configurations in one queue, beside loops of `generate` with a hook over them.

1. 24 configurations (3 layers x 8 doses) x 8 prompts x 48 tokens, steered at generated tokens. The loops do a share of the configurations;
   ratios are of seconds per token, prompts included, of neighbouring runs.
2. The bound is what the same rows cost at this machine's own rates: a step of one row reads every weight, a step of all rows multiplies.
   No engine that does every product in float32 can be further ahead of a loop that is at its own bound.
3. `late` and `early` steer prompts too, at the last three and at the first three layers: where only late layers are edited, what lies
   below them is computed once per prompt.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from steering.model.models import load_model

from .contest import Contender, Entry, contest
from .machine import Machine, measure, step_bound
from .workloads import SIZES, Configuration, Workload, prompts, save_model, sweep_configurations

HEAD = (
    "| model | threads | | tokens/s | time per token, sweep = 1 | bound | same tokens |\n|---|--:|---|--:|---|--:|--:|"
)
SHARES = {8: 4, 1: 12}
"""By rows that run together: the loop does every n-th configuration."""


def bound(parameters: int, batch: int, rows: int, machine: Machine) -> float:
    """How much longer a row's step takes among `batch` rows than among `rows`, both as fast as the machine goes."""
    return (step_bound(parameters, batch, machine) / batch) / (step_bound(parameters, rows, machine) / rows)


def lines(size: str, folder: Path, threads: int, rounds: int, new: int) -> Iterator[str]:
    """Lines of the table for one model and number of threads."""
    machine, layers = measure(threads), SIZES[size]["num_hidden_layers"]
    parameters = sum(p.numel() for p in load_model(str(folder)).model.parameters())
    asked, chosen = prompts(8, 120, 192, SIZES[size]["vocab_size"]), sweep_configurations(layers, 3, 8)
    rows = len(asked) * len(chosen)
    whole = Workload(asked, chosen, new, rows)
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(Contender(name, folder, threads)) for name in ("engine", "huggingface"))
        entries = [Entry(ours, whole)]
        for batch, share in SHARES.items():
            picked = tuple(range(0, len(chosen), share))
            part = replace(whole, configurations=tuple(chosen[i] for i in picked), batch=batch)
            wanted = tuple(i * len(asked) + j for i in picked for j in range(len(asked)))
            entries.append(Entry(theirs, part, "prompts batched" if batch > 1 else "one at a time", wanted))
        found = contest(entries, rounds, warm=False)
        yield f"| {size} | {threads} | sweep, {len(chosen)} x {len(asked)} x {new} | {found[0].tokens_per_second:,.0f} | 1 | | |"
        for batch, other in zip(SHARES, found[1:], strict=True):
            low, high = other.ratio_range
            yield (
                f"| {size} | {threads} | loop over configurations, {other.contender} | {other.tokens_per_second:,.0f} | "
                f"{other.ratio:.1f} ({low:.1f} to {high:.1f}) | {bound(parameters, batch, rows, machine):.1f} | {other.same_tokens:.0%} |"
            )
        edited = [Configuration(layer, one.scale, layer) for layer in range(3) for one in chosen[:8]]
        late = tuple(replace(one, layer=layers - 1 - one.layer) for one in edited)
        short = [Workload(asked, each, 1, rows, "all") for each in (tuple(edited), late)]
        first, last = contest([Entry(ours, short[0], "early"), Entry(ours, short[1], "late")], rounds, warm=False)
        low, high = last.ratio_range
        yield (
            f"| {size} | {threads} | prompts of the sweep, the last three layers edited, against the first three | "
            f"{last.tokens_per_second:,.0f} against {first.tokens_per_second:,.0f} | {last.ratio:.2f} ({low:.2f} to {high:.2f}) | | |"
        )


def main(
    sizes: Annotated[str, typer.Option(help=f"Which models, of {', '.join(SIZES)}.")] = "SmolLM2",
    threads: Annotated[str, typer.Option(help="Numbers of threads.")] = "1,2",
    rounds: Annotated[int, typer.Option(help="Rounds.")] = 2,
    new: Annotated[int, typer.Option(help="Tokens per row.")] = 48,
) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(HEAD)
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes.split(","):
            folder = save_model(size, Path(scratch))
            for each in map(int, threads.split(",")):
                for line in lines(size, folder, each, rounds, new):
                    print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
