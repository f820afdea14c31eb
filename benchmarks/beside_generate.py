"""`python -m benchmarks.beside_generate`: the engine beside `generate` with a plain hook, on sizes that people use.

1. Contenders are processes that take turns on the same rows; ratios are of neighbouring runs, the median with the range over rounds.
2. `--beside 1` keeps one process multiplying matrices meanwhile, as a machine that is used for something else does.
3. `--peers llama_cpp` (SmolLM2 only) puts llama.cpp beside, which multiplies 4-bit weights.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer

from .contest import Contender, Entry, contest
from .workloads import SIZES, Workload, prompts, save_model, sweep_configurations

TOKENS = {"1M": 64, "30M": 32, "150M": 16, "SmolLM2": 24, "360M": 12}
BUSY = "import os, torch; torch.set_num_threads(1); a = torch.randn(768, 768); own = os.getppid()\nwhile os.getppid() == own: a @ a"
"""Ends with the benchmark, however that ends."""
HEAD = (
    "| model | threads | rows | | tokens/s | time per token, engine = 1 | same tokens |\n|---|--:|--:|---|--:|---|--:|"
)


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Other work on the machine, one thread each."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def lines(size: str, folder: Path, threads: int, rows: list[int], rounds: int, peers: list[str]) -> Iterator[str]:
    """Lines of the table for one model."""
    shape = SIZES[size]
    with ExitStack() as stack:
        held = [stack.enter_context(Contender(name, folder, threads)) for name in ("engine", "huggingface", *peers)]
        for batch in rows:
            asked = prompts(batch, 16, 48, shape["vocab_size"])
            for name, chosen in (("plain", ()), ("steered", sweep_configurations(shape["num_hidden_layers"], 1, 1))):
                work = Workload(asked, chosen, TOKENS[size], batch)
                found = contest([Entry(one, work) for one in held], rounds)
                yield f"| {size} | {threads} | {batch} | {name}, engine | {found[0].tokens_per_second:,.0f} | 1 | |"
                for other in found[1:]:
                    low, high = other.ratio_range
                    ratio = f"{other.ratio:.2f} ({low:.2f} to {high:.2f})"
                    label = "`generate` and a hook" if other.contender == "huggingface" else other.contender
                    yield (
                        f"| {size} | {threads} | {batch} | {name}, {label} | {other.tokens_per_second:,.0f} | {ratio} | "
                        f"{other.same_tokens:.0%} |"
                    )


def main(
    sizes: Annotated[str, typer.Option(help=f"Which models, of {', '.join(SIZES)}.")] = "1M,30M,SmolLM2,360M",
    threads: Annotated[str, typer.Option(help="Numbers of threads.")] = "1,2",
    rows: Annotated[str, typer.Option(help="Numbers of rows.")] = "1,8,32,64",
    rounds: Annotated[int, typer.Option(help="Rounds.")] = 5,
    beside: Annotated[int, typer.Option(help="Other busy processes meanwhile.")] = 0,
    peers: Annotated[str, typer.Option(help="More contenders: llama_cpp, bridge, nnsight_library.")] = "",
) -> None:
    """Print one line per model, number of threads, number of rows and contender."""
    torch.set_num_threads(1)
    print(HEAD)
    with tempfile.TemporaryDirectory() as scratch, busy(beside):
        for size in sizes.split(","):
            folder = save_model(size, Path(scratch))
            more = [name for name in peers.split(",") if name]
            for each in map(int, threads.split(",")):
                for line in lines(size, folder, each, list(map(int, rows.split(","))), rounds, more):
                    print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
