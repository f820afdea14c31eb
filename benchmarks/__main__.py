"""`python -m benchmarks`: time the engine against its peers and write docs/performance.md."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from steering.models import load_model

from .capture import capture_cost
from .contest import Contender, Result, contest
from .machine import Machine, measure, step_bound
from .report import Section, write_report
from .workloads import SIZES, Workload, end_ids, prompts, save_model, sweep_configurations

PEER_REQUIREMENTS = ("torch==2.13.0", "transformers==4.57.6", "steering-vectors==0.12.2", "repeng==0.5.0")
PEER_ENVIRONMENT = Path(".bench/peers")
ROOT = Path(__file__).parent.parent
say = Console()


def peer_python() -> str:
    """Python of the environment for peers that need an older transformers; made on first use."""
    python = PEER_ENVIRONMENT / "bin" / "python"
    if not python.exists():
        say.print("making an environment for peers that pin an older transformers ...")
        venv.create(PEER_ENVIRONMENT, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEER_REQUIREMENTS], check=True)
    return str(python)


def decoding(size: str, folder: Path, machine: Machine, threads: int, rounds: int) -> list[Section]:
    """Unsteered decoding against Hugging Face, and what steering costs, at batch 1, 8 and 32."""
    vocabulary, layers = SIZES[size]["vocab_size"], SIZES[size]["num_hidden_layers"]
    ours, theirs = Contender("engine", folder, threads), Contender("huggingface", folder, threads)
    parameters = sum(p.numel() for p in load_model(str(folder)).model.parameters())
    plain, overhead = Section(f"Unsteered decoding, {size}", []), Section(f"Cost of steering one layer, {size}", [])
    for batch in (1, 8, 32):
        bare = Workload(prompts(batch, 16, 48, vocabulary), (), 48 if size != "1M" else 96, batch)
        results = contest([ours, theirs], [bare], rounds)
        bound = step_bound(parameters, batch, machine) * bare.new_tokens
        plain.add(f"batch {batch}", results, note=f"{bound / min(results[0].seconds):.0%} of the machine's limit")
        steered = replace(bare, configurations=sweep_configurations(layers, 1, 1))
        overhead.add(f"batch {batch}", contest([ours, Again(ours)], [bare, steered], 2 * rounds))
    ours.close()
    theirs.close()
    return [plain, overhead]


class Again(Contender):
    """A contender that shares the process of another, to compare two workloads of one engine."""

    def __init__(self, other: Contender):
        self.name, self.process = f"{other.name}, steered", other.process


def peers(size: str, folder: Path, threads: int, rounds: int) -> Section:
    """The same steered work by each peer: one configuration, batch 8; spans as each can do them."""
    vocabulary, layers = SIZES[size]["vocab_size"], SIZES[size]["num_hidden_layers"]
    section = Section(f"Steered decoding against peers, {size}, batch 8", [])
    for name, span, python in (
        ("huggingface", "generated", sys.executable),
        ("bridge", "generated", sys.executable),
        ("nnsight", "generated", sys.executable),
        ("steering_vectors", "all", peer_python()),
        ("repeng", "all", peer_python()),
    ):
        workload = Workload(prompts(8, 16, 48, vocabulary), sweep_configurations(layers, 1, 1), 32, 8, span)
        try:
            ours, peer = Contender("engine", folder, threads), Contender(name, folder, threads, python)
            section.add(f"{name}, {span}", contest([ours, peer], [workload], rounds))
            ours.close()
            peer.close()
        except RuntimeError as error:
            section.problem(name, str(error))
    return section


def sweeps(size: str, folder: Path, threads: int, rounds: int) -> Section:
    """Many configurations over few prompts: the engine in one queue, a loop with prompts batched, and a loop one at a time."""
    vocabulary, layers = SIZES[size]["vocab_size"], SIZES[size]["num_hidden_layers"]
    section = Section(f"Sweeps, {size}", [])
    ours, theirs = Contender("engine", folder, threads), Contender("huggingface", folder, threads)
    fixed = Workload(prompts(6, 120, 192, vocabulary), sweep_configurations(layers, 3, 8), 32, 192)
    varied = Workload(
        prompts(6, 120, 192, vocabulary), sweep_configurations(layers, 8, 8), 96, 192, end_ids=end_ids(vocabulary, 0.03)
    )
    for label, workload in (
        ("24 configurations x 6 prompts x 32 tokens", fixed),
        ("64 configurations, lengths vary up to 96", varied),
    ):
        loops = [ours, theirs, theirs]
        results = contest(loops, [workload, replace(workload, batch=6), replace(workload, batch=1)], rounds, warm=False)
        results[1] = replace(results[1], contender="loop, prompts batched")
        results[2] = replace(results[2], contender="loop, one at a time")
        section.add(label, results)
    ours.close()
    theirs.close()
    return section


def main(
    sizes: Annotated[str, typer.Option(help="Which models, of 1M, 30M, 150M.")] = "1M,30M,150M",
    rounds: Annotated[int, typer.Option(help="Rounds of each contest.")] = 3,
    threads: Annotated[int, typer.Option(help="Threads per contender.")] = 2,
    only: Annotated[
        str, typer.Option(help="Parts to run: decoding, peers, sweeps, capture.")
    ] = "decoding,peers,sweeps,capture",
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = ROOT / "docs" / "performance.md",
) -> None:
    """Run the contests and write the report."""
    torch.set_num_threads(threads)
    machine = measure(threads)
    say.print(f"{machine.processor}: {machine.gflops:.0f} GFLOP/s, {machine.gigabytes_per_second:.1f} GB/s")
    sections: list[Section] = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes.split(","):
            folder = save_model(size, Path(scratch))
            if "decoding" in only:
                sections += decoding(size, folder, machine, threads, rounds)
            if "sweeps" in only:
                sections.append(sweeps(size, folder, threads, rounds))
            if "peers" in only:
                sections.append(peers(size, folder, threads, rounds))
            if "capture" in only:
                cost = capture_cost(load_model(str(folder)))
                section = Section(f"Capture of one site, {size}", [])
                section.remark(
                    f"{cost.ratio:.3f} x the forward pass up to the layer ({cost.ratio_range[0]:.3f} to {cost.ratio_range[1]:.3f}); "
                    f"{cost.tokens:,} tokens to disk at {cost.tokens_per_second:,.0f} tokens/s, process growth {cost.growth_mib:.0f} MiB"
                )
                sections.append(section)
            for section in sections[-5:]:
                say.print(section.markdown())
    write_report(out, machine, sections)
    say.print(f"written to {out}")


__all__ = ["Result", "main"]

if __name__ == "__main__":
    typer.run(main)
