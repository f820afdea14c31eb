"""`python -m benchmarks.contexts`: long texts. Time and memory against the number of tokens before, beside `generate`.

1. Prompts of growing length are read and a few tokens written after each; both sides are processes of their own and take turns.
2. A long text is written from a short prompt, and its steps are timed one by one: none may take far longer than its neighbours.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from steering.engine.generation import Row, stream
from steering.engine.sampling import GenerationSettings
from steering.model.models import load_model

from .contest import Contender, Entry, contest
from .workloads import SIZES, Workload, prompts, save_model, sweep_configurations

AFTER = 8
"""Tokens written after each prompt."""


def steps(folder: Path, tokens: int, window: int = 64) -> list[tuple[int, float, float, float]]:
    """Write one text of `tokens`: for each window of steps its end, the median step in milliseconds, the slowest over the median, and MiB
    held by the cache."""
    model = load_model(str(folder))
    endless = replace(model, extra=dict(model.extra))
    endless.__dict__["eos_ids"] = frozenset()
    prompt = prompts(1, 16, 16, model.model.config.vocab_size)[0]
    events = stream(endless, [Row(prompt)], GenerationSettings(tokens), batch_size=1, detail="tokens")
    taken = []
    for _ in range(tokens - 1):
        start = time.perf_counter()
        next(events)
        taken.append(1e3 * (time.perf_counter() - start))
    events.close()  # type: ignore[attr-defined]
    heads, layers = model.model.config.num_key_value_heads, model.n_layers
    width = model.d_model // model.model.config.num_attention_heads
    held = 2 * layers * heads * width * 4 / 2**20
    found = []
    for start_ in range(window, tokens - 1, window):
        part = taken[start_ : start_ + window]
        middle = statistics.median(part)
        found.append((start_ + len(part), middle, max(part) / middle, held * (start_ + len(part) + 16)))
    return found


def main(
    size: Annotated[str, typer.Option(help=f"Which model, of {', '.join(SIZES)}.")] = "SmolLM2",
    lengths: Annotated[str, typer.Option(help="Tokens of the prompts.")] = "256,1024,2048,4096",
    rows: Annotated[int, typer.Option(help="Prompts that are read together.")] = 2,
    written: Annotated[int, typer.Option(help="Tokens of the long text; 0 leaves it out.")] = 2048,
    rounds: Annotated[int, typer.Option(help="Rounds.")] = 3,
    threads: Annotated[int, typer.Option(help="Threads.")] = 2,
) -> None:
    """Print the tables."""
    torch.set_num_threads(threads)
    shape = SIZES[size]
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_model(size, Path(scratch))
        print(
            f"| {size}, {rows} prompts of | engine, s | peak MiB | `generate` and a hook, engine = 1 | peak MiB | same tokens |"
        )
        print("|--:|--:|--:|--:|--:|--:|")
        for length in map(int, lengths.split(",")):
            # anew for each length, so that a peak is of that length
            with Contender("engine", folder, threads) as ours, Contender("huggingface", folder, threads) as theirs:
                for one in (ours, theirs):
                    one.run(Workload(prompts(1, 16, 16, shape["vocab_size"]), (), 2, 1).to_json())
                asked = prompts(rows, length, length, shape["vocab_size"])
                work = Workload(asked, sweep_configurations(shape["num_hidden_layers"], 1, 1), AFTER, rows)
                mine, other = contest([Entry(ours, work), Entry(theirs, work)], rounds, warm=False)
                low, high = other.ratio_range
                print(
                    f"| {length:,} tokens | {mine.tokens / mine.tokens_per_second:.1f} | {mine.peak_mib:,.0f} | "
                    f"{other.ratio:.2f} ({low:.2f} to {high:.2f}) | {other.peak_mib:,.0f} | {other.same_tokens:.0%} |",
                    flush=True,
                )
        if written:
            found = steps(folder, written)
            print("\n| tokens so far | step, ms | slowest of 64 / median | keys and values, MiB |\n|--:|--:|--:|--:|")
            for end, middle, slowest, held in found[:: max(1, len(found) // 8)]:
                print(f"| {end:,} | {middle:.1f} | {slowest:.2f} | {held:.0f} |")
            print(
                f"\nThe slowest step of any window took {max(one[2] for one in found):.2f} times that window's median."
            )


if __name__ == "__main__":
    typer.run(main)
