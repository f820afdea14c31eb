"""`python -m benchmarks.lean`: a decoding step with the cheaper equals of a model's modules and without, token by token in turn."""

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
from steering.engine.record import Step
from steering.engine.sampling import GenerationSettings
from steering.model.executor import HookExecutor
from steering.model.models import LoadedModel, load_model

from .workloads import prompts, save_model

TOKENS = {"1M": 120, "30M": 40, "150M": 16}


def duel(model: LoadedModel, batch: int, tokens: int, runs: int) -> tuple[float, float, float, float, bool]:
    """Median step without over median step with, its range over runs, milliseconds with, and whether all tokens were the same."""
    sides = []
    for lean in (True, False):
        side = replace(model, extra={})
        side.__dict__.update(eos_ids=frozenset(), runs=HookExecutor(model.model, model.layout, lean))
        sides.append(side)
    asked = prompts(batch, 16, 48, model.model.config.vocab_size)
    times: list[list[list[float]]] = []
    same = True
    for run in range(runs):
        streams = [
            stream(side, [Row(p) for p in asked], GenerationSettings(tokens), batch_size=batch, detail="tokens")
            for side in sides
        ]
        taken: list[list[float]] = [[], []]
        written: list[list[tuple[int, ...]]] = [[], []]
        for step in range(tokens - 1):
            for n in (0, 1) if (step + run) % 2 else (1, 0):
                start = time.perf_counter()
                event = next(streams[n])
                taken[n].append(time.perf_counter() - start)
                if isinstance(event, Step):
                    written[n].append(event.token_ids)
        for events in streams:
            events.close()  # type: ignore[attr-defined]
        same = same and written[0] == written[1]
        times.append([side[1:] for side in taken])
    ratios = [statistics.median(without) / statistics.median(with_) for with_, without in times]
    both = [statistics.median([t for run in times for t in run[n]]) for n in (0, 1)]
    return both[1] / both[0], min(ratios), max(ratios), 1e3 * both[0], same


def main(
    sizes: Annotated[str, typer.Option(help="Which models, of 1M, 30M, 150M.")] = "1M,30M,150M",
    threads: Annotated[int, typer.Option(help="Threads.")] = 2,
    runs: Annotated[int, typer.Option(help="Runs of each size and batch.")] = 3,
) -> None:
    """Print one line per size and batch."""
    torch.set_num_threads(threads)
    print("| model | batch | step without / with (range over runs) | ms with | same tokens |\n|---|--:|---|--:|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes.split(","):
            model = load_model(str(save_model(size, Path(scratch))))
            for batch in (1, 8, 32):
                ratio, low, high, milliseconds, same = duel(model, batch, TOKENS[size], runs)
                line = f"| {size} | {batch} | {ratio:.2f} ({low:.2f} to {high:.2f}) | {milliseconds:.1f} | {'yes' if same else 'no'} |"
                print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
